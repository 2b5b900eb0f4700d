"""A second plugin, for looking into a running maubot: what is registered, and what is still there.

    await maubot.upload_plugin(build_probe(directory))
    ... an instance of type `dev.homeroom.probe` with the bot's client ...
    counts = await look_inside(maubot, "probe")

It counts, after a garbage collection: handlers of the client, tasks, and objects whose classes
are Homeroom's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .http import JsonApi
from .maubot import Maubot
from .package import archive

PROBE_ID = "dev.homeroom.probe"

_META = b"""\
maubot: 0.6.0
id: dev.homeroom.probe
version: 1.0.0
license: AGPL-3.0-or-later
modules: [homeroom_probe]
main_class: Probe
webapp: true
"""
_CODE = b"""\
import asyncio
import gc
from collections import Counter

from aiohttp import web as aiohttp_web
from maubot import Plugin
from maubot.handlers import web


class Probe(Plugin):
    @web.get("/counts")
    async def counts(self, request):
        gc.collect()
        classes = (type(thing) for thing in gc.get_objects())
        names = (f"{c.__module__}.{c.__qualname__}" for c in classes)
        handlers = self.client.event_handlers.values()
        return aiohttp_web.json_response({
            "handlers": sum(map(len, handlers)) + len(self.client.global_event_handlers),
            "tasks": Counter(task.get_name().split(" ")[0] for task in asyncio.all_tasks()),
            "objects": Counter(name for name in names if name.startswith("homeroom.")),
        })
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What there is in a process."""

    handlers: int
    """Of the bot's client."""
    tasks: Mapping[str, int]
    """By the first word of their names; Homeroom's are called `homeroom:`."""
    objects: Mapping[str, int]
    """Of Homeroom's classes."""


def build_probe(directory: Path) -> Path:
    """Write the probe's `.mbp` into a directory, return its path."""
    path = directory / "probe.mbp"
    path.write_bytes(archive({"maubot.yaml": _META, "homeroom_probe.py": _CODE}))
    return path


async def look_inside(maubot: Maubot, instance: str) -> Counts:
    """Ask the instance of the probe."""
    url = f"{maubot.url}/_matrix/maubot/plugin/{instance}"
    return Counts(**await JsonApi(base_url=url).request("GET", "/counts"))
