"""Python's cyclic garbage collector, where there is much that it has nothing to do with.

A full collection walks every object of the process and stops all of it meanwhile: with thousands
of rooms that is a tenth of a second, and every quarter more of objects brings another one. What a
scan makes has no cycles in it, and most of it is gone by itself a moment later.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_garbage() -> Iterator[None]:
    """Collect nothing for a moment: what is made inside is hardly there yet, and gone.

    Never around an `await`: nobody else's garbage has to wait for long.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def many_objects() -> Iterator[None]:
    """Have full collections pass over what was there before; for some seconds, or a minute."""
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
