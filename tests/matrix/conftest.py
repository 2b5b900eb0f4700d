"""mautrix's state store, wherever it may lie."""

from __future__ import annotations

from tests.storage.state_stores import backend, sqlite, store  # noqa: F401 (fixtures)
