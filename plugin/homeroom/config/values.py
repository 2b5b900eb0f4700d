"""Values of every kind that a config has, each checked and with its problem noted."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
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


class Wrong(ValueError):
    """A value that cannot be used, and that is described because it must not be shown."""


def read_secret_file(path: str) -> str:
    """Read a secret from a file, and no more than a secret has.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a text.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # anything else may never end, or never begin
        raise OSError(errno.EINVAL, "not a file")
    with open(path, encoding="utf-8") as file:
        return file.read(MAX_SECRET + 2)


class Values:
    """Takes values out of the settings, noting what is wrong instead of stopping at it.

    A key that is not there has its default.

    Args:
        read_file: reads a file with a secret in it. Raises OSError.
    """

    def __init__(
        self, data: Mapping[Any, Any], *, read_file: Callable[[str], str] = read_secret_file
    ) -> None:
        self._data = data
        self._read_file = read_file
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

    def _note(self, key: str, found: str, expected: str) -> None:
        problem = Problem(key=key, found=found, expected=expected)
        if problem not in self.problems:
            self.problems.append(problem)

    def _read(self, key: str, default: Any, is_right: Callable[[Any], bool], expected: str) -> Any:
        """The value of a key, if it is right; `is_right` may raise `Wrong`."""
        value = self._get(key)
        if value is _MISSING:
            return default
        try:
            if is_right(value):
                return value
            found = show(value)
        except Wrong as e:
            found = str(e)
        self._note(key, found, expected)
        return default

    def text(self, key: str, default: str, *, least: int = 1, most: int = MAX_NAME) -> str:
        expected = f"a text of {least} to {most} characters"
        value: str = self._read(key, default, lambda v: _is_text(v, least, most), expected)
        return value.strip()

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        expected = " or ".join(f'"{choice}"' for choice in choices)
        return str(self._read(key, default, lambda v: v in choices, expected))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._read(key, default, lambda v: isinstance(v, bool), "true or false"))

    def encryption(self, key: str, default: bool, impossible: str | None) -> bool:
        """A flag that can only be true where nothing stands against it."""
        value = self.flag(key, default)
        if value and impossible is not None:
            self._note(key, "true", f"false, because {impossible} (see docs/encryption.md)")
        return value

    def number(self, key: str, default: int, least: int, most: int) -> int:
        expected = f"a whole number from {least} to {most}"
        return int(self._read(key, default, lambda v: _is_in(v, int, least, most), expected))

    def temperature(self, key: str) -> float | None:
        expected = 'a number from 0 to 2, or ""'
        value = self._read(key, "", lambda v: v == "" or _is_in(v, int | float, 0, 2), expected)
        return None if value == "" else float(value)

    def texts(
        self, key: str, default: tuple[str, ...] = (), *, at_least: int = 0, at_most: int
    ) -> tuple[str, ...]:
        def are_right(value: Any) -> bool:
            if not isinstance(value, list) or not at_least <= len(value) <= at_most:
                return False
            wrong = [text for text in value if not _is_text(text, 1, MAX_NAME)]
            if wrong and len(value) > 1:
                raise Wrong(show(wrong[0]))
            return not wrong

        expected = f"a list of {at_least} to {at_most} texts of 1 to {MAX_NAME} characters"
        return tuple(text.strip() for text in self._read(key, default, are_right, expected))

    def users(self, key: str) -> tuple[str, ...]:
        def are_right(value: Any) -> bool:
            return isinstance(value, list) and all(map(is_user_id, value))

        expected = 'a list of user IDs like "@ada:example.org"'
        return tuple(self._read(key, (), are_right, expected))

    def room_version(self, key: str) -> str | None:
        oldest = OLDEST_RESTRICTED_VERSION

        def is_right(value: Any) -> bool:
            is_number = isinstance(value, str) and re.fullmatch("[0-9]{1,3}", value)
            return value == "" or (bool(is_number) and int(value) >= oldest)

        return self._read(key, "", is_right, f'a text from "{oldest}" on, or ""') or None

    def picture(self, key: str) -> str:
        def is_right(value: Any) -> bool:
            is_address = isinstance(value, str) and re.fullmatch(
                r"mxc://[!-.0-~]{1,255}/[\w-]{1,255}", value
            )
            return value in ("", "none") or bool(is_address)

        expected = 'an address like "mxc://example.org/abc", "none", or ""'
        return str(self._read(key, "", is_right, expected))

    def field_name(self, key: str, default: str) -> str:
        def is_right(value: Any) -> bool:
            is_name = isinstance(value, str) and re.fullmatch("[A-Za-z0-9_]{0,64}", value)
            return bool(is_name) and value not in OWN_FIELDS

        expected = 'the name of a field that is not used otherwise, like "user", or ""'
        return str(self._read(key, default, is_right, expected))

    def secret(self, key: str, *, at_least: int = 0) -> str:
        """A token or a key, or nothing, from the settings or from the file that they name.

        What was found is described, never shown.
        """
        expected = f"a text of at most {MAX_SECRET} ASCII characters without blanks"
        if at_least:
            expected = f'at least {at_least} ASCII characters without blanks, or ""'
        here: str = self._read(key, "", lambda v: _is_secret(v, at_least), expected)
        in_file = ""

        def is_right(path: Any) -> bool:
            nonlocal in_file
            in_file = "" if path == "" else self._in_file(path)
            return _is_secret(in_file, at_least)

        file = f"{key}_file"
        self._read(file, "", is_right, f"the absolute path of a file with {expected}")
        if here and in_file:
            self._note(file, "a file beside a text", f"only one of {key} and {file}")
        return (in_file or here).strip()

    def _in_file(self, path: object) -> str:
        if not isinstance(path, str):
            raise Wrong(kind_of(path))
        if not path.startswith("/"):
            raise Wrong(show(path))
        try:
            return self._read_file(path)
        except OSError as e:
            raise Wrong(f"{show(path)} ({e.strerror})") from None
        except ValueError:
            raise Wrong(f"{show(path)} (not a file with a text)") from None

    def url(self, key: str, *, is_needed: bool, has_query: bool = True) -> str:
        """An address. What was found is described, not shown: there may be a secret in it."""

        def is_right(value: Any) -> bool:
            if not isinstance(value, str):
                raise Wrong(kind_of(value))
            if (value or is_needed) and (wrong := _wrong_url(value.strip(), has_query=has_query)):
                raise Wrong(wrong)
            return True

        example = "https://example.org/hook" if has_query else "https://example.org/v1"
        expected = f'a URL like "{example}"'
        self._need(key, is_needed, expected)
        return str(self._read(key, "", is_right, expected)).strip()

    def name(self, key: str, *, is_needed: bool) -> str:
        least = 1 if is_needed else 0
        self._need(key, is_needed, f"a text of {least} to {MAX_NAME} characters")
        return self.text(key, "", least=least)

    def _need(self, key: str, is_needed: bool, expected: str) -> None:
        if is_needed and self._get(key) is _MISSING:
            self._note(key, "nothing", expected)


def _is_text(value: object, least: int, most: int) -> bool:
    return isinstance(value, str) and least <= len(value.strip()) and len(value) <= most


def _is_in(value: Any, kinds: Any, least: int, most: int) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most


def _is_secret(value: object, at_least: int) -> bool:
    if not isinstance(value, str):
        raise Wrong(kind_of(value))
    value = value.strip()
    if 0 < len(value) < at_least:
        raise Wrong(f"a text of {len(value)} characters")
    if len(value) > MAX_SECRET or not value.isascii() or not value.isprintable():
        raise Wrong(f"another text of {len(value)} characters")
    if " " in value:
        raise Wrong("a text with blanks")
    return True


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
