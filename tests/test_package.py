"""What goes into the `.mbp`, and what may become a release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stack.package import ROOT, PackageError, collect, untracked
from tests.stack.release import release

GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org")


def git(root: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree with the plugin in it."""
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("LICENSE", "base-config.yaml", "maubot.yaml", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "plugin", root / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "All of it")
    return root


def test_only_what_git_tracks_is_packed(tree: Path) -> None:
    before = collect(tree)
    (tree / "plugin" / "homeroom" / "notes.txt").write_text("my password")
    (tree / "plugin" / "homeroom" / "extra.py").write_text("")
    assert collect(tree) == before
    assert untracked(tree) == ["plugin/homeroom/extra.py", "plugin/homeroom/notes.txt"]


def test_no_link_is_packed(tree: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("my password")
    (tree / "plugin" / "homeroom" / "link.txt").symlink_to(secret)
    git(tree, "add", "-A")
    with pytest.raises(PackageError, match=r"plugin/homeroom/link\.txt"):
        collect(tree)


def test_a_release_is_a_tree_without_changes_whose_changelog_begins_with_it(tree: Path) -> None:
    path, digest = release(tree)
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    news = path.with_name(f"{path.stem}.md").read_text()
    changelog = (tree / "CHANGELOG.md").read_text()
    assert news.startswith("### ")
    assert f"{path.stem.removeprefix('homeroom-v')}] - " in changelog.split(news)[0]
    assert changelog.split(news)[1].startswith("\n## [")
    with pytest.raises(PackageError, match=r"the tag is v9\.9\.9, and maubot\.yaml says"):
        release(tree, tag="v9.9.9")
    (tree / "LICENSE").write_text("")
    with pytest.raises(PackageError, match="the tree has changes"):
        release(tree)
    git(tree, "checkout", "-q", "LICENSE")
    meta = (tree / "maubot.yaml").read_text()
    (tree / "maubot.yaml").write_text(meta.replace("\nversion: ", "\nversion: 9."))
    git(tree, "commit", "-q", "-a", "-m", "Another version")
    with pytest.raises(PackageError, match=r"the newest version in CHANGELOG\.md is"):
        release(tree)
