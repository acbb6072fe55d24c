"""REST as a caller with a token sees it: an issuer for one world, and plain calls to one of its workers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from api.rest.auth import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
from app.cli.issuer import SCOPES, DevelopmentIssuer


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the JSON body."""

    status: int
    headers: Message
    body: Any


class Access:
    """Signs tokens with a key in ``folder``; ``settings`` makes workers accept them."""

    def __init__(self, folder: Path) -> None:
        self._issuer = DevelopmentIssuer(folder / "auth")
        self._issuer.prepare()

    @property
    def settings(self) -> dict[str, str]:
        """What a worker must be started with."""
        return {
            "CONNECTOR__AUTH__JWKS_FILE": str(self._issuer.jwks_file),
            "CONNECTOR__AUTH__ISSUER": DEVELOPMENT_ISSUER,
            "CONNECTOR__AUTH__AUDIENCE": DEVELOPMENT_AUDIENCE,
        }

    def token(self, org_id: int) -> str:
        """A token with every scope, for an hour."""
        return self._issuer.token(org_id, SCOPES, subject="test", valid_s=3_600, now_s=int(time.time()))

    async def call(
        self, port: int, method: str, path: str, org_id: int, body: Mapping[str, Any] | None = None
    ) -> Answer:
        """One call to the worker on ``port``; ``path`` from ``/api`` on."""
        return await asyncio.to_thread(self._call, port, method, path, self.token(org_id), body)

    @staticmethod
    def _call(port: int, method: str, path: str, token: str, body: Mapping[str, Any] | None) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers, method=method)
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310
                return Answer(answer.status, answer.headers, json.load(answer))
        except HTTPError as refused:
            return Answer(refused.code, refused.headers, json.loads(refused.read()))
