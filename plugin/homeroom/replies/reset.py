"""What `!reset` says: always Local, Server, By hand, in this order, and never more than was done.

The bot leaves and forgets rooms. It cannot delete them, and nothing here says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ..domain.commands import RESET_USAGE
from ..domain.reset import LeavePlan, Left, LocalPlan, Outcome, Scope, Target
from .markdown import MAX_LISTED, code, plain

RESET_OFF: Final = "`!reset` is switched off: set `dev.reset: true` in the settings."
RESET_NOT_LIVE: Final = (
    "That `!reset` did not reach me as it was sent, so nothing was done. Send it again if you"
    " mean it."
)
RESET_NOT_A_REPLY: Final = (
    "`!reset` is not taken from replies; send it as a message of its own. Nothing was done."
)
RESET_HELP: Final = f"""**Starting from zero, for development**

A normal restart needs none of this: it rebuilds everything from Matrix.

- `!reset local --dry-run` shows what `!reset local` would delete: my own database rows. The next \
restart, or `!reconcile`, rebuilds the same homes from Matrix.
- `!reset leave-forget` shows which of my rooms I would leave and forget, with a code; \
`!reset leave-forget --confirm CODE` does it. Rooms are not deleted: they stay for whoever is in \
them.
- `--scope managed` (as without it) means homes and chats only; `--scope joined` means every room \
of this bot account, other plugins' rooms too.

Usage: `{RESET_USAGE}`"""
RESET_PAUSED: Final = (
    "I am reset and paused. An administrator can bring me back with `!reconcile` or a restart."
)
KEPT: Final = (
    "Left alone: maubot's shared state store and crypto store. They belong to the bot account,"
    " not to this plugin."
)


def reset_misused(reason: str) -> str:
    return f"{plain(reason)}, so nothing was done. Usage: `{RESET_USAGE}`"


def local_report(plan: LocalPlan, *, dry_run: bool) -> str:
    done = "would be deleted" if dry_run else "deleted"
    tables = [f"- `{table}`: {_rows(count)} {done}" for table, count in plan.tables.items()]
    return _report(
        "!reset local" + (" --dry-run: nothing was changed" if dry_run else ": done"),
        local=[*tables, f"- {KEPT}"],
        server=["- Nothing: I stay in every room."],
        by_hand=[
            "- Nothing, if the same homes shall come back: a restart of the instance or"
            " `!reconcile` rebuilds them from Matrix, with the same ids."
            + ("" if dry_run else " Until then I am paused."),
            "- For new homes use `!reset leave-forget`.",
        ],
    )


def leave_plan(plan: LeavePlan, *, stale: bool, dry_run: bool) -> str:
    """The plan of a leave-forget, with the code that carries it out."""
    title = "!reset leave-forget --dry-run: nothing was changed"
    if not dry_run:
        title = "!reset leave-forget: nothing was changed yet"
    if stale:
        title = "!reset leave-forget: that code is not the one of this plan, so nothing was done"
    confirm = f"!reset leave-forget --scope {plan.scope.value} --confirm {plan.code}"
    return _report(
        title,
        local=["- The rows of the rooms would become `left`.", f"- {KEPT}"],
        server=[
            *_scope(plan.scope),
            f"- {_rooms(len(plan.targets))} would be left and forgotten.",
            *_listed([f"{_target(t)}: would leave and forget" for t in plan.targets]),
            *_skipped(plan),
        ],
        by_hand=[*_by_hand(plan), f"- To do it, send here: `{confirm}`"],
    )


def leave_report(plan: LeavePlan, outcomes: Sequence[Outcome], *, last: Target | None) -> str:
    """What became of every room; `last` is the room of the command, if it is to be left too."""
    counts = Counter(outcome.left for outcome in outcomes)
    forgotten = sum(outcome.forgotten for outcome in outcomes)
    summary = (
        f"left {counts[Left.LEFT]}, was not in {counts[Left.NOT_IN]}, forgotten {forgotten},"
        f" failed {counts[Left.FAILED]}, skipped {len(plan.unreadable)}"
    )
    unfinished = counts[Left.FAILED] or any(not o.forgotten for o in outcomes) or plan.unreadable
    return _report(
        "!reset leave-forget: " + ("not everything went through" if unfinished else "done"),
        local=["- The rows of rooms that were left become `left`.", f"- {KEPT}"],
        server=[
            *_scope(plan.scope),
            f"- {summary}; checked by a second look at the joined rooms.",
            *_listed([f"{_target(o.target)}: {outcome_text(o)}" for o in outcomes]),
            *_skipped(plan),
            *([f"- {_target(last)}: this room; I leave and forget it now."] if last else []),
        ],
        by_hand=[
            *_by_hand(plan),
            *(["- Send the command again to finish what failed."] if unfinished else []),
        ],
    )


def progress(done: int, total: int, *, seconds_left: float | None) -> str:
    left = "" if seconds_left is None else f", about {_duration(seconds_left)} to go"
    return (
        f"Leaving and forgetting: {done} of {total}{left}. Each waits for the homeserver's pace."
    )


def outcome_text(outcome: Outcome) -> str:
    words = [outcome.left.value]
    if outcome.forgotten:
        words.append("forgotten")
    elif outcome.left in {Left.LEFT, Left.NOT_IN}:
        words.append("not forgotten")
    return ", ".join(words) + (f" ({plain(outcome.reason)})" if outcome.reason else "")


def full_list(lines: Sequence[str]) -> str | None:
    """The text file for a list that was cut; None if it fits."""
    return "\n".join(lines) + "\n" if len(lines) > MAX_LISTED else None


def plan_lines(plan: LeavePlan) -> list[str]:
    return [
        *(f"{_plain_target(target)}: would leave and forget" for target in plan.targets),
        *(f"{room_id}: skipped, could not be read" for room_id in plan.unreadable),
    ]


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{_plain_target(o.target)}: {outcome_text(o)}" for o in outcomes]


def _report(title: str, *, local: list[str], server: list[str], by_hand: list[str]) -> str:
    parts = [("Local", local), ("Server", server), ("By hand", by_hand)]
    sections = [f"**{name}**\n\n" + "\n".join(lines) for name, lines in parts]
    return "\n\n".join([f"**{title}**", *sections])


def _scope(scope: Scope) -> list[str]:
    if scope is Scope.JOINED:
        return ["- **Every room of this bot account**, other plugins' rooms too."]
    return []


def _skipped(plan: LeavePlan) -> list[str]:
    lines = [f"{code(room_id)}: skipped, it could not be read" for room_id in plan.unreadable]
    return _listed(lines)


def _by_hand(plan: LeavePlan) -> list[str]:
    if not plan.targets:
        return ["- Nothing."]
    people = ", ".join(code(owner) for owner in plan.owners[:10])
    more = len(plan.owners) - 10
    lines = []
    if plan.owners:
        who = people + (f" and {more} more" if more > 0 else "")
        lines.append(f"- {who}: leave the old Space and its chats in your client.")
        lines.append("- For a new home invite me to a room, and accept the new invites.")
    lines.append("- The rooms and their messages stay on the server for the other members.")
    return lines


def _listed(lines: Sequence[str]) -> list[str]:
    shown = [f"- {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"- … and {len(lines) - MAX_LISTED} more: the whole list is attached.")
    return shown


def _target(target: Target) -> str:
    name = f" “{plain(target.name)}”" if target.name else ""
    owner = f" of {code(target.owner)}" if target.owner else ""
    return f"{target.kind.value}{name} {code(target.room_id)}{owner}"


def _plain_target(target: Target) -> str:
    name = " ".join((target.name or "").split())
    return f"{target.kind.value}\t{target.room_id}\t{target.owner or '-'}\t{name}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _rooms(count: int) -> str:
    return "1 room" if count == 1 else f"{count} rooms"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
