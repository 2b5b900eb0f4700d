"""What every run says first."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy


def pytest_report_header() -> str:
    return f"SQLAlchemy {sqlalchemy.__version__} from {Path(sqlalchemy.__file__).parent.parent}"
