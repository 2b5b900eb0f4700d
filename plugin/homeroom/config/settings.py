"""What can be decided about Homeroom, and what is so when nobody decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from mautrix.types import UserID

from ..domain.homes.model import Chat

PlatformKind = Literal["echo", "webhook", "openai"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """`platform.webhook`"""

    url: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """Empty: none is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAISettings:
    """`platform.openai`"""

    base_url: str = field(default="", repr=False)
    """Without a slash at its end."""
    api_key: str = field(default="", repr=False)
    """Empty: none is sent."""
    model: str = ""
    stream: bool = True
    system_prompt: str = ""
    temperature: float | None = None
    """None: the server's."""
    max_tokens: int = 0
    """0: the server's."""
    history_messages: int = 40
    history_characters: int = 40_000
    conversation_field: str = "user"
    """Empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """Who answers; of the kinds that are not chosen, too."""

    kind: PlatformKind = "echo"
    webhook: WebhookSettings = field(default_factory=WebhookSettings)
    openai: OpenAISettings = field(default_factory=OpenAISettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the administrator decided. Times are in seconds."""

    admins: frozenset[UserID] = frozenset()
    allow: tuple[str, ...] = ()
    """Globs of user IDs; empty: the users of the bot's own homeserver."""
    answer_members: bool = False
    share: bool = False
    """Whether owners may have everybody in a chat of theirs answered (`!chat share`)."""
    reject: bool = True
    """Whether invites of people who may not have a home are rejected; else they stay."""
    space_name: str = "Homeroom"
    initial_chats: tuple[str, ...] = ("General",)
    room_version: str | None = None
    """None: what the homeserver prefers."""
    encrypted: bool = False
    answer_edits: bool = True
    """Whether a question that is edited is answered anew."""
    avatar: str = ""
    """An `mxc://` URL; "none": no picture; empty: the bot's own."""
    welcome: str = (
        "Hello! I am your agent: just write, and I answer."
        " `!stop` stops me, `!help` shows what else you can do."
    )
    """Markdown; empty: nobody is greeted."""
    only_signed_devices: bool = False
    """Whether devices that their owner has not signed get no keys, and are not listened to."""
    chats_per_owner: int = 50
    homes: int = 5000
    waiting_messages: int = 50
    parallel_turns: int = 20
    turn_timeout: int = 120
    answer_length: int = 100_000
    """Characters."""
    start_timeout: int = 10
    adopt_unmarked: bool = True
    catch_up_max_age: int = 3600
    concurrency: int = 10
    platform: PlatformSettings = field(default_factory=PlatformSettings)
    status_token: str = field(default="", repr=False)
    """Empty: there is no status page."""
    dev_reset: bool = False

    def hears(self, chat: Chat, user_id: UserID) -> bool:
        """Whether this person is answered in the chat."""
        return user_id == chat.matrix_user_id or self.hears_members(chat)

    def hears_members(self, chat: Chat) -> bool:
        """Whether everybody in the chat is answered, not only its owner."""
        return self.answer_members or (self.share and chat.answer == "members")


DEFAULTS: Final = Settings()

RESTART_KEYS: Final = {"start_timeout": "reconcile.start_timeout"}
"""Settings that are only read at the start of the instance, by their fields."""


def awaits_restart(*, saved: Settings, started_with: Settings) -> tuple[str, ...]:
    """Name the keys that the instance has to be restarted for."""
    return tuple(
        key
        for name, key in RESTART_KEYS.items()
        if getattr(saved, name) != getattr(started_with, name)
    )
