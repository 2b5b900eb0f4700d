"""What these tests have: an observer that gives up soon, and state stores."""

from __future__ import annotations

import pytest

from homeroom.homes.observation import Observer
from homeroom.matrix import retry_budgets
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake.clients import LOG, Connect
from tests.storage.state_stores import backend, sqlite, store  # noqa: F401 (fixtures)


@pytest.fixture
def observer(connect: Connect, short_waits: None) -> Observer:
    del short_waits
    return Observer(connect(), log=LOG)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure is enough to give up."""
    for name, value in list(vars(retry_budgets).items()):
        if isinstance(value, RetryBudget):
            short = RetryBudget(call=0.2, failing=0.2, attempt=60)
            monkeypatch.setattr(retry_budgets, name, short)
