"""From Markdown to HTML that does no harm, whoever wrote the Markdown.

The renderer is maubot's (mautrix's), which escapes raw HTML; here it also keeps to the links that
the spec names, loads no images from elsewhere (a link stands for each), and makes tables of what
GitHub's Markdown calls so.
"""

from __future__ import annotations

import re
from typing import Any, Final

import commonmark  # type: ignore[import-untyped]
from mautrix.util.markdown import HtmlEscapingRenderer

_LINK: Final = re.compile(r"(?:https?|ftp|mailto|magnet|matrix):", re.IGNORECASE)
"""https://spec.matrix.org/latest/client-server-api/#mroommessage-msgtypes"""
# Stand-ins while a paragraph is rendered; control characters have been taken out of the text.
_BAR, _BREAK = "\x01", "\x02"
_RULE: Final = re.compile(rf"{_BAR}?\s*:?-+:?\s*(?:{_BAR}\s*:?-+:?\s*)*{_BAR}?")
_TAG: Final = re.compile(r"<(/?)(\w+)[^>]*?(/?)>")


def render_html(text: str) -> str:
    """Render Markdown without control characters.

    Raises:
        RecursionError: it is nested too deep.
    """
    html: str = _Renderer().render(commonmark.Parser().parse(text))
    return html.replace(_BAR, "|").replace(_BREAK, "\n")


class _Renderer(HtmlEscapingRenderer):
    buf: str
    last_out: str

    def __init__(self) -> None:
        super().__init__()
        self._links: list[bool] = []
        """Whether each of the links that the place is in has a tag."""
        self._paragraph_at = 0

    def text(self, node: Any, entering: bool | None = None) -> None:
        self._put(self.escape(node.literal).replace("|", _BAR))

    def softbreak(self, node: Any = None, entering: bool | None = None) -> None:
        self._put(_BREAK)

    def html_inline(self, node: Any, entering: bool | None = None) -> None:
        self.out(node.literal)

    def html_block(self, node: Any, entering: bool | None = None) -> None:
        self.cr()
        self.tag("p")
        for number, line in enumerate(node.literal.rstrip("\n").split("\n")):
            if number:
                self.tag("br", [], True)
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

    def paragraph(self, node: Any, entering: bool) -> None:
        super().paragraph(node, entering)
        if entering:
            self._paragraph_at = len(self.buf)
        elif self.buf.endswith("</p>\n"):
            rows = self.buf[self._paragraph_at : -len("</p>\n")].split(_BREAK)
            if (table := _table(rows)) is not None:
                self.buf = self.buf[: self._paragraph_at - len("<p>")]
                self._put(table)

    def _put(self, html: str) -> None:
        self.buf += html
        self.last_out = html[-1:]


def _table(rows: list[str]) -> str | None:
    """A paragraph that ends in a table, as HTML; None if it does not."""
    for number in range(1, len(rows)):
        header = _cells(rows[number - 1])
        rule = rows[number].strip()
        if _BAR in rows[number - 1] and _RULE.fullmatch(rule) and len(_cells(rule)) == len(header):
            break
    else:
        return None
    before, body = rows[: number - 1], [_cells(row) for row in rows[number + 1 :]]
    if not all(_is_balanced(cell) for row in (header, *body) for cell in row):
        return None
    if before and not _is_balanced("".join(before)):
        return None
    html = f"<p>{_BREAK.join(before)}</p>\n" if before else ""
    width = len(header)
    lines = [
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in (row + [""] * width)[:width]) + "</tr>\n"
        for row in body
    ]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    return (
        f"{html}<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n"
        f"<tbody>\n{''.join(lines)}</tbody>\n</table>\n"
    )


def _cells(row: str) -> list[str]:
    row = row.strip().removeprefix(_BAR).removesuffix(_BAR)
    return [cell.strip() for cell in row.split(_BAR)]


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
