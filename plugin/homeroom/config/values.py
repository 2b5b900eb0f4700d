"""Values of every kind that a config has, each checked and with its problem noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ..domain.homes.marker import is_user_id
from .problems import Problem, kind_of, show

MAX_NAME: Final = 100
MAX_PROMPT: Final = 50_000
MAX_SECRET: Final = 4096
MAX_URL: Final = 2000
SECTIONS_WITH_SECRETS: Final = ("status", "platform", "platform.webhook", "platform.openai")
OLDEST_RESTRICTED_VERSION: Final = 8
"""https://spec.matrix.org/latest/rooms/v8/: the first version with restricted join rules."""
OWN_FIELDS: Final = frozenset({"model", "messages", "stream", "temperature", "max_tokens"})
"""Of a Chat Completions request; the conversation's identifier cannot go there."""

_MISSING: Final = object()


class Values:
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
                found = "a text" if is_secret else show(value)
                self._note(path, found, "keys and values below it")
                return _MISSING
            path = f"{path}.{part}" if path else part
            value = value.get(part, _MISSING)
            if value is _MISSING:
                return _MISSING
        return value

    def _wrong(self, key: str, value: object, expected: str) -> None:
        self._note(key, show(value), expected)

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

    def encryption(self, key: str, default: bool, impossible: str | None) -> bool:
        """A flag that can only be true where nothing stands against it."""
        value = self.flag(key, default)
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
            self._note(key, kind_of(value), expected)
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
            self._note(key, kind_of(value), expected)
            return ""
        value = value.strip()
        if problem := _wrong_url(value, has_query=has_query):
            self._note(key, problem, expected)
            return ""
        return value


def _wrong_url(value: str, *, has_query: bool) -> str | None:
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
