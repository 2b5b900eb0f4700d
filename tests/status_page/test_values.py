"""The decisions behind the status page: guessing, sessions, searching, and text that is safe."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.model import Chat, ChatID, Home, PlatformChatID, Records, Status
from homeroom.domain.homes.plan import Finding, FindingKind
from homeroom.status_page import access
from homeroom.status_page.access import WrongTokens
from homeroom.status_page.findings import LISTED, grouped
from homeroom.status_page.listing import PAGE, Query, find
from homeroom.status_page.text import ago, cut, iso


async def test_so_many_wrong_tokens_are_held_up_at_once_and_no_more() -> None:
    release = asyncio.Event()
    naps = list[float]()

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        await release.wait()

    wrong = WrongTokens(sleep=sleep)
    held_up = [asyncio.create_task(wrong.hold_up()) for _ in range(access.HELD_UP_AT_MOST)]
    await asyncio.sleep(0)
    assert len(naps) == access.HELD_UP_AT_MOST
    assert not await wrong.hold_up()
    held_up[0].cancel()
    await asyncio.gather(held_up[0], return_exceptions=True)
    another = asyncio.create_task(wrong.hold_up())
    release.set()
    assert await another
    assert all(await asyncio.gather(*held_up[1:]))
    assert set(naps) == {access.WRONG_TOKEN_SECONDS}


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_the_token_is_the_token(given_: str, token: str) -> None:
    assert access.is_token(given_, token) == (given_ == token)


def chat(owner: str, number: int, *, status: Status = Status.ACTIVE) -> Chat:
    return Chat(
        room_id=RoomID(f"!{owner}{number}"),
        matrix_user_id=UserID(f"@{owner}:x"),
        space_id=RoomID(f"!{owner}"),
        chat_id=ChatID(f"C{number}"),
        platform_chat_id=PlatformChatID(f"{owner}-{number}"),
        name=f"Chat {number}",
        status=status,
    )


def records(sizes: dict[str, int]) -> Records:
    chats = [chat(owner, number) for owner, n in sizes.items() for number in range(n, 0, -1)]
    homes = [Home(matrix_user_id=UserID(f"@{o}:x"), space_id=RoomID(f"!{o}")) for o in sizes]
    return Records(
        homes={home.matrix_user_id: home for home in homes},
        chats={chat.room_id: chat for chat in chats},
    )


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 150), max_size=8))
def test_the_pages_together_are_everything_once_and_in_order(sizes: dict[str, int]) -> None:
    everything = records(sizes)
    seen: list[tuple[str, int | None]] = []
    page, pages = 1, 1
    while page <= pages:
        listing = find(everything, Query(page=page))
        lines: list[tuple[str, int | None]] = []
        for home in listing.homes:
            numbers = [int(str(chat.chat_id)[1:]) for chat in home.chats]
            lines += [(home.owner, number) for number in numbers] or [(home.owner, None)]
        began_before = bool(seen) and bool(lines) and seen[-1][0] == lines[0][0]
        assert [home.is_continued for home in listing.homes] == [
            began_before and not index for index in range(len(listing.homes))
        ]
        assert (listing.page, listing.first, listing.last) == (
            page,
            len(seen) + 1 if lines else 0,
            len(seen) + len(lines),
        )
        assert len(lines) <= PAGE
        seen += lines
        page, pages = page + 1, listing.pages
    assert seen == [
        (f"@{owner}:x", number)
        for owner in sorted(sizes, key=lambda owner: f"@{owner}:x")
        for number in (range(1, sizes[owner] + 1) if sizes[owner] else [None])
    ]
    assert find(everything, Query(page=pages + 7)).page == pages


def test_a_search_finds_what_has_every_word() -> None:
    everything = records({"anna": 12, "ben": 2, "cleo": 0})

    def found(words: str, status: Status | None = None) -> list[str]:
        homes = find(everything, Query(words=words, status=status)).homes
        return [c.room_id for home in homes for c in home.chats] or [h.owner for h in homes]

    assert found("ANNA chat 12") == ["!anna12"]
    assert found("ben-2") == ["!ben2"]
    assert found("@ben:x") == ["!ben1", "!ben2"]
    assert found("cleo") == ["@cleo:x"]
    assert found("cleo chat") == []
    assert found("", Status.LEFT) == []
    assert found("cleo", Status.ACTIVE) == ["@cleo:x"]


@given(st.text(), st.integers(1, 100))
def test_a_name_is_one_short_line_of_what_can_be_seen(name: str, limit: int) -> None:
    shown = cut(name, limit)
    assert len(shown) <= limit
    assert "\n" not in shown
    shown.encode()
    if name.isascii() and name.isprintable() and name == " ".join(name.split()):
        assert shown == (name if len(name) <= limit else f"{name[: limit - 1]}…")


def test_times_are_short_and_never_an_error() -> None:
    now = 1_700_000_000_000
    cases = {0: "just now", 1999: "just now", 42_000: "42 s ago", 180_000: "3 min ago"}
    for since, text in {**cases, 7_200_000: "2 h ago", 3 * 86_400_000: "3 days ago"}.items():
        assert ago(now - since, now) == text
    assert ago(now + 5000, now) == "just now"
    assert ago(None, now) == "not yet"
    assert iso(now) == "2023-11-14T22:13:20Z"
    assert iso(10**30) is None


def test_what_concerns_homes_is_not_hidden_by_what_does_not() -> None:
    known = records({"anna": 2})
    real = Finding(kind=FindingKind.OWNER_LEFT, room_id=RoomID("!anna1"))
    theirs = [
        Finding(kind=FindingKind.FOREIGN_MARKER, room_id=RoomID(f"!foreign{number}"))
        for number in range(120)
    ]
    own = Finding(kind=FindingKind.FOREIGN_MARKER, room_id=RoomID("!anna2"))
    first, second = grouped([*theirs, real, own], known)
    assert (second.kind, second.count, second.own) == (FindingKind.OWNER_LEFT, 1, 1)
    assert (first.kind, first.count, first.own) == (FindingKind.FOREIGN_MARKER, 121, 1)
    assert first.findings[0] == own
    assert len(first.findings) == LISTED
    assert [group.kind for group in grouped([*theirs, real], known)] == [
        FindingKind.OWNER_LEFT,
        FindingKind.FOREIGN_MARKER,
    ]
    assert [group.own for group in grouped(theirs, None)] == [0]
