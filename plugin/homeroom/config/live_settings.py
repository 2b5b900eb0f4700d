"""The settings as they are while the instance runs: in force, rejected, waiting for a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from .problems import ConfigError, NotInForce, Problem
from .reading import read_admins, read_settings, read_status_token
from .settings import Settings, awaits_restart
from .text import Config


class LiveSettings:
    """Call it for the settings that are in force.

    Bad settings never replace good ones: the last good ones stay in force.

    Args:
        no_encryption: why the bot cannot encrypt; None if it can.
    """

    def __init__(
        self, config: Config, *, no_encryption: Callable[[], str | None], log: TraceLogger
    ) -> None:
        self._config: Final = config
        self._no_encryption = no_encryption
        self._log = log
        self._current: Settings | None = None
        self._started_with: Settings | None = None
        self._problems: tuple[Problem, ...] = ()

    def __call__(self) -> Settings:
        assert self._current is not None, "asked before there were any settings"
        return self._current

    @property
    def are_usable(self) -> bool:
        """Whether there are settings in force."""
        return self._current is not None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with what was saved last; empty: nothing."""
        return self._problems

    @property
    def not_in_force(self) -> NotInForce:
        """What was saved and does not count, yet or at all."""
        started_with = self._started_with or self()
        return NotInForce(
            problems=self._problems,
            awaits_restart=awaits_restart(saved=self(), started_with=started_with),
        )

    @property
    def status_token(self) -> str:
        """The status page's token, even from settings that cannot be used; empty: none."""
        if self._current is None:
            return read_status_token(self._config.values)
        return self._current.status_token

    @property
    def admins(self) -> frozenset[UserID]:
        """The administrators, even from settings that cannot be used."""
        return read_admins(self._config.values) if self._current is None else self._current.admins

    def read(self) -> bool:
        """Take over what was saved if it can be used; whether it can."""
        try:
            self._config.load()
            settings = read_settings(self._config.values, no_encryption=self._no_encryption())
            self._config.update()
        except ConfigError as e:
            self._problems = e.problems
            self._log.error(
                "The settings cannot be used, so Homeroom %s:%s",
                "goes on with the last good settings"
                if self.are_usable
                else "does nothing until they are mended",
                "".join(f"\n- {problem}" for problem in e.problems),
            )
            return False
        self._current, self._problems = settings, ()
        for unknown in self._config.unknown_keys():
            self._log.warning("Settings: %s", unknown)
        return True

    def note_start(self) -> None:
        """The instance is built with these settings: some keys count from the next start on."""
        self._started_with = self()
