"""What people send that is no text, and the formatting of what is said to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from tests.fake import FakeHomeserver
from tests.fake.events import Json
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Speech,
    chatting,
    quick_edits,
    when_shown,
)

WORDLESS: dict[str, tuple[str, Json]] = {
    "a picture": ("m.room.message", {"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"}),
    "a file": ("m.room.message", {"msgtype": "m.file", "body": "a.pdf", "url": "mxc://x/y"}),
    "a voice": ("m.room.message", {"msgtype": "m.audio", "body": "v.ogg", "url": "mxc://x/y"}),
    "a film": ("m.room.message", {"msgtype": "m.video", "body": "v.mp4", "url": "mxc://x/y"}),
    "a place": ("m.room.message", {"msgtype": "m.location", "body": "here", "geo_uri": "geo:1,2"}),
    "a sticker": ("m.sticker", {"body": "cat", "url": "mxc://x/y", "info": {}}),
    "a poll": ("m.poll.start", {"m.poll": {"question": {"m.text": "?"}}}),
}


@pytest.mark.parametrize(("kind", "content"), WORDLESS.values(), ids=WORDLESS.keys())
async def test_what_is_not_text_gets_one_notice_a_minute(
    hs: FakeHomeserver, tmp_path: Path, kind: str, content: Json
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        for _ in range(3):
            anna.send(chat_id, content, type=kind)
        speech.say("fine", None)
        anna.send(chat_id, {"msgtype": "m.emote", "body": "waves"})
        await when_shown(bot, chat_id, replies.ONLY_TEXT, "fine")
        assert [turn.text for turn in speech.turns] == ["/me waves"]


HOSTILE: dict[str, tuple[str, str]] = {
    "script": ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
    "image": ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>\n"),
    "reply": ("a <mx-reply>b</mx-reply>", "<p>a &lt;mx-reply&gt;b&lt;/mx-reply&gt;</p>\n"),
    "alt": (
        '![<a x="y" onerror=alert(1) z="q">](https://e.org/i.png)',
        (
            '<p><a href="https://e.org/i.png">&lt;a x=&quot;y&quot; onerror=alert(1)'
            " z=&quot;q&quot;&gt;</a></p>\n"
        ),
    ),
    "tracker": (
        "![](https://e.org/i.png)",
        '<p><a href="https://e.org/i.png">https://e.org/i.png</a></p>\n',
    ),
    "scheme": ("[x](javascript:alert(1)) [y](data:x) [z](/z)", "<p>x y z</p>\n"),
    "title": ('[x](https://e.org "a\\" onx=1")', '<p><a href="https://e.org">x</a></p>\n'),
    "fence": (
        '```"><b>\nx\n```',
        '<pre><code class="language-&quot;&gt;&lt;b&gt;">x\n</code></pre>\n',
    ),
    "table": (
        "All:\n| a | b |\n|---|:-:|\n| `1|2` | **<3>** |\n| only one |",
        (
            "<p>All:</p>\n<table>\n<thead>\n<tr><th>a</th><th>b</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td><code>1|2</code></td><td><strong>&lt;3&gt;</strong></td></tr>\n"
            "<tr><td>only one</td><td></td></tr>\n</tbody>\n</table>\n"
        ),
    ),
    "bars in cells": (
        "| a | b |\n|---|---|\n| x\\|y | `p\\|q` |",
        (
            "<table>\n<thead>\n<tr><th>a</th><th>b</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>x|y</td><td><code>p|q</code></td></tr>\n</tbody>\n</table>\n"
        ),
    ),
    "table in a list": (
        "- All:\n  | a |\n  |---|\n  | 1 |\n- next",
        (
            "<ul>\n<li>All:\n<table>\n<thead>\n<tr><th>a</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>1</td></tr>\n</tbody>\n</table>\n</li>\n<li>next</li>\n</ul>\n"
        ),
    ),
    "bars elsewhere": ("a\\|b `c\\|d`", "<p>a|b <code>c\\|d</code></p>\n"),
    "deleted": (
        "~~old~~ ~~two **words**~~ a ~~ b ~~ c ~~d\n# ~~e~~",
        (
            "<p><del>old</del> <del>two <strong>words</strong></del> a ~~ b ~~ c ~~d</p>\n"
            "<h1><del>e</del></h1>\n"
        ),
    ),
    "tasks": (
        "- [ ] milk\n- [x] **bread**\n- [y] no\n\n[x] no",
        (
            "<ul>\n<li>☐ milk</li>\n<li>☑ <strong>bread</strong></li>\n<li>[y] no</li>\n</ul>\n"
            "<p>[x] no</p>\n"
        ),
    ),
    "footnotes": (
        "Said.[^1] `[^1]` [^ no]\n\n[^1]: Source\n\n[^a-b]: Two words",
        (
            "<p>Said.<sup>1</sup> <code>[^1]</code> [^ no]</p>\n<p><sup>1</sup>: Source</p>\n"
            "<p><sup>a-b</sup>: Two words</p>\n"
        ),
    ),
    "an entity that is nothing": ("a &#1;\nb &#1;", "<p>a &amp;#1;\nb &amp;#1;</p>\n"),
    "no table": ("a | b\nc | d", "<p>a | b\nc | d</p>\n"),
    "right to left": ("שלום **עולם** 🙂", "<p>שלום <strong>עולם</strong> 🙂</p>\n"),
}


@pytest.mark.parametrize(("markdown", "html"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_an_answer_is_formatted_and_does_no_harm(
    hs: FakeHomeserver, tmp_path: Path, markdown: str, html: str
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        speech.say(markdown, None)
        anna.send(chat_id, "@room anna")
        await when_shown(bot, chat_id, markdown)
        content: dict[str, Any] = bot.said(chat_id)[0]
        assert content["formatted_body"] == html
        assert "m.mentions" not in content  # nobody is named
