"""What an answer of the homeserver must have; one without it says nothing about what exists."""

from __future__ import annotations

from typing import Any

from .errors import Unavailable


def checked(answer: Any) -> dict[str, Any]:
    """An answer that must be an object."""
    if not isinstance(answer, dict):
        raise Unavailable("the answer is not a JSON object")
    return answer


def text_in(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str):
        raise Unavailable(f"the answer has no {key}")
    return value
