"""`typing.assert_never` for Python 3.10."""

from __future__ import annotations

from typing import NoReturn


def assert_never(value: NoReturn) -> NoReturn:
    """The end of a `match` that forgot nothing; the type checker proves that nobody gets here."""
    raise AssertionError(f"unexpected {type(value).__name__}")
