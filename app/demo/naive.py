"""A client as many are written: every command on its own, all at once, no count of its own. For comparison.

It is another project at the provider: the same limits as ours, counted apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

import aiohttp

from app.demo.story import Asked

CLIENT_ID, CLIENT_SECRET = "sandbox-naive", "sandbox-naive-secret"
POLL_S = 0.25
MOST_POLLS = 100
_GROUPS = ["FILTER_DATE", "FILTER_ADVERTISER", "FILTER_MEDIA_PLAN"]
_METRICS = ["METRIC_IMPRESSIONS", "METRIC_CLICKS", "METRIC_REVENUE_ADVERTISER"]
_GAQL = (
    "SELECT campaign.id, segments.date, metrics.impressions, metrics.clicks, metrics.cost_micros FROM campaign "
    "WHERE segments.date BETWEEN '{start}' AND '{end}'"
)


class Refused(Exception):
    """The provider did not answer 200, or its report never came."""


async def run(api_url: str, asked: Sequence[Asked]) -> int:
    """Tries every command once; how many it got. Its calls are in the simulator's log."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        tokens = {one.account.user: await _token(session, api_url, one.account.user) for one in asked}
        client = _Client(session, api_url)
        done = await asyncio.gather(*(client.fetch(one, tokens[one.account.user]) for one in asked))
    return sum(done)


async def _token(session: aiohttp.ClientSession, api_url: str, user: str) -> str:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": f"1//sandbox-{user}",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    async with session.post(f"{api_url}/oauth2/token", data=form) as answer:
        answer.raise_for_status()
        return str((await answer.json())["access_token"])


class _Client:
    def __init__(self, session: aiohttp.ClientSession, api_url: str) -> None:
        self._session, self._api_url = session, api_url

    async def fetch(self, asked: Asked, token: str) -> bool:
        """One command; False as soon as the provider refuses a call."""
        try:
            if asked.account.connector_type == "DV360":
                await self._report(asked, token)
            else:
                await self._stream(asked, token)
        except Refused:
            return False
        return True

    async def _report(self, asked: Asked, token: str) -> None:
        queries = f"{self._api_url}/doubleclickbidmanager/v2/queries"
        query_id = (await self._call("POST", queries, token, _query(asked)))["queryId"]
        ran = await self._call("POST", f"{queries}/{query_id}:run", token, {})
        report = f"{queries}/{query_id}/reports/{ran['key']['reportId']}"
        for _ in range(MOST_POLLS):
            if (await self._call("GET", report, token))["metadata"]["status"]["state"] == "DONE":
                return
            await asyncio.sleep(POLL_S)
        raise Refused

    async def _stream(self, asked: Asked, token: str) -> None:
        url = f"{self._api_url}/googleads/v26/customers/{asked.account.account_id}/googleAds:searchStream"
        await self._call("POST", url, token, {"query": _GAQL.format(start=asked.start, end=asked.end)})

    async def _call(self, method: str, url: str, token: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            if answer.status != 200:
                raise Refused
            return await answer.json()


def _query(asked: Asked) -> dict[str, Any]:
    return {
        "metadata": {
            "title": f"naive {asked.request_id}",
            "format": "CSV",
            "dataRange": {
                "range": "CUSTOM_DATES",
                "customStartDate": _day(asked.start),
                "customEndDate": _day(asked.end),
            },
        },
        "params": {
            "type": "STANDARD",
            "groupBys": _GROUPS,
            "filters": [{"type": "FILTER_ADVERTISER", "value": asked.account.account_id}],
            "metrics": _METRICS,
        },
        "schedule": {"frequency": "ONE_TIME"},
    }


def _day(day: date) -> dict[str, int]:
    return {"year": day.year, "month": day.month, "day": day.day}
