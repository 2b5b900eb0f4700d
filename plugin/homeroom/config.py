"""From the text in maubot's web UI to frozen `Settings`.

All problems are found in one go, each naming its key, what was found and what is expected. A
user's text is never lost: `Config` adds the keys that are missing and keeps everything else,
even what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from mautrix.types import UserID
from mautrix.util.config import BaseProxyConfig, ConfigUpdateHelper
from ruamel.yaml.comments import Comment, CommentedBase, CommentedMap
from ruamel.yaml.error import YAMLError

from .domain.marker import MAX_INITIAL_CHATS, is_user_id

MAX_NAME: Final = 100
MAX_YAML_ERROR: Final = 200
OLDEST_RESTRICTED_VERSION: Final = 8
"""https://spec.matrix.org/latest/rooms/v8/: the first version with restricted join rules."""


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
    chats_per_owner: int = 50
    homes: int = 5000
    waiting_messages: int = 50
    parallel_turns: int = 20
    turn_timeout: int = 120
    start_timeout: int = 10
    adopt_unmarked: bool = True
    catch_up_max_age: int = 3600
    concurrency: int = 10
    platform: str = "echo"
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
            found = f"what is not YAML ({' '.join(str(e).split())[:MAX_YAML_ERROR]})"
            raise ConfigError(
                (Problem(key="the whole text", found=found, expected=expected),)
            ) from e
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
        _lay_over(cast("dict[Any, Any]", helper.base._data), self._data)  # noqa: SLF001


def _lay_over(base: dict[Any, Any], user: Mapping[Any, Any]) -> None:
    for key, value in user.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _lay_over(base[key], value)
            continue
        if isinstance(value, CommentedBase):
            # As mautrix does: the comments of the user's text stand in the base already.
            setattr(value, Comment.attrib, Comment())
        base[key] = value


def read_settings(data: Mapping[Any, Any]) -> Settings:
    """Read the settings.

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
        chats_per_owner=reader.number("limits.chats_per_owner", DEFAULTS.chats_per_owner, 1, 1000),
        homes=reader.number("limits.homes", DEFAULTS.homes, 1, 100_000),
        waiting_messages=reader.number(
            "limits.waiting_messages", DEFAULTS.waiting_messages, 1, 1000
        ),
        parallel_turns=reader.number("limits.parallel_turns", DEFAULTS.parallel_turns, 1, 500),
        turn_timeout=reader.number("limits.turn_timeout", DEFAULTS.turn_timeout, 1, 3600),
        start_timeout=reader.number("reconcile.start_timeout", DEFAULTS.start_timeout, 0, 60),
        adopt_unmarked=reader.flag("reconcile.adopt_unmarked", DEFAULTS.adopt_unmarked),
        catch_up_max_age=reader.number("catch_up.max_age", DEFAULTS.catch_up_max_age, 0, 604_800),
        concurrency=reader.number("homeserver.concurrency", DEFAULTS.concurrency, 1, 100),
        platform=reader.choice("platform.kind", DEFAULTS.platform, ("echo",)),
        dev_reset=reader.flag("dev.reset", DEFAULTS.dev_reset),
    )
    if reader.problems:
        raise ConfigError(tuple(reader.problems))
    return settings


def read_admins(data: Mapping[Any, Any]) -> frozenset[UserID]:
    """The administrators, as far as they can be read from settings that cannot be used."""
    admins = data.get("admins")
    candidates = admins if isinstance(admins, list) else []
    return frozenset(UserID(user) for user in candidates if is_user_id(user))


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
                self._wrong(path, value, "keys and values below it")
                return _MISSING
            path = f"{path}.{part}" if path else part
            value = value.get(part, _MISSING)
            if value is _MISSING:
                return _MISSING
        return value

    def _wrong(self, key: str, value: object, expected: str) -> None:
        problem = Problem(key=key, found=_show(value), expected=expected)
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
