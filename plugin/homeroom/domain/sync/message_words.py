"""The words of a message: what is read of its content, and what of them can be passed on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..json_shapes import as_dict

TEXT: Final = ("m.text", "m.emote")
VERIFICATION: Final = "m.key.verification.request"
"""https://spec.matrix.org/latest/client-server-api/#key-verification-framework"""
FILES: Final[Mapping[str, str]] = {
    "m.image": "picture",
    "m.video": "video",
    "m.audio": "recording",
    "m.file": "file",
}
"""What may have a caption: https://spec.matrix.org/latest/client-server-api/#media-captions"""
_WORDLESS: Final = frozenset({"m.location", VERIFICATION})
_WORDLESS_TYPES: Final = frozenset({"m.sticker", "m.poll.start", "org.matrix.msc3381.poll.start"})
_UNSPEAKABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""What a JSON text may hold, and UTF-8 or a database may not."""


def text_of(event: dict[str, Any]) -> object:
    """What a message says: "" if that is not in words, None if it is no message to answer."""
    content, kind = as_dict(event.get("content")), event.get("type")
    msgtype = content.get("msgtype")
    if kind == "m.room.message" and msgtype == "m.text":
        return content.get("body")
    if kind == "m.room.message" and msgtype == "m.emote" and isinstance(content.get("body"), str):
        return f"/me {content['body']}"
    if kind == "m.room.message" and isinstance(msgtype, str) and msgtype in FILES:
        body, name = content.get("body"), content.get("filename")
        is_caption = isinstance(body, str) and isinstance(name, str) and body != name
        return body.strip() if isinstance(body, str) and is_caption else ""
    if kind == "m.room.message" and isinstance(msgtype, str) and msgtype in _WORDLESS:
        return ""
    return "" if isinstance(kind, str) and kind in _WORDLESS_TYPES and content else None


def speakable(text: str) -> str:
    """The text without what no event of ours, and no database, can hold."""
    return _UNSPEAKABLE.sub("\ufffd", text)


def without_reply_fallback(body: str) -> str:
    """Strip the quoted lines that older clients put before a reply.

    https://spec.matrix.org/v1.12/client-server-api/#fallbacks-for-rich-replies
    """
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        lines.pop(0)
    if lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines)
