"""What `/sync` is asked for: filters that leave out what nobody needs.

https://spec.matrix.org/latest/client-server-api/#filtering
"""

from __future__ import annotations

from typing import Any, Final

NOTHING: Final[dict[str, Any]] = {"types": []}
ROOMS_WITHOUT_EVENTS: Final[dict[str, Any]] = {
    "room": {
        "timeline": {"types": [], "limit": 1},
        "state": NOTHING,
        "ephemeral": NOTHING,
        "account_data": NOTHING,
    },
    "presence": NOTHING,
    "account_data": NOTHING,
}
NO_ROOMS: Final = {"room": {"rooms": []}, "presence": NOTHING, "account_data": NOTHING}


def timelines(limit: int) -> dict[str, Any]:
    """What was said, so many events of each room at most."""
    return {
        "room": {"timeline": {"limit": limit}, "ephemeral": NOTHING, "account_data": NOTHING},
        "presence": NOTHING,
        "account_data": NOTHING,
    }


WHOLE_TIMELINES: Final = timelines(100)
"""100 is what Synapse cuts a timeline down to by default (`filter_timeline_limit`)."""
