"""What a person sees of a platform that fails, and what they never see.

Issue 6, "Must be seen", 1. How each failure is told from the others is tested in
`tests/platforms/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from homeroom.domain.conversation.answer import Trouble
from homeroom.replies import TOOK_TOO_LONG, TROUBLES
from tests.integration.homes import configure, onboard
from tests.stack.agent_server import TOKEN, Action, AgentServer, Drop, Fail, Hold, Raw, Say
from tests.stack.stack import MakeStack

MEGABYTE = 1024 * 1024
SSE = {"Content-Type": "text/event-stream"}
NO_MODEL = {"error": {"message": "no such model", "code": "model_not_found"}}
ECHO = {"error": {"message": f"Authorization: Bearer {TOKEN}"}}


def for_ever(text: str) -> Iterator[str]:
    while True:
        yield text


FAULTS: dict[str, tuple[list[Action], str, Trouble | None]] = {
    "cut off": ([Say(pieces=["Half an ans"], end="cut")], "Half an ans", Trouble.CUT_OFF),
    "no JSON": ([Raw(chunks=[b"data: {oops\n\n"]), Say(pieces=["well"])], "well", None),
    "401": ([Fail(status=401, body=ECHO)], "", Trouble.MISCONFIGURED),
    "404": ([Fail(status=404, body=NO_MODEL)], "", Trouble.MISCONFIGURED),
    "429": (
        [Fail(status=429, headers={"Retry-After": "1"}), Say(pieces=["at last"])],
        "at last",
        None,
    ),
    "429 for long": ([Fail(status=429, headers={"Retry-After": "999"})], "", Trouble.BUSY),
    "500": ([Fail(status=500, body=ECHO), Say(pieces=["again"])], "again", None),
    "dropped": ([Drop(), Say(pieces=["once more"])], "once more", None),
    "413": ([Fail(status=413)], "", Trouble.REFUSED),
    "50 MB": (
        [Raw(chunks=[b'data: {"text": "', *[b"x" * MEGABYTE] * 50], headers=SSE)],
        "",
        Trouble.TOO_LARGE,
    ),
    "no end": ([Say(pieces=for_ever("seven! "))], "seven! " * 142, Trouble.TOO_LARGE),
}


@pytest.mark.parametrize("kind", ["webhook", "openai"])
async def test_a_failure_is_told_and_the_next_message_is_answered(
    make_bot: MakeStack, kind: str
) -> None:
    async with AgentServer() as agent:
        platform = agent.webhook() if kind == "webhook" else agent.openai()
        limits = {"answer_length": 1000}
        bot = await make_bot()
        home = await onboard(bot, "alice")
        alice, chat = home.user, home.chat
        await configure(bot, {"platform": platform, "limits": limits})
        mark = bot.maubot.mark()

        async def hear(event_id: str, *said: str) -> None:
            await alice.wait_for_message(
                chat,
                sender=bot.bot.user_id,
                after=event_id,
                body=lambda body: all(part in body for part in said),
                timeout=30,
            )

        for name, (actions, text, trouble) in FAULTS.items():
            before = len(agent.requests)
            agent.script(*actions)
            event_id = await alice.send_text(chat, f"What about {name}?")
            await hear(event_id, text, *([TROUBLES[trouble]] if trouble else []))
            requests = agent.requests[before:]
            assert [request.key for request in requests] == [event_id] * len(actions), name
            if name == "429":
                assert requests[1].at - requests[0].at >= 1

        # Slow is no failure; slower than allowed is.
        held = Hold(then=Say(pieces=["slowly"]))
        agent.script(held)
        event_id = await alice.send_text(chat, "Are you slow?")
        await alice.wait_for("typing", lambda: bot.bot.user_id in alice.typing(chat))
        held.released.set()
        await hear(event_id, "slowly")
        await configure(bot, {"platform": platform, "limits": {**limits, "turn_timeout": 2}})
        agent.script(Say(pieces=["So far"], end="hang"))
        await hear(await alice.send_text(chat, "Slower?"), "So far", TOOK_TOO_LONG)
        await asyncio.wait_for(agent.requests[-1].done.wait(), 30)
        assert agent.requests[-1].cut

        log = bot.maubot.log_text(since=mark)
        assert "Traceback" not in log
        said = [message.body for message in alice.messages(chat)]
        assert not any(TOKEN in text for text in [log, *said])
