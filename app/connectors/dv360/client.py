"""The DV360 adapter: create and run a query, poll its report, download the file behind its signed link; and, of another
API, the list of accounts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from app.connectors.body import beginning
from app.connectors.dv360 import errors, report_csv, reports
from app.connectors.dv360.quotas import DOWNLOADS, ENTITIES, QUOTAS, REPORTS
from app.connectors.failures import bad_response, report_failed
from app.connectors.usage import no_usage
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, HttpAnswer, Ready, Running

REPORTS_URL = "https://doubleclickbidmanager.googleapis.com/v2/"
API_URL = "https://displayvideo.googleapis.com/v4/"
DOWNLOAD_HOSTS = ("storage.googleapis.com",)
POLL_SCHEDULE_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""As the provider's own sample polls: 5 s doubling to 5 min; the planner adds jitter."""

_ID = re.compile(r"[0-9]{1,19}")
_FILE_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream", "binary/octet-stream", "")
_PAGE = 200
"""Entities on a page, the most there can be (Display & Video 360 API v4, pageSize)."""
_MOST_PAGES = 5_000
_ACTIVE = 'entityStatus="ENTITY_STATUS_ACTIVE"'


class Dv360Connector:
    """``ports.Connector`` for DV360. ``reports_url`` (Bid Manager) and ``api_url`` (Display & Video 360) end in a
    slash; ``poll_schedule_s`` seconds before poll 1, 2, ..."""

    connector_type: str = ConnectorType.DV360
    reports: Mapping[str, ReportType] = reports.REPORTS
    quotas: Sequence[Quota] = QUOTAS
    steps: Sequence[str] = ("start", "poll")
    minimum_calls: Mapping[str, int] = {REPORTS: 3}
    usage = staticmethod(no_usage)

    def __init__(
        self,
        *,
        reports_url: str = REPORTS_URL,
        api_url: str = API_URL,
        poll_schedule_s: Sequence[float] = POLL_SCHEDULE_S,
    ) -> None:
        self.poll_schedule_s: Sequence[float] = tuple(poll_schedule_s)
        self._base = reports_url if reports_url.endswith("/") else reports_url + "/"
        self._entities = api_url if api_url.endswith("/") else api_url + "/"

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        """``start``: create and run. ``poll``: status, and the file when it is done. Raises ``ProviderError``."""
        if offer.step == "start":
            return await self._start(offer, calls)
        if offer.step == "poll":
            return await self._poll(offer, calls)
        raise ValueError(f"DV360 has no step {offer.step!r}")

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """The active advertisers of every active partner that the grant's user sees. Costs a call for each 200 partners
        and, for every partner, one for each 200 advertisers or part of them. Raises ``ProviderError``."""
        found: dict[str, Account] = {}
        async for partner in self._listed(calls, "partners", {}):
            parent = {"partnerId": _id(partner, "partnerId")}
            async for advertiser in self._listed(calls, "advertisers", parent):
                account = _account(advertiser)
                found.setdefault(account.id, account)
        return tuple(found.values())

    async def _listed(self, calls: Calls, name: str, parent: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        """All entities of a list, page by page; the list is absent when it is empty."""
        params = {**parent, "pageSize": str(_PAGE), "filter": _ACTIVE}
        for _ in range(_MOST_PAGES):
            answer = await calls.request("GET", f"{self._entities}{name}", charge=ENTITIES, params=params)
            content = _accepted(name, answer)
            entities = content.get(name, [])
            if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
                raise bad_response("unreadable_answer", f"the {name} are not the list they should be")
            for entity in entities:
                yield entity
            if not isinstance(token := content.get("nextPageToken"), str) or not token:
                return
            params["pageToken"] = token
        raise bad_response("unreadable_answer", f"the list of {name} does not end", retryable=False)

    async def _start(self, offer: Offer, calls: Calls) -> Running:
        created = await calls.request("POST", f"{self._base}queries", charge=REPORTS, json=reports.query(offer))
        query_id = _id(_accepted("create", created), "queryId")
        url = f"{self._base}queries/{query_id}:run"
        # The figures are read when the query runs, so this is the call the version of the data set is drawn with (R7).
        ran = await calls.request("POST", url, charge=REPORTS, data=True, json={}, params={"synchronous": "false"})
        report_id = _id(_part(_accepted("run", ran), "key"), "reportId")
        return Running({"query_id": query_id, "report_id": report_id})

    async def _poll(self, offer: Offer, calls: Calls) -> Running | Ready:
        remote = offer.remote or {}
        query_id, report_id = _id(remote, "query_id"), _id(remote, "report_id")
        url = f"{self._base}queries/{query_id}/reports/{report_id}"
        answer = _accepted("status", await calls.request("GET", url, charge=REPORTS))
        metadata = _part(answer, "metadata")
        match _part(metadata, "status").get("state"):
            case "QUEUED" | "RUNNING":
                return Running({"query_id": query_id, "report_id": report_id})
            case "DONE":
                return _ready(offer, calls, _link(metadata))
            case "FAILED":
                raise report_failed("FAILED")
        raise bad_response("unreadable_answer", "the report's state is none that is known")


def _ready(offer: Offer, calls: Calls, link: str) -> Ready:
    control: dict[str, str] = {}
    return Ready(_download(offer, calls, link, control), control)


async def _download(offer: Offer, calls: Calls, link: str, control: dict[str, str]) -> AsyncIterator[Any]:
    """Rows of the signed link's file. No token is sent: the storage refuses requests that carry one."""
    async with calls.stream("GET", link, charge=DOWNLOADS, authorised=False) as stream:
        if stream.status != 200:
            raise errors.refusal("download", stream.status, stream.headers, await beginning(stream))
        _check_file_type(stream.headers)
        rows = report_csv.batches(stream.chunks(), offer, reports.columns(offer), control)
        async with aclosing(rows) as batches:
            async for batch in batches:
                yield batch


def _check_file_type(headers: Mapping[str, str]) -> None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() not in _FILE_TYPES:
        raise bad_response("unexpected_content_type", "the link leads to something that is not a CSV file")


def _accepted(call: str, answer: HttpAnswer) -> dict[str, Any]:
    if answer.status != 200:
        raise errors.refusal(call, answer.status, answer.headers, answer.body)
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict) or "error" in content:
        raise bad_response("unreadable_answer", f"the answer to {call} is not the JSON it should be")
    return content


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _id(content: Mapping[str, Any], name: str) -> str:
    """An int64 id, which JSON carries as text; checked, because it becomes part of a URL."""
    value = content.get(name)
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise bad_response("unreadable_answer", f"there is no {name} where one should be")


def _account(advertiser: Mapping[str, Any]) -> Account:
    config = _part(advertiser, "generalConfig")
    name, currency, zone = advertiser.get("displayName"), config.get("currencyCode"), config.get("timeZone")
    return Account(_id(advertiser, "advertiserId"), str(name or ""), currency, zone)


def _link(metadata: Mapping[str, Any]) -> str:
    link = metadata.get("googleCloudStoragePath")
    if isinstance(link, str) and link:
        return link
    raise bad_response("unreadable_answer", "the report is done but has no link")
