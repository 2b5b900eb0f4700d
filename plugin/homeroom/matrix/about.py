"""What the homeserver says of itself and of the bot's account; asked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mautrix.api import Method, Path
from mautrix.types import UserID

from . import retry_budgets
from .errors import Refused
from .required import checked
from .retrying_api import PatientAPI

SLIDING_SYNC_FEATURE: Final = "org.matrix.simplified_msc3575"


@dataclass(slots=True, kw_only=True)
class About:
    """Asks, and remembers the answer. Raises what every request may raise."""

    bot: UserID
    reading: PatientAPI
    _versions: dict[str, Any] | None = field(default=None, init=False)
    _capabilities: dict[str, Any] | None = field(default=None, init=False)
    _avatar: str | None = field(default=None, init=False)
    """None: nobody has asked yet. Empty: there is none."""

    async def supports_sliding_sync(self) -> bool:
        if self._versions is None:
            self._versions = checked(await self.reading.request(Method.GET, Path.versions))
        features = self._versions.get("unstable_features")
        return isinstance(features, dict) and features.get(SLIDING_SYNC_FEATURE) is True

    async def default_room_version(self) -> str | None:
        """The room version that the server picks; None if it does not say."""
        if self._capabilities is None:
            answer = checked(await self.reading.request(Method.GET, Path.v3.capabilities))
            self._capabilities = checked(answer.get("capabilities", {}))
        versions = self._capabilities.get("m.room_versions")
        default = versions.get("default") if isinstance(versions, dict) else None
        return default if isinstance(default, str) else None

    async def own_avatar(self) -> str | None:
        """The bot's own picture, as an `mxc://` URL; None: it has none."""
        if self._avatar is None:
            path = Path.v3.profile[self.bot].avatar_url
            try:
                url = checked(
                    await self.reading.request(Method.GET, path, budget=retry_budgets.BEST_EFFORT)
                ).get("avatar_url")
            except Refused as e:
                if e.status != 404:
                    raise
                url = None
            self._avatar = url if isinstance(url, str) and url.startswith("mxc://") else ""
        return self._avatar or None
