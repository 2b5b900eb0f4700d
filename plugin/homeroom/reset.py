"""Reset: an explicit, honest way to start from zero, for development only.

Plan and report come from the same values, whether anything is done or not. Leaving goes room by
room at the pace that the homeserver allows; whatever ends it, what was done is done, rows say
what the homeserver says, and the same command finishes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from . import replies
from .adapters.errors import HomeserverError
from .adapters.homeserver import Homeserver
from .adapters.observation import Observer
from .adapters.store import Store, StoreError
from .config import Settings
from .domain.commands import ResetCommand, ResetHelp, ResetLeave, ResetLocal, ResetMisused
from .domain.events import Message
from .domain.never import assert_never
from .domain.reset import (
    LeavePlan,
    LocalPlan,
    Outcome,
    Scope,
    Target,
    outcome_of,
    plan_leave,
    plan_local,
)
from .reconcile import Reconciler
from .speak import Speaker

PROGRESS_EVERY: Final = 15.0
"""Seconds between two edits of the progress message: each costs one place in the same queue."""


class Resetter:
    def __init__(
        self,
        *,
        homeserver: Homeserver,
        observer: Observer,
        store: Store,
        reconciler: Reconciler,
        speaker: Speaker,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._homeserver = homeserver
        self._observer = observer
        self._store = store
        self._reconciler = reconciler
        self._speaker = speaker
        self._settings = settings
        self._log = log

    async def run(self, command: ResetCommand, message: Message) -> None:
        """Carry out a command of somebody who may be an administrator or not."""
        if message.sender not in self._settings().admins:
            self._log.info("Ignored !reset of %s in %s", message.sender, message.room_id)
            return
        refusal = self._refusal(message)
        if refusal is not None:
            await self._say(message, refusal)
            return
        match command:
            case ResetHelp():
                await self._say(message, replies.RESET_HELP)
            case ResetMisused(reason=reason):
                await self._say(message, replies.reset_misused(reason))
            case ResetLocal(dry_run=dry_run):
                await self._local(message, dry_run=dry_run)
            case ResetLeave():
                await self._leave(message, command)
            case _:
                assert_never(command)

    def _refusal(self, message: Message) -> str | None:
        if not self._settings().dev_reset:
            return replies.RESET_OFF
        if not message.is_live:
            return replies.RESET_NOT_LIVE
        if message.is_reply:
            return replies.RESET_NOT_A_REPLY
        return None

    async def _say(self, message: Message, text: str) -> EventID:
        return await self._speaker.notice(
            message.room_id, text, about=message.event_id, thread_root=message.thread_root
        )

    def _audit(self, message: Message, what: str, *args: object) -> None:
        self._log.info(
            "Reset by %s in %s (%s): " + what,
            message.sender,
            message.room_id,
            message.event_id,
            *args,
        )

    # local

    async def _local(self, message: Message, *, dry_run: bool) -> None:
        if dry_run:
            plan = plan_local(await self._store.snapshot(), tables=await self._store.counts())
        else:
            await self._store.mark_handled(message.event_id, room_id=message.room_id)
            plan = await self._delete_rows(message)
        self._audit(
            message,
            "local, %s, %d rows in %d tables",
            "dry run" if dry_run else "deleted",
            sum(plan.tables.values()),
            len(plan.tables),
        )
        await self._say(message, replies.local_report(plan, dry_run=dry_run))

    async def _delete_rows(self, message: Message) -> LocalPlan:
        async with self._reconciler.paused():
            records = await self._store.snapshot()
            tables = await self._store.clear()
            # First of all the new memory has to know that this command is done.
            await self._store.mark_handled(message.event_id, room_id=message.room_id)
        return plan_local(records, tables=tables)

    # leave-forget

    async def _leave(self, message: Message, command: ResetLeave) -> None:
        plan = await self._plan(command.scope, message.room_id)
        if command.dry_run or command.code != plan.code:
            stale = command.code is not None
            self._audit(
                message,
                "leave-forget, scope %s, %s, %d rooms",
                plan.scope.value,
                "refused: stale code" if stale else "plan only",
                len(plan.targets),
            )
            text = replies.leave_plan(plan, stale=stale, dry_run=command.dry_run)
            await self._say(message, text)
            await self._attach(message, "plan", replies.plan_lines(plan))
            return
        # Recorded before the first leave: whatever happens, this event never runs again.
        await self._store.mark_handled(message.event_id, room_id=message.room_id)
        self._audit(
            message,
            "leave-forget, scope %s, begins, %d rooms",
            plan.scope.value,
            len(plan.targets),
        )
        async with self._reconciler.paused():
            pass
        try:
            await self._leave_all(message, plan)
        except (HomeserverError, StoreError):
            await self._catch_up_rows()
            raise
        await self._catch_up_rows()

    async def _plan(self, scope: Scope, command_room: RoomID) -> LeavePlan:
        topology = await self._observer.look_gently()
        return plan_leave(
            topology,
            await self._store.snapshot(),
            scope=scope,
            left=await self._homeserver.left_rooms(),
            command_room=command_room,
            adopt_unmarked=self._settings().adopt_unmarked,
        )

    async def _leave_all(self, message: Message, plan: LeavePlan) -> None:
        last = next((t for t in plan.targets if t.room_id == message.room_id and t.joined), None)
        targets = [target for target in plan.targets if target is not last]
        errors = await self._leave_each(message, targets)
        try:
            joined = await self._homeserver.joined_rooms()
        except HomeserverError as e:
            self._log.warning("No second look at the joined rooms: %s", e)
            joined = None
        outcomes = [
            outcome_of(
                target,
                leave_error=leave_error,
                forget_error=forget_error,
                joined_now=None if joined is None else target.room_id in joined,
            )
            for target, (leave_error, forget_error) in zip(targets, errors, strict=True)
        ]
        for outcome in outcomes:
            self._log.info("%s: %s", outcome.target.room_id, replies.outcome_text(outcome))
        await self._say(message, replies.leave_report(plan, outcomes, last=last))
        await self._attach(message, "report", replies.outcome_lines(outcomes))
        if last is not None:
            outcomes.append(await self._leave_last(last))
        self._audit(message, "leave-forget, ended, %s", _counts(outcomes))

    async def _leave_each(
        self, message: Message, targets: list[Target]
    ) -> list[tuple[str | None, str | None]]:
        """Leave and forget, one after the other. Returns what went wrong with each."""
        errors = []
        started = shown_at = time.monotonic()
        text = replies.progress(0, len(targets), seconds_left=None)
        progress = await self._speaker.notice(
            message.room_id, text, about=f"progress {message.event_id}"
        )
        for done, target in enumerate(targets, start=1):
            errors.append(await self._leave_one(target))
            now = time.monotonic()
            if now - shown_at >= PROGRESS_EVERY and done < len(targets):
                shown_at = now
                left = (now - started) / done * (len(targets) - done)
                text = replies.progress(done, len(targets), seconds_left=left)
                with suppress(HomeserverError):
                    await self._speaker.edit(
                        message.room_id,
                        progress,
                        text,
                        about=f"progress {message.event_id} {done}",
                    )
        return errors

    async def _leave_one(self, target: Target) -> tuple[str | None, str | None]:
        """Leave and forget one room; nothing that goes wrong with it stops the others."""
        leave_error = None
        if target.joined:
            try:
                await self._homeserver.leave(target.room_id, reason="!reset leave-forget")
            except HomeserverError as e:
                leave_error = str(e)
        try:
            await self._homeserver.forget(target.room_id)
        except HomeserverError as e:
            return leave_error, str(e)
        return leave_error, None

    async def _leave_last(self, target: Target) -> Outcome:
        leave_error, forget_error = await self._leave_one(target)
        outcome = outcome_of(
            target, leave_error=leave_error, forget_error=forget_error, joined_now=None
        )
        self._log.info("%s: %s", target.room_id, replies.outcome_text(outcome))
        return outcome

    async def _catch_up_rows(self) -> None:
        """Let the rows say what the homeserver says, and end the pause."""
        try:
            await self._reconciler.run()
        except (HomeserverError, StoreError) as e:
            self._log.warning("Paused until !reconcile or a restart: %s", e)

    async def _attach(self, message: Message, name: str, lines: list[str]) -> None:
        text = replies.full_list(lines)
        if text is not None:
            await self._speaker.attach(
                message.room_id,
                f"homeroom-reset-{name}.txt",
                text,
                about=f"{name} {message.event_id}",
            )


def _counts(outcomes: list[Outcome]) -> str:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.left.value] = counts.get(outcome.left.value, 0) + 1
    forgotten = sum(outcome.forgotten for outcome in outcomes)
    return ", ".join(f"{word} {n}" for word, n in {**counts, "forgotten": forgotten}.items())
