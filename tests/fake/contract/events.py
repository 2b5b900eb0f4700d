"""Sending, and reading what was sent."""

from __future__ import annotations

import secrets

from .party import Check, Contract, room


async def sending_again_with_one_transaction_is_sending_once(c: Contract) -> None:
    room_id = await c.alice.create()
    path = room(room_id, "send/m.room.message", "t1")
    first, second = [
        await c.alice.put(path, {"msgtype": "m.text", "body": text}) for text in ("a", "b")
    ]
    assert first == second
    event = await c.alice.get(room(room_id, "event", first["event_id"]))
    assert event["content"]["body"] == "a"
    assert event["unsigned"]["transaction_id"] == "t1"


async def setting_the_same_state_changes_nothing(c: Contract) -> None:
    room_id = await c.alice.create()
    path = room(room_id, "state/dev.x", "k")
    first, again, other = [await c.alice.put(path, {"a": value}) for value in (1, 1, 2)]
    assert first == again != other


async def messages_are_checked(c: Contract) -> None:
    room_id = await c.alice.create()
    for body, refusal in (
        ({"body": "no type"}, (400, "M_UNKNOWN")),
        ({"body": "x" * 66_000, "msgtype": "m.text"}, (413, "M_TOO_LARGE")),
        ([], (400, "M_BAD_JSON")),
    ):
        path = room(room_id, "send/m.room.message", secrets.token_hex(4))
        assert await c.alice.refused("PUT", path, body) == refusal
    path = room(room_id, "send/m.room.message", "x")
    message = {"body": "", "msgtype": "m.text"}
    assert await c.bob.refused("PUT", path, message) == (403, "M_FORBIDDEN")


async def a_redaction_empties_the_event(c: Contract) -> None:
    room_id = await c.shared_room()
    mine, other = await c.bob.say(room_id, "oops"), await c.alice.say(room_id, "stays")
    await c.bob.put(room(room_id, "redact", mine, "r1"), {"reason": "typo"})
    event = await c.alice.get(room(room_id, "event", mine))
    assert event["content"] == {}
    assert event["unsigned"]["redacted_because"]["content"]["reason"] == "typo"
    path = room(room_id, "redact", other, "r2")
    assert await c.bob.refused("PUT", path, {}) == (403, "M_FORBIDDEN")


async def an_event_comes_with_its_latest_edit(c: Contract) -> None:
    room_id = await c.shared_room()
    event_id = await c.bob.say(room_id, "on")
    for text in ("one", "one two"):
        edit = {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        await c.bob.put(room(room_id, "send/m.room.message", secrets.token_hex(4)), edit)
    event = await c.bob.get(room(room_id, "event", event_id))
    assert event["content"]["body"] == "on"
    latest = event["unsigned"]["m.relations"]["m.replace"]
    assert latest["content"]["m.new_content"]["body"] == "one two"


async def messages_can_be_paged_both_ways(c: Contract) -> None:
    room_id = await c.shared_room()
    for number in range(7):
        await c.alice.say(room_id, str(number))

    async def page(direction: str) -> list[str]:
        found: list[str] = []
        query: dict[str, str | int] = {"dir": direction, "limit": 3}
        while True:
            answer = await c.bob.get(room(room_id, "messages"), **query)
            found += [event["event_id"] for event in answer["chunk"]]
            if "end" not in answer:
                return found
            query["from"] = answer["end"]

    forwards = await page("f")
    assert len(forwards) == 8 + 1 + 7 - 1
    assert await page("b") == forwards[::-1]


CHECKS: list[Check] = [
    sending_again_with_one_transaction_is_sending_once,
    setting_the_same_state_changes_nothing,
    messages_are_checked,
    a_redaction_empties_the_event,
    an_event_comes_with_its_latest_edit,
    messages_can_be_paged_both_ways,
]
