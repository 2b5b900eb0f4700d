"""What a person does in their first days, on real servers: nothing of it is met with silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from tests.integration.homes import (
    Home,
    ask,
    finished,
    invite_bot,
    lose_everything,
    marker,
    onboard,
    row_of,
    start,
    tables,
)
from tests.stack.agent_server import AgentServer, Hold, Say, repeat
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser

MAY_SHARE = {"allow": ["*"], "share": True}


@pytest.fixture
def agent(agent: AgentServer) -> AgentServer:
    agent.reply = repeat
    return agent


async def heard(stack: Stack, user: MatrixUser, room_id: str, text: str) -> None:
    await user.wait_for_message(room_id, sender=stack.bot.user_id, body=text)


async def answers(stack: Stack, user: MatrixUser, room_id: str, text: str) -> None:
    await user.send_text(room_id, text)
    await heard(stack, user, room_id, f"re: {text}")


async def stop_an_answer(stack: Stack, home: Home, agent: AgentServer) -> None:
    before, hold = agent.reply, Hold(then=Say(pieces=["Everything"]))
    agent.reply = lambda _: hold
    question = await home.user.send_text(home.chat, "Tell me everything")
    await home.user.wait_for("the question to be asked", lambda: agent.requests)
    relation = {"rel_type": "m.annotation", "event_id": question, "key": "🛑"}
    await home.user.send(home.chat, {"m.relates_to": relation}, event_type="m.reaction")
    await heard(stack, home.user, home.chat, replies.STOPPED)
    agent.reply = before
    hold.released.set()


async def leave_and_come_back(stack: Stack, home: Home) -> None:
    await home.user.leave(home.space)
    await home.user.leave(home.chat)
    await home.user.send_text(home.direct, "How do I get back?")
    await heard(stack, home.user, home.direct, "Welcome back!")
    assert await home.user.wait_for_invite(space=True) == home.space
    assert await home.user.wait_for_invite(space=False) == home.chat
    await home.user.join(home.space)
    await home.user.join(home.chat)


async def make_by_hand(stack: Stack, home: Home, *, version: str) -> str:
    """A room of one's own in the Space; the bot is invited, and is no moderator at first.

    Its creator has every power in it: by its levels before version 12, without them since.
    """
    alice, bot = home.user, stack.bot.user_id
    room_id = await alice.create_room(name="By hand", room_version=version)
    link = {"via": [bot.split(":", 1)[1]]}
    await alice.set_state(home.space, "m.space.child", link, state_key=room_id)
    await alice.invite(room_id, bot)
    await heard(stack, alice, room_id, replies.NEEDS_POWER)
    levels = (await alice.state(room_id))["m.room.power_levels", ""]["content"]
    levels["users"] = {**levels.get("users", {}), bot: 50}
    await alice.set_state(room_id, "m.room.power_levels", levels)
    await answers(stack, alice, room_id, "And now?")
    return room_id


async def test_nothing_that_a_person_does_is_met_with_silence(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    rooms = {"initial_chats": ["General"], "version": "12"}
    config = {
        **DEFAULT_CONFIG,
        "rooms": rooms,
        "access": MAY_SHARE,
        "texts": {"welcome": "just write"},
    }
    stack = await make_stack(plugin=plugin, config={**config, "platform": agent.webhook()})
    home = await onboard(stack, "alice")
    alice, chat = home.user, home.chat
    await heard(stack, alice, chat, "just write")

    await stop_an_answer(stack, home, agent)
    await leave_and_come_back(stack, home)
    assert "What you can do" in (await ask(stack, alice, home.direct, "!Help")).body
    assert "C1" in (await ask(stack, alice, chat, "! Chat LIST")).body
    assert "Did you mean `!chat new`?" in (await ask(stack, alice, chat, "!chat nwe")).body
    second = await invite_bot(stack, alice)
    await heard(stack, alice, second, "This is your home")

    assert "archived" in (await ask(stack, alice, home.direct, "!chat archive C1")).body
    assert "is back" in (await ask(stack, alice, second, "/chat unarchive c1")).body
    bert = await stack.user("bert")
    await alice.invite(chat, bert.user_id)
    await bert.join(chat)
    await bert.send_text(chat, "Hello?")
    await heard(stack, bert, chat, replies.only_the_owner(may_share=True))
    assert "is shared" in (await ask(stack, alice, chat, "!chat share")).body
    await answers(stack, bert, chat, "Hello!")

    await make_by_hand(stack, home, version="12")
    handmade = await make_by_hand(stack, home, version="11")
    assert (await row_of(stack, handmade))["chat_id"] == "C3"
    await ask(stack, alice, handmade, "!chat archive")
    before, said = await tables(stack), len(alice.messages(chat, sender=stack.bot.user_id))
    for is_lost in (False, True):
        await stack.maubot.stop()
        if is_lost:
            await lose_everything(stack)
        await start(stack)
        await finished(stack, home)
        now = await tables(stack)
        assert (now.homes, now.chats) == (before.homes, before.chats)
        await answers(stack, bert, chat, f"Still shared? {is_lost}")
        await heard(stack, alice, chat, f"re: Still shared? {is_lost}")
        said += 1
        assert len(alice.messages(chat, sender=stack.bot.user_id)) == said  # greeted once
    mark = await marker(stack, handmade)
    assert mark is not None
    assert (mark["archived"], mark["chat_id"]) == (True, "C3")
