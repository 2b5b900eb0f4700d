"""Reset: an explicit, honest way to start from zero, for development only.

Plan and report come from the same values, whether anything is done or not. Leaving goes room by
room at the pace that the homeserver allows; whatever ends it, what was done is done, rows say
what the homeserver says, and the same command finishes the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.commands import ResetCommand, ResetHelp, ResetLeave, ResetLocal, ResetMisused
from ..domain.never import assert_never
from ..domain.reset import (
    Failure,
    Kind,
    LeavePlan,
    Left,
    LocalPlan,
    Outcome,
    RemoteParts,
    Scope,
    Target,
    outcome_of,
    plan_leave,
    plan_local,
    skipped,
)
from ..domain.sync.news import Message
from ..homes.observation import Observer
from ..homes.reconciler import Reconciled, Reconciler
from ..homes.remote_checkpoint import RemoteCheckpoint
from ..homes.room_creation import SETTLE, RoomCreation
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..runtime.tasks import Background
from ..storage import Store, StoreError
from .progress_message import ProgressMessage

PROGRESS_EVERY: Final = 30.0
"""Seconds between two edits of the progress message: each costs one place in the same queue."""

Attempt = tuple[Target, Failure | None, Failure | None]
"""What leaving and forgetting a room failed with."""


@dataclass(slots=True, kw_only=True)
class Resetter:
    """Carries out `!reset`: shows the plan, asks for its code, does it, and reports."""

    homeserver: Homeserver
    observer: Observer
    store: Store
    reconciler: Reconciler
    remote_checkpoint: RemoteCheckpoint
    room_creation: RoomCreation
    speaker: Speaker
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _taken: set[EventID] = field(default_factory=set, init=False)

    async def run(self, command: ResetCommand, message: Message) -> Reconciled | None:
        """Carry out a command of somebody who may be an administrator or not.

        Returns the reconcile that ended the run, if there was one: invites that came in during
        the run are still to be answered.

        Raises:
            HomeserverError, StoreError: it could not begin, or could not reply.
        """
        if message.sender not in self.settings().admins:
            self.log.info("Ignored !reset of %s in %s", message.sender, message.room_id)
            return None
        if message.event_id in self._taken:
            return None  # it was answered, or failed and said so: trying again is a new command
        self._taken.add(message.event_id)
        refusal = self._refusal(message)
        if refusal is not None:
            await self.speaker.reply(message, refusal)
            return None
        match command:
            case ResetHelp():
                await self.speaker.reply(message, replies.RESET_HELP)
            case ResetMisused(reason=reason):
                await self.speaker.reply(message, replies.reset_misused(reason))
            case ResetLocal(dry_run=dry_run):
                async with self._one_at_a_time:
                    await self._local(message, dry_run=dry_run)
            case ResetLeave():
                async with self._one_at_a_time:
                    return await self._leave(message, command)
            case _:
                assert_never(command)
        return None

    def _refusal(self, message: Message) -> str | None:
        if not self.settings().dev_reset:
            return replies.RESET_OFF
        if not message.is_live:
            return replies.RESET_NOT_LIVE
        if message.is_reply:
            return replies.RESET_NOT_A_REPLY
        return None

    def _audit(self, message: Message, what: str, *args: object) -> None:
        self.log.info(
            "Reset by %s in %s (%s): %s",
            message.sender,
            message.room_id,
            message.event_id,
            what % args,
        )

    # local

    async def _local(self, message: Message, *, dry_run: bool) -> None:
        if dry_run:
            plan = plan_local(await self.store.counts(), checkpoint=await self._parts())
        else:
            await self.store.mark_handled(message.event_id, room_id=message.room_id)
            plan = await self._delete_rows(message)
        self._audit(
            message,
            "local, %s, %d rows in %d tables",
            "dry run" if dry_run else "deleted",
            sum(plan.tables.values()),
            len(plan.tables),
        )
        await self.speaker.reply(message, replies.local_report(plan, dry_run=dry_run))

    async def _delete_rows(self, message: Message) -> LocalPlan:
        async with self.reconciler.paused():
            checkpoint = await self._erase()
            tables = await self.store.clear()
            # First of all the new memory has to know that this command is done.
            await self.store.mark_handled(message.event_id, room_id=message.room_id)
        return plan_local(tables, checkpoint=checkpoint)

    async def _parts(self) -> RemoteParts:
        """How much of a checkpoint there is in the account data."""
        try:
            return RemoteParts(number=await self.remote_checkpoint.parts())
        except HomeserverError as e:
            return RemoteParts(number=0, failure=str(e))

    async def _erase(self) -> RemoteParts:
        """Empty the checkpoint in the account data; it is no reason to fail."""
        try:
            return RemoteParts(number=await self.remote_checkpoint.erase())
        except HomeserverError as e:
            return RemoteParts(number=0, failure=str(e))

    # leave-forget

    async def _leave(self, message: Message, command: ResetLeave) -> Reconciled | None:
        plan = await self._plan(command.scope, message.room_id)
        if command.dry_run or command.code != plan.code:
            await self._show_plan(message, command, plan)
            return None
        # Recorded before the first leave: whatever happens, this event never runs again.
        await self.store.mark_handled(message.event_id, room_id=message.room_id)
        self._audit(
            message,
            "leave-forget, scope %s, begins, %d rooms",
            plan.scope.value,
            len(plan.targets),
        )
        # The room of the command comes last, when everything is said.
        last = next((t for t in plan.targets if t.room_id == message.room_id and t.joined), None)
        targets = [target for target in plan.targets if target is not last]
        work = ProgressMessage(message=message, speaker=self.speaker, background=self.background)
        await work.begin(replies.progress(0, len(targets), seconds_left=None))
        async with self.reconciler.paused():
            checkpoint = await self._erase()  # nothing is routed or provisioned from here on
        outcomes, checked = await self._judge(
            await self._leave_each(targets, work, says_goodbye=command.says_goodbye)
        )
        outcomes += [skipped(target, "it could not be read") for target in plan.skipped]
        told = await self._tell(
            message, plan, outcomes, checkpoint=checkpoint, last=last, checked=checked
        )
        if last is not None:
            outcomes.append(await self._leave_last(message, last, told=told))
        self._audit_end(message, plan, outcomes)
        try:
            return await self.reconciler.run()  # rows say what the homeserver says; no pause
        except (HomeserverError, StoreError) as e:
            self.log.warning("Paused until !reconcile or a restart: %s", e)
            return None

    async def _plan(self, scope: Scope, command_room: RoomID) -> LeavePlan:
        topology = await self.observer.scan_by_get()
        return plan_leave(
            topology,
            await self.store.snapshot(),
            scope=scope,
            left=await self.homeserver.left_rooms(),
            command_room=command_room,
            adopt_unmarked=self.settings().adopt_unmarked,
        )

    async def _show_plan(self, message: Message, command: ResetLeave, plan: LeavePlan) -> None:
        stale = command.code is not None
        self._audit(
            message,
            "leave-forget, scope %s, %s, %d rooms, %d skipped",
            plan.scope.value,
            "refused: stale code" if stale else "dry run" if command.dry_run else "plan only",
            len(plan.targets),
            len(plan.skipped),
        )
        await self.speaker.reply(
            message,
            replies.leave_plan(
                plan, checkpoint=await self._parts(), stale=stale, dry_run=command.dry_run
            ),
        )
        await self._attach(message, "plan", replies.plan_lines(plan))

    async def _leave_each(
        self, targets: Sequence[Target], work: ProgressMessage, *, says_goodbye: bool
    ) -> list[Attempt]:
        """Leave and forget, one after the other, as fast as the homeserver lets us.

        Leaving is what has to wait for its turn; forgetting goes on beside it.
        """
        total = len(targets)
        leaving: list[Failure | None] = []
        forgetting: list[asyncio.Task[Failure | None]] = []
        started = shown_at = time.monotonic()
        try:
            for target in targets:
                await self._part_from(target, says_goodbye=says_goodbye)
                failure = await self._leave_room(target)
                leaving.append(failure)
                forgetting.append(
                    asyncio.create_task(self._forget_room(target, was_left=failure is None))
                )
                now, done = time.monotonic(), len(leaving)
                if now - shown_at >= PROGRESS_EVERY and done < total:
                    shown_at = now
                    left = (now - started) / done * (total - done)
                    work.show(replies.progress(done, total, seconds_left=left))
            forgotten = await asyncio.gather(*forgetting)
        finally:
            for task in forgetting:
                task.cancel()
        if total:
            await work.end(replies.progress(total, total, seconds_left=None))
        return list(zip(targets, leaving, forgotten, strict=True))

    async def _part_from(self, target: Target, *, says_goodbye: bool) -> None:
        """Leave something for the owner to know the old room by; it may fail."""
        if not target.joined:
            return
        with suppress(HomeserverError):
            if target.kind is Kind.SPACE:
                content = {"name": replies.old_name(target.name)}
                await self.homeserver.put_state(target.room_id, "m.room.name", content)
            elif target.kind is Kind.CHAT and says_goodbye:
                about = f"goodbye {target.room_id}"
                await self.speaker.notice(target.room_id, replies.GOODBYE, about=about)

    async def _leave_room(self, target: Target) -> Failure | None:
        """Leave one room; nothing that goes wrong with it stops the others."""
        if not target.joined:
            return None
        if target.kind is not Kind.OTHER:
            await self.room_creation.release(target.room_id)
        return await _failure(self.homeserver.leave(target.room_id, reason="!reset leave-forget"))

    async def _forget_room(self, target: Target, *, was_left: bool) -> Failure | None:
        """Forget one room. That the bot is still in it is, after it has left, an old story."""
        for seconds in SETTLE:
            failure = await _failure(self.homeserver.forget(target.room_id))
            if failure is None or not (was_left and failure.refused):
                return failure
            await asyncio.sleep(seconds)
        return await _failure(self.homeserver.forget(target.room_id))

    async def _judge(self, attempts: Iterable[Attempt]) -> tuple[list[Outcome], bool]:
        """Hold what the homeserver answered against a second look; False: there was none."""
        attempts = list(attempts)
        try:
            joined = await self._list_without(
                {target.room_id for target, leave, _ in attempts if target.joined and not leave}
            )
        except HomeserverError as e:
            self.log.warning("No second look at the joined rooms: %s", e)
            joined = None
        outcomes = [
            outcome_of(
                target,
                leave=leave,
                forget=forget,
                joined_now=None if joined is None else target.room_id in joined,
            )
            for target, leave, forget in attempts
        ]
        for outcome in outcomes:
            self.log.info("%s: %s", outcome.target.room_id, replies.outcome_text(outcome))
        return outcomes, joined is not None

    async def _list_without(self, left: set[RoomID]) -> frozenset[RoomID]:
        """The homeserver's list of joined rooms; again, while it has those that were left."""
        for seconds in SETTLE:
            listed = await self.homeserver.listed_rooms()
            if left.isdisjoint(listed):
                return listed
            await asyncio.sleep(seconds)
        return await self.homeserver.listed_rooms()

    async def _tell(
        self,
        message: Message,
        plan: LeavePlan,
        outcomes: Sequence[Outcome],
        *,
        checkpoint: RemoteParts,
        last: Target | None,
        checked: bool,
    ) -> bool:
        """Give the final report; whether it is in the room."""
        try:
            await self.speaker.reply(
                message,
                replies.leave_report(
                    plan, outcomes, checkpoint=checkpoint, last=last, checked=checked
                ),
            )
            await self._attach(message, "report", replies.outcome_lines(outcomes))
        except HomeserverError as e:
            self.log.error("The report of !reset is not in %s: %s", message.room_id, e)
            return False
        return True

    async def _leave_last(self, message: Message, last: Target, *, told: bool) -> Outcome:
        """Leave the room of the command, unless nobody in it would know what happened."""
        if not told:
            return skipped(last, "the report could not be sent")
        await self._part_from(last, says_goodbye=False)  # it has the report
        failure = await self._leave_room(last)
        attempt = (last, failure, await self._forget_room(last, was_left=failure is None))
        (outcome,), _ = await self._judge([attempt])
        if outcome.left is Left.FAILED:
            with suppress(HomeserverError):
                await self.speaker.notice(
                    message.room_id, replies.stayed(outcome), about=f"stayed {message.event_id}"
                )
        return outcome

    def _audit_end(self, message: Message, plan: LeavePlan, outcomes: Sequence[Outcome]) -> None:
        counts = Counter(outcome.left.value for outcome in outcomes)
        self._audit(
            message,
            "leave-forget, scope %s, ended, %s, forgotten %d",
            plan.scope.value,
            ", ".join(f"{word} {count}" for word, count in counts.items()) or "no rooms",
            sum(outcome.forgotten for outcome in outcomes),
        )

    async def _attach(self, message: Message, name: str, lines: list[str]) -> None:
        """Attach the whole list where the message shows only its beginning."""
        text = replies.full_list(lines)
        if text is None:
            return
        about = f"{name} {message.event_id}"
        try:
            await self.speaker.attach(
                message.room_id, f"homeroom-reset-{name}.txt", text, about=about
            )
        except Refused as e:
            self.log.warning("The whole list could not be attached: %s:\n%s", e, text)
            await self.speaker.notice(
                message.room_id, replies.not_attached(str(e)), about=f"no {about}"
            )


async def _failure(request: Awaitable[None]) -> Failure | None:
    try:
        await request
    except HomeserverError as e:
        return Failure(reason=str(e), refused=isinstance(e, Refused))
    return None
