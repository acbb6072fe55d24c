"""What the tests of Meta share: offers, rows and pages as the provider writes them, steps through a local server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from app.connectors.meta.client import MetaConnector
from app.domain.messages import Offer
from tests.connectors.rig import LocalFetch
from tests.connectors.support import calling, facts, offer

ACCOUNT, RUN = "4567", "6021"
ROOT = "/v26.0"
COMPLETED = {"async_status": "Job Completed", "async_percent_completion": 100}
SECRET_LINK = "https://graph.example/next?access_token=canary"


def meta_offer(step: str = "poll", *, account_id: str = ACCOUNT, **changes: Any) -> Offer:
    known = facts(connector_type="META", account_id=account_id)
    remote = {"report_run_id": RUN} if step == "poll" else None
    return offer(step, **({"connector": known, "remote": remote} | changes))


def meta_row(day: int, campaign: int = 9, **changes: Any) -> dict[str, Any]:
    """A campaign's row; a change of None leaves the member out."""
    known: dict[str, Any] = {
        "account_id": ACCOUNT,
        "account_currency": "EUR",
        "campaign_id": str(campaign),
        "campaign_name": f"Campaign {campaign}",
        "impressions": "120",
        "clicks": "3",
        "spend": "1.23",
        "actions": [{"action_type": "link_click", "value": "3"}, {"action_type": "purchase", "value": "2"}],
        "date_start": f"2026-11-{day:02d}",
        "date_stop": f"2026-11-{day:02d}",
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def page(rows: Sequence[Any], after: str = "", *, more: bool = False) -> dict[str, Any]:
    """A page; without rows and cursor it has no paging at all."""
    if not rows and not after:
        return {"data": []}
    paging: dict[str, Any] = {"cursors": {"before": "MAZDZD", "after": after or "LAST"}}
    return {"data": list(rows), "paging": paging | ({"next": SECRET_LINK} if more else {})}


def refused(code: int | None = None, subcode: int | None = None, **more: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"message": "Said so.", "type": "OAuthException", "fbtrace_id": "Atrace"} | more
    error |= ({"code": code} if code is not None else {}) | ({"error_subcode": subcode} if subcode else {})
    return {"error": error}


Reply = tuple[int, Mapping[str, Any] | bytes]


@dataclass
class Graph:
    """Plays Meta: each call is answered with the next of its own replies, the last one for ever. ``seen`` holds
    (method, path, query, form) of every call."""

    create: list[Reply] = field(default_factory=lambda: [(200, {"report_run_id": RUN})])
    status: list[Reply] = field(default_factory=lambda: [(200, {"id": RUN, "account_id": ACCOUNT, **COMPLETED})])
    pages: list[Reply] = field(default_factory=lambda: [(200, page([meta_row(1)]))])
    sync: list[Reply] = field(default_factory=lambda: [(200, page([meta_row(1)]))])
    accounts: list[Reply] = field(default_factory=lambda: [(200, page([]))])
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.seen.append((request.method, request.path, dict(request.query), form))
        self.tokens.append(request.headers.get("Authorization", ""))
        left = {
            ("POST", f"{ROOT}/act_{ACCOUNT}/insights"): self.create,
            ("GET", f"{ROOT}/act_{ACCOUNT}/insights"): self.sync,
            ("GET", f"{ROOT}/{RUN}"): self.status,
            ("GET", f"{ROOT}/{RUN}/insights"): self.pages,
            ("GET", f"{ROOT}/me/adaccounts"): self.accounts,
        }[request.method, request.path]
        status, body = left.pop(0) if len(left) > 1 else left[0]
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=status, body=content, headers={"Content-Type": "application/json", **self.headers})

    @property
    def asked(self) -> list[tuple[str, str]]:
        """(limit, after) of every page that was asked for."""
        return [
            (query["limit"], query.get("after", ""))
            for _, path, query, _ in self.seen
            if path.endswith(f"{RUN}/insights")
        ]


@dataclass
class MetaFetch(LocalFetch[MetaConnector]):
    """Steps against a local server that plays Meta."""

    graph: Graph


@asynccontextmanager
async def meta_fetch(folder: Path, graph: Graph | None = None, **changes: Any) -> AsyncIterator[MetaFetch]:
    """``changes`` are options of the connector, or ``limits`` of its calls."""
    played = graph or Graph()
    http = {"limits": changes.pop("limits")} if "limits" in changes else {}
    async with calling(played.answer, **http) as setting:
        connector = MetaConnector(api_url=f"{setting.base}{ROOT}/", **changes)
        yield MetaFetch(setting, folder, connector, meta_offer, played)
