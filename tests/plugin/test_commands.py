"""What a person types and what they read: whole replies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.homes.observation import progress
from homeroom.storage import StoreError
from tests.fake import FakeHomeserver, Hang, Match, Respond
from tests.plugin.harness import Bot, running, until

ADMIN = 'admins: ["@admin:fake.test"]'
MORE = "`!help` shows more."
ARCHIVED = "is archived: nothing is answered there. You may leave the room now."


def url(room_id: str) -> str:
    return f"https://matrix.to/#/%21{room_id[1:]}?via=fake.test"


def without_seconds(report: str) -> str:
    return re.sub(r"in [\d.]+ s", "in … s", report)


@pytest.mark.parametrize("text", ["!chat help", "  !chat  ", "!help", "! Help", "/help"])
async def test_help(hs: FakeHomeserver, tmp_path: Path, text: str) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        reply = await bot.ask(anna, bot.chats_of(anna)[0], text)
        assert reply.startswith("**What you can do here**")
        assert reply.endswith("for another one add its number: `!chat archive C3`.")
        assert bot.said(bot.chats_of(anna)[0])[0]["msgtype"] == "m.notice"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("!chat xyzzy", "There is no “!chat xyzzy”. `!help` shows what I can do."),
        ("!chat nwe", f"There is no “!chat nwe”. Did you mean `!chat new`? {MORE}"),
        ("!hepl", f"I do not know “!hepl”. Did you mean `!help`? {MORE}"),
        (
            "!chat list all",
            f"“!chat list” takes nothing after it. Did you mean `!chat list`? {MORE}",
        ),
        (
            "!chat clear now",
            (
                "“!chat clear” takes only a chat's number, like C3, after it."
                f" Did you mean `!chat clear`? {MORE}"
            ),
        ),
        (
            "!chat rename",
            f"The new name is missing. Did you mean `!chat rename NAME`? {MORE}",
        ),
        (
            f"!chat new {'x' * 101}",
            "That name has 101 characters, and at most 100 fit. `!help` shows what I can do.",
        ),
        ("!chat **foo**", "There is no “!chat **foo**”. `!help` shows what I can do."),
        ("!chat archive C9", "You have no chat C9. `!chat list` shows yours."),
    ],
)
async def test_what_is_not_understood_is_explained(
    hs: FakeHomeserver, tmp_path: Path, text: str, reply: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        before, rooms = bot.tables(), set(hs.rooms)
        assert await bot.ask(anna, bot.chats_of(anna)[0], text) == reply
        assert (bot.tables(), set(hs.rooms)) == (before, rooms)


async def test_a_chat_is_named_by_its_number_from_anywhere_in_the_home(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new Trip")
        second = bot.chats_of(anna)[1]
        assert await bot.ask(anna, first, "!chat rename c2 Rome") == "C2 is now called “Rome”."
        assert hs.room(second).state["m.room.name", ""] == {"name": "Rome"}
        assert ARCHIVED in await bot.ask(anna, first, "!chat archive C2")
        assert [row["status"] for row in bot.tables()["chats"]] == ["active", "archived"]
        assert (await bot.ask(anna, first, "!chat info C2")).splitlines()[:5] == [
            "**Rome** (C2)",
            "",
            "● Agent: `echo`",
            f"● Conversation: `{bot.key(second)}`",
            f"● Room: `{second}`",
        ]


async def test_an_archived_chat_that_was_left_comes_back_with_an_invite(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new Trip")
        second = bot.chats_of(anna)[1]
        anna.join(second)
        await bot.ask(anna, first, "!chat archive C2")
        anna.leave(second)
        await bot.settled()
        said = await bot.ask(anna, first, "!chat unarchive C2")
        assert said == "“Trip” (C2) is back. I have invited you to it."
        assert second in hs.invited("anna")


@pytest.mark.parametrize("here", [True, False], ids=["in it", "from elsewhere"])
async def test_a_chat_is_deleted_once_that_is_confirmed_and_its_number_never_used_again(
    hs: FakeHomeserver, tmp_path: Path, here: bool
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new Trip")
        second = bot.chats_of(anna)[1]
        anna.join(second)
        place = second if here else first
        plan = await bot.ask(anna, place, "!chat delete C2")
        assert plan.startswith("If you delete “Trip” (C2), I leave its room")
        assert bot.me.user_id in hs.room(second).joined
        said = await bot.ask(anna, place, "!chat delete C2 yes")
        assert said == (
            replies.DELETED_HERE
            if here
            else "“Trip” (C2) is deleted: I have left its room. You may leave it, too."
        )
        await bot.settled()
        assert bot.me.user_id not in hs.room(second).joined
        assert hs.room(second).joined == {anna.user_id}
        named = await bot.ask(anna, first, "!chat new")
        assert "(C3)" in named


async def test_a_chat_is_cleared_from_elsewhere_at_a_word_in_the_chat_itself(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new Trip")
        second = bot.chats_of(anna)[1]
        said = await bot.ask(anna, first, "!chat clear C2")
        assert said == "A new conversation begins in “Trip” (C2)."
        assert bot.words(second) == [replies.CLEARED]
        marker = hs.room(second).state[MARKER_TYPE, bot.me.user_id]
        assert marker["conversation_since"] == hs.timeline(second)[-2].event_id


async def test_words_that_are_not_ours_are_the_agents(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for text in ("!weather in Rome", "!help me with this", "/usr/bin"):
            assert await bot.ask(anna, chat_id, text) == bot.echo(chat_id, text)


async def test_a_new_chat(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        named = await bot.ask(anna, first, "!chat new  Trip to   *Rome*")
        second = bot.chats_of(anna)[1]
        assert named == f"Trip to *Rome* ({url(second)}) is ready (C2)."
        unnamed = await bot.ask(anna, first, "!chat new")
        third = bot.chats_of(anna)[2]
        assert unnamed == f"Chat 3 ({url(third)}) is ready (C3)."
        for room_id in (second, third):
            assert hs.room(space_id).state["m.space.child", room_id]["via"] == ["fake.test"]
            anna.join(room_id)
            assert await bot.ask(anna, room_id, "Hello") == bot.echo(room_id, "Hello")
        assert await bot.ask(anna, first, "!chat list") == (
            "**Your chats**\n\n"
            f"● C1 General ({url(first)})\n"
            f"● C2 Trip to *Rome* ({url(second)})\n"
            f"● C3 Chat 3 ({url(third)})"
        )


async def test_no_more_chats_than_the_settings_allow(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="limits: {chats_per_owner: 2}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "!chat new")
        rooms = set(hs.rooms)
        assert await bot.ask(anna, chat_id, "!chat new") == replies.too_many_chats(2)
        assert set(hs.rooms) == rooms


async def test_new_chats_asked_for_at_once_get_numbers_of_their_own(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new")
        anna.join(bot.chats_of(anna)[1])
        for _ in range(3):
            for room_id in bot.chats_of(anna)[:2]:
                anna.send(room_id, "!chat new")
        await bot.settled()
        numbers = [row["chat_id"] for row in bot.tables()["chats"]]
        assert sorted(numbers) == [f"C{number}" for number in range(1, 9)]


async def test_a_new_chat_whose_reply_fails_is_not_made_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        reply = hs.fail(Match(method="PUT", path="/send/"), Respond(500, text="no"), times=3)
        anna.send(chat_id, "!chat new")
        await reply.reached()
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert len(bot.chats_of(anna)) == 2


async def test_killed_while_it_makes_a_new_chat_it_makes_one(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        making = hs.fail(Match(path="createRoom$"), Hang(after=True))
        anna.send(chat_id, "!chat new")
        request = await making.reached()
        await until("the room is there", lambda: request.status is not None)
        await bot.kill()
        hs.faults.clear()
        await bot.start()
        await bot.settled()
        assert len(bot.chats_of(anna)) == 2
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_renaming(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "!chat rename  <b>Rome</b> [x](y)") == (
            "C1 is now called “<b>Rome</b> [x](y)”."
        )
        assert bot.said(chat_id)[0]["formatted_body"] == (
            "<p>C1 is now called “&lt;b&gt;Rome&lt;/b&gt; [x](y)”.</p>\n"
        )
        assert hs.room(chat_id).state["m.room.name", ""] == {"name": "<b>Rome</b> [x](y)"}
        assert [row["name"] for row in bot.tables()["chats"]] == ["<b>Rome</b> [x](y)"]


async def test_archiving_and_taking_up_again(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before, key = bot.tables(), bot.key(chat_id)
        assert ARCHIVED in await bot.ask(anna, chat_id, "!chat archive")
        assert hs.room(space_id).state["m.space.child", chat_id] == {"dev.homeroom.chat_id": "C1"}
        assert hs.room(chat_id).state[MARKER_TYPE, bot.me.user_id]["archived"] is True
        assert await bot.ask(anna, chat_id, "Hello") == replies.ARCHIVED
        assert await bot.ask(anna, chat_id, "!chat list") == (
            f"**Your chats**\n\n● C1 General ({url(chat_id)}) (archived)"
        )
        await bot.stop()
        bot.wipe()
        await bot.start()
        assert await bot.ask(anna, chat_id, "Hello") == replies.ARCHIVED
        assert "(C1) is back." in await bot.ask(anna, chat_id, "!chat unarchive")
        assert await bot.ask(anna, chat_id, "Hello") == f"Hello\n\n({key})"
        assert bot.tables() == before
        assert hs.room(space_id).state["m.space.child", chat_id] == {
            "via": ["fake.test"],
            "order": "000001",
            "suggested": True,
        }


async def test_commands_outside_of_chats(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        invited_in = anna.create_room(invite=[bot.me])
        await bot.hear(invited_in, 1)
        await bot.settled()
        assert await bot.ask(anna, invited_in, "!chat rename X") == replies.NOT_A_CHAT
        assert await bot.ask(anna, invited_in, "!chat archive") == replies.NOT_A_CHAT
        assert await bot.ask(anna, invited_in, "!chat clear") == replies.NOT_A_CHAT
        for command in ("!stop", "!again"):
            assert await bot.ask(anna, invited_in, command) == replies.IN_ITS_CHAT
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, invited_in, "!chat list") == (
            f"**Your chats**\n\n● C1 General ({url(chat_id)})"
        )


async def test_members_may_not_touch_somebody_elses_chat(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config="access: {answer: members}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        before = bot.tables()
        for text in ("!chat rename Mine", "!chat clear", "!chat archive"):
            assert await bot.ask(bert, chat_id, text) == replies.OWNERS_ONLY
        assert await bot.ask(bert, chat_id, "!chat new") == replies.NO_HOME
        assert bot.tables() == before


async def test_what_the_homeserver_refuses_is_told(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        hs.fail(
            Match(path="createRoom$"),
            Respond(403, {"errcode": "M_FORBIDDEN", "error": "Enough rooms"}),
            times=2,  # with an alias and without
        )
        assert await bot.ask(anna, chat_id, "!chat new") == (
            "The homeserver refused that: M_FORBIDDEN: Enough rooms"
        )
        hs.fail(Match(path="m.room.name"), Respond(500, text="no"))
        assert await bot.ask(anna, chat_id, "!chat rename X") == replies.NOT_NOW


# !reconcile


async def a_home(bot: Bot) -> str:
    """Anna's home, and a room of the administrator's; returns that."""
    anna, admin = bot.hs.user("anna"), bot.hs.user("admin")
    await bot.onboard(anna)
    room_id = admin.create_room(invite=[bot.me])
    await bot.hear(room_id, 1)
    await bot.settled()
    return room_id


async def test_reconcile_is_for_administrators(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "!reconcile") == replies.ADMINS_ONLY
        assert (await bot.ask(hs.user("admin"), room_id, "!reconcile")).startswith("**Reconciled")
        stranger = hs.user("stranger")
        stranger.create_room(invite=[bot.me])
        await bot.settled()
        asked = next(iter(hs.joined("stranger")))
        assert (await bot.ask(stranger, asked, "!reconcile")).startswith("Your chats are in")


async def test_a_report_without_changes(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        admin = hs.user("admin")
        rooms = len(hs.joined("bot"))
        report = await bot.ask(admin, room_id, "!reconcile")
        assert without_seconds(report) == (
            f"**Reconciled**: {rooms} rooms in … s.\n\nRows: no changes."
        )
        report = await bot.ask(admin, room_id, "!reconcile --dry-run")
        assert without_seconds(report) == (
            f"**Dry run, nothing was changed**: {rooms} rooms in … s.\n\nRows: no changes."
        )
        assert await bot.ask(admin, room_id, "!reconcile now") == (
            f"“!reconcile” does not know “now”. Did you mean `!reconcile --dry-run`? {MORE}"
        )


async def test_a_report_of_drift_shows_old_and_new_values(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, admin = hs.user("anna"), hs.user("admin")
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        (chat_id,) = bot.chats_of(anna)
        space_id = bot.space_of(anna)
        good = bot.tables()
        key = bot.key(chat_id)
        bot.alter("UPDATE chats SET platform_chat_id = 'wrong' WHERE room_id = ?", chat_id)
        bot.alter("DELETE FROM homes WHERE matrix_user_id = ?", anna.user_id)
        bad = bot.tables()
        rows = (
            f"**Rows**\n\n● `+` home of `{anna.user_id}`: space_id `{space_id}`,"
            " status `active`, initial_chats `General`\n"
            f"● `~` chat `{chat_id}`: platform_chat_id `wrong` → `{key}`"
        )
        rooms = len(hs.joined("bot"))
        report = await bot.ask(admin, room_id, "!reconcile --dry-run")
        head = f"**Dry run, nothing was changed**: {rooms} rooms in … s."
        assert without_seconds(report) == f"{head}\n\n{rows}"
        assert bot.tables() == bad
        report = await bot.ask(admin, room_id, "!reconcile")
        assert without_seconds(report) == f"**Reconciled**: {rooms} rooms in … s.\n\n{rows}"
        assert bot.tables() == good


async def test_a_look_that_fails_changes_nothing(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        before = bot.tables()
        hs.fail(Match(path="joined_rooms$"), Respond(500, text="no"))
        assert await bot.ask(hs.user("admin"), room_id, "!reconcile") == replies.NO_LOOK
        assert bot.tables() == before


async def test_a_lost_database_is_rebuilt_by_reconcile_too(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, admin = hs.user("anna"), hs.user("admin")
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        before = bot.tables()
        for table in ("homes", "chats"):
            bot.alter(f"DELETE FROM {table}")
        await bot.ask(admin, room_id, "!reconcile")
        assert bot.tables() == before
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_a_long_look_is_told_of_while_it_lasts(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In one message, which is edited, and in the log."""
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        monkeypatch.setattr(progress, "EVERY", 0.0)
        before = len(bot.said(room_id))
        hs.user("admin").send(room_id, "!reconcile")
        await until("a report", lambda: "**Reconciled**" in str(bot.words(room_id)[-1:]))
        await bot.settled()
        (notice, *edits, report) = bot.said(room_id)[before:]
        rooms = len(hs.joined("bot"))
        assert re.fullmatch(
            rf"Looked at \d+ of {rooms} rooms, about 0 s to go\. The report follows\.",
            notice["body"],
        )
        assert edits
        assert all(edit["m.relates_to"]["rel_type"] == "m.replace" for edit in edits)
        assert edits[-1]["m.new_content"]["body"] == (
            f"Looked at {rooms} rooms in 0 s. The report follows."
        )
        assert report["body"].startswith("**Reconciled**")
        assert f"Looked at {rooms} of {rooms} rooms" in caplog.text


async def test_a_long_look_that_breaks_off_says_so(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(hs, tmp_path, config=ADMIN) as bot:
        room_id = await a_home(bot)
        monkeypatch.setattr(progress, "EVERY", 0.0)
        before = len(bot.said(room_id))

        async def fail(*_: object) -> None:
            raise StoreError("the disk is full")

        assert bot.plugin
        monkeypatch.setattr(bot.app.store, "apply", fail)
        hs.user("admin").send(room_id, "!reconcile")
        await until("a word", lambda: replies.NO_LOOK in bot.words(room_id))
        said = [c.get("m.new_content", c)["body"] for c in bot.said(room_id)[before:]]
        assert said[-2:] == [replies.LOOK_BROKEN_OFF, replies.NO_LOOK]
