"""The DV360 adapter: run a query (one that was made before, or a new one), poll its report, download the file behind
its signed link; and, of another API, the list of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from app.connectors import durations
from app.connectors.body import beginning
from app.connectors.durations import Durations
from app.connectors.dv360 import errors, report_csv, reports
from app.connectors.dv360.quotas import DOWNLOADS, ENTITIES, QUOTAS, REPORTS
from app.connectors.dv360.saved import QUERY_ID, SavedQueries
from app.connectors.failures import bad_response, report_failed
from app.connectors.usage import no_usage
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, HttpAnswer, Kept, Ready, Running

REPORTS_URL = "https://doubleclickbidmanager.googleapis.com/v2/"
API_URL = "https://displayvideo.googleapis.com/v4/"
DOWNLOAD_HOSTS = ("storage.googleapis.com",)
POLL_SCHEDULE_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""As the provider's own sample polls: 5 s doubling to 5 min; the planner adds jitter."""

_FILE_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream", "binary/octet-stream", "")
_PAGE = 200
"""Entities on a page, the most there can be (Display & Video 360 API v4, pageSize)."""
_MOST_PAGES = 5_000
_ACTIVE = 'entityStatus="ENTITY_STATUS_ACTIVE"'


class Dv360Connector:
    """``ports.Connector`` for DV360. ``reports_url`` (Bid Manager) and ``api_url`` (Display & Video 360) end in a
    slash; ``poll_schedule_s`` seconds before poll 1, 2, ...; ``kept`` remembers queries (None: nothing does, and each
    fetch makes one)."""

    connector_type: str = ConnectorType.DV360
    reports: Mapping[str, ReportType] = reports.REPORTS
    quotas: Sequence[Quota] = QUOTAS
    steps: Sequence[str] = ("start", "poll")
    minimum_calls: Mapping[str, int] = {REPORTS: 3}
    """Create, run and one poll. A query that is run again needs no create, but whether it is still there, and ours, is
    known only when it is run: with two reserved, the last calls of a day would make reports that nobody may ask for any
    more. Where the saved one is refused it takes four, once for each query; the poll may then have to wait for the
    next day, and finds its report."""
    usage = staticmethod(no_usage)

    def __init__(
        self,
        *,
        reports_url: str = REPORTS_URL,
        api_url: str = API_URL,
        poll_schedule_s: Sequence[float] = POLL_SCHEDULE_S,
        kept: Kept | None = None,
    ) -> None:
        self.poll_schedule_s: Sequence[float] = tuple(poll_schedule_s)
        self._base = reports_url if reports_url.endswith("/") else reports_url + "/"
        self._saved = SavedQueries(kept, self._base)
        self._durations = Durations()
        self._entities = api_url if api_url.endswith("/") else api_url + "/"

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        """``start``: run, and create where there is nothing to run. ``poll``: status, and the file when it is done.
        Raises ``ProviderError``."""
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
        query_id = await self._saved.find(offer)
        if query_id is not None:
            ran = await self._run(query_id, offer, calls)
            if not errors.not_ours(ran.status, ran.headers, ran.body):
                return self._running(query_id, offer, ran)
            # Its maker was another user, or deleted it. The refusal made no report, and says nothing of this fetch.
            await self._saved.forget(offer, query_id)
        created = await calls.request("POST", f"{self._base}queries", charge=REPORTS, json=reports.query(offer))
        query_id = _id(_accepted("create", created), "queryId")
        # Before it runs: whoever tries again after a failure finds it.
        await self._saved.keep(offer, query_id)
        return self._running(query_id, offer, await self._run(query_id, offer, calls))

    async def _run(self, query_id: str, offer: Offer, calls: Calls) -> HttpAnswer:
        # The figures are read when the query runs, so this is the call the version of the data set is drawn with (R7).
        return await calls.request(
            "POST", f"{self._base}queries/{query_id}:run", charge=REPORTS, data=True,
            json={"dataRange": reports.data_range(offer)}, params={"synchronous": "false"},
        )  # fmt: skip

    def _running(self, query_id: str, offer: Offer, ran: HttpAnswer) -> Running:
        report_id = _id(_part(_accepted("run", ran), "key"), "reportId")
        # A report tells when it was finished and not when it was begun: the answer to the call that did it does.
        began = durations.carried(durations.of_header(ran.headers.get("date")))
        first = self._durations.first_poll_s(offer.report_type, self.poll_schedule_s)
        return Running({"query_id": query_id, "report_id": report_id, **began}, poll_after_s=first)

    async def _poll(self, offer: Offer, calls: Calls) -> Running | Ready:
        remote = offer.remote or {}
        query_id, report_id = _id(remote, "query_id"), _id(remote, "report_id")
        url = f"{self._base}queries/{query_id}/reports/{report_id}"
        answer = await calls.request("GET", url, charge=REPORTS)
        if answer.status == 404:
            await self._saved.forget(offer, query_id)
        metadata = _part(_accepted("status", answer), "metadata")
        status = _part(metadata, "status")
        match status.get("state"):
            case "QUEUED" | "RUNNING":
                return Running(dict(remote))
            case "DONE":
                finished_at = durations.of_text(status.get("finishTime"))
                self._durations.note(offer.report_type, durations.begun(remote), finished_at)
                return _ready(offer, calls, _link(metadata))
            case "FAILED":
                # No reason is told. Should it be the query's, the next try shall not run it again.
                await self._saved.forget(offer, query_id)
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
    if isinstance(value, str) and QUERY_ID.fullmatch(value):
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
