"""A Megolm session that goes on from any index at once, as only a hostile client does.

https://gitlab.matrix.org/matrix-org/olm/-/blob/master/docs/megolm.md
"""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import b64encode
from hashlib import sha256
from typing import Any

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from Crypto.Util.Padding import pad

PARTS = 4
BYTES = 32


class MegolmSession:
    """The sending side; `index` is the one of its next message."""

    def __init__(self) -> None:
        self._signing = ECC.generate(curve="Ed25519")
        self._ratchet = [secrets.token_bytes(BYTES) for _ in range(PARTS)]
        self.index = 0

    @property
    def session_id(self) -> str:
        return _text(self._public)

    @property
    def session_key(self) -> str:
        """What `m.room_key` gives to others: all from the next message on."""
        data = b"\x02" + self.index.to_bytes(4, "big") + b"".join(self._ratchet) + self._public
        return _text(data + self._signed(data))

    def go_to(self, index: int) -> None:
        """Skip all messages before this one: at most a thousand hashes, however many they are."""
        for part in range(PARTS):
            shift = 8 * (PARTS - 1 - part)
            steps = ((index >> shift) - (self.index >> shift)) & 0xFF
            for step in reversed(range(steps)):
                for other in reversed(range(part, PARTS)):
                    if other == part or step == 0:
                        self._hash(part, other)
            if steps:
                self.index = index >> shift << shift
        self.index = index

    def encrypt(self, *, room_id: str, content: Any) -> str:
        """The ciphertext of a message, as the event has it."""
        event = {"type": "m.room.message", "room_id": room_id, "content": content}
        keys: Any = HKDF(b"".join(self._ratchet), 80, b"", SHA256, context=b"MEGOLM_KEYS")  # type: ignore[arg-type,unused-ignore]
        cipher = AES.new(keys[:32], AES.MODE_CBC, iv=keys[64:])
        sealed = cipher.encrypt(pad(json.dumps(event).encode(), AES.block_size))
        data = b"\x03\x08" + varint(self.index) + b"\x12" + varint(len(sealed)) + sealed
        data += hmac.new(keys[32:64], data, sha256).digest()[:8]
        self.go_to(self.index + 1)
        return _text(data + self._signed(data))

    def _hash(self, from_: int, to: int) -> None:
        self._ratchet[to] = hmac.new(self._ratchet[from_], bytes([to]), sha256).digest()

    @property
    def _public(self) -> bytes:
        return self._signing.public_key().export_key(format="raw")

    def _signed(self, data: bytes) -> bytes:
        return eddsa.new(self._signing, "rfc8032").sign(data)


def varint(number: int) -> bytes:
    """A number as protocol buffers write it."""
    parts = []
    while number > 0x7F:
        parts.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*parts, number])


def _text(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")
