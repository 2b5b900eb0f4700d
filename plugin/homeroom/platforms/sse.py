"""Server-sent events, read from the bytes of an answer.

As https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream has it:
lines end in CR, LF or both, a colon begins a comment, several `data` lines are one text, and what
is not UTF-8 becomes U+FFFD. Two liberties, because servers take them: an event without data still
counts if it has a name, and so does a last one without the blank line at its end.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass

from ..runtime.breather import Breather


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    """Empty if it has none."""
    data: str


class TooLong(Exception):
    """There is more than is read."""


async def events(
    chunks: AsyncIterable[bytes], *, longest: int, most_lines: int
) -> AsyncGenerator[Event, None]:
    """Read events, and give way to others meanwhile: they may all be there already.

    Args:
        chunks: of bounded length.
        longest: characters of one event, its comments included, or of one line.
        most_lines: of the whole stream.

    Raises:
        TooLong: an event, a line or the stream has more than that.
    """
    name, data, size, count = "", list[str](), 0, 0
    breather = Breather()
    async for line in _lines(chunks, longest=longest):
        await breather.step()
        size, count = size + len(line), count + 1
        if count > most_lines:
            raise TooLong(f"the stream has more than {most_lines} lines")
        if size > longest:
            raise TooLong(f"an event is longer than {longest} characters")
        if not line:
            if name or any(data):
                yield Event(name, "\n".join(data))
            name, data, size = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    if name or any(data):
        yield Event(name, "\n".join(data))


async def _lines(chunks: AsyncIterable[bytes], *, longest: int) -> AsyncIterator[str]:
    """The lines without their ends; the last one may have none."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    parts, size, after_cr = list[str](), 0, False
    async for chunk in chunks:
        text = decoder.decode(chunk)
        if after_cr and text:
            text, after_cr = text.removeprefix("\n"), False
        after_cr = after_cr or text.endswith("\r")
        *ended, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in ended:
            yield "".join([*parts, line])
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > longest:
            raise TooLong(f"a line is longer than {longest} characters")
    yield "".join([*parts, decoder.decode(b"", final=True)])
