"""Server-sent events: as the standard reads them, however they are cut into pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.platforms.sse import Event, TooLong, events

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "one": (b"data: hello\n\n", [Event("", "hello")]),
    "named": (b"event: end\ndata: {}\n\n", [Event("end", "{}")]),
    "a name alone": (b"event: end\n\n", [Event("end", "")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event("", "a"), Event("", "b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [Event("", "a"), Event("", "b")]),
    "all line ends": (b"data: a\rdata: b\r\ndata: c\n\n", [Event("", "a\nb\nc")]),
    "several lines": (b'data: {"a":\ndata:  1}\n\n', [Event("", '{"a":\n 1}')]),
    "no blank": (b"data:a\n\n", [Event("", "a")]),
    "comments": (b": hi\n\n:\ndata: a\n: x\n\n", [Event("", "a")]),
    "other fields": (b"id: 1\nretry: 5\nfoo\ndata: a\n\n", [Event("", "a")]),
    "no data": (b"data\n\ndata:\n\nid: 1\n\n", []),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("", "a")]),
    "no end": (b"data: a\n\ndata: b", [Event("", "a"), Event("", "b")]),
    "characters of several bytes": (
        "data: ü\N{OK HAND SIGN}\u2028\n\n".encode(),
        [Event("", "ü\N{OK HAND SIGN}\u2028")],
    ),
    "invalid UTF-8": (b"data: a\xffb\xe2\x82\n\n", [Event("", "a\ufffdb\ufffd")]),
    "half a character at the end": (b"data: a\xe2\x82", [Event("", "a\ufffd")]),
}


async def read(
    chunks: Iterable[bytes], *, longest: int = 1000, most_lines: int = 1000
) -> list[Event]:
    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async with aclosing(events(arriving(), longest=longest, most_lines=most_lines)) as found:
        return [event async for event in found]


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS.keys())
async def test_events_are_read_whole_and_byte_by_byte(
    stream: bytes, expected: list[Event]
) -> None:
    assert await read([stream]) == expected
    assert await read([bytes([byte]) for byte in stream]) == expected


@given(st.text("a:\r\n d\ufeffü", max_size=60), st.lists(st.integers(0, 80)))
async def test_how_a_stream_is_cut_does_not_matter(text: str, cuts: list[int]) -> None:
    stream = text.replace("d", "data: ").encode()
    places = [0, *sorted(cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(places)]
    assert await read(chunks) == await read([stream])


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 2000,
        b"data: x\n" * 500,
        b": x\n" * 1000,
        b"x" * 2000 + b"\n\n",
        b"\n" * 1500,
        b"data: x\r\r" * 600,
    ],
    ids=["a line", "many lines", "comments", "nothing known", "line ends", "events"],
)
async def test_nothing_is_collected_for_ever(stream: bytes) -> None:
    chunks = [stream[place : place + 100] for place in range(0, len(stream), 100)]
    with pytest.raises(TooLong):
        await read(chunks)
