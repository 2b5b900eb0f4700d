"""The store: what Homeroom remembers, in the database that maubot gives the plugin.

Rows become the types of `domain/model.py` at this border and nowhere else; there is no SQL
outside of this package. A database error leaves it as a `StoreError` that names what was
attempted, whichever driver it came from.

    tables         the tables of the latest schema version
    migrations     the way there from every older one
    statements     every statement, compiled once for both databases
    rows           rows <-> types; what means nothing is read as None
    transactions   all or nothing, cancelled or not
    store          the class that the rest of the plugin uses
"""

from __future__ import annotations

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401 - asked for here, so that one place explains it
except ImportError as error:
    raise ImportError(
        "Homeroom needs SQLAlchemy, which maubot does not install by itself: run "
        'pip install "SQLAlchemy>=1.3.24" in the environment that maubot runs in, '
        "then restart maubot"
    ) from error

from .errors import StoreError
from .migrations import UPGRADES
from .rows import PastReconcile, Position, RoomRequest
from .store import Store

__all__ = ["UPGRADES", "PastReconcile", "Position", "RoomRequest", "Store", "StoreError"]
