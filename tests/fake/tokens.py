"""Positions in the stream as clients see them: `s12`, or `t3-12` in a room's timeline."""

from __future__ import annotations

import re

from .errors import bad_request

_TOKEN = re.compile(r"(?:s|t\d+-)(\d+)(?:_\d+)*")
# Synapse's tokens carry more counters than this server has.
_OTHERS = "_0" * 13


def stream_token(stream: int) -> str:
    """Make a `/sync` position."""
    return f"s{stream}{_OTHERS}"


def room_token(depth: int, stream: int) -> str:
    """Make a position in a room's timeline."""
    return f"t{depth}-{stream}{_OTHERS}"


def read_token(token: str) -> int:
    """Give the stream position of a token."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise bad_request("Invalid stream token")
    return int(match[1])
