"""What the documents name is there: files, links, settings, commands of `build.sh`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.stack.package import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FILES = (".py", ".json", ".yaml", ".yml", ".html")
QUESTIONS = {
    "Where is a 429 handled?": "matrix/retrying_api.py",
    "Where does a chat get its id?": "domain/homes/id_assignment.py",
    "What happens on SIGTERM?": "bot.py",
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
