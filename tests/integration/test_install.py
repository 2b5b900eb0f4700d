"""The plugin is put on a maubot that has no SQLAlchemy, and over an older version of itself.

Issue 7. The databases that released versions have left are in
`tests/storage/test_store_migrations.py`; uploads in the middle of traffic in
`test_traffic.py`.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.integration.builds import changed_build
from tests.integration.homes import (
    Summary,
    onboard,
    reconciled,
    said_by_bot,
    say_and_hear,
    shown,
    tables,
    writes_of_bot,
)
from tests.stack.http import ApiError
from tests.stack.stack import DEFAULT_CONFIG, PLUGIN_ID, MakeMaubot, MakeStack
from tests.stack.synapse import Synapse

OWN_SETTINGS = {
    **DEFAULT_CONFIG,
    "rooms": {"space_name": "Castle", "initial_chats": ["Hall", "Kitchen"]},
}


async def test_without_sqlalchemy_the_log_says_what_to_install_and_then_it_works(
    make_maubot: MakeMaubot, synapse: Synapse, plugin: Path, tmp_path: Path
) -> None:
    """maubot imports a plugin when its first instance is made, not when it is uploaded."""
    hidden = tmp_path / "packages" / "sqlalchemy.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ModuleNotFoundError(\"No module named 'sqlalchemy'\")")
    bot = await synapse.register(f"bot-{secrets.token_hex(4)}")
    maubot = await make_maubot(tmp_path / "bare", python_path=str(hidden.parent))
    async with maubot:
        await maubot.upload_plugin(plugin)
        await maubot.create_client(bot, homeserver=synapse.url, device_id="")
        with pytest.raises(ApiError, match="500"):
            await maubot.create_instance("late", plugin_id=PLUGIN_ID, primary_user=bot.user_id)
        await maubot.wait_for_log(
            r'^ImportError: Homeroom needs SQLAlchemy.*: run pip install "SQLAlchemy>=1\.3\.24"'
            " in the environment that maubot runs in, then restart maubot$"
        )
        hidden.unlink()
        mark = maubot.mark()
        await maubot.restart()
        await maubot.wait_for_log("Started instance of dev.homeroom", since=mark)


def older_build(directory: Path) -> Path:
    """Build a version from before the section `status`, with other defaults."""

    def older(text: str) -> str:
        without = re.sub(r"^status:\n( .*\n|\n)+", "", text, flags=re.MULTILINE)
        assert without.count("\n") < text.count("\n") - 1
        assert "max_age: 3600" in without
        return without.replace("max_age: 3600", "max_age: 1800")

    return changed_build(directory, changes={"base-config.yaml": older}, version="0.0.1")


async def test_a_new_version_keeps_settings_homes_and_the_place_in_the_timeline(
    make_stack: MakeStack, plugin: Path, tmp_path: Path
) -> None:
    older = await asyncio.to_thread(older_build, tmp_path)
    stack = await make_stack(plugin=older, config=OWN_SETTINGS)
    home = await onboard(stack, "alice", chats=("Hall", "Kitchen"))
    key = await say_and_hear(stack, home.user, home.chat, "before")
    rows, rooms = await tables(stack), await stack.bot_rooms()
    before = YAML().load((await stack.maubot.get_instance(stack.instance))["config"])
    assert "status" not in before

    mark, requests = stack.maubot.mark(), await stack.synapse.mark()
    said = ["during 1", "during 2", "during 3"]

    async def talk() -> None:
        for text in said:
            await home.user.send_text(home.chat, text)

    await asyncio.gather(stack.maubot.upload_plugin(plugin), talk())
    assert await reconciled(stack, since=mark) == Summary(rooms=4)
    await home.user.wait_for_message(home.chat, sender=stack.bot.user_id, body=said[-1])
    assert await say_and_hear(stack, home.user, home.chat, "after") == key

    # Nothing was said twice, nothing lost, and there was nothing else to do.
    answers = ["before", *said, "after"]
    assert said_by_bot(stack, home.user, home.chat) == answers
    assert await tables(stack) == rows
    assert await stack.bot_rooms() == rooms
    writes = shown(await writes_of_bot(stack, since=requests, at_least=len(said) + 1))
    assert [write for write in writes if "/send/" not in write and "/typing/" not in write] == []

    instance = await stack.maubot.get_instance(stack.instance)
    assert (instance["enabled"], instance["started"]) == (True, True)
    after = YAML().load(instance["config"])
    assert {section: after[section] for section in before} == before
    assert after["status"] == {"token": "", "token_file": ""}
    assert (before["rooms"]["space_name"], before["catch_up"]["max_age"]) == ("Castle", 1800)
