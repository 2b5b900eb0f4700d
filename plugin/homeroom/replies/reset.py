"""What `!reset` says: always Local, Server, By hand, in this order, and never more than was done.

The bot leaves and forgets rooms. It cannot delete them, and nothing here says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ..domain.commands import RESET_USAGE
from ..domain.reset import (
    STILL_LISTED,
    Kind,
    LeavePlan,
    Left,
    LocalPlan,
    Outcome,
    RemoteParts,
    Scope,
    Target,
)
from .markdown import code, duration, plain

MAX_ROOMS: Final = 20
"""Rooms that are listed before the rest is only counted: each takes some lines on a phone."""
MAX_PEOPLE: Final = 10

RESET_OFF: Final = "`!reset` is switched off: set `dev.reset: true` in the settings."
RESET_NOT_LIVE: Final = (
    "That `!reset` did not reach me as it was sent, so nothing was done. Send it again if you"
    " mean it."
)
RESET_NOT_A_REPLY: Final = (
    "`!reset` is not taken from replies or threads; send it as a message of its own."
    " Nothing was done."
)
RESET_HELP: Final = f"""**Starting from zero, for development**

A normal restart needs none of this: it rebuilds everything from Matrix.

- `!reset local --dry-run` shows what `!reset local` would delete: my own database rows, and \
their copy in my account data. The next restart, or `!reconcile`, rebuilds the same homes from \
Matrix.
- `!reset leave-forget` shows which of my rooms I would leave and forget, with a code; \
`!reset leave-forget --confirm CODE` does it. Rooms are not deleted: they stay for whoever is in \
them.
- `--scope managed` (as without it) means homes and chats only; `--scope joined` means every room \
of this bot account, other plugins' rooms too.

- With `--goodbye` I say so in each chat before I leave it, which takes longer. Old Spaces are \
called “… (old)” in any case.

Usage: `{RESET_USAGE}`"""
GOODBYE: Final = (
    "An administrator begins from zero here, so I leave this chat now. What was said stays. Invite"
    " me to a room for a new home; this old one can be left."
)


def old_name(name: str | None) -> str:
    """What an old Space is called, so that its owner can tell it from a new one."""
    return f"{name or 'Homeroom'} (old)"


RESET_PAUSED: Final = (
    "I am reset and paused. An administrator can bring me back with `!reconcile` or a restart."
)
KEPT: Final = (
    "Left alone: maubot's shared state store and crypto store. They belong to the bot account,"
    " not to this plugin."
)


def reset_misused(reason: str) -> str:
    return f"{plain(reason)}, so nothing was done. `!reset help` shows how it is written."


def reset_failed(reason: str) -> str:
    return (
        f"`!reset` did not go through: {plain(reason)}. What was done before stays done;"
        " send it again to see what is left."
    )


def local_report(plan: LocalPlan, *, dry_run: bool) -> str:
    done = "would be deleted" if dry_run else "deleted"
    return _report(
        "!reset local" + (" --dry-run: nothing was changed" if dry_run else ": done"),
        local=[*_tables(plan.tables, done), f"- {KEPT}"],
        server=[
            "- I stay in every room.",
            _checkpoint(plan.checkpoint, "would be emptied" if dry_run else "emptied"),
        ],
        by_hand=[
            "- Nothing, if the same homes shall come back: a restart of the instance or"
            " `!reconcile` rebuilds them from Matrix, with the same ids."
            + ("" if dry_run else " Until then I am paused."),
            "- For new homes use `!reset leave-forget`.",
        ],
    )


def leave_plan(plan: LeavePlan, *, checkpoint: RemoteParts, stale: bool, dry_run: bool) -> str:
    """The plan of a leave-forget, with the code that carries it out."""
    title = "!reset leave-forget --dry-run: nothing was changed"
    if not dry_run:
        title = "!reset leave-forget: nothing was changed yet"
    if stale:
        title = "!reset leave-forget: that code is not the one of this plan, so nothing was done"
    confirm = f"{_command(plan.scope)} --confirm {plan.code}"
    return _report(
        title,
        local=_local(plan.targets, "would be set to `left`"),
        server=[
            *_scope(plan.scope),
            f"- {_count(len(plan.targets), 'room')} would be left and forgotten"
            + (f", {len(plan.skipped)} skipped." if plan.skipped else "."),
            *_listed([*map(_will, plan.targets), *map(_skips, plan.skipped)]),
            _checkpoint(checkpoint, "would be emptied"),
        ],
        by_hand=[
            *_by_hand(plan.targets),
            *([f"- To do it, send here: `{confirm}`"] if plan.targets else []),
        ],
    )


def leave_report(
    plan: LeavePlan,
    outcomes: Sequence[Outcome],
    *,
    checkpoint: RemoteParts,
    last: Target | None,
    checked: bool,
) -> str:
    """What became of every room; what needs attention comes first.

    Args:
        checkpoint: what became of it.
        last: the room of the command, if it is to be left too: after this report.
        checked: whether there was a second look at the joined rooms.
    """
    open_ = [outcome for outcome in outcomes if not outcome.is_finished]
    finished = [outcome for outcome in outcomes if outcome.is_finished]
    title = "done" if last is None else "done, but for this room, which I leave now"
    if open_ or not checked:
        title = "not everything went through"
    gone = [o.target for o in outcomes if o.left in {Left.LEFT, Left.NOT_IN}]
    gone += [last] if last else []
    return _report(
        f"!reset leave-forget: {title}",
        local=_local(gone, "set to `left` from now on"),
        server=[
            *_scope(plan.scope),
            f"- {_summary(outcomes)}.",
            _second_look(outcomes, checked=checked),
            *_listed([f"{_target(o.target)}: {outcome_text(o)}" for o in [*open_, *finished]]),
            *([f"- {_target(last)}: this room; I leave and forget it now"] if last else []),
            _checkpoint(checkpoint, "emptied"),
        ],
        by_hand=[
            *_by_hand(gone),
            *([f"- To see what is left to do, send `{_command(plan.scope)}`."] if open_ else []),
        ],
    )


def stayed(outcome: Outcome) -> str:
    """After the report: the room of the command could not be left."""
    return f"I could not leave this room: {plain(outcome.reason)}"


def progress(done: int, total: int, *, seconds_left: float | None) -> str:
    """How far it is; edited into one message."""
    text = f"Leaving and forgetting: {done} of {total}"
    if done >= total:
        return f"{text}. The report follows."
    text += "" if seconds_left is None else f", about {duration(seconds_left)} to go"
    return f"{text}, at the homeserver's pace. If I am interrupted, send the command again."


def _second_look(outcomes: Sequence[Outcome], *, checked: bool) -> str:
    if not checked:
        return "- **There was no second look** at the joined rooms: the homeserver did not answer."
    late = sum(o.left is Left.LEFT and o.reason == STILL_LISTED for o in outcomes)
    if late:
        return (
            f"- The homeserver still lists {late} of the rooms that were left. It said that I have"
            " left them, so its list is late."
        )
    return "- A second look at the joined rooms agrees."


def outcome_text(outcome: Outcome, *, escape: bool = True) -> str:
    words = [outcome.left.value]
    if outcome.forgotten:
        words.append("forgotten")
    elif outcome.left in {Left.LEFT, Left.NOT_IN}:
        words.append("not forgotten")
    reason = f" ({plain(outcome.reason, escape=escape)})" if outcome.reason else ""
    return ", ".join(words) + reason


def full_list(lines: Sequence[str]) -> str | None:
    """The text file for a list that was cut; None if it fits."""
    return "\n".join(lines) + "\n" if len(lines) > MAX_ROOMS else None


def not_attached(reason: str) -> str:
    return f"The whole list could not be attached ({plain(reason)}); the log has it."


def plan_lines(plan: LeavePlan) -> list[str]:
    return [
        *(_line(target, "would leave and forget") for target in plan.targets),
        *(_line(target, "skipped") for target in plan.skipped),
    ]


def outcome_lines(outcomes: Iterable[Outcome]) -> list[str]:
    return [_line(outcome.target, outcome_text(outcome, escape=False)) for outcome in outcomes]


def _report(title: str, *, local: list[str], server: list[str], by_hand: list[str]) -> str:
    parts = [("Local", local), ("Server", server), ("By hand", by_hand)]
    sections = [f"**{name}**\n\n" + "\n".join(lines) for name, lines in parts]
    return "\n\n".join([f"**{title}**", *sections])


def _checkpoint(parts: RemoteParts, done: str) -> str:
    """What is said of the checkpoint in the bot's account data."""
    what = "- My account data, with the checkpoint that a lost database is restored from:"
    if parts.failure is not None:
        return f"{what} **not emptied**: {plain(parts.failure)}"
    if not parts.number:
        return f"{what} there is none."
    return f"{what} {_count(parts.number, 'entry', 'entries')} {done}."


def _command(scope: Scope) -> str:
    return f"!reset leave-forget --scope {scope.value}"


def _tables(tables: Mapping[str, int], done: str) -> list[str]:
    return [f"- `{table}`: {_count(count, 'row')} {done}" for table, count in tables.items()]


def _local(targets: Iterable[Target], done: str) -> list[str]:
    counts = Counter(target.table for target in targets if target.table is not None)
    return [
        *_tables(dict(sorted(counts.items())), done),
        "- Rows are kept, not deleted: that is what `!reset local` does."
        if counts
        else "- No row changes.",
        f"- {KEPT}",
    ]


def _scope(scope: Scope) -> list[str]:
    if scope is Scope.JOINED:
        return ["- **Every room of this bot account**, other plugins' rooms too."]
    return []


def _summary(outcomes: Iterable[Outcome]) -> str:
    outcomes = list(outcomes)
    counts = Counter(outcome.left for outcome in outcomes)
    words = [f"{left.value} {counts[left]}" for left in (Left.LEFT, Left.NOT_IN)]
    words.append(f"forgotten {sum(outcome.forgotten for outcome in outcomes)}")
    words += [f"{left.value} {counts[left]}" for left in (Left.FAILED, Left.SKIPPED)]
    return ", ".join(words)


def _by_hand(targets: Sequence[Target]) -> list[str]:
    """What people have to do themselves for a clean room; only what applies."""
    if not targets:
        return ["- Nothing."]
    lines = []
    owners = sorted({target.owner for target in targets if target.owner})
    if owners:
        who = ", ".join(code(owner) for owner in owners[:MAX_PEOPLE])
        more = len(owners) - MAX_PEOPLE
        who += f" and {more} more" if more > 0 else ""
        lines.append(f"- {who}: leave the old Space and its chats in your client.")
        lines.append("- For a new home invite me to a room, and accept the new invites.")
    if any(target.kind is Kind.OTHER for target in targets):
        lines.append("- Invite me again to the other rooms in which I am still needed.")
    lines.append("- The rooms and their messages stay on the server for the other members.")
    return lines


def _listed(lines: Sequence[str]) -> list[str]:
    shown = [f"- {line}" for line in lines[:MAX_ROOMS]]
    if len(lines) > MAX_ROOMS:
        shown.append(f"- … and {len(lines) - MAX_ROOMS} more: the whole list is attached.")
    return shown


def _will(target: Target) -> str:
    """What is planned for a room."""
    what = "would leave and forget" if target.joined else "left already, would forget"
    return f"{_target(target)}: {what}"


def _skips(target: Target) -> str:
    return f"{_target(target)}: skipped (it could not be read)"


def _target(target: Target) -> str:
    name = f" “{plain(target.name)}”" if target.name else ""
    owner = f" of {code(target.owner)}" if target.owner else ""
    return f"{target.kind.value}{name} {code(target.room_id)}{owner}"


def _line(target: Target, what: str) -> str:
    """A line of the text file, in columns."""
    name = plain(target.name or "-", escape=False)
    return "\t".join([target.kind.value, target.room_id, target.owner or "-", name, what])


def _count(count: int, what: str, many: str = "") -> str:
    return f"{count} {what if count == 1 else many or what + 's'}"
