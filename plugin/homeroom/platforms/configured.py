"""The platform of the settings, and another one as soon as they say so.

A turn is answered to its end by the platform that began it; one that is not wanted any more is
closed when its last turn has ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from mautrix.util.logging import TraceLogger

from ..config import PlatformSettings, Settings
from ..domain.conversation.answer import Item
from ..domain.conversation.turn import Turn
from ..domain.never import assert_never
from . import History, Platform
from .echo import EchoPlatform
from .health import AgentHealth
from .http_answer import Limits
from .openai import OpenAIPlatform
from .webhook import WebhookPlatform


class ChosenPlatform:
    """A platform that is always the one of the settings.

    Args:
        no_agent: what admins are told while there is only the echo.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        history: History,
        no_agent: str,
        log: TraceLogger,
    ) -> None:
        self._settings = settings
        self._no_agent = no_agent
        self._history = history
        self._log = log
        self._used = self._choose(settings().platform)
        self._retired: set[_Used] = set()
        self.health = AgentHealth()

    async def check(self) -> str:
        """Ask the agent of the settings for something that costs nothing.

        Returns what stays uncertain, as a sentence; empty: nothing.

        Raises:
            PlatformError: why it would not answer.
        """
        async with self._using() as platform:
            return await platform.check()

    async def prepare(self, turn: Turn) -> None:
        """Read what the platform will be told besides, which is not the agent's time.

        Raises:
            Unavailable: it cannot be read now.
        """
        if self._settings().platform.kind == "openai":
            await self._history.before(turn)

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        async with (
            self._using() as platform,
            aclosing(self.health.watched(platform.answer(turn))) as items,
        ):
            async for item in items:
                yield item

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Platform]:
        """The platform of the settings; it stays open for as long as it is used."""
        used = await self._up_to_date()
        used.turns += 1
        try:
            yield used.platform
        finally:
            used.turns -= 1
            if used in self._retired and not used.turns:
                self._retired.discard(used)
                await used.platform.close()

    async def close(self) -> None:
        for used in (self._used, *self._retired):
            await used.platform.close()
        self._retired.clear()

    async def _up_to_date(self) -> _Used:
        wanted, old = self._settings().platform, self._used
        if wanted != old.settings:
            self._used = self._choose(wanted)
            self._log.info("From now on %s answers", wanted.kind)
            if old.turns:
                self._retired.add(old)
            else:
                await old.platform.close()
        return self._used

    def _choose(self, wanted: PlatformSettings) -> _Used:
        return _Used(self._make(wanted), settings=wanted)

    def _make(self, wanted: PlatformSettings) -> Platform:
        match wanted.kind:
            case "echo":
                return EchoPlatform(admins=lambda: self._settings().admins, note=self._no_agent)
            case "webhook":
                return WebhookPlatform(wanted.webhook, limits=self._limits, log=self._log)
            case "openai":
                return OpenAIPlatform(
                    wanted.openai, history=self._history, limits=self._limits, log=self._log
                )
            case _:
                assert_never(wanted.kind)

    def _limits(self) -> Limits:
        settings = self._settings()
        return Limits(answer_length=settings.answer_length, turn_timeout=settings.turn_timeout)


class _Used:
    """A platform, what it was made for, and how many turns it is busy with."""

    def __init__(self, platform: Platform, *, settings: PlatformSettings) -> None:
        self.platform = platform
        self.settings = settings
        self.turns = 0
