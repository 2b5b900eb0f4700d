"""Which encrypted events are news, and which rooms need another key."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import EventID, RoomID, UserID

from homeroom.domain.sync.changed_rooms import rooms_newly_encrypted, rooms_with_other_members
from homeroom.domain.sync.news import Encrypted, read_encrypted

BOT = UserID("@bot:test")
ROOM = RoomID("!r:test")


def sealed(**changes: Any) -> dict[str, Any]:
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "session_id": "S",
        "ciphertext": "C",
        **changes.pop("content", {}),
    }
    return {
        "type": "m.room.encrypted",
        "event_id": "$e",
        "sender": "@anna:test",
        "origin_server_ts": 5,
        "content": content,
        **changes,
    }


NO_NEWS = {
    "no event": None,
    "another type": sealed(type="m.room.message"),
    "state": sealed(state_key=""),
    "the bot's own": sealed(sender=BOT),
    "no event ID": sealed(event_id=5),
    "no time": sealed(origin_server_ts="now"),
    "redacted": {**sealed(), "content": {}},
    "of olm, to one device": sealed(content={"ciphertext": {"key": {"body": "C"}}}),
    "an edit": sealed(content={"m.relates_to": {"rel_type": "m.replace", "event_id": "$d"}}),
}


@pytest.mark.parametrize("event", NO_NEWS.values(), ids=NO_NEWS.keys())
def test_what_is_no_news(event: object) -> None:
    assert read_encrypted(ROOM, event, bot=BOT) is None


@pytest.mark.parametrize(
    "content", [{}, {"m.relates_to": {"rel_type": "m.thread", "event_id": "$d"}}]
)
def test_what_is_news(content: dict[str, Any]) -> None:
    event = sealed(content=content)
    news = read_encrypted(ROOM, event, bot=BOT)
    assert news == Encrypted(
        room_id=ROOM,
        event_id=EventID("$e"),
        sender=UserID("@anna:test"),
        sent_at=5,
        session_id="S",
        event={},
    )
    assert news is not None
    assert news.event is event
    assert "C" not in repr(news)


def member(membership: str, *, before: str | None = None) -> dict[str, Any]:
    unsigned = {} if before is None else {"prev_content": {"membership": before}}
    return {
        "type": "m.room.member",
        "state_key": "@anna:test",
        "content": {"membership": membership},
        "unsigned": unsigned,
    }


TIMELINES = {
    "nothing": ({"events": []}, False),
    "talk": ({"events": [sealed(), None, 7]}, False),
    "another name": ({"events": [member("join", before="join")]}, False),
    "somebody new": ({"events": [sealed(), member("join")]}, True),
    "somebody invited comes": ({"events": [member("join", before="invite")]}, True),
    "somebody leaves": ({"events": [member("leave", before="join")]}, True),
    "nobody knows": ({"events": [], "limited": True}, True),
}


@pytest.mark.parametrize(("timeline", "changed"), TIMELINES.values(), ids=TIMELINES.keys())
def test_rooms_that_need_another_key(timeline: dict[str, Any], changed: bool) -> None:
    response = {"rooms": {"join": {ROOM: {"timeline": timeline}, "!o:test": {}}}}
    assert rooms_with_other_members(response) == ({ROOM} if changed else set())


@pytest.mark.parametrize("part", ["state", "timeline"])
@pytest.mark.parametrize(
    ("event", "shows"),
    [
        ({"type": "m.room.encryption", "state_key": "", "content": {}}, True),
        (sealed(), True),
        ({"type": "m.room.message"}, False),
        (None, False),
    ],
)
def test_rooms_that_are_encrypted_now(part: str, event: object, shows: bool) -> None:
    response = {"rooms": {"join": {ROOM: {part: {"events": [event]}}, "!o:test": None}}}
    assert rooms_newly_encrypted(response) == ({ROOM} if shows else set())
