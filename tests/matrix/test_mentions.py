"""Whether a text may call somebody by an older push rule; where that is not known, it may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mautrix.types import RoomID, UserID

from homeroom.matrix import mentions as module
from homeroom.matrix.errors import Refused, Unavailable
from homeroom.matrix.mentions import NAME_AT_MOST, NAMES_AT_MOST, ROOMS_AT_MOST, Mentions

ROOM = RoomID("!room:fake.test")
ANNA, BERT = UserID("@anna:fake.test"), UserID("@bert.b:fake.test")


class Members:
    """What a homeserver says of a room's members, one answer after the other."""

    def __init__(self, *answers: Mapping[UserID, object] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, room_id: RoomID) -> Mapping[UserID, object]:
        self.asked += 1
        self.is_asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await self.may_answer.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


def told(*events: dict[str, Any], limited: bool = False) -> dict[str, Any]:
    """A response of `/sync` with these events."""
    timeline = {"events": list(events), "limited": limited, "prev_batch": "t1"}
    return {"rooms": {"join": {ROOM: {"timeline": timeline}}}}


def member(user_id: UserID, name: object, membership: str = "join") -> dict[str, Any]:
    content = {"membership": membership, "displayname": name}
    return {"type": "m.room.member", "state_key": user_id, "content": content}


async def may_call(mentions: Mentions, *texts: str) -> list[bool]:
    return [await mentions.may_be_in(text, room_id=ROOM) for text in texts]


@pytest.mark.parametrize(
    ("text", "may"),
    {
        "Good morning!": False,
        "Anna": True,
        "ask @ANNA: now": True,
        "It is the sTRASSE.": True,
        "see @room": True,
        "see @ROOM": True,
        "a room": False,
        "bert.b": True,
        "bert": False,
        "": False,
    }.items(),
)
async def test_a_name_is_found_wherever_it_stands(text: str, may: bool) -> None:
    members = Members({ANNA: "Straße ", BERT: None})
    mentions = Mentions(read=members)
    assert await may_call(mentions, text) == [may]
    await may_call(mentions, *"abc")
    assert members.asked == 1


async def test_what_sync_tells_of_members_counts_from_then_on() -> None:
    mentions = Mentions(read=(members := Members({ANNA: "Anna"})))
    assert await may_call(mentions, "Bert", "Cleo") == [False, False]
    mentions.synced(told(member(BERT, "Bert")))
    mentions.synced(told(member(ANNA, "Cleo")))
    assert await may_call(mentions, "Bert", "Cleo", "anna") == [True, True, True]
    mentions.synced(told(member(ANNA, "Cleo", "leave"), member(BERT, {"no": "text"})))
    assert await may_call(mentions, "anna", "bert.b", "bert") == [False, True, False]
    assert members.asked == 1


async def test_after_a_gap_the_members_are_read_again() -> None:
    mentions = Mentions(read=(members := Members({ANNA: None}, {ANNA: None, BERT: "Bert"})))
    assert await may_call(mentions, "Bert") == [False]
    mentions.synced(told(limited=True))
    assert await may_call(mentions, "Bert") == [True]
    assert members.asked == 2


@pytest.mark.parametrize("news", [told(member(BERT, "Bert")), told(limited=True)])
async def test_what_is_told_during_a_read_is_newer(news: dict[str, Any]) -> None:
    mentions = Mentions(read=(members := Members({ANNA: None}, {ANNA: None, BERT: "Bert"})))
    members.may_answer.clear()
    asking = asyncio.ensure_future(may_call(mentions, "Hello"))
    await members.is_asked.wait()
    mentions.synced(news)
    members.may_answer.set()
    assert await asking == [True]
    assert await may_call(mentions, "Hello", "Bert") == [False, True]


@pytest.mark.parametrize(
    "answer",
    [
        Refused(status=403, errcode="M_FORBIDDEN", message="no"),
        Unavailable("no answer"),
        {},
        {UserID(f"@user{number}:fake.test"): None for number in range(NAMES_AT_MOST + 1)},
    ],
    ids=["refused", "unavailable", "nobody", "too many"],
)
async def test_where_the_names_are_not_to_be_had_a_text_may_call_somebody(answer: Any) -> None:
    mentions = Mentions(read=(members := Members(answer)))
    assert await may_call(mentions, "Hello", "Hello") == [True, True]
    mentions.synced(told(member(ANNA, "Anna")))
    assert await may_call(mentions, "Hello") == [True]
    assert members.asked == 1


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    mentions = Mentions(read=(members := Members({ANNA: "A" * 60_000})))
    assert await may_call(mentions, "A" * NAME_AT_MOST, "A" * (NAME_AT_MOST - 1)) == [True, False]
    (names,) = mentions._rooms.values()
    assert names is not None
    assert max(len(name) for each in names.values() for name in each) == NAME_AT_MOST
    for number in range(NAMES_AT_MOST):
        mentions.synced(told(member(UserID(f"@user{number}:fake.test"), None)))
    assert await may_call(mentions, "Hello") == [True]
    assert members.asked == 1

    monkeypatch.setattr(module, "ROOMS_AT_MOST", 2)
    for number in range(3):
        await mentions.may_be_in("Hello", room_id=RoomID(f"!{number}:fake.test"))
    assert len(mentions._rooms) == 2 < ROOMS_AT_MOST


@pytest.mark.parametrize("nonsense", [None, [], {"rooms": 1}, told({"type": 1}), told(1)])  # type: ignore[arg-type]
async def test_nonsense_changes_nothing(nonsense: object) -> None:
    mentions = Mentions(read=(members := Members({ANNA: None})))
    assert await may_call(mentions, "Hello") == [False]
    mentions.synced(nonsense)
    mentions.synced(told({**member(ANNA, "Hello"), "content": "none"}))
    mentions.synced(told({**member(ANNA, "Hello"), "state_key": 1}))
    assert await may_call(mentions, "Hello") == [False]
    assert members.asked == 1
