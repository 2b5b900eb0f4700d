"""Accounts and sessions: who may call, and what is kept per user rather than per room."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import MatrixError
from .events import Json


@dataclass(frozen=True)
class Session:
    """One access token."""

    user_id: str
    device_id: str
    token: str

    @property
    def viewer(self) -> tuple[str, str]:
        """User and device, for whom an event is shown."""
        return self.user_id, self.device_id


@dataclass(eq=False)
class Account:
    """One local user."""

    user_id: str
    password: str
    displayname: str | None
    avatar_url: str | None = None
    presence: Json = field(default_factory=lambda: {"presence": "offline"})
    filters: list[Json] = field(default_factory=list)
    account_data: dict[str, tuple[Json, int]] = field(default_factory=dict)
    """Type to content and stream position."""
    room_account_data: dict[str, dict[str, tuple[Json, int]]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    devices: int = 0
    refusal: MatrixError | None = None
    """What every request of this account is answered, if it is locked or the like."""

    @property
    def profile(self) -> Json:
        """The fields that go into a member event."""
        fields = {"displayname": self.displayname, "avatar_url": self.avatar_url}
        return {name: value for name, value in fields.items() if value is not None}
