"""A key that is not known is named, with the known one that was probably meant."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.util.config import RecursiveDict
from ruamel.yaml.comments import CommentedMap

from homeroom.config import Config
from tests.plugin.miniature import ROOT, read_settings


def unknown(text: str) -> list[str]:
    base = RecursiveDict(read_settings((ROOT / "base-config.yaml").read_text()), CommentedMap)
    saved: list[Any] = []
    config = Config(lambda: read_settings(text), base.clone, saved.append)
    config.load_and_update()
    return [str(key) for key in config.unknown_keys()]


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("acess: {allow: []}", "acess", "access"),
        ("rooms: {initial_chat: [A]}", "rooms.initial_chat", "rooms.initial_chats"),
        ("platform: {opanai: {model: x}}", "platform.opanai", "platform.openai"),
        ("turn_timeout: 7", "turn_timeout", "limits.turn_timeout"),
        ("rooms: {colour: green}", "rooms.colour", None),
        ("7: x", "7", None),
    ],
)
def test_the_nearest_known_key_is_offered(text: str, key: str, meant: str | None) -> None:
    said = f"{key} is not a key of Homeroom's, so it is kept and not used"
    assert unknown(text) == [said if meant is None else f"{said}; did you mean {meant}?"]


def test_many_unknown_keys_cost_little() -> None:
    keys = unknown("\n".join(f"limit{number}: {{}}" for number in range(2_000)))
    assert len(keys) == 2_000
    assert sum("did you mean" in key for key in keys) <= 20
