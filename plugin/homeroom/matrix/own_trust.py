"""Whether today's clients trust the bot's own device: what the homeserver says about itself.

maubot looks once, at its start, and at its own database. What counts is what other people's
clients are told, so `/keys/query` is asked about the bot itself and the chain is checked: the
account's master key, the self-signing key that it signed, the device that this signed. What was
seen of each device is remembered in the bot's account data, because a device ID that comes back
with other keys is dead for whoever knows the old ones, and nothing else tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mautrix.util.logging import TraceLogger

from ..domain.json_shapes import as_dict
from .current_client import CurrentClient, EncryptionGone
from .homeserver import Homeserver

REMEMBERED: Final = "dev.homeroom.devices"
"""In the account data: what was seen of each device of the bot that encrypted."""
DEVICES_AT_MOST: Final = 20

Verify = Callable[[dict[str, Any], str, str, str], bool]
"""`verify_signature_json`: the object, the user, the name of the key, the key."""


class Trust(str, Enum):
    """What other people's clients make of the bot's device."""

    UNKNOWN = "unknown"
    """It could not be asked yet."""
    NONE = "none"
    """This bot cannot encrypt, and never could."""
    GONE = "gone"
    """It could encrypt, and cannot now."""
    NO_IDENTITY = "no-identity"
    """The account has no cross-signing keys."""
    UNSIGNED = "unsigned"
    SIGNED = "signed"
    STALE = "stale"
    """There is a signature, but it is not one of the keys that the device has now."""
    REPLACED = "replaced"
    """The account has another identity than the one that signed this device."""
    LOST = "lost"
    """The device was known with other keys, or the homeserver knows it with other ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The bot's device as maubot has it: the ID and both public keys."""

    user_id: str
    device_id: str
    ed25519: str
    curve25519: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTrust:
    """The bot's standing, for the log, the page and `!reconcile`."""

    trust: Trust = Trust.UNKNOWN
    device_id: str = ""
    is_replaced: bool = False
    """Whether maubot has put another client in the place of the one of this instance's start."""
    detail: str = ""
    is_needed: bool = False
    """Whether new chats are encrypted, so that anything but `signed` is an error."""

    @property
    def is_worth_telling(self) -> bool:
        if self.is_replaced or self.trust is Trust.GONE:
            return True
        return self.trust not in (Trust.SIGNED, Trust.NONE, Trust.UNKNOWN)


def judge(
    answer: Mapping[str, Any], device: Device, *, remembered: Mapping[str, Any], verify: Verify
) -> tuple[Trust, str | None]:
    """What `/keys/query` says about a device, and the account's master key.

    Args:
        answer: as the homeserver gave it.
        remembered: what was seen of this device before (`ed25519`, `identity`); empty: nothing.
    """
    user = device.user_id
    keys = as_dict(as_dict(as_dict(answer.get("device_keys")).get(user)).get(device.device_id))
    named = as_dict(keys.get("keys"))
    master = _key(as_dict(answer.get("master_keys")).get(user))
    signing = as_dict(as_dict(answer.get("self_signing_keys")).get(user))
    signer = _key(signing)
    if (
        named.get(f"ed25519:{device.device_id}") != device.ed25519
        or named.get(f"curve25519:{device.device_id}") != device.curve25519
        or remembered.get("ed25519", device.ed25519) != device.ed25519
    ):
        return Trust.LOST, master
    if master is None or signer is None or not verify(signing, user, master, master):
        return Trust.NO_IDENTITY, master
    signatures = as_dict(as_dict(keys.get("signatures")).get(user))
    if f"ed25519:{signer}" in signatures:
        is_valid = verify(keys, user, signer, signer)
        return (Trust.SIGNED if is_valid else Trust.STALE), master
    if remembered.get("identity", master) != master:
        return Trust.REPLACED, master
    return Trust.UNSIGNED, master


def _key(keys: object) -> str | None:
    """The one public key of a cross-signing key."""
    values = [key for key in as_dict(as_dict(keys).get("keys")).values() if isinstance(key, str)]
    return values[0] if len(values) == 1 else None


@dataclass(slots=True, kw_only=True)
class TrustCheck:
    """Asks, remembers, and tells the log what has changed."""

    client: CurrentClient
    homeserver: Homeserver
    is_needed: Callable[[], bool]
    explain: Callable[[OwnTrust], str]
    log: TraceLogger
    _trust: Trust = field(default=Trust.UNKNOWN, init=False)
    _device_id: str = field(default="", init=False)
    _told: OwnTrust | None = field(default=None, init=False)

    @property
    def now(self) -> OwnTrust:
        """What was found last, with what can be seen without asking."""
        trust = self._trust
        if not self.client.can_encrypt:
            trust = Trust.GONE if self.client.had_encryption else Trust.NONE
        return OwnTrust(
            trust=trust,
            device_id=self._device_id,
            is_replaced=self.client.is_replaced,
            detail=self.client.why_not() or "",
            is_needed=self.is_needed(),
        )

    async def check(self, *, again: bool = False) -> OwnTrust:
        """Ask the homeserver; tell the log what is wrong, and what has become right.

        Args:
            again: whether to say it also if it has been said.

        Raises:
            HomeserverError: it is not known (any better) now.
        """
        devices = await self._remembered()
        if self.client.had_encryption is None:
            self.client.had_encryption = bool(devices)
        try:
            machine = self.client.machine()
        except EncryptionGone:
            machine = None
        if machine is not None:
            await self._ask(machine, devices)
        self._tell(again=again)
        return self.now

    async def _ask(self, machine: Any, devices: dict[str, Any]) -> None:
        from mautrix.crypto.signature import verify_signature_json  # noqa: PLC0415 (needs olm)

        client = self.client()
        device = Device(
            user_id=client.mxid,
            device_id=client.device_id,
            ed25519=machine.account.signing_key,
            curve25519=machine.account.identity_key,
        )

        def verify(signed: dict[str, Any], user: str, name: str, key: str) -> bool:
            return "signatures" in signed and bool(
                verify_signature_json(signed, user, name, key)  # type: ignore[arg-type]
            )

        answer = await self.homeserver.query_keys(client.mxid)
        before = as_dict(devices.get(device.device_id))
        self._trust, master = judge(answer, device, remembered=before, verify=verify)
        self._device_id = device.device_id
        if self._trust is Trust.LOST:
            return
        identity = master if self._trust is Trust.SIGNED else before.get("identity")
        seen = {"ed25519": device.ed25519, **({"identity": identity} if identity else {})}
        if seen != before:
            others = {key: value for key, value in devices.items() if key != device.device_id}
            kept = dict([*others.items()][-(DEVICES_AT_MOST - 1) :])
            await self.homeserver.account_data.set(
                REMEMBERED, {"devices": {**kept, device.device_id: seen}}
            )

    async def _remembered(self) -> dict[str, Any]:
        content = await self.homeserver.account_data.get(REMEMBERED)
        return as_dict(as_dict(content).get("devices"))

    def _tell(self, *, again: bool) -> None:
        now, before = self.now, self._told
        if now == before and not (again and now.is_worth_telling):
            return
        self._told = now
        if now.is_worth_telling:
            is_error = now.is_needed or now.trust is Trust.GONE
            (self.log.error if is_error else self.log.warning)("%s", self.explain(now))
        elif before is not None and before.is_worth_telling:
            self.log.info("The bot's device %s is trusted again", now.device_id)
