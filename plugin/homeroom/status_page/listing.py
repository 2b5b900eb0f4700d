"""Searching and paging homes and chats: ten thousand of them on pages that a phone can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mautrix.types import UserID

from ..domain.homes.ids import chat_number
from ..domain.homes.model import Chat, Home, Records, Status

PAGE: Final = 100
"""Lines on a page."""
MAX_QUERY: Final = 100
MAX_PAGE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for. `page` counts from 1; a page that there is not is the last one."""

    words: str = ""
    status: Status | None = None
    page: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A home, with those of its chats that are on the page."""

    owner: UserID
    home: Home | None
    """None: chats are remembered, and no home."""
    chats: tuple[Chat, ...]
    is_continued: bool
    """It began on the page before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of homes and chats."""

    homes: tuple[Listed, ...]
    page: int
    pages: int
    first: int
    """Of the lines on this page, counted from 1; 0 if there are none."""
    last: int
    found: int
    """Lines in all: a chat each, and one for each home without chats."""


def read_query(words: str, status: str, page: str) -> Query:
    """Read what came with the address; what means nothing is the default."""
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
    return Query(
        words=" ".join(words.split())[:MAX_QUERY],
        status=Status(status) if status in {known.value for known in Status} else None,
        page=min(max(number, 1), MAX_PAGE),
    )


def find(records: Records, query: Query) -> Listing:
    """Find homes and chats whose names or ids have every word in them, in one fixed order."""
    matching = list(_matching(records, query))
    found = sum(max(len(chats), 1) for _, chats in matching)
    pages = max(1, -(-found // PAGE))
    page = min(query.page, pages)
    start, end = (page - 1) * PAGE, min(page * PAGE, found)
    homes = []
    line = 0
    for owner, chats in matching:
        after = line + max(len(chats), 1)
        if line < end and after > start:
            shown = sorted(chats, key=_order)[max(start - line, 0) : end - line]
            homes.append(
                Listed(
                    owner=owner,
                    home=records.homes.get(owner),
                    chats=tuple(shown),
                    is_continued=line < start,
                )
            )
        line = after
    return Listing(
        homes=tuple(homes),
        page=page,
        pages=pages,
        first=start + 1 if found else 0,
        last=end,
        found=found,
    )


def _matching(records: Records, query: Query) -> Iterator[tuple[UserID, list[Chat]]]:
    """Owners in order, with the chats that match in none; a home may match without any."""
    words = query.words.casefold().split()
    chats: dict[UserID, list[Chat]] = {owner: [] for owner in records.homes}
    for chat in records.chats.values():
        chats.setdefault(chat.matrix_user_id, []).append(chat)
    for owner in sorted(chats):
        home = records.homes.get(owner)
        about = f"{owner} {home.space_id if home else ''}".casefold()
        missing = [word for word in words if word not in about]
        all_, wanted = chats[owner], query.status
        those = [c for c in all_ if wanted in {None, c.status} and _has(c, missing)]
        if those or (not all_ and not missing and wanted in {None, home and home.status}):
            yield owner, those


def _order(chat: Chat) -> tuple[int, str]:
    number = chat_number(chat.chat_id) if chat.chat_id is not None else None
    return (number if number is not None else 1_000_000_000, chat.room_id)


def _has(chat: Chat, words: list[str]) -> bool:
    if not words:
        return True
    ids = (chat.name, chat.chat_id, chat.room_id, chat.platform_chat_id, chat.space_id)
    text = " ".join(value for value in ids if value).casefold()
    return all(word in text for word in words)
