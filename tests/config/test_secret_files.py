"""Secrets in files: read once, bounded, and never shown, whatever is in the file's place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from homeroom.config import ConfigError, Settings, read_settings

SECRET = "s3cret-of-the-agent-in-a-file"
KEYS = {
    "status.token": lambda settings: settings.status_token,
    "platform.webhook.token": lambda settings: settings.platform.webhook.token,
    "platform.openai.api_key": lambda settings: settings.platform.openai.api_key,
}


def nested(key: str, value: object) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_settings(data)
    assert SECRET not in str(caught.value)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_may_be_in_a_file(tmp_path: Path, key: str) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    settings = read_settings(nested(f"{key}_file", str(file)))
    assert KEYS[key](settings) == SECRET
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("key", KEYS)
def test_no_file_is_no_secret(key: str) -> None:
    assert read_settings(nested(f"{key}_file", "")) == Settings()


def test_one_of_both(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    data = {"status": {"token": "another-secret-of-mine", "token_file": str(file)}}
    assert problems(data) == [
        (
            "status.token_file: found a file beside a text, expected only one of status.token and"
            " status.token_file"
        )
    ]


def test_what_is_no_file_with_a_secret_is_named_and_its_words_are_not(tmp_path: Path) -> None:
    expected = (
        "expected the absolute path of a file with a text of at most 4096 ASCII characters without"
        " blanks"
    )
    fifo, short, two = tmp_path / "fifo", tmp_path / "short", tmp_path / "two"
    os.mkfifo(fifo)
    two.write_text(f"{SECRET} {SECRET}")
    short.write_bytes(b"\xff\xfe")
    large = tmp_path / "large"
    large.write_text("x" * 100_000)
    found = {
        str(tmp_path / "none"): f'"{tmp_path}/none" (No such file or directory)',
        str(tmp_path): f'"{tmp_path}" (not a file)',
        str(fifo): f'"{fifo}" (not a file)',
        str(short): f'"{short}" (not a file with a text)',
        str(two): "a text with blanks",
        str(large): "another text of 4098 characters",
        "secret": '"secret"',
        "/\0": '"/\0" (not a file with a text)',
        "7": '"7"',
    }
    for path, what in found.items():
        shown = (
            what
            if len(path) <= 60
            else what.replace(f'"{path}"', f"a text of {len(path)} characters")
        )
        assert problems(nested("platform.webhook.token_file", path)) == [
            f"platform.webhook.token_file: found {shown}, {expected}"
        ]
    assert problems(nested("platform.webhook.token_file", [SECRET])) == [
        f"platform.webhook.token_file: found a list of 1, {expected}"
    ]
