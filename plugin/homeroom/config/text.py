"""maubot's side: the text in its web UI, over base-config.yaml.

A user's text is never lost: the keys that are missing are added, and everything else is kept,
even what Homeroom does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from typing import Any, Final, cast

from mautrix.util.config import BaseProxyConfig, ConfigUpdateHelper
from ruamel.yaml import YAML
from ruamel.yaml.comments import Comment, CommentedBase, CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import CommentToken

from .problems import ConfigError, Problem, show

SHOWN_OF_A_KEY: Final = 100
"""Characters."""
GUESSES_AT_MOST: Final = 20
"""Unknown keys that are compared with the known ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownKey:
    """A key that Homeroom has no use for, and the known one that is most like it."""

    key: str
    meant: str | None

    def __str__(self) -> str:
        guess = f"; did you mean {self.meant}?" if self.meant else ""
        return f"{self.key} is not a key of Homeroom's, so it is kept and not used{guess}"


def read_text(text: str) -> Mapping[Any, Any]:
    """Read what `Config.write` wrote.

    Raises:
        ConfigError: it is not YAML, or not keys and values.
    """
    expected = "keys and values, as in base-config.yaml"
    try:
        data = YAML().load(text)
    except Exception as e:  # noqa: BLE001 (ruamel's own, and what Python says to its values)
        problem = Problem(key="the whole text", found=_not_yaml(e), expected=expected)
        raise ConfigError((problem,)) from None
    if not isinstance(data, dict):
        problem = Problem(key="the whole text", found=show(data), expected=expected)
        raise ConfigError((problem,))
    return data


class Config(BaseProxyConfig):
    """maubot's side: the user's text over base-config.yaml, so that new keys get a default."""

    _unknown: Sequence[UnknownKey] = ()

    def load(self) -> None:
        """Read the user's text.

        Raises:
            ConfigError: it is not YAML, or not keys and values. The values are empty then.
        """
        expected = "keys and values, as in base-config.yaml"
        try:
            super().load()
        except Exception as e:  # noqa: BLE001 (ruamel's own, and what Python says to its values)
            self._data = CommentedMap()
            # What ruamel says itself quotes the text, and with it a key or a token.
            raise ConfigError(
                (Problem(key="the whole text", found=_not_yaml(e), expected=expected),)
            ) from None
        if not isinstance(self._data, dict):
            found = show(self._data)
            self._data = CommentedMap()
            raise ConfigError((Problem(key="the whole text", found=found, expected=expected),))

    @property
    def values(self) -> Mapping[Any, Any]:
        """The settings as plain keys and values."""
        return cast("Mapping[Any, Any]", self._data)

    def write(self) -> str:
        """The settings as a text that `read_text` understands."""
        text = StringIO()
        YAML().dump(self._data, text)
        return text.getvalue()

    def unknown_keys(self) -> Sequence[UnknownKey]:
        """Keys of the last `update` that Homeroom has no use for: a typo, or a newer version's."""
        return self._unknown

    def do_update(self, helper: ConfigUpdateHelper) -> None:
        base = cast("dict[Any, Any]", helper.base._data)  # noqa: SLF001
        self._unknown = [
            UnknownKey(key=key, meant=_nearest(key, base) if number < GUESSES_AT_MOST else None)
            for number, key in enumerate(_unknown(self._data, base))
        ]
        _write_comments_again(base)
        _lay_over(base, self._data)


def _nearest(key: str, known: Mapping[Any, Any]) -> str | None:
    """The known key that is written most like this one, or that ends like it."""
    keys = list(_keys(known))
    last = key.rpartition(".")[2]
    same = [one for one in keys if one.rpartition(".")[2] == last]
    return next(iter(get_close_matches(key, keys, n=1, cutoff=0.75) or same[:1]), None)


def _keys(data: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    for key, value in data.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{path}{key}.")


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


def _not_yaml(error: Exception) -> str:
    """What is wrong with a text, without quoting it."""
    if isinstance(error, RecursionError):
        return "lists within lists without an end"
    if not isinstance(error, YAMLError):
        return "a value that does not exist, like a date in a 13th month (in quotes it is a text)"
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


def _unknown(data: Mapping[Any, Any], base: Mapping[Any, Any]) -> list[str]:
    unknown = []
    for key, value in data.items():
        if key not in base:
            unknown.append(key[:SHOWN_OF_A_KEY] if isinstance(key, str) else show(key))
        elif isinstance(value, dict) and isinstance(base[key], dict):
            unknown += [f"{key}.{inner}" for inner in _unknown(value, base[key])]
    return unknown
