"""From the text in maubot's web UI to frozen `Settings`.

All problems are found in one go, each naming its key, what was found and what is expected. A
user's text is never lost: `Config` adds the keys that are missing and keeps everything else,
even what it does not know.

Tokens, keys and addresses (people put secrets into those, too) are in no `repr`, and no problem
quotes what was found in their place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from mautrix.types import UserID
from mautrix.util.config import BaseProxyConfig, ConfigUpdateHelper
from ruamel.yaml.comments import Comment, CommentedBase, CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import CommentToken

from .domain.marker import MAX_INITIAL_CHATS, is_user_id

MAX_NAME: Final = 100
MAX_PROMPT: Final = 50_000
MAX_SECRET: Final = 4096
MAX_URL: Final = 2000
MIN_STATUS_TOKEN: Final = 16
SECTIONS_WITH_SECRETS: Final = ("status", "platform", "platform.webhook", "platform.openai")
OLDEST_RESTRICTED_VERSION: Final = 8
"""https://spec.matrix.org/latest/rooms/v8/: the first version with restricted join rules."""


PlatformKind = Literal["echo", "webhook", "openai"]

OWN_FIELDS: Final = frozenset({"model", "messages", "stream", "temperature", "max_tokens"})
"""Of a Chat Completions request; the conversation's identifier cannot go there."""


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
    space_name: str = "Homeroom"
    initial_chats: tuple[str, ...] = ("General",)
    room_version: str | None = None
    """None: what the homeserver prefers."""
    encrypted: bool = False
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


DEFAULTS: Final = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A key whose value cannot be used."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}"


class ConfigError(ValueError):
    """The settings cannot be used; `problems` are all that was found, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


RESTART_KEYS: Final = {
    "parallel_turns": "limits.parallel_turns",
    "start_timeout": "reconcile.start_timeout",
    "concurrency": "homeserver.concurrency",
}
"""Settings that are only read at the start of the instance, by their fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInForce:
    """What was saved and does not count, yet or at all."""

    problems: tuple[Problem, ...] = ()
    """Why what was saved last is not used; the last good settings are in force then."""
    awaits_restart: tuple[str, ...] = ()
    """Keys."""


def awaits_restart(*, saved: Settings, started_with: Settings) -> tuple[str, ...]:
    """Name the keys that the instance has to be restarted for."""
    return tuple(
        key
        for name, key in RESTART_KEYS.items()
        if getattr(saved, name) != getattr(started_with, name)
    )


class Config(BaseProxyConfig):
    """maubot's side: the user's text over base-config.yaml, so that new keys get a default."""

    def load(self) -> None:
        """Read the user's text.

        Raises:
            ConfigError: it is not YAML, or not keys and values. The values are empty then.
        """
        expected = "keys and values, as in base-config.yaml"
        try:
            super().load()
        except YAMLError as e:
            self._data = CommentedMap()
            # What ruamel says itself quotes the text, and with it a key or a token.
            raise ConfigError(
                (Problem(key="the whole text", found=_not_yaml(e), expected=expected),)
            ) from None
        if not isinstance(self._data, dict):
            found = _show(self._data)
            self._data = CommentedMap()
            raise ConfigError((Problem(key="the whole text", found=found, expected=expected),))

    @property
    def values(self) -> Mapping[Any, Any]:
        """The settings as plain keys and values."""
        return cast("Mapping[Any, Any]", self._data)

    def unknown_keys(self) -> list[str]:
        """Keys that Homeroom has no use for: a typo, or a newer version's."""
        base = self.load_base()
        return _unknown(self.values, base._data if base else {})  # noqa: SLF001

    def do_update(self, helper: ConfigUpdateHelper) -> None:
        base = cast("dict[Any, Any]", helper.base._data)  # noqa: SLF001
        _write_comments_again(base)
        _lay_over(base, self._data)


def _write_comments_again(value: object) -> None:
    """Undo that maubot has written the base before, to show it as `base_config`.

    ruamel writes the comment above the first key of a part once, and never again, not even in a
    copy.
    """
    if isinstance(value, CommentToken):
        value.reset()
    elif isinstance(value, list):
        for item in value:
            _write_comments_again(item)
    elif isinstance(value, CommentedMap):
        _write_comments_again([value.ca.comment, *value.ca.items.values(), *value.values()])


def _not_yaml(error: YAMLError) -> str:
    what = "the same key twice" if isinstance(error, DuplicateKeyError) else "what is not YAML"
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return f"{what} (line {mark.line + 1}, column {mark.column + 1})" if mark else what


def _lay_over(base: dict[Any, Any], user: Mapping[Any, Any]) -> None:
    for key, value in user.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _lay_over(base[key], value)
            continue
        if isinstance(value, CommentedBase):
            # As mautrix does: the comments of the user's text stand in the base already.
            setattr(value, Comment.attrib, Comment())
        base[key] = value


def read_settings(data: Mapping[Any, Any], *, no_encryption: str | None = None) -> Settings:
    """Read the settings.

    Args:
        no_encryption: why the bot cannot encrypt; None if it can.

    Raises:
        ConfigError: with every problem that was found.
    """
    reader = _Reader(data)
    settings = Settings(
        admins=frozenset(UserID(user) for user in reader.users("admins")),
        allow=reader.texts("access.allow", at_most=1000),
        answer_members=reader.choice("access.answer", "owner", ("owner", "members")) == "members",
        space_name=reader.text("rooms.space_name", DEFAULTS.space_name),
        initial_chats=reader.texts(
            "rooms.initial_chats",
            DEFAULTS.initial_chats,
            at_least=1,
            at_most=MAX_INITIAL_CHATS,
        ),
        room_version=reader.room_version("rooms.version"),
        encrypted=reader.encryption("rooms.encrypted", no_encryption),
        chats_per_owner=reader.number("limits.chats_per_owner", DEFAULTS.chats_per_owner, 1, 1000),
        homes=reader.number("limits.homes", DEFAULTS.homes, 1, 100_000),
        waiting_messages=reader.number(
            "limits.waiting_messages", DEFAULTS.waiting_messages, 1, 1000
        ),
        parallel_turns=reader.number("limits.parallel_turns", DEFAULTS.parallel_turns, 1, 500),
        turn_timeout=reader.number("limits.turn_timeout", DEFAULTS.turn_timeout, 1, 3600),
        answer_length=reader.number(
            "limits.answer_length", DEFAULTS.answer_length, 1000, 1_000_000
        ),
        start_timeout=reader.number("reconcile.start_timeout", DEFAULTS.start_timeout, 0, 60),
        adopt_unmarked=reader.flag("reconcile.adopt_unmarked", DEFAULTS.adopt_unmarked),
        catch_up_max_age=reader.number("catch_up.max_age", DEFAULTS.catch_up_max_age, 0, 604_800),
        concurrency=reader.number("homeserver.concurrency", DEFAULTS.concurrency, 1, 100),
        platform=_read_platform(reader),
        status_token=reader.secret("status.token", at_least=MIN_STATUS_TOKEN),
        dev_reset=reader.flag("dev.reset", DEFAULTS.dev_reset),
    )
    if reader.problems:
        raise ConfigError(tuple(reader.problems))
    return settings


def _read_platform(reader: _Reader) -> PlatformSettings:
    kind = reader.choice("platform.kind", "echo", ("echo", "webhook", "openai"))
    is_webhook, is_openai = kind == "webhook", kind == "openai"
    ours = PlatformSettings().openai
    return PlatformSettings(
        kind=cast("PlatformKind", kind),
        webhook=WebhookSettings(
            url=reader.url("platform.webhook.url", is_needed=is_webhook),
            token=reader.secret("platform.webhook.token"),
        ),
        openai=OpenAISettings(
            base_url=reader.url(
                "platform.openai.base_url", is_needed=is_openai, has_query=False
            ).rstrip("/"),
            api_key=reader.secret("platform.openai.api_key"),
            model=reader.name("platform.openai.model", is_needed=is_openai),
            stream=reader.flag("platform.openai.stream", ours.stream),
            system_prompt=reader.prompt("platform.openai.system_prompt"),
            temperature=reader.temperature("platform.openai.temperature"),
            max_tokens=reader.number("platform.openai.max_tokens", ours.max_tokens, 0, 1_000_000),
            history_messages=reader.number(
                "platform.openai.history_messages", ours.history_messages, 0, 1000
            ),
            history_characters=reader.number(
                "platform.openai.history_characters", ours.history_characters, 0, 1_000_000
            ),
            conversation_field=reader.field_name(
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
    reader = _Reader(data)
    token = reader.secret("status.token", at_least=MIN_STATUS_TOKEN)
    return "" if reader.problems else token


def _unknown(data: Mapping[Any, Any], base: Mapping[Any, Any]) -> list[str]:
    unknown = []
    for key, value in data.items():
        if key not in base:
            unknown.append(str(key)[:MAX_NAME])
        elif isinstance(value, dict) and isinstance(base[key], dict):
            unknown += [f"{key}.{inner}" for inner in _unknown(value, base[key])]
    return unknown


_MISSING: Final = object()


class _Reader:
    """Takes values out of the settings, noting what is wrong instead of stopping at it."""

    def __init__(self, data: Mapping[Any, Any]) -> None:
        self._data = data
        self.problems: list[Problem] = []

    def _get(self, key: str) -> object:
        value: object = self._data
        path = ""
        for part in key.split("."):
            if not isinstance(value, Mapping):
                is_secret = isinstance(value, str) and path in SECTIONS_WITH_SECRETS
                found = "a text" if is_secret else _show(value)
                self._note(path, found, "keys and values below it")
                return _MISSING
            path = f"{path}.{part}" if path else part
            value = value.get(part, _MISSING)
            if value is _MISSING:
                return _MISSING
        return value

    def _wrong(self, key: str, value: object, expected: str) -> None:
        self._note(key, _show(value), expected)

    def _note(self, key: str, found: str, expected: str) -> None:
        problem = Problem(key=key, found=found, expected=expected)
        if problem not in self.problems:
            self.problems.append(problem)

    def text(self, key: str, default: str) -> str:
        value = self._get(key)
        if value is _MISSING:
            return default
        if isinstance(value, str) and value.strip() and len(value) <= MAX_NAME:
            return value.strip()
        self._wrong(key, value, f"a text of 1 to {MAX_NAME} characters")
        return default

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._get(key)
        if value is _MISSING:
            return default
        if isinstance(value, str) and value in choices:
            return value
        self._wrong(key, value, " or ".join(f'"{choice}"' for choice in choices))
        return default

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key)
        if value is _MISSING:
            return default
        if isinstance(value, bool):
            return value
        self._wrong(key, value, "true or false")
        return default

    def encryption(self, key: str, impossible: str | None) -> bool:
        """A flag that can only be true where nothing stands against it."""
        value = self.flag(key, DEFAULTS.encrypted)
        if value and impossible is not None:
            self._note(
                key, "true", f'false, because {impossible} (see "Encrypted rooms" in the README)'
            )
        return value

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self._get(key)
        if value is _MISSING:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return int(value)
        self._wrong(key, value, f"a whole number from {least} to {most}")
        return default

    def texts(
        self, key: str, default: tuple[str, ...] = (), *, at_least: int = 0, at_most: int
    ) -> tuple[str, ...]:
        value = self._get(key)
        if value is _MISSING:
            return default
        expected = f"a list of {at_least} to {at_most} texts of 1 to {MAX_NAME} characters"
        if not isinstance(value, list) or not at_least <= len(value) <= at_most:
            self._wrong(key, value, expected)
            return default
        for text in value:
            if not isinstance(text, str) or not 1 <= len(text.strip()) <= MAX_NAME:
                self._wrong(key, value if len(value) == 1 else text, expected)
                return default
        return tuple(text.strip() for text in value)

    def users(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if value is _MISSING:
            return ()
        if isinstance(value, list) and all(is_user_id(user) for user in value):
            return tuple(value)
        self._wrong(key, value, 'a list of user IDs like "@ada:example.org"')
        return ()

    def room_version(self, key: str) -> str | None:
        value = self._get(key)
        if value is _MISSING or value == "":
            return None
        if (
            isinstance(value, str)
            and value.isascii()
            and value.isdigit()
            and len(value) <= 3
            and int(value) >= OLDEST_RESTRICTED_VERSION
        ):
            return value
        self._wrong(key, value, f'a text from "{OLDEST_RESTRICTED_VERSION}" on, or ""')
        return None

    def name(self, key: str, *, is_needed: bool) -> str:
        value = self._get(key)
        if value is _MISSING and not is_needed:
            return ""
        if isinstance(value, str) and len(value) <= MAX_NAME and (value.strip() or not is_needed):
            return value.strip()
        least = 1 if is_needed else 0
        self._wrong(key, value, f"a text of {least} to {MAX_NAME} characters")
        return ""

    def prompt(self, key: str) -> str:
        value = self._get(key)
        if value is _MISSING:
            return ""
        if isinstance(value, str) and len(value) <= MAX_PROMPT:
            return value.strip()
        self._wrong(key, value, f"a text of at most {MAX_PROMPT} characters")
        return ""

    def field_name(self, key: str, default: str) -> str:
        value = self._get(key)
        if value is _MISSING:
            return default
        if (
            isinstance(value, str)
            and re.fullmatch("[A-Za-z0-9_]{0,64}", value)
            and value not in OWN_FIELDS
        ):
            return value
        self._wrong(
            key, value, 'the name of a field that is not used otherwise, like "user", or ""'
        )
        return default

    def temperature(self, key: str) -> float | None:
        value = self._get(key)
        if value is _MISSING or value == "":
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2:
            return float(value)
        self._wrong(key, value, 'a number from 0 to 2, or ""')
        return None

    def secret(self, key: str, *, at_least: int = 0) -> str:
        """A token or a key, or nothing. What was found is described, not shown."""
        value = self._get(key)
        if value is _MISSING:
            return ""
        expected = f"a text of at most {MAX_SECRET} ASCII characters without blanks"
        if at_least:
            expected = f'at least {at_least} ASCII characters without blanks, or ""'
        if not isinstance(value, str):
            self._note(key, _kind(value), expected)
            return ""
        value = value.strip()
        if 0 < len(value) < at_least:
            self._note(key, f"a text of {len(value)} characters", expected)
            return ""
        if len(value) <= MAX_SECRET and value.isascii() and value.isprintable():
            if " " not in value:
                return value
            self._note(key, "a text with blanks", expected)
            return ""
        self._note(key, f"another text of {len(value)} characters", expected)
        return ""

    def url(self, key: str, *, is_needed: bool, has_query: bool = True) -> str:
        """An address. What was found is described, not shown: there may be a secret in it."""
        value = self._get(key)
        if value is _MISSING:
            value = ""
        example = "https://example.org/v1" if not has_query else "https://example.org/hook"
        expected = f'a URL like "{example}"'
        if value == "" and not is_needed:
            return ""
        if not isinstance(value, str):
            self._note(key, _kind(value), expected)
            return ""
        value = value.strip()
        if problem := _wrong_url(value, has_query=has_query):
            self._note(key, problem, expected)
            return ""
        return value


def _wrong_url(value: str, *, has_query: bool) -> str | None:  # noqa: PLR0911 (a list of rules)
    """What is wrong with an address, without quoting it; None if nothing is."""
    if not value:
        return "nothing"
    if len(value) > MAX_URL or not value.isprintable() or " " in value:
        return f"a text of {len(value)} characters that is no URL"
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError:
        return "a text that is no URL"
    if url.scheme not in ("http", "https"):
        return "a text that does not begin with http:// or https://"
    if not host or port == 0:
        return "a URL without a host, or with port 0"
    if url.username is not None or url.password is not None:
        return "a URL with a user name or a password in it"
    if url.fragment:
        return "a URL with a # in it"
    if url.query and not has_query:
        return "a URL with a ? in it"
    return None


def _kind(value: object) -> str:
    """What a value is, without showing it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return "true or false" if isinstance(value, bool) else _show(value)


def _show(value: object) -> str:
    """A value as it is named in an error; long ones are only described."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)[:60]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "keys and values" if isinstance(value, Mapping) else type(value).__name__
