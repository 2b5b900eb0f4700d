"""The documents' example server, as it stands there, answers in a chat."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.integration.homes import configure, onboard, said_by_bot, say_and_hear
from tests.stack.package import ROOT
from tests.stack.ports import LOOPBACK, free_port
from tests.stack.process import ServerProcess
from tests.stack.stack import MakeStack
from tests.stack.user import MatrixUser

TOKEN = "token-of-the-example"


def example() -> str:
    """The one block of Python in the document about agents."""
    text = (ROOT / "docs" / "agents.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(code)


class Example(ServerProcess):
    """The example server, on a port of its own."""

    def __init__(self, directory: Path) -> None:
        (directory / "agent.py").write_text(example())
        self.port = free_port()
        super().__init__(
            "the example of the documents",
            [sys.executable, "agent.py"],
            directory=directory,
            output=directory / "agent.log",
            environment={"TOKEN": TOKEN, "PORT": str(self.port)},
        )

    async def answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        return True


async def test_the_readmes_example_answers(make_bot: MakeStack, tmp_path: Path) -> None:
    bot = await make_bot()
    home = await onboard(bot, "alice")
    alice, chat = home.user, home.chat
    agent = Example(tmp_path)

    def settings(token: str) -> dict[str, object]:
        webhook = {"url": f"http://{LOOPBACK}:{agent.port}/", "token": token}
        return {"platform": {"kind": "webhook", "webhook": webhook}}

    async def is_answered(event_id: str, *, with_: str) -> None:
        await alice.wait_for_message(
            chat, sender=bot.bot.user_id, after=event_id, body=lambda body: body == with_
        )

    agent.start()
    try:
        await agent.wait_ready(agent.answers, timeout=30)
        mark = bot.maubot.mark()
        await configure(bot, settings(TOKEN))
        await is_answered(await alice.send_text(chat, "hello"), with_="You said: hello")

        # What is said while it is away is answered when it is back.
        await agent.stop()
        event_id = await alice.send_text(chat, "still there?")
        await alice.wait_for("typing", lambda: is_typing(alice, chat, bot.bot.user_id))
        agent.start()
        await is_answered(event_id, with_="You said: still there?")

        await configure(bot, settings("another-token"))
        event_id = await alice.send_text(chat, "secret?")
        await alice.wait_for_message(
            chat, sender=bot.bot.user_id, after=event_id, body="administrator"
        )
        await bot.maubot.wait_for_log("HTTP status 401", since=mark)
        log = bot.maubot.log_text(since=mark)
        for token in (TOKEN, "another-token"):
            assert token not in log
            assert not any(token in said for said in said_by_bot(bot, alice, chat))

        await configure(bot, {"platform": {"kind": "echo"}})
        await say_and_hear(bot, alice, chat, "and echo again")
    finally:
        agent.kill()


def is_typing(user: MatrixUser, room_id: str, user_id: str) -> bool:
    return user_id in user.typing(room_id)
