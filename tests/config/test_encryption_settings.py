"""Whose devices take part in encrypted chats."""

from __future__ import annotations

import pytest

from homeroom.config import ConfigError, read_settings


@pytest.mark.parametrize(("devices", "only_signed"), [("any", False), ("signed", True)])
def test_the_setting_is_one_of_two_words(devices: str, only_signed: bool) -> None:
    settings = read_settings({"encryption": {"devices": devices}})
    assert settings.only_signed_devices is only_signed
    assert read_settings({}).only_signed_devices is False


def test_another_word_is_named_with_the_two() -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings({"encryption": {"devices": "verified"}})
    (problem,) = raised.value.problems
    assert (problem.key, problem.found) == ("encryption.devices", '"verified"')
    assert '"any" or "signed"' in problem.expected
