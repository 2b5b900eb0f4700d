"""Whose each room is, which ids chats have, and what has to change: decisions only."""
