"""JSON over HTTP, for Matrix and for maubot's management API.

A client session is made for each call: servers are shared by tests whose event loops differ,
and on loopback a connection costs next to nothing. Answers that are not 2xx raise `ApiError`.
No retries, no rate limits honoured: whoever tests these wants to see them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

Json = Any


class ApiError(Exception):
    """An answer that is not 2xx."""

    def __init__(self, *, method: str, path: str, status: int, body: Json) -> None:
        super().__init__(f"{method} {path}: {status} {json.dumps(body)[:500]}")
        self.status = status
        self.body = body

    @property
    def errcode(self) -> str | None:
        """Matrix's (and maubot's) code for the error, None if there is none."""
        code = self.body.get("errcode") if isinstance(self.body, dict) else None
        return code if isinstance(code, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonApi:
    """A server's API, with a bearer token or without."""

    base_url: str
    token: str | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: float = 60,
    ) -> Json:
        """Send a request, return the JSON of the answer; the path is percent-encoded already."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = URL(self.base_url + path, encoded=True).update_query(query or {})
        limit = aiohttp.ClientTimeout(total=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, headers=headers) as session,
            session.request(method, url, json=body, data=data) as response,
        ):
            raw = await response.read()
            try:
                answer = json.loads(raw) if raw else None
            except ValueError:
                answer = raw.decode(errors="replace")
            if not response.ok:
                raise ApiError(method=method, path=path, status=response.status, body=answer)
            return answer

    async def answers(self, path: str) -> bool:
        """Say whether the server answers at all, with whatever status."""
        try:
            await self.request("GET", path, timeout=5)
        except ApiError:
            return True
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return False
        return True
