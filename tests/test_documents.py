"""What the documents name is there: files, links, settings, commands of `build.sh`."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from homeroom.config.problems import ConfigError
from homeroom.config.reading import read_settings
from tests.stack.package import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FILES = (".py", ".json", ".yaml", ".yml", ".html")
QUESTIONS = {
    "Where is a 429 handled?": "matrix/retrying_api.py",
    "Where does a chat get its id?": "domain/homes/id_assignment.py",
    "Where is a question asked once more?": "delivery/message_handler.py",
    "What happens on SIGTERM?": "bot.py",
    "Why does an answer that names people call none of them?": "matrix/mentions.py",
    "Where is a reply's text?": "replies/sentences.py",
    "Who writes to the database?": "storage/store.py",
}
"""What a stranger asks, and the file to open first."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The headings as the web shows them: lower case, without punctuation, blanks as dashes."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def known_keys() -> set[str]:
    def below(data: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, value in data.items():
            inner = f"{path}{key}"
            found.append(inner)
            if isinstance(value, dict):
                found += below(value, f"{inner}.")
        return found

    return set(below(YAML(typ="safe").load(text_of(ROOT / "base-config.yaml")), ""))


def documented(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in (first or second for first, second in LINK.findall(text_of(document))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    keys = known_keys()
    sections = {key.split(".")[0] for key in keys}
    for code in CODE.findall(BLOCK.sub("", text_of(document))):
        key = code.split(":")[0].removesuffix(".*")
        is_key = re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key) and key.split(".")[0] in sections
        if is_key and not key.startswith("dev.homeroom") and not key.endswith(FILES):
            assert key in keys, code


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_command_of_the_build_exists(document: Path) -> None:
    script = text_of(ROOT / "build.sh")
    usage = script.split("usage() {")[1].split("\nEND\n")[0]
    for command in re.findall(r"\./build\.sh ([a-z][\w-]*)", text_of(document)):
        assert re.search(rf"^\./build\.sh {command}\b", usage, re.MULTILINE), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_test_file_that_is_named_exists(document: Path) -> None:
    for name in re.findall(r"\btest_\w+\.py\b", text_of(document)):
        assert list((ROOT / "tests").rglob(name)), name


def test_a_stranger_finds_the_file_to_open_first() -> None:
    text = text_of(ROOT / "docs" / "architecture.md")
    answers = dict(re.findall(r"^\| (.+?\?) \| `plugin/homeroom/([\w/.]+)`", text, re.MULTILINE))
    assert answers == QUESTIONS
    named = re.findall(r"`((?:[\w]+/)+[\w.]*)`", text)
    for name in [*named, *(f"plugin/homeroom/{path}" for path in QUESTIONS.values())]:
        places = (ROOT / name, ROOT / "plugin" / "homeroom" / name)
        assert any(place.exists() for place in places), name


def test_the_readme_fits_on_a_few_pages() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 250


# Commands

PROGRAMS = ("./build.sh", "curl", "openssl", "pip", "mbc", "mas-cli", "promtool", "py-spy")
TRIED_ELSEWHERE = ("mas-cli", "promtool", "py-spy")
"""What is not in the tools; tests/status_page/test_alerts.py runs promtool where there is one."""


def commands(path: Path) -> list[list[str]]:
    """The words of every shell command of a document, from its blocks and from its sentences."""
    text = text_of(path)
    blocks = re.findall(r"^( *)```(?:sh)?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for _, block in blocks for line in block.replace("\\\n", "").split("\n")]
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    words = [
        [*shlex.split(line, comments=True)]
        for line in (*lines, *spans)
        if line.split(" ")[0] in PROGRAMS
    ]
    assert all(words)
    return words


def run(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": "plugin"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


@functools.cache
def help_of(*command: str) -> str:
    return run(sys.executable, "-m", *command, "--help")


def tries_build(what: str = "", *arguments: str) -> None:
    """What is measured has these options, and what is tested is there."""
    if what == "bench" and arguments and not arguments[0].startswith("--"):
        known = help_of(f"tests.bench.{arguments[0]}")
        assert {a for a in arguments[1:] if a.startswith("--")} <= set(re.findall(r"--\w+", known))
    if what != "test":
        return
    paths = [ROOT / argument for argument in arguments if argument.startswith("tests/")]
    for path in paths:
        assert path.exists(), path
    if "-k" in arguments:
        word = arguments[arguments.index("-k") + 1]
        assert any(re.search(rf"def test_\w*{word}", text_of(path)) for path in paths), word


def tries_curl(*arguments: str) -> None:
    """A body is JSON, and Synapse has what is posted to."""
    if "-d" in arguments:
        body = json.loads(arguments[arguments.index("-d") + 1])
        assert body["type"] == "m.login.password"
        assert any(a.endswith("/_matrix/client/v3/login") for a in arguments)


def tries_openssl(*arguments: str) -> None:
    if shutil.which("openssl"):
        assert len(run("openssl", *arguments).strip()) >= 16


def tries_pip(verb: str, package: str) -> None:
    assert verb == "install"
    name = package.split("[", maxsplit=1)[0].lower()
    assert f"\n{name}==" in f"\n{text_of(ROOT / 'constraints.txt').lower()}", package


def tries_mbc(verb: str, *options: str) -> None:
    assert set(options) <= set(re.findall(r"--[\w-]+", help_of("maubot.cli", verb)))


TRIES = {
    "./build.sh": tries_build,
    "curl": tries_curl,
    "openssl": tries_openssl,
    "pip": tries_pip,
    "mbc": tries_mbc,
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_command_does_what_it_is_for(document: Path) -> None:
    for program, *arguments in commands(document):
        if program not in TRIED_ELSEWHERE:
            TRIES[program](*arguments)


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    found = {tuple(words[:2]) for document in DOCUMENTS for words in commands(document)}
    assert found >= {
        ("./build.sh", "demo"),
        ("curl", "-X"),
        ("curl", "-f"),
        ("openssl", "rand"),
        ("pip", "install"),
        ("mbc", "auth"),
        ("mas-cli", "manage"),
        ("./build.sh", "bench"),
    }


def problems_of(data: dict[str, Any]) -> set[str]:
    try:
        read_settings(data)
    except ConfigError as error:
        return {problem.key for problem in error.problems}
    return set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=documented)
def test_every_value_that_is_shown_is_one(document: Path) -> None:
    """`rooms.version: "11"` in a sentence can be saved like that."""
    keys = known_keys()
    for code in CODE.findall(BLOCK.sub("", text_of(document))):
        key, _, value = code.partition(": ")
        if key not in keys or not value or value.startswith("found "):
            continue
        *sections, last = key.split(".")
        data = {last: YAML(typ="safe").load(value)}
        for section in reversed(sections):
            data = {section: data}
        assert key not in problems_of(data), code
