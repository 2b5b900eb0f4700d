"""From keys and values to `Settings`: which key is read as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from mautrix.types import UserID

from ..domain.homes.marker import MAX_INITIAL_CHATS, is_user_id
from .problems import ConfigError
from .settings import (
    DEFAULTS,
    OpenAISettings,
    PlatformKind,
    PlatformSettings,
    Settings,
    WebhookSettings,
)
from .values import MAX_PROMPT, Values

MIN_STATUS_TOKEN: Final = 16


def read_settings(data: Mapping[Any, Any], *, no_encryption: str | None = None) -> Settings:
    """Read the settings.

    Args:
        no_encryption: why the bot cannot encrypt; None if it can.

    Raises:
        ConfigError: with every problem that was found.
    """
    values = Values(data)
    settings = Settings(
        admins=frozenset(UserID(user) for user in values.users("admins")),
        allow=values.texts("access.allow", at_most=1000),
        answer_members=values.choice("access.answer", "owner", ("owner", "members")) == "members",
        share=values.flag("access.share", DEFAULTS.share),
        reject=values.flag("access.reject", DEFAULTS.reject),
        space_name=values.text("rooms.space_name", DEFAULTS.space_name),
        initial_chats=values.texts(
            "rooms.initial_chats",
            DEFAULTS.initial_chats,
            at_least=1,
            at_most=MAX_INITIAL_CHATS,
        ),
        room_version=values.room_version("rooms.version"),
        encrypted=values.encryption("rooms.encrypted", DEFAULTS.encrypted, no_encryption),
        answer_edits=values.flag("chats.answer_edits", DEFAULTS.answer_edits),
        avatar=values.picture("rooms.avatar"),
        welcome=values.text("texts.welcome", DEFAULTS.welcome, least=0, most=MAX_PROMPT),
        only_signed_devices=values.choice("encryption.devices", "any", ("any", "signed"))
        == "signed",
        chats_per_owner=values.number("limits.chats_per_owner", DEFAULTS.chats_per_owner, 1, 1000),
        homes=values.number("limits.homes", DEFAULTS.homes, 1, 100_000),
        waiting_messages=values.number(
            "limits.waiting_messages", DEFAULTS.waiting_messages, 1, 1000
        ),
        parallel_turns=values.number("limits.parallel_turns", DEFAULTS.parallel_turns, 1, 500),
        turn_timeout=values.number("limits.turn_timeout", DEFAULTS.turn_timeout, 1, 3600),
        answer_length=values.number(
            "limits.answer_length", DEFAULTS.answer_length, 1000, 1_000_000
        ),
        start_timeout=values.number("reconcile.start_timeout", DEFAULTS.start_timeout, 0, 60),
        adopt_unmarked=values.flag("reconcile.adopt_unmarked", DEFAULTS.adopt_unmarked),
        catch_up_max_age=values.number("catch_up.max_age", DEFAULTS.catch_up_max_age, 0, 604_800),
        concurrency=values.number("homeserver.concurrency", DEFAULTS.concurrency, 1, 100),
        platform=_read_platform(values),
        status_token=values.secret("status.token", at_least=MIN_STATUS_TOKEN),
        dev_reset=values.flag("dev.reset", DEFAULTS.dev_reset),
    )
    if values.problems:
        raise ConfigError(tuple(values.problems))
    return settings


def _read_platform(values: Values) -> PlatformSettings:
    kind = values.choice("platform.kind", "echo", ("echo", "webhook", "openai"))
    is_webhook, is_openai = kind == "webhook", kind == "openai"
    ours = PlatformSettings().openai
    return PlatformSettings(
        kind=cast("PlatformKind", kind),
        webhook=WebhookSettings(
            url=values.url("platform.webhook.url", is_needed=is_webhook),
            token=values.secret("platform.webhook.token"),
        ),
        openai=OpenAISettings(
            base_url=values.url(
                "platform.openai.base_url", is_needed=is_openai, has_query=False
            ).rstrip("/"),
            api_key=values.secret("platform.openai.api_key"),
            model=values.name("platform.openai.model", is_needed=is_openai),
            stream=values.flag("platform.openai.stream", ours.stream),
            system_prompt=values.text(
                "platform.openai.system_prompt", "", least=0, most=MAX_PROMPT
            ),
            temperature=values.temperature("platform.openai.temperature"),
            max_tokens=values.number("platform.openai.max_tokens", ours.max_tokens, 0, 1_000_000),
            history_messages=values.number(
                "platform.openai.history_messages", ours.history_messages, 0, 1000
            ),
            history_characters=values.number(
                "platform.openai.history_characters", ours.history_characters, 0, 1_000_000
            ),
            conversation_field=values.field_name(
                "platform.openai.conversation_field", ours.conversation_field
            ),
        ),
    )


def read_admins(data: Mapping[Any, Any]) -> frozenset[UserID]:
    """The administrators, as far as they can be read from settings that cannot be used."""
    admins = data.get("admins")
    candidates = admins if isinstance(admins, list) else []
    return frozenset(UserID(user) for user in candidates if is_user_id(user))


def read_status_token(data: Mapping[Any, Any]) -> str:
    """The status page's token, from settings that cannot be used otherwise; empty: none."""
    values = Values(data)
    token = values.secret("status.token", at_least=MIN_STATUS_TOKEN)
    return "" if values.problems else token
