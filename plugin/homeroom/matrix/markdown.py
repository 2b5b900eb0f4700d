"""From Markdown to HTML that does no harm, whoever wrote the Markdown.

CommonMark, with tables, task lists, footnotes and ~~deleted text~~ as GitHub has them. Raw HTML is
shown, not used; links are those that the spec names; no images are loaded from elsewhere (a link
stands for each).

The parser is the `commonmark` that maubot has. It can take a time that grows with the square of
the text, and fails on some texts. So what it does is counted, and a text that it cannot render, or
not in bounded time, has no HTML: it is said as it was written.
"""

from __future__ import annotations

import re
from typing import Any, Final

from commonmark.blocks import Parser  # type: ignore[import-untyped]
from commonmark.inlines import (  # type: ignore[import-untyped]
    HTMLunescape,
    InlineParser,
    reEntityHere,
    reTicks,
)
from commonmark.inlines import text as text_node
from commonmark.render.html import HtmlRenderer  # type: ignore[import-untyped]

MAX_WORK: Final = 400_000
"""Microseconds, about, on a machine of 2020."""
MAX_DEPTH: Final = 100
"""Blocks inside blocks, as the spec recommends it for HTML."""
MAX_BLANKS: Final = 200
"""Blanks in a row, or blank lines. Some of the parser's expressions try each place of such a row
with each end of it."""

_LINK: Final = re.compile(r"(?:https?|ftp|mailto|magnet|matrix):", re.IGNORECASE)
"""https://spec.matrix.org/latest/client-server-api/#mroommessage-msgtypes"""
_LONG_BLANK: Final = re.compile(f"[ \t]{{{MAX_BLANKS}}}")
_LABEL: Final = re.compile(r"\^[\w.-]{1,50}")
# Stand-ins while a paragraph is rendered; control characters have been taken out of the text.
_BAR, _BREAK, _ESCAPED_BAR, _BAR_IN_CODE, _TILDES = "\x01\x02\x03\x04\x05"
_MEANINGS: Final = str.maketrans(
    {_BAR: "|", _BREAK: "\n", _ESCAPED_BAR: "|", _BAR_IN_CODE: r"\|", _TILDES: "~~"}
)
_RULE: Final = re.compile(rf"{_BAR}?\s*:?-+:?\s*(?:{_BAR}\s*:?-+:?\s*)*{_BAR}?")
_TAG: Final = re.compile(r"<(/?)(\w+)[^>]*?(/?)>")
_TASK: Final = re.compile(r"\[([ xX])\] ")


def render_html(text: str) -> str | None:
    """Render Markdown without control characters; None: it is better said as it was written."""
    if _has_long_blanks(text):
        return None
    try:
        return _Renderer().render(_BoundedParser().parse(text)).translate(_MEANINGS)
    except Exception:  # noqa: BLE001 (a parser of others' for texts of others': whatever it was)
        return None


def _has_long_blanks(text: str) -> bool:
    if _LONG_BLANK.search(text):
        return True
    blank_lines = 0
    for line in text.split("\n"):
        blank_lines = 0 if line.strip() else blank_lines + 1
        if blank_lines > MAX_BLANKS:
            return True
    return False


class _TooMuchWork(Exception):
    """The text takes too long, or is nested too deep."""


class _Work:
    """What may still be done for one text."""

    def __init__(self) -> None:
        self._left: float = MAX_WORK

    def take(self, microseconds: float) -> None:
        self._left -= microseconds
        if self._left < 0:
            raise _TooMuchWork


class _BoundedParser(Parser):  # type: ignore[misc]
    """commonmark's parser of blocks; each look at a container counts."""

    def __init__(self) -> None:
        super().__init__()
        self._work = _Work()
        self.inline_parser = _BoundedInlineParser(self._work)

    def find_next_nonspace(self) -> None:
        self._work.take(7)
        super().find_next_nonspace()

    def add_child(self, tag: str, offset: int) -> Any:
        self._work.take(40)
        block = super().add_child(tag, offset)
        block.depth = getattr(block.parent, "depth", 0) + 1
        if block.depth > MAX_DEPTH:
            raise _TooMuchWork
        return block


class _BoundedInlineParser(InlineParser):  # type: ignore[misc]
    """commonmark's parser of what stands in a paragraph; what looks back or ahead counts."""

    pos: int
    subject: str

    def __init__(self, work: _Work) -> None:
        super().__init__()
        self._work = work
        self._emphases = self._emphases_done = self._brackets = 0

    def parse(self, block: Any) -> None:
        self._emphases = self._emphases_done = self._brackets = 0
        super().parse(block)

    def match(self, pattern: Any) -> Any:
        ahead = len(self.subject) - self.pos
        self._work.take(1 + ahead / (100 if pattern is reTicks else 5000))
        return super().match(pattern)

    def parseInline(self, block: Any) -> bool:  # noqa: N802 (commonmark's)
        self._work.take(12)
        return bool(super().parseInline(block))

    def parseBackslash(self, block: Any) -> bool:  # noqa: N802
        if self.subject.startswith(r"\|", self.pos):
            self.pos += 2
            block.append_child(text_node(_ESCAPED_BAR))
            return True
        return bool(super().parseBackslash(block))

    def parseEntity(self, block: Any) -> bool:  # noqa: N802
        """One that stands for no character is shown as it is: commonmark fails on empty text."""
        entity = self.match(reEntityHere)
        if entity:
            block.append_child(text_node(HTMLunescape(entity) or entity))
        return bool(entity)

    def parseHtmlTag(self, block: Any) -> bool:  # noqa: N802
        self._work.take((len(self.subject) - self.pos) / 50)
        return bool(super().parseHtmlTag(block))

    def parseLinkDestination(self) -> Any:  # noqa: N802
        start = self.pos
        destination = super().parseLinkDestination()
        self._work.take((self.pos - start) * 2)
        return destination

    def parseReference(self, s: str, refmap: Any) -> int:  # noqa: N802
        """A footnote is none."""
        self._work.take(5 + len(s) / 1000)
        return 0 if s.startswith("[^") else int(super().parseReference(s, refmap))

    def addBracket(self, node: Any, index: int, image: bool) -> None:  # noqa: N802
        self._brackets += 1
        self._work.take(20)
        super().addBracket(node, index, image)

    def removeBracket(self) -> None:  # noqa: N802
        self._brackets -= 1
        super().removeBracket()

    def parseCloseBracket(self, block: Any) -> bool:  # noqa: N802
        if self.brackets is not None:
            self._work.take((self.pos - self.brackets["index"]) / 20 + self._brackets / 10)
        return bool(super().parseCloseBracket(block))

    def handleDelim(self, cc: str, block: Any) -> bool:  # noqa: N802
        self._emphases += 1
        return bool(super().handleDelim(cc, block))

    def processEmphasis(self, stack_bottom: Any) -> None:  # noqa: N802
        """It looks for the beginning of all, and from each end for its beginning."""
        new = self._emphases - (self._emphases_done if stack_bottom else 0)
        self._emphases_done = self._emphases
        self._work.take(self._emphases / 5 + new * new / 16)
        super().processEmphasis(stack_bottom)


class _Renderer(HtmlRenderer):  # type: ignore[misc]
    """Writes HTML that Matrix clients show, and nothing else."""

    last_out: str

    def __init__(self) -> None:
        super().__init__({})
        self._html: list[str] = []
        self._links: list[bool] = []
        """Whether each of the links that the place is in has a tag."""
        self._paragraph_at = 0
        self._skipped = 0
        """Text nodes that are a footnote's and have been shown."""

    def render(self, ast: Any) -> str:
        walker = ast.walker()
        while (event := walker.nxt()) is not None:
            node = event["node"]
            if node.t != "document":
                getattr(self, node.t)(node, event["entering"])
        return "".join(self._html)

    def lit(self, s: str) -> None:
        self._html.append(s)
        self.last_out = s

    def out(self, s: str) -> None:
        self.lit(self.escape(s))

    def tag(self, name: str, attrs: Any = None, selfclosing: object = None) -> None:
        listed = "".join(f' {key}="{value}"' for key, value in attrs or ())
        self.lit(f"<{name}{listed}{' /' if selfclosing else ''}>")

    def text(self, node: Any, entering: object = None) -> None:
        if self._skipped:
            self._skipped -= 1
        elif (label := _footnote(node)) is not None:
            self.lit(f"<sup>{self.escape(label)}</sup>")
            self._skipped = 2
        else:
            html = self.escape(node.literal)
            self.lit(html.replace("|", _BAR).replace("~~", _TILDES))

    def softbreak(self, node: Any = None, entering: object = None) -> None:
        self.lit(_BREAK)

    def code(self, node: Any, entering: object) -> None:
        self.tag("code")
        self.lit(self.escape(node.literal).replace(r"\|", _BAR_IN_CODE))
        self.tag("/code")

    def html_inline(self, node: Any, entering: object = None) -> None:
        self.out(node.literal)

    def html_block(self, node: Any, entering: object = None) -> None:
        self.cr()
        self.tag("p")
        for number, line in enumerate(node.literal.rstrip("\n").split("\n")):
            if number:
                self.tag("br", [], selfclosing=True)
            self.out(line)
        self.tag("/p")
        self.cr()

    def link(self, node: Any, entering: bool) -> None:
        if entering:
            is_link = not any(self._links) and _LINK.match(node.destination) is not None
            self._links.append(is_link)
            if is_link:
                self.tag("a", [["href", self.escape(node.destination)]])
        elif self._links.pop():
            self.tag("/a")

    def image(self, node: Any, entering: bool) -> None:
        self.link(node, entering)
        if entering and node.first_child is None:
            self.out(node.destination)

    def heading(self, node: Any, entering: bool) -> None:
        if entering:
            super().heading(node, entering)
            self._paragraph_at = len(self._html)
        else:
            self.lit(_with_deletions(self._take_paragraph()))
            super().heading(node, entering)

    def paragraph(self, node: Any, entering: bool) -> None:
        list_ = node.parent.parent
        is_tight = list_ is not None and list_.t == "list" and list_.list_data["tight"]
        if entering:
            self._paragraph_at = len(self._html)
            return
        html = _with_deletions(self._take_paragraph())
        if node.parent.t == "item" and node.prv is None and (task := _TASK.match(html)):
            html = f"{'☐' if task[1] == ' ' else '☑'} {html[task.end() :]}"
        before, table = _table(html)
        if is_tight:
            self.lit(before)
        elif before:
            self.cr()
            self.lit(f"<p>{before}</p>")
            self.cr()
        if table:
            self.cr()
            self.lit(table)
            self.cr()

    def _take_paragraph(self) -> str:
        html = "".join(self._html[self._paragraph_at :])
        del self._html[self._paragraph_at :]
        self.last_out = self._html[-1] if self._html else "\n"
        return html


def _footnote(node: Any) -> str | None:
    """The label of a footnote that begins at a text node; None: none does."""
    if node.literal != "[" or (label := node.nxt) is None or label.t != "text":
        return None
    end = label.nxt
    if end is None or end.t != "text" or end.literal != "]" or not _LABEL.fullmatch(label.literal):
        return None
    return str(label.literal[1:])


def _with_deletions(html: str) -> str:
    """The HTML of a paragraph with what stands between two pairs of tildes struck through."""
    first, *others = html.split(_TILDES)
    done = [first]
    opened: int | None = None
    for part in others:
        if (
            opened is not None
            and not done[-1][-1:].isspace()
            and _is_balanced("".join(done[opened:]))
        ):
            done[opened - 1] = "<del>"
            done += ["</del>", part]
            opened = None
        elif part and not part[0].isspace():
            done += [_TILDES, part]
            opened = len(done) - 1
        else:
            done += [_TILDES, part]
    return "".join(done)


def _table(html: str) -> tuple[str, str]:
    """A paragraph's HTML, divided into what comes before a table that it ends in, and that."""
    rows = html.split(_BREAK)
    for number in range(1, len(rows)):
        header = _cells(rows[number - 1])
        rule = rows[number].strip()
        if _BAR in rows[number - 1] and _RULE.fullmatch(rule) and len(_cells(rule)) == len(header):
            break
    else:
        return html, ""
    before, body = _BREAK.join(rows[: number - 1]), [_cells(row) for row in rows[number + 1 :]]
    if not all(map(_is_balanced, [before, *header, *(cell for row in body for cell in row)])):
        return html, ""
    width = len(header)
    lines = [
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in (row + [""] * width)[:width]) + "</tr>\n"
        for row in body
    ]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    return before, (
        f"<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table>"
    )


def _cells(row: str) -> list[str]:
    row = row.strip().removeprefix(_BAR).removesuffix(_BAR)
    return [cell.strip().replace(_BAR_IN_CODE, "|") for cell in row.split(_BAR)]


def _is_balanced(html: str) -> bool:
    """Whether every tag that is opened is closed, in order."""
    open_: list[str] = []
    for closing, name, alone in _TAG.findall(html):
        if alone:
            continue
        if not closing:
            open_.append(name)
        elif not open_ or open_.pop() != name:
            return False
    return not open_
