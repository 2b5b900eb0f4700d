"""Keys in the content of the bot's own messages, by which the room tells what was answered.

Every message of ours has `ANSWERS`: one without it counts as an answer to everything before it.
"""

from __future__ import annotations

from typing import Final

ANSWERS: Final = "dev.homeroom.answers"
"""The ID of the event that this message answers, or `NOTHING`."""
NOTHING: Final = "none"
ASKED: Final = "dev.homeroom.asked"
"""The idempotency key under which the agent was asked; absent: the question's ID."""
MORE_TO_COME: Final = "dev.homeroom.more_to_come"
"""True in all but the last word of an answer: in every part of it but the last, and in every edit
but the last."""
