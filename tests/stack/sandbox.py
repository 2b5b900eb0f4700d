"""`./build.sh sandbox`: the same servers, left running for any Matrix client and a browser.

Everything is kept in `.sandbox/` from one run to the next; `--fresh` deletes it first. The plugin
of this tree replaces the one of the last run, and what was set in the web UI stays. The passwords
are no secret, so the servers listen on loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .console import StepFailedError, run, step
from .maubot import Maubot
from .package import ROOT, build
from .ports import free_port
from .stack import Stack
from .synapse import Account, Synapse

_DIRECTORY = ROOT / ".sandbox"
_PEOPLE = ("alice", "bob")
_CLIENTS = """
Clients that let you type in an address with http://: Element Desktop, Cinny, nheko, Fractal. In a
browser, a page that was loaded over https:// may not speak to it. New rooms have version 11,
because some of these show a Space of version 12 as empty; rooms.version in the settings."""


async def sandbox(*, fresh: bool) -> int:
    """Run the servers until cancelled, or until one of them ends."""
    _DIRECTORY.mkdir(exist_ok=True)
    with _only_one(_DIRECTORY / "lock"):
        if fresh:
            for path in _DIRECTORY.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
        synapse = Synapse(_DIRECTORY / "synapse", port=free_port(preferred=[8008, 18008]))
        maubot = Maubot(_DIRECTORY / "maubot", port=free_port(preferred=[29316, 19316]))
        try:
            with step("The plugin is built") as current:
                plugin = build()
                current.result = plugin.name
            admin = f"@admin:{synapse.server_name}"
            stack = Stack(
                _DIRECTORY,
                plugin=plugin,
                synapse=synapse,
                maubot=maubot,
                config={
                    "access": {"allow": ["*"]},
                    "admins": [admin],
                    "rooms": {"version": "11"},
                },
            )
            try:
                await _serve(stack)
            finally:
                print("\nStopping ...")
                await stack.close()
        except StepFailedError as failure:
            print(f"\n{failure.report()}\n\nThe servers' logs are in {_DIRECTORY}")
        return 1


async def _serve(stack: Stack) -> None:
    with step("Synapse and maubot start"):
        await stack.start_servers()
    with step("The plugin is uploaded"):
        await stack.install()
    with step("People are registered"):
        people = [await stack.synapse.account(name, password=name) for name in _PEOPLE]
        admin = await stack.synapse.account("admin", password="admin", admin=True)
    print(_table(stack, [*people, admin]))
    for server in (stack.synapse, stack.maubot):
        print(f"  log: {server.log_file.relative_to(Path.cwd())}")
    print("\nCtrl-C ends it; what was said and set is there again next time (--fresh: not).")
    while stack.synapse.running and stack.maubot.running:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    print("\nA server has ended by itself; its log says why.")


def _table(stack: Stack, people: list[Account]) -> str:
    rows = [
        ("what", "where", "user", "password"),
        ("maubot", stack.maubot.ui_url, stack.maubot.admin_user, stack.maubot.admin_password),
        *(
            ("Matrix", stack.synapse.url, account.user_id, account.password)
            for account in (*people, stack.bot)
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    invite = f"Sign in as one of them and invite {stack.bot.user_id} to a direct chat."
    return "\n" + "\n".join(line.rstrip() for line in lines) + f"\n\n{invite}\n{_CLIENTS}\n"


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Refuse to run twice on the same data."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"error: a sandbox is running already in {path.parent}")
        yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./build.sh sandbox", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="delete what the last run left")
    # Whoever writes it to a file reads along: every line is there as soon as it is said.
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(run(sandbox(fresh=parser.parse_args().fresh)))
