"""The settings of a platform: what is needed is asked for, and what is secret is not quoted."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.util.config import RecursiveDict
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from homeroom.config import Config, ConfigError, Problem, Settings, read_settings

BAD_URLS = {
    "example.org/v1": "a text that does not begin with http:// or https://",
    "javascript:alert(1)": "a text that does not begin with http:// or https://",
    "https://": "a URL without a host, or with port 0",
    "https:///v1": "a URL without a host, or with port 0",
    "https://h:0/": "a URL without a host, or with port 0",
    "https://h:99999/": "a text that is no URL",
    "https://h:x/": "a text that is no URL",
    "https://[::1/": "a text that is no URL",
    "https://a b/": "a text of 12 characters that is no URL",
    "https://h/\r\nX-Y: z": "a text of 18 characters that is no URL",
    "https://" + "h" * 2000: "a text of 2008 characters that is no URL",
    "https://token@h/": "a URL with a user name or a password in it",
    "https://u:token@h/": "a URL with a user name or a password in it",
    "https://h/#token": "a URL with a # in it",
    "https://h/?token": "a URL with a ? in it",
    "": "nothing",
    " ": "nothing",
}


def problems(platform: Any) -> list[Problem]:
    try:
        read_settings({"platform": platform})
    except ConfigError as e:
        return list(e.problems)
    return []


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_cannot_be_used_is_described_and_not_quoted(url: str) -> None:
    openai = {"base_url": url, "model": "m"}
    (problem,) = problems({"kind": "openai", "openai": openai})
    assert problem.key == "platform.openai.base_url"
    assert problem.found == BAD_URLS[url]


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h:8/v1/", "http://[::1]:8/", "https://bücher.example/v1", " http://h "],
)
def test_an_address_that_can_be_used_is_taken(url: str) -> None:
    settings = read_settings({"platform": {"openai": {"base_url": url}}})
    assert settings.platform.openai.base_url == url.strip().rstrip("/")
    settings = read_settings({"platform": {"webhook": {"url": f"{url.strip()}?a=b"}}})
    assert settings.platform.webhook.url == f"{url.strip()}?a=b"


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("echo", []),
        ("webhook", ["platform.webhook.url"]),
        ("openai", ["platform.openai.base_url", "platform.openai.model"]),
    ],
)
def test_what_a_kind_needs_is_asked_for(kind: str, needed: list[str]) -> None:
    assert [problem.key for problem in problems({"kind": kind})] == needed
    empty = {"webhook": {"url": ""}, "openai": {"base_url": "", "model": ""}}
    assert [problem.key for problem in problems({"kind": kind, **empty})] == needed


@pytest.mark.parametrize(
    "secret",
    [12345, 1.5, True, ["hunter2"], {"a": "hunter2"}, "hunter 2", "hunter2ü", "x\ny", None],
)
def test_a_secret_that_cannot_be_used_is_not_quoted(secret: Any) -> None:
    sections = {"webhook": {"token": secret}, "openai": {"api_key": secret}}
    found = problems(sections)
    assert [problem.key for problem in found] == [
        "platform.webhook.token",
        "platform.openai.api_key",
    ]
    assert not any(part in str(p) for p in found for part in ("hunter", "12345", "1.5", "x\n"))


@pytest.mark.parametrize(
    "text",
    [
        "platform: {openai: {api_key: hunter2, api_key: hunter2}}",
        "platform:\n  openai:\n    api_key: 'hunter2\n",
        "api_key: *hunter2",
        "api_key: hunter2: x",
        "api_key: [hunter2\n",
        "api_key: @hunter2",
        "api_key: hunter2\x01",
        "api_key: !!int hunter2",
    ],
)
def test_a_text_that_cannot_be_read_is_not_quoted(text: str) -> None:
    base = RecursiveDict(CommentedMap(), CommentedMap)
    config = Config(lambda: YAML().load(text), lambda: base, lambda _: None)
    with pytest.raises(ConfigError) as error:
        config.load()
    assert "hunter" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_what_is_secret_is_in_no_repr() -> None:
    webhook = {"url": "https://h/hunter2", "token": "hunter2"}
    openai = {"base_url": "https://h/hunter2", "api_key": "hunter2"}
    settings = read_settings({"platform": {"webhook": webhook, "openai": openai}})
    assert settings.platform.webhook.token == settings.platform.openai.api_key == "hunter2"
    assert "hunter2" not in repr(settings)


def test_a_number_without_an_end_is_described() -> None:
    with pytest.raises(ConfigError) as error:
        read_settings({"limits": {"homes": 1 << 20_000}})
    assert error.value.problems[0].found == "a number of more than 60 digits"


def test_a_key_without_an_end_is_described() -> None:
    base = RecursiveDict(CommentedMap(admins=[]), CommentedMap)
    text = f"admins: []\n? 0x{'f' * 5000}\n: []\n"
    config = Config(lambda: YAML().load(text), lambda: base, lambda _: None)
    config.load_and_update()
    assert [key.key for key in config.unknown_keys()] == ["a number of more than 60 digits"]


def test_without_a_word_it_is_echo() -> None:
    assert read_settings({}).platform == Settings().platform
    assert Settings().platform.kind == "echo"
