"""What other people's clients make of the bot's own device, from what the homeserver says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from homeroom.matrix.own_trust import Device, OwnTrust, Trust, judge
from homeroom.replies.encryption import TRUST, trust_findings

BOT = "@bot:test"
DEVICE = Device(user_id=BOT, device_id="D", ed25519="device", curve25519="curve")
SEEN = {"ed25519": "device", "identity": "master"}


def answer() -> dict[str, Any]:
    """Of a device that is signed, as it should be."""
    return {
        "device_keys": {
            BOT: {
                "D": {
                    "keys": {"ed25519:D": "device", "curve25519:D": "curve"},
                    "signatures": {BOT: {"ed25519:D": "by device", "ed25519:signer": "by signer"}},
                }
            }
        },
        "master_keys": {BOT: {"keys": {"ed25519:master": "master"}}},
        "self_signing_keys": {
            BOT: {
                "keys": {"ed25519:signer": "signer"},
                "signatures": {BOT: {"ed25519:master": "by master"}},
            }
        },
    }


def verify(signed: dict[str, Any], user: str, name: str, key: str) -> bool:
    """As mautrix checks it, with signatures that say whose they are."""
    return bool(signed["signatures"][user][f"ed25519:{name}"] == f"by {key}")


def without(*path: str) -> Any:
    def change(told: dict[str, Any]) -> None:
        for key in path[:-1]:
            told = told[key]
        del told[path[-1]]

    return change


def instead(value: Any, *path: str) -> Any:
    def change(told: dict[str, Any]) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = value

    return change


KEYS = ("device_keys", BOT, "D", "keys")
SIGNATURES = ("device_keys", BOT, "D", "signatures", BOT)
CASES = {
    "signed": (lambda _: None, SEEN, Trust.SIGNED),
    "signed, and seen for the first time": (lambda _: None, {}, Trust.SIGNED),
    "signed again after a reset": (lambda _: None, {**SEEN, "identity": "old"}, Trust.SIGNED),
    "no identity": (without("master_keys"), SEEN, Trust.NO_IDENTITY),
    "no signing key": (without("self_signing_keys", BOT), SEEN, Trust.NO_IDENTITY),
    "a signing key of somebody else": (
        instead("by eve", "self_signing_keys", BOT, "signatures", BOT, "ed25519:master"),
        SEEN,
        Trust.NO_IDENTITY,
    ),
    "unsigned": (without(*SIGNATURES, "ed25519:signer"), {}, Trust.UNSIGNED),
    "unsigned, as it was": (without(*SIGNATURES, "ed25519:signer"), SEEN, Trust.UNSIGNED),
    "another identity": (
        without(*SIGNATURES, "ed25519:signer"),
        {**SEEN, "identity": "old"},
        Trust.REPLACED,
    ),
    "a signature of other keys": (
        instead("by old", *SIGNATURES, "ed25519:signer"),
        SEEN,
        Trust.STALE,
    ),
    "other keys on the homeserver": (instead("other", *KEYS, "ed25519:D"), SEEN, Trust.LOST),
    "another device key": (instead("other", *KEYS, "curve25519:D"), SEEN, Trust.LOST),
    "not on the homeserver": (without("device_keys", BOT, "D"), SEEN, Trust.LOST),
    "other keys than before": (lambda _: None, {**SEEN, "ed25519": "old"}, Trust.LOST),
    "nothing": (dict.clear, {}, Trust.LOST),
    "nonsense": (instead([1], "device_keys"), SEEN, Trust.LOST),
}


@pytest.mark.parametrize(("change", "seen", "trust"), CASES.values(), ids=CASES.keys())
def test_the_chain_is_what_the_homeserver_says(change: Any, seen: Any, trust: Trust) -> None:
    told = copy.deepcopy(answer())
    change(told)
    assert judge(told, DEVICE, remembered=seen, verify=verify)[0] is trust


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_is_wrong_names_the_button_and_what_is_not_is_not_named(
    trust: Trust, is_replaced: bool
) -> None:
    found = trust_findings(OwnTrust(trust=trust, device_id="D", is_replaced=is_replaced))
    wrong = [line for line in found if "→ restart the instance in maubot" not in line]
    assert len(found) - len(wrong) == is_replaced
    fine = trust in (Trust.SIGNED, Trust.NONE, Trust.UNKNOWN)
    assert len(wrong) == (not fine)
    assert all("→ " in line and TRUST[trust][1] in line for line in wrong)
