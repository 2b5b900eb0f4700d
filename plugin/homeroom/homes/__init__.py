"""Scanning, reconciling, repairing and making homes and chats."""
