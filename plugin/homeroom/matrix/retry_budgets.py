"""How long each kind of request is worth going on with, and how many there may be at once."""

from __future__ import annotations

from typing import Final

from .retrying_api import RetryBudget

READING: Final = RetryBudget(call=30, failing=30, attempt=30)
SCANNING: Final = RetryBudget(call=120, failing=60, attempt=120)
READING_ROOMS: Final = RetryBudget(call=30, failing=10, attempt=20)
WRITING: Final = RetryBudget(call=900, failing=300, attempt=120)
JOINING: Final = RetryBudget(call=900, failing=300, attempt=60)
JOINS_AT_ONCE: Final = 25
"""Besides the other requests: a join through a server that is gone takes its minute, which must
not be everybody's."""
TALKS_AT_ONCE: Final = 50
"""Messages, besides the other requests: a scan of thousands of rooms must hold up no answer. And
what Synapse is sent together it tells people together, which is less work than one by one.
maubot's session has 100 connections for all of this, and its sync needs one."""
LEAVING: Final = RetryBudget(call=900, failing=20, attempt=30)
BEST_EFFORT: Final = RetryBudget(call=0, failing=0, attempt=20)
"""For what is out of date by the time that it could be sent."""
MEMBER_NAMES: Final = RetryBudget(call=0, failing=0, attempt=5)
"""An answer waits for them, and can do without."""
ACCOUNT_DATA: Final = RetryBudget(call=15, failing=3, attempt=10)
"""Read where a start waits for it, written in nobody's way: there is another way without it."""
