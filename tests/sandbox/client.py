"""A caller of the sandbox, for its own tests: speaks as a Google client would, and returns what came back as values."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import aiohttp
import orjson

from app.sandbox.clock import system_clock
from app.sandbox.dv360.state import Polls
from app.sandbox.fixture import RunningSandbox, running_sandbox
from app.sandbox.settings import CLIENT_ID, CLIENT_SECRET, SandboxSettings

GROUP_BYS = (
    "FILTER_DATE",
    "FILTER_ADVERTISER",
    "FILTER_ADVERTISER_CURRENCY",
    "FILTER_MEDIA_PLAN",
    "FILTER_MEDIA_PLAN_NAME",
)
METRICS = ("METRIC_IMPRESSIONS", "METRIC_CLICKS", "METRIC_TOTAL_CONVERSIONS", "METRIC_REVENUE_ADVERTISER")
END = datetime.now(UTC).date() - timedelta(days=10)
START = END - timedelta(days=6)
CUSTOMER = "1234567890"
DAYS = f"segments.date BETWEEN '{START}' AND '{END}'"
PERFORMANCE = (
    "SELECT campaign.id, campaign.name, campaign.status, customer.id, customer.currency_code, segments.date, "
    "metrics.impressions, metrics.clicks, metrics.conversions, metrics.cost_micros "
    f"FROM campaign WHERE {DAYS} ORDER BY segments.date"
)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Calls one sandbox as one user."""

    sandbox: RunningSandbox
    session: aiohttp.ClientSession

    async def call(self, method: str, url: str, **options: Any) -> Reply:
        if url.startswith("/"):
            url = self.sandbox.api_url + url
        async with self.session.request(method, url, allow_redirects=False, **options) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.read())

    async def form(self, path: str, **fields: str) -> Reply:
        return await self.call("POST", path, data=fields)

    async def refresh(self, token: str, secret: str = CLIENT_SECRET, client_id: str = CLIENT_ID) -> Reply:
        known = {"client_id": client_id, "client_secret": secret}
        return await self.form("/oauth2/token", grant_type="refresh_token", refresh_token=token, **known)

    async def bearer(
        self, user: str = "alice", secret: str = CLIENT_SECRET, client_id: str = CLIENT_ID
    ) -> dict[str, str]:
        answer = (await self.refresh(f"1//sandbox-{user}", secret, client_id)).json
        return {"Authorization": f"Bearer {answer['access_token']}"}

    async def reports(self, method: str, path: str, headers: Mapping[str, str], **options: Any) -> Reply:
        return await self.call(method, f"/doubleclickbidmanager/v2/{path}", headers=headers, **options)

    async def ads(
        self, headers: Mapping[str, str], query: str, call: str = "searchStream", customer: str = CUSTOMER, **body: Any
    ) -> Reply:
        """One search of Google Ads; ``body`` adds to its query."""
        path = f"/googleads/v26/customers/{customer}/googleAds:{call}"
        return await self.call("POST", path, headers=headers, json={"query": query, **body})

    async def create(self, headers: Mapping[str, str], body: Any) -> str:
        answer = await self.reports("POST", "queries", headers, json=body)
        assert answer.status == 200, answer.body
        return str(answer.json["queryId"])

    async def run(self, headers: Mapping[str, str], query_id: str, body: Any = None) -> dict[str, Any]:
        path = f"queries/{query_id}:run?synchronous=false"
        answer = await self.reports("POST", path, headers, json=body or {})
        assert answer.status == 200, answer.body
        return dict(answer.json)

    async def status(self, headers: Mapping[str, str], report: Mapping[str, Any]) -> dict[str, Any]:
        key = report["key"]
        answer = await self.reports("GET", f"queries/{key['queryId']}/reports/{key['reportId']}", headers)
        return dict(answer.json)

    async def finished(self, headers: Mapping[str, str], body: Any) -> str:
        """Create, run and poll once (for sandboxes whose reports are ready then); the link."""
        report = await self.run(headers, await self.create(headers, body))
        done = await self.status(headers, report)
        return str(done["metadata"]["googleCloudStoragePath"])

    async def download(self, link: str) -> str:
        answer = await self.call("GET", link)
        assert answer.status == 200, answer.body
        return answer.body.decode()


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[RunningSandbox, Client]]:
    """A sandbox without effective quotas whose reports are ready at the first poll, unless told otherwise; ``clock`` in
    place of the machine's."""
    chosen: dict[str, Any] = {"report_duration": Polls(1), "enforce": False} | settings
    clock = chosen.pop("clock", system_clock)
    async with running_sandbox(SandboxSettings(**chosen), clock) as sandbox, aiohttp.ClientSession() as session:
        yield sandbox, Client(sandbox, session)


def day_json(day: date) -> dict[str, int]:
    return {"year": day.year, "month": day.month, "day": day.day}


def custom(start: date = START, end: date = END) -> dict[str, Any]:
    return {"range": "CUSTOM_DATES", "customStartDate": day_json(start), "customEndDate": day_json(end)}


def query_body(**changes: Any) -> dict[str, Any]:
    """A good query; the keyword arguments replace members of metadata or params."""
    metadata = {"title": "weekly", "format": "CSV", "dataRange": custom()}
    params = {
        "type": "STANDARD",
        "groupBys": list(GROUP_BYS),
        "filters": [{"type": "FILTER_ADVERTISER", "value": "4567"}],
        "metrics": list(METRICS),
    }
    for name, value in changes.items():
        (metadata if name in metadata else params)[name] = value
    return {"metadata": metadata, "params": params, "schedule": {"frequency": "ONE_TIME"}}


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def rows_of(batches: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows of Google Ads' batches or pages."""
    return [row for batch in batches for row in batch["results"]]


def code_of(answer: Any) -> tuple[int, dict[str, str]]:
    """(code, errorCode) of a refusal of Google Ads, in an array or not."""
    error = (answer[0] if isinstance(answer, list) else answer)["error"]
    (failure,) = error["details"]
    assert failure["@type"] == "type.googleapis.com/google.ads.googleads.v26.errors.GoogleAdsFailure"
    assert failure["requestId"]
    return error["code"], failure["errors"][0]["errorCode"]
