"""The settings as they are while the instance runs: in force, rejected, waiting for a restart.

Bad settings never replace good ones, also not across a restart: the last good ones are kept in
the plugin's database. Without any, there is nothing to run with, and the problems say why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from .problems import ConfigError, NotInForce, Problem
from .reading import read_admins, read_settings, read_status_token
from .settings import Settings, awaits_restart
from .text import Config, UnknownKey, read_text

A_MOMENT: Final = 0.001
"""Seconds. Without any, what has become ready since would not have its turn yet."""


class LastGood(Protocol):
    """Where the text of the last good settings is kept. It never fails, but may do nothing."""

    async def read(self) -> str | None: ...

    async def write(self, text: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class LiveSettings:
    """Call it for the settings that are in force.

    Args:
        no_encryption: why the bot cannot encrypt; None if it can.
    """

    config: Config
    no_encryption: Callable[[], str | None]
    last_good: LastGood
    log: TraceLogger
    _current: Settings | None = field(default=None, init=False)
    _started_with: Settings | None = field(default=None, init=False)
    _problems: tuple[Problem, ...] = field(default=(), init=False)
    _unknown: tuple[UnknownKey, ...] = field(default=(), init=False)
    _kept: str | None = field(default=None, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __call__(self) -> Settings:
        assert self._current is not None, "asked before there were any settings"
        return self._current

    @property
    def are_usable(self) -> bool:
        """Whether there are settings in force."""
        return self._current is not None

    @property
    def not_in_force(self) -> NotInForce:
        """What was saved and does not count, yet or at all."""
        current = self._current
        return NotInForce(
            problems=self._problems,
            unknown=tuple(map(str, self._unknown)),
            awaits_restart=()
            if current is None
            else awaits_restart(saved=current, started_with=self._started_with or current),
        )

    @property
    def status_token(self) -> str:
        """The status page's token, even from settings that cannot be used; empty: none."""
        if self._current is None:
            return read_status_token(self.config.values)
        return self._current.status_token

    @property
    def admins(self) -> frozenset[UserID]:
        """The administrators, even from settings that cannot be used."""
        return read_admins(self.config.values) if self._current is None else self._current.admins

    async def read(self) -> bool:
        """Take over what was saved if it can be used; whether it can."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> bool:
        # To read and to write YAML takes tens of milliseconds each time. maubot does it with one
        # object for all instances, so in no other thread; others get their turn in between.
        try:
            self.config.load()
            await asyncio.sleep(A_MOMENT)
            settings = read_settings(self.config.values, no_encryption=self.no_encryption())
            self.config.update()
            await asyncio.sleep(A_MOMENT)
        except ConfigError as e:
            self._problems, self._unknown = e.problems, ()
            if self._current is None:
                self._current = await self._recall()
            self.log.error(
                "The settings cannot be used, so Homeroom %s:%s",
                "goes on with the last good settings"
                if self.are_usable
                else "does nothing until they are mended",
                "".join(f"\n- {problem}" for problem in e.problems),
            )
            return False
        self._current, self._problems = settings, ()
        self._unknown = tuple(self.config.unknown_keys())
        for unknown in self._unknown:
            self.log.warning("Settings: %s", unknown)
        text = self.config.write()
        if text != self._kept:
            await self.last_good.write(text)
            self._kept = text
        return True

    async def _recall(self) -> Settings | None:
        """The last good settings of an earlier life; None: there are none that can be used."""
        text = await self.last_good.read()
        if text is None:
            return None
        try:
            # Whether the bot can encrypt now is not asked: chats that would be encrypted stay so.
            return read_settings(read_text(text))
        except ConfigError as e:
            self.log.error("The last good settings cannot be used any more: %s", e)
            return None

    def note_start(self) -> None:
        """The instance is built with these settings: some keys count from the next start on."""
        self._started_with = self()
