"""What people type, and what is said to them: parsing, and names that mean harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maubot.matrix import parse_formatted
from mautrix.types import RoomID, UserID

from homeroom import replies
from homeroom.domain.commands import (
    ChatArchive,
    ChatClear,
    ChatDelete,
    ChatInfo,
    ChatList,
    ChatNew,
    ChatRename,
    Command,
    Help,
    Misused,
    Reconcile,
    ResetHelp,
    ResetLeave,
    ResetLocal,
    ResetMisused,
    Stop,
    parse_command,
)
from homeroom.domain.homes.model import Chat, ChatID, PlatformChatID
from homeroom.domain.reset import Scope
from homeroom.replies.markdown import code, plain

PARSED: list[tuple[str, Command | None]] = [
    ("!chat", Help()),
    ("!chat help", Help()),
    ("  !chat   list  ", ChatList()),
    ("!chat new", ChatNew(None)),
    ("!chat new A  B\tC", ChatNew("A B C")),
    ("!chat new " + "x" * 100, ChatNew("x" * 100)),
    ("!chat rename R", ChatRename(name="R")),
    ("!chat archive", ChatArchive(archive=True)),
    ("!chat unarchive", ChatArchive(archive=False)),
    ("!reconcile", Reconcile(dry_run=False)),
    ("!reconcile --dry-run", Reconcile(dry_run=True)),
    ("!reset", ResetHelp()),
    ("!reset help", ResetHelp()),
    ("!reset local", ResetLocal(dry_run=False)),
    ("!reset local --dry-run", ResetLocal(dry_run=True)),
    ("!reset leave-forget", ResetLeave(scope=Scope.MANAGED, dry_run=False, code=None)),
    (
        "!reset leave-forget --scope joined --confirm 12ab",
        ResetLeave(scope=Scope.JOINED, dry_run=False, code="12ab"),
    ),
    (
        "!reset leave-forget --dry-run --scope managed",
        ResetLeave(scope=Scope.MANAGED, dry_run=True, code=None),
    ),
    ("!help", Help()),
    ("!stop", Stop()),
    ("! Stop ALL", Stop(everything=True)),
    ("!chat stop all", Stop(everything=True)),
    ("!stop it now", Stop()),
    ("! stop it now", None),
    ("!Chat list", ChatList()),
    ("! chat list", ChatList()),
    ("/chat list", ChatList()),
    ("!CHAT NEW Trip", ChatNew("Trip")),
    ("!chat rename c3 Trip home", ChatRename(name="Trip home", chat_id=ChatID("C3"))),
    ("!chat rename C3PO", ChatRename(name="C3PO")),
    ("!chat clear C12", ChatClear(chat_id=ChatID("C12"))),
    ("!chat archive c2", ChatArchive(archive=True, chat_id=ChatID("C2"))),
    ("!chat info", ChatInfo()),
    ("!chat delete", ChatDelete(is_confirmed=False)),
    ("!chat delete c2 YES", ChatDelete(is_confirmed=True, chat_id=ChatID("C2"))),
    ("!Reconcile --Dry-Run", Reconcile(dry_run=True)),
    ("", None),
    ("chat", None),
    ("!", None),
    ("!!chat", None),
    ("!weather Rome", None),
    ("! weather", None),
    ("!help me with this letter", None),
    ("!resetting", None),
    ("/reset local", None),
    ("/ chat list", None),
    ("/chatter", None),
    ("!chat_list", None),
    ("> !chat list", None),
    ("say !chat list", None),
]
MISUSED = [
    "!chat rename",
    "!chat rename   ",
    "!chat list all",
    "!chat help me",
    "!chat foo",
    "!chat rename C3",
    "!chat list C3",
    "!chat clear C3 now",
    "!chat clear C0",
    "!chat delete all",
    "!chat new " + "x" * 101,
    "!reconcile --dryrun",
    "!reconcile --dry-run --dry-run",
]
RESET_MISUSED = [
    "!reset everything",
    "!reset local --force",
    "!reset local --dry-run --dry-run",
    "!reset help me",
    "!reset leave-forget --scope",
    "!reset leave-forget --scope all",
    "!reset leave-forget --confirm",
    "!reset leave-forget --confirm a --confirm b",
    "!reset leave-forget --scope joined --scope managed",
    "!reset leave-forget --dry-run --confirm a",
    "!reset leave-forget now",
    "!reset LOCAL",
]


@pytest.mark.parametrize(("text", "command"), PARSED, ids=[repr(text) for text, _ in PARSED])
def test_a_command_is_read(text: str, command: Command | None) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize("text", MISUSED)
def test_what_is_misused_is_explained(text: str) -> None:
    assert isinstance(parse_command(text), Misused)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("!chat nwe", "!chat new"),
        ("!chat liste", "!chat list"),
        ("!chat unarchiev C3", "!chat unarchive"),
        ("!chta list", "!chat"),
        ("!hepl", "!help"),
        ("!stopp", "!stop"),
        ("!recconcile", "!reconcile"),
        ("!resett", "!reset"),
        ("!chat xyzzy", None),
    ],
)
def test_a_slip_is_met_with_what_was_probably_meant(text: str, meant: str | None) -> None:
    command = parse_command(text)
    assert isinstance(command, Misused)
    assert command.meant == meant


@pytest.mark.parametrize("text", RESET_MISUSED)
def test_a_reset_that_is_not_understood_does_nothing(text: str) -> None:
    assert isinstance(parse_command(text), ResetMisused)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for prefix in ("", "!chat ", "!reconcile ", "!reset ", "!reset leave-forget --scope "):
        parse_command(prefix + text)


HOSTILE = [
    "[click](https://evil.example)",
    "<img src=x onerror=alert(1)>",
    "![](mxc://evil.example/x)",
    "`code` **bold** _it_ ~~gone~~ ||secret||",
    "line\nbreak\n\n# Heading\n- list",
    "\u202egnp.exe",
    "@room https://evil.example",
    "<https://evil.example>",
    "&lt;b&gt; &amp;",
    "\0\x1b[31m\u2028\u2029",
    "a" * 5000,
    "```\nblock\n```",
    "](https://evil.example)[",
    "\\](https://evil.example)",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_is_nothing_but_a_name(name: str) -> None:
    """The HTML has the one link that we made, and nothing of what the name wants to be."""
    room_id = RoomID("!x:fake.test")
    chat = Chat(
        room_id=room_id,
        matrix_user_id=UserID("@anna:fake.test"),
        space_id=None,
        chat_id=ChatID("C1"),
        platform_chat_id=PlatformChatID("k"),
        name=name,
    )
    said = [
        replies.chat_list([chat], via="fake.test"),
        replies.new_chat(chat, via="fake.test"),
        replies.renamed(chat, name),
        replies.delete_plan(chat),
        replies.refused(name),
    ]
    for text in said:
        body, html = await parse_formatted(text)
        assert html.count("<a ") == html.count('href="https://matrix.to/#/') <= 1
        assert 'href="https://evil' not in html
        for forbidden in (
            "<img",
            "<h1",
            "<b>",
            "<code>b",
            "<del>",
            "<em>",
            "<pre",
            "\u202e",
            "\0",
        ):
            assert forbidden not in html
        assert html.count("<li>") <= 1
        assert len(body) < 1000


@given(st.text())
async def test_any_text_is_made_plain(text: str) -> None:
    _, html = await parse_formatted(f"x{plain(text)}x")
    assert "<a " not in html.replace("<a href", "<A") or "http" in text
    assert html.count("<p>") == 1
    assert len(plain(text, escape=False)) <= 201


@given(st.text(max_size=300))
async def test_any_text_is_code_when_it_is_quoted(text: str) -> None:
    _, html = await parse_formatted(f"a {code(text)} b")
    assert html.count("<code>") <= 1
    assert "<a " not in html
