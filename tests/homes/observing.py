"""A server with homes to observe, and what it was asked for."""

from __future__ import annotations

import pytest
from mautrix.types import RoomID

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.homes.observation import by_sliding_sync as sliding
from tests.fake import FakeHomeserver, Match, Recorded

SLIDING = "org.matrix.simplified_msc3575"
WINDOWS = Match(when=lambda r: "lists" in (r.body or {}))
WHOLE = Match(when=lambda r: asked_for(r) == sliding.REQUIRED_STATE + sliding.MEMBERS)
STRANGE = Match(when=lambda r: asked_for(r) == sliding.REQUIRED_STATE)
MEMBERS = Match(when=lambda r: asked_for(r) == sliding.MEMBERS)


def asked_for(request: Recorded) -> list[list[str]] | None:
    """What a request asks about the rooms that it names."""
    for subscription in (request.body or {}).get("room_subscriptions", {}).values():
        return list(subscription["required_state"])
    return None


def named(request: Recorded) -> set[str]:
    return set((request.body or {}).get("room_subscriptions", {}))


def populate(hs: FakeHomeserver) -> dict[str, RoomID]:
    """A server with everything on it that a bot can meet."""
    bot, anna, mallory = hs.user("bot"), hs.user("anna"), hs.user("mallory")
    marker = {"version": 1, "room_type": "space", "user_id": anna.user_id}
    rooms = {
        "space": bot.create_space(
            name="Home",
            invite=[anna],
            initial_state=[{"type": MARKER_TYPE, "state_key": bot.user_id, "content": marker}],
        ),
        "old": bot.create_room(name="Old", room_version="11", invite=[anna]),
        "foreign": mallory.create_room(name="Foreign", invite=[bot]),
        "kicked": mallory.create_space(invite=[bot]),
        "banned": mallory.create_room(invite=[bot]),
        "left": bot.create_room(invite=[anna]),
        "nameless": bot.create_room(),
    }
    for name in ("foreign", "kicked", "banned"):
        bot.join(rooms[name])
    anna.join(rooms["space"])
    marker = {"version": 1, "room_type": "chat", "user_id": anna.user_id, "chat_id": "C1"}
    rooms["chat"] = bot.create_room(
        name="Chat",
        initial_state=[
            {"type": MARKER_TYPE, "state_key": bot.user_id, "content": marker},
            {"type": "m.space.parent", "state_key": rooms["space"], "content": {"via": ["x"]}},
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        ],
        invite=[anna, mallory],
    )
    bot.set_state(rooms["space"], "m.space.child", {"via": ["x"]}, state_key=rooms["chat"])
    bot.set_state(rooms["space"], "m.space.child", {}, state_key=rooms["old"])
    mallory.set_state(rooms["foreign"], MARKER_TYPE, marker, state_key=mallory.user_id)
    mallory.leave(rooms["chat"])
    rooms["new"] = bot.upgrade(rooms["old"], "12")
    mallory.kick(rooms["kicked"], bot)
    mallory.ban(rooms["banned"], bot)
    bot.leave(rooms["left"])
    rooms["invite"] = anna.create_room(invite=[bot])
    rooms["invite to a space"] = mallory.create_space(invite=[bot])
    return rooms


def without_sliding_sync(hs: FakeHomeserver) -> None:
    hs.service.unstable_features[SLIDING] = False


def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rooms in an answer that a handful comes in several."""
    for name in ("FIRST", "AT_LEAST", "AT_MOST"):
        monkeypatch.setattr(sliding, name, 1)


def is_invite_sync(request: Recorded) -> bool:
    return request.route == "sync" and '"rooms": []' not in request.query.get("filter", "")
