"""The checkpoint: says that the rows are the whole truth at the stored sync position.

With the rows a text is stored, in the same transaction: whose rows they are, which build decided
about them, and a digest of all of them. If it is the same at the next start, nothing but what the
homeserver tells since that position can have changed. It is no signature: it finds rows that were
lost, restored from a backup or edited by a person, not a forger who knows how it is made.

The digest is a sum, so that a change costs as much as what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import blake2b
from operator import attrgetter
from typing import Final

from mautrix.types import UserID

from ..never import assert_never
from .model import Chat, Home, Records
from .plan import Change

RULES: Final = 4
"""To be raised when a plan decides otherwise than before, or other news ask for another scan."""
_SIZE: Final = 16
_MODULUS: Final = 1 << (8 * _SIZE)
_OF_HOME: Final = attrgetter(*(field.name for field in fields(Home)))
_OF_CHAT: Final = attrgetter(*(field.name for field in fields(Chat)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What has to be the same for a start to resume from the rows."""

    bot: UserID
    homeserver: str
    """Its address."""
    version: str
    """Of the plugin."""
    schema: int
    """The version of the tables."""
    adopt_unmarked: bool
    """The one setting that plans depend on."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Of a set of rows, whatever their order."""

    value: int = 0

    @classmethod
    def of(cls, records: Records) -> Digest:
        homes = map(_weigh, records.homes.values())
        return cls((sum(homes) + sum(map(_weigh, records.chats.values()))) % _MODULUS)

    def after(self, changes: Iterable[Change]) -> Digest:
        """The digest of the same rows when these changes are made."""
        value = self.value
        for change in changes:
            value += _weigh(change.after)
            if change.before is not None:
                value -= _weigh(change.before)
        return Digest(value % _MODULUS)


def make_checkpoint(origin: Origin, digest: Digest) -> str:
    """The text that is stored with rows of this digest."""
    about = repr((RULES, *(getattr(origin, field.name) for field in fields(origin))))
    return f"{blake2b(about.encode(), digest_size=_SIZE).hexdigest()} {digest.value:032x}"


def _weigh(row: Home | Chat) -> int:
    match row:
        case Chat():
            values = _OF_CHAT(row)
        case Home():
            values = _OF_HOME(row)
        case _:
            assert_never(row)
    text = repr(values).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=_SIZE).digest(), "big")
