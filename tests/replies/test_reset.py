"""What `!reset` says, whole reports: readable on a phone, and never more than was done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from maubot.matrix import parse_formatted
from mautrix.types import RoomID, UserID

from homeroom import replies
from homeroom.domain.reset import (
    Kind,
    LeavePlan,
    Left,
    LocalPlan,
    Outcome,
    RemoteParts,
    Scope,
    Target,
    skipped,
)

ADA, BERT = UserID("@ada:example.org"), UserID("@bert:example.org")
SPACE = Target(room_id=RoomID("!home"), kind=Kind.SPACE, name="Home", owner=ADA, table="homes")
WORK = Target(room_id=RoomID("!work"), kind=Kind.CHAT, name="Work", owner=ADA, table="chats")
PLAY = Target(room_id=RoomID("!play"), kind=Kind.CHAT, owner=BERT, table="chats")
OTHER = Target(room_id=RoomID("!other"), kind=Kind.OTHER, name="Reminders")
PLAN = LeavePlan(scope=Scope.MANAGED, targets=(WORK, SPACE), skipped=(), code="12ab34cd")
KEPT = (
    "- Left alone: maubot's shared state store and crypto store. They belong to the bot account,"
    " not to this plugin."
)
STAY = "- The rooms and their messages stay on the server for the other members."


def gone(target: Target) -> Outcome:
    return Outcome(target=target, left=Left.LEFT, forgotten=True)


COPY = RemoteParts(number=5)
WOULD_BE_EMPTIED = (
    "- My account data, with the checkpoint that a lost database is restored from: 5 entries would"
    " be emptied."
)
EMPTIED = WOULD_BE_EMPTIED.replace("would be ", "")


def failed(target: Target, reason: str = "M_FORBIDDEN: no") -> Outcome:
    return Outcome(target=target, left=Left.FAILED, reason=reason)


def chats(count: int) -> tuple[Target, ...]:
    return tuple(replace(WORK, room_id=RoomID(f"!room{number}")) for number in range(count))


def report(
    *outcomes: Outcome, plan: LeavePlan = PLAN, last: Target | None = None, checked: bool = True
) -> str:
    return replies.leave_report(plan, outcomes, checkpoint=COPY, last=last, checked=checked)


def title(text: str) -> str:
    return text.split("\n", maxsplit=1)[0].strip("*")


# Whole reports


def test_a_dry_run_of_local() -> None:
    plan = LocalPlan(tables={"chats": 3, "homes": 1}, checkpoint=COPY)
    assert (
        replies.local_report(plan, dry_run=True)
        == f"""\
**!reset local --dry-run: nothing was changed**

**Local**

- `chats`: 3 rows would be deleted
- `homes`: 1 row would be deleted
{KEPT}

**Server**

- I stay in every room.
{WOULD_BE_EMPTIED}

**By hand**

- Nothing, if the same homes shall come back: a restart of the instance or `!reconcile` rebuilds \
them from Matrix, with the same ids.
- For new homes use `!reset leave-forget`."""
    )


def test_a_run_of_local() -> None:
    plan = LocalPlan(tables={"chats": 3, "homes": 1}, checkpoint=COPY)
    assert (
        replies.local_report(plan, dry_run=False)
        == f"""\
**!reset local: done**

**Local**

- `chats`: 3 rows deleted
- `homes`: 1 row deleted
{KEPT}

**Server**

- I stay in every room.
{EMPTIED}

**By hand**

- Nothing, if the same homes shall come back: a restart of the instance or `!reconcile` rebuilds \
them from Matrix, with the same ids. Until then I am paused.
- For new homes use `!reset leave-forget`."""
    )


def test_a_plan_of_leave_forget() -> None:
    plan = replace(
        PLAN,
        targets=(WORK, replace(PLAY, joined=False, table=None), SPACE),
        skipped=(replace(OTHER, name=None),),
    )
    assert (
        replies.leave_plan(plan, checkpoint=COPY, stale=False, dry_run=False)
        == f"""\
**!reset leave-forget: nothing was changed yet**

**Local**

- `chats`: 1 row would be set to `left`
- `homes`: 1 row would be set to `left`
- Rows are kept, not deleted: that is what `!reset local` does.
{KEPT}

**Server**

- 3 rooms would be left and forgotten, 1 skipped.
- chat “Work” `!work` of `@ada:example.org`: would leave and forget
- chat `!play` of `@bert:example.org`: left already, would forget
- Space “Home” `!home` of `@ada:example.org`: would leave and forget
- other room `!other`: skipped (it could not be read)
{WOULD_BE_EMPTIED}

**By hand**

- `@ada:example.org`, `@bert:example.org`: leave the old Space and its chats in your client.
- For a new home invite me to a room, and accept the new invites.
{STAY}
- To do it, send here: `!reset leave-forget --scope managed --confirm 12ab34cd`"""
    )


def test_a_plan_of_every_room_says_so() -> None:
    plan = replace(PLAN, scope=Scope.JOINED, targets=(OTHER,))
    assert (
        replies.leave_plan(plan, checkpoint=COPY, stale=False, dry_run=True)
        == f"""\
**!reset leave-forget --dry-run: nothing was changed**

**Local**

- No row changes.
{KEPT}

**Server**

- **Every room of this bot account**, other plugins' rooms too.
- 1 room would be left and forgotten.
- other room “Reminders” `!other`: would leave and forget
{WOULD_BE_EMPTIED}

**By hand**

- Invite me again to the other rooms in which I am still needed.
{STAY}
- To do it, send here: `!reset leave-forget --scope joined --confirm 12ab34cd`"""
    )


def test_nothing_to_leave_needs_no_code() -> None:
    text = replies.leave_plan(
        replace(PLAN, targets=()), checkpoint=COPY, stale=False, dry_run=False
    )
    assert "- 0 rooms would be left and forgotten." in text
    assert text.endswith("**By hand**\n\n- Nothing.")


def test_a_stale_code_is_refused_with_the_new_plan() -> None:
    text = replies.leave_plan(PLAN, checkpoint=COPY, stale=True, dry_run=False)
    assert title(text) == (
        "!reset leave-forget: that code is not the one of this plan, so nothing was done"
    )
    assert (
        text.split("\n")[1:]
        == (replies.leave_plan(PLAN, checkpoint=COPY, stale=False, dry_run=False).split("\n")[1:])
    )


def test_a_report_where_all_went_well() -> None:
    assert (
        report(gone(WORK), last=SPACE)
        == f"""\
**!reset leave-forget: done, but for this room, which I leave now**

**Local**

- `chats`: 1 row set to `left` from now on
- `homes`: 1 row set to `left` from now on
- Rows are kept, not deleted: that is what `!reset local` does.
{KEPT}

**Server**

- left 1, was not in it 0, forgotten 1, failed 0, skipped 0.
- A second look at the joined rooms agrees.
- chat “Work” `!work` of `@ada:example.org`: left, forgotten
- Space “Home” `!home` of `@ada:example.org`: this room; I leave and forget it now
{EMPTIED}

**By hand**

- `@ada:example.org`: leave the old Space and its chats in your client.
- For a new home invite me to a room, and accept the new invites.
{STAY}"""
    )


def test_a_report_of_trouble_begins_with_the_trouble() -> None:
    text = report(
        gone(WORK),
        Outcome(target=PLAY, left=Left.NOT_IN, forgotten=True),
        Outcome(target=OTHER, left=Left.LEFT, reason="HTTP status 502"),
        failed(SPACE),
        skipped(replace(OTHER, room_id=RoomID("!dark"), name=None), "it could not be read"),
    )
    assert (
        text
        == f"""\
**!reset leave-forget: not everything went through**

**Local**

- `chats`: 2 rows set to `left` from now on
- Rows are kept, not deleted: that is what `!reset local` does.
{KEPT}

**Server**

- left 2, was not in it 1, forgotten 2, failed 1, skipped 1.
- A second look at the joined rooms agrees.
- other room “Reminders” `!other`: left, not forgotten (HTTP status 502)
- Space “Home” `!home` of `@ada:example.org`: failed (M\\_FORBIDDEN: no)
- other room `!dark`: skipped (it could not be read)
- chat “Work” `!work` of `@ada:example.org`: left, forgotten
- chat `!play` of `@bert:example.org`: was not in it, forgotten
{EMPTIED}

**By hand**

- `@ada:example.org`, `@bert:example.org`: leave the old Space and its chats in your client.
- For a new home invite me to a room, and accept the new invites.
- Invite me again to the other rooms in which I am still needed.
{STAY}
- To see what is left to do, send `!reset leave-forget --scope managed`."""
    )


# Never more than was done


@pytest.mark.parametrize(
    "trouble",
    [
        failed(SPACE),
        skipped(SPACE, "it could not be read"),
        Outcome(target=SPACE, left=Left.LEFT, reason="timed out"),
        Outcome(target=SPACE, left=Left.NOT_IN, reason="timed out"),
    ],
    ids=["failed", "skipped", "not-forgotten", "was-not-in-it-not-forgotten"],
)
def test_it_is_not_done_while_anything_is_left_to_do(trouble: Outcome) -> None:
    for last in (None, WORK):
        text = report(gone(PLAY), trouble, last=last)
        assert title(text) == "!reset leave-forget: not everything went through"
    assert title(report(gone(PLAY), gone(SPACE))) == "!reset leave-forget: done"


def test_it_is_not_done_without_a_second_look() -> None:
    text = report(gone(WORK), gone(SPACE), checked=False)
    assert title(text) == "!reset leave-forget: not everything went through"
    assert "- **There was no second look** at the joined rooms" in text
    assert "agrees" not in text


def test_nothing_says_that_a_room_was_deleted() -> None:
    texts = [
        replies.leave_plan(PLAN, checkpoint=COPY, stale=False, dry_run=False),
        report(gone(WORK), gone(SPACE)),
        replies.progress(1, 3, seconds_left=4),
    ]
    for text in texts:
        assert "delete" not in text.replace("Rows are kept, not deleted", "")
    assert "Rooms are not deleted: they stay for whoever is in them" in replies.RESET_HELP


# Long lists


def test_twenty_rooms_are_listed() -> None:
    plan = replace(PLAN, targets=chats(20))
    text = replies.leave_plan(plan, checkpoint=COPY, stale=False, dry_run=True)
    assert text.count("would leave and forget") == 20
    assert "attached" not in text
    assert replies.full_list(replies.plan_lines(plan)) is None


def test_longer_lists_are_cut_with_their_count_and_attached() -> None:
    plan = replace(PLAN, targets=chats(45), skipped=(OTHER,))
    text = replies.leave_plan(plan, checkpoint=COPY, stale=False, dry_run=True)
    assert "- 45 rooms would be left and forgotten, 1 skipped.\n" in text
    assert text.count("would leave and forget") == 20
    assert "\n- … and 26 more: the whole list is attached.\n" in text
    attached = replies.full_list(replies.plan_lines(plan))
    assert attached is not None
    lines = attached.splitlines()
    assert len(lines) == 46
    assert lines[0] == "chat\t!room0\t@ada:example.org\tWork\twould leave and forget"
    assert lines[-1] == "other room\t!other\t-\tReminders\tskipped"


def test_a_cut_report_shows_its_failures() -> None:
    outcomes = [*map(gone, chats(45)), failed(SPACE)]
    text = report(*outcomes)
    assert "`!home` of `@ada:example.org`: failed" in text
    attached = replies.full_list(replies.outcome_lines(outcomes))
    assert attached is not None
    assert attached.splitlines()[-1] == (
        "Space\t!home\t@ada:example.org\tHome\tfailed (M_FORBIDDEN: no)"
    )


def test_many_owners_are_counted() -> None:
    targets = tuple(
        replace(SPACE, room_id=RoomID(f"!{n}"), owner=UserID(f"@user{n:02}:example.org"))
        for n in range(13)
    )
    text = replies.leave_plan(
        replace(PLAN, targets=targets), checkpoint=COPY, stale=False, dry_run=True
    )
    assert "`@user09:example.org` and 3 more: leave the old Space" in text


def test_a_full_report_fits_one_message() -> None:
    """Room IDs and user IDs of 255 bytes, names of 255 characters, long reasons."""
    worst = Target(
        room_id=RoomID("!" + "r" * 254),
        kind=Kind.CHAT,
        name="*" * 255,
        owner=UserID("@" + "u" * 254),
        table="chats",
    )
    text = report(*[failed(worst, "~" * 300)] * 100, last=worst)
    assert len(text) < 65_536 / 2


# Hostile names


HOSTILE = "*x* <b>y</b> [z](http://evil) `!reset local`\n- # list\u202e\u0007 |"


async def test_a_hostile_name_is_shown_as_it_is_and_does_nothing() -> None:
    target = replace(WORK, name=HOSTILE)
    texts = [
        replies.leave_plan(
            replace(PLAN, targets=(target,)), checkpoint=COPY, stale=False, dry_run=False
        ),
        report(failed(target, HOSTILE)),
    ]
    for text in texts:
        _, html = await parse_formatted(text)
        line = next(line for line in html.split("\n") if "!work" in line)
        assert "*x* &lt;b&gt;y&lt;/b&gt; [z](http://evil)" in line
        assert "<em>" not in html
        assert "<a " not in html
        assert "<b>" not in html
        assert "\u202e" not in html
        assert "\u0007" not in html
    plan = replace(PLAN, targets=(replace(WORK, name="Work"),))
    harmless = replies.leave_plan(plan, checkpoint=COPY, stale=False, dry_run=False)
    assert texts[0].count("\n") == harmless.count("\n")


def test_a_hostile_name_is_one_line_of_the_text_file() -> None:
    target = replace(WORK, name=HOSTILE + "\n" * 5 + "\t")
    (line,) = replies.plan_lines(replace(PLAN, targets=(target,)))
    assert line.count("\t") == 4
    assert "\n" not in line
    (line,) = replies.outcome_lines([failed(target, "two\nlines\tand a tab")])
    assert line.endswith("failed (two lines and a tab)")
    assert line.count("\t") == 4


# Small things


@pytest.mark.parametrize(
    ("done", "left", "text"),
    [
        (0, None, "0 of 40, at"),
        (12, 80.4, "12 of 40, about 80 s to go, at"),
        (13, 150.0, "13 of 40, about 2 min to go, at"),
    ],
)
def test_progress(done: int, left: float | None, text: str) -> None:
    assert replies.progress(done, 40, seconds_left=left) == (
        f"Leaving and forgetting: {text} the homeserver's pace."
        " If I am interrupted, send the command again."
    )


def test_the_end_of_progress_promises_nothing_but_the_report() -> None:
    text = "Leaving and forgetting: 40 of 40. The report follows."
    assert replies.progress(40, 40, seconds_left=None) == text


def test_errors_name_the_reason_and_the_usage() -> None:
    usage = (
        "`!reset local [--dry-run] | leave-forget [--scope managed|joined] [--goodbye] [--dry-run]"
        " [--confirm CODE] | help`"
    )
    assert replies.reset_misused("“<x>” is not understood") == (
        "“\\<x\\>” is not understood, so nothing was done. `!reset help` shows how it is written."
    )
    assert usage in replies.RESET_HELP
    assert replies.reset_failed("timed_out") == (
        "`!reset` did not go through: timed\\_out. What was done before stays done; send it"
        " again to see what is left."
    )
    assert replies.stayed(failed(WORK)) == "I could not leave this room: M\\_FORBIDDEN: no"
    assert replies.not_attached("too_large") == (
        "The whole list could not be attached (too\\_large); the log has it."
    )


@pytest.mark.parametrize("text", [replies.RESET_OFF, replies.RESET_PAUSED])
def test_short_notices_are_one_line(text: str) -> None:
    assert "\n" not in text
    assert len(text) < 120
