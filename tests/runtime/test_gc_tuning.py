"""The collector is kept out of the way, and always let in again."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from homeroom.runtime.gc_tuning import large_garbage, many_objects


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_for_a_moment(enabled: bool) -> None:
    if not enabled:
        gc.disable()
    try:
        with suppress(RuntimeError), large_garbage():
            assert not gc.isenabled()
            raise RuntimeError
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_what_was_there_before_is_passed_over_and_comes_back() -> None:
    with suppress(RuntimeError), many_objects():
        assert gc.get_freeze_count() > 0
        with many_objects():  # another look, meanwhile
            pass
        assert gc.get_freeze_count() > 0
        raise RuntimeError
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        with many_objects():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
