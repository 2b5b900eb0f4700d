"""Every key with what cannot be its value: while it runs, after a restart, after an upgrade."""

from __future__ import annotations

import logging
from copy import deepcopy
from io import StringIO
from typing import Any

import pytest
from mautrix.util.config import RecursiveDict
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from homeroom.config import Config, LiveSettings, Settings
from tests.plugin.miniature import ROOT

GOOD: dict[str, Any] = {"admins": ["@admin:test"], "rooms": {"space_name": "Nest"}}
MISFITS = (None, -1, 1.5, True, "*", [7], {"a": 1}, "x" * 60_000, "äöü", 10**30)
LOG: Any = logging.getLogger("maubot.instance.homeroom")
BASE = YAML().load((ROOT / "base-config.yaml").read_text())
"""To be copied: reading it takes much longer."""


class Kept:
    """What an instance keeps in its database."""

    def __init__(self) -> None:
        self.text: str | None = None

    async def read(self) -> str | None:
        return self.text

    async def write(self, text: str) -> None:
        self.text = text


class Editor:
    """The text in maubot's web UI."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self._loaded: tuple[Any, Any] = (None, None)

    def settings(self, kept: Kept) -> LiveSettings:
        """Those of a new life of the instance."""
        config = Config(self._load, self._base, lambda _: None)
        return LiveSettings(config=config, no_encryption=lambda: None, last_good=kept, log=LOG)

    def _load(self) -> Any:
        if self._loaded[0] is not self.data:
            text = StringIO()
            YAML().dump(self.data, text)
            self._loaded = (self.data, YAML().load(text.getvalue()))
        return deepcopy(self._loaded[1])

    def _base(self) -> RecursiveDict[CommentedMap]:
        return RecursiveDict(deepcopy(BASE), CommentedMap)


def keys() -> list[str]:
    def below(data: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, value in data.items():
            inner = f"{path}{key}"
            found += below(value, f"{inner}.") if isinstance(value, dict) else [inner]
        return found

    return [*below(BASE, ""), ""]


def with_value(key: str, value: Any) -> Any:
    """The good settings with another value of one key; no key: the value in place of all."""
    if not key:
        return value if value is not None else []
    data: dict[str, Any] = deepcopy(GOOD)
    *parts, last = key.split(".")
    part = data
    for name in parts:
        part = part.setdefault(name, {})
    part[last] = value
    return data


@pytest.mark.parametrize(("number", "key"), list(enumerate(keys())))
async def test_bad_values_never_leave_a_bot_without_settings_that_had_some(
    number: int, key: str
) -> None:
    """Each key has every third misfit: whether one is refused, tests/config/ asks of each."""
    good = Settings(admins=frozenset({"@admin:test"}), space_name="Nest")  # type: ignore[arg-type]
    kept, editor = Kept(), Editor(GOOD)
    running = editor.settings(kept)
    assert await running.read()
    assert running() == good
    refused = 0
    for value in MISFITS[number % 3 :: 3]:
        editor.data = with_value(key, value)
        if await editor.settings(Kept()).read():
            continue  # it is a value for this key
        refused += 1
        assert not await running.read()
        restarted = editor.settings(kept)
        assert not await restarted.read()
        upgraded = editor.settings(Kept())
        assert not await upgraded.read()
        for settings in (running, restarted, upgraded):
            problems = settings.not_in_force.problems
            assert [p.key for p in problems] == [key or "the whole text"], value
        assert running() == restarted() == good
        assert not upgraded.are_usable
        editor.data = GOOD
        assert await upgraded.read()  # it is enough to mend them
        assert upgraded() == good
    assert refused
