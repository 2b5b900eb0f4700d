"""A world is made by the requests that Homeroom itself would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.world import ROOMS_PER_HOME, Crowd, Populating, World
from tests.stack.synapse import Account


async def test_a_home_is_made_once(tmp_path: Path) -> None:
    created: list[Any] = []

    async def api(
        method: str, path: str, body: Any = None, *, token: str, as_user: str | None = None
    ) -> Any:
        if path.endswith("/createRoom"):
            created.append(body)
            return {"room_id": f"!room{len(created)}"}
        return {}

    world = World(tmp_path, homes=1, crowd=Crowd())
    bot = Account(user_id="@homeroom:homeroom.test", password="", access_token="", device_id="")
    for _ in range(2):
        await Populating(world, api, bot, version="12").homes()  # type: ignore[arg-type]
    assert world.made() == {"owner-0": ["!room1", "!room2", "!room3", "!room4"]}
    assert len(created) == ROOMS_PER_HOME
    assert [request["name"] for request in created] == ["Home", "General", "Work", "Ideas"]
