"""Homeroom: homes for agent chats that survive every restart. The architecture is in docs/."""

from .bot import Homeroom

__all__ = ["Homeroom"]
