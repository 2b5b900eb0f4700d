"""What every run says first, and in which order it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

LONG_FIRST = (
    "test_reset_pace.py",
    "test_reset.py",
    "test_hostile_member.py",
    "test_traffic.py",
    "test_soak.py",
    "test_faults.py",
    "test_restart.py",
    "test_crash.py",
    "test_sqlalchemy_versions.py",
    "test_unknown.py",
    "test_rate_limits.py",
    "test_legacy.py",
    "test_order.py",
    "test_streaming.py",
    "test_encryption.py",
    "test_status_page.py",
)
"""Files that take a minute or more: begun first, so that nobody waits for one of them at the end.
(With `--no-loadscope-reorder`; xdist itself would begin with the files of many tests.)"""


def pytest_report_header() -> str:
    return f"SQLAlchemy {sqlalchemy.__version__} from {Path(sqlalchemy.__file__).parent.parent}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {
        f"tests/{folder}{name}": rank
        for rank, name in enumerate(LONG_FIRST)
        for folder in ("integration/", "")
    }
    items.sort(key=lambda item: ranks.get(item.nodeid.split("::")[0], len(ranks)))
