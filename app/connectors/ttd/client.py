"""The Trade Desk adapter: find the template, schedule a report that runs once, poll its execution, download the file
behind its link; or ask by GraphQL at once; and the lists of partners and advertisers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from app.connectors import csv_report, durations
from app.connectors.body import beginning
from app.connectors.durations import Durations
from app.connectors.failures import bad_response, report_failed
from app.connectors.hosts import same_origin
from app.connectors.ttd import errors, graphql, reports
from app.connectors.ttd.quotas import (
    DOWNLOADS,
    ENTITIES,
    EXECUTIONS,
    FILES,
    GRAPHQL,
    GRAPHQL_QUOTA,
    QUOTAS,
    SCHEDULES,
    TEMPLATES,
)
from app.connectors.usage import no_usage
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, HttpAnswer, Ready, Running

API_URL = "https://api.thetradedesk.com/v3/"
AUTH_HEADER = "TTD-Auth"
"""Carries the bare token; with ``Authorization`` beside it a call is an error."""
TEMPLATE_PREFIX = "connector"
POLL_SCHEDULE_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Nothing is published of how long reports take: the ladder of the other report that is polled for."""
MOST_UNSEEN = 6
"""Polls that may find no execution of our schedule. It can be missing just after the schedule was made, for how long is
not told: with the ladder above, for five minutes. After that it is taken for lost."""
NO_CONTENT = 240
"""A success without a body."""

_ID = re.compile(r"[0-9]{1,19}")
_ACCOUNT = re.compile(r"[!-~]{1,64}")
"""An advertiser's or partner's id. Its form is nowhere told, and it becomes no part of a URL: visible characters do."""
_FILE_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream", "binary/octet-stream", "")
_PAGE = 500
"""Entities on a page; more than about a thousand are refused."""
_MOST_PAGES = 2_000


class TtdConnector:
    """``ports.Connector`` for The Trade Desk. ``api_url`` ends in a slash; ``view_urls`` are further base URLs whose
    links need the token; ``template_prefix`` begins the names of our templates; ``poll_schedule_s`` seconds before poll
    1, 2, ...; ``form`` is ``myreports`` or ``graphql``, which is asked where it can answer (``graphql.is_fit``)."""

    connector_type: str = ConnectorType.TTD
    reports: Mapping[str, ReportType] = reports.REPORTS
    steps: Sequence[str] = ("start", "poll")
    minimum_calls: Mapping[str, int] = {TEMPLATES: 1, SCHEDULES: 1, EXECUTIONS: 1}
    usage = staticmethod(no_usage)

    def __init__(
        self,
        *,
        api_url: str = API_URL,
        view_urls: Sequence[str] = (),
        template_prefix: str = TEMPLATE_PREFIX,
        poll_schedule_s: Sequence[float] = POLL_SCHEDULE_S,
        form: str = "myreports",
        graphql_url: str = graphql.GRAPHQL_URL,
    ) -> None:
        self._on_demand = form == "graphql"
        self.quotas: Sequence[Quota] = (*QUOTAS, GRAPHQL_QUOTA) if self._on_demand else QUOTAS
        if self._on_demand:
            # Which of the two a fetch needs goes by its account: there must be room for either.
            self.minimum_calls = {**self.minimum_calls, GRAPHQL: 1}
        self.storing_steps: Sequence[str] = self.steps if self._on_demand else self.steps[-1:]
        self._graphql_url = graphql_url
        self.poll_schedule_s: Sequence[float] = tuple(poll_schedule_s)
        self._base = api_url if api_url.endswith("/") else api_url + "/"
        self._own = (self._base, *view_urls)
        self._prefix = template_prefix
        self._durations = Durations()

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        """``start``: template and schedule, or the rows at once. ``poll``: execution, and the file when it is complete.
        Raises ``ProviderError``."""
        if offer.step == "start":
            return await self._start(offer, calls)
        if offer.step == "poll":
            return await self._poll(offer, calls)
        raise ValueError(f"The Trade Desk has no step {offer.step!r}")

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """The advertisers of every partner that the grant's user sees; their zones are not told. Costs a call for each
        500 partners and, for every partner, one for each 500 advertisers or part of them. Raises ``ProviderError``."""
        found: dict[str, Account] = {}
        async for partner in self._listed(calls, "partners", "partner/query", {}):
            parent = {"PartnerId": _text(partner, "PartnerId")}
            async for advertiser in self._listed(calls, "advertisers", "advertiser/query/partner", parent):
                account = _account(advertiser)
                found.setdefault(account.id, account)
        return tuple(found.values())

    async def _listed(
        self, calls: Calls, name: str, path: str, narrowed: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        at = 0
        for _ in range(_MOST_PAGES):
            body = {**narrowed, "PageStartIndex": at, "PageSize": _PAGE}
            answer = await self._ask(calls, name, path, ENTITIES, body)
            page = _results(answer)
            for entry in page:
                yield entry
            # The index is that of a row, so the next page begins after the rows that came, however many were asked for.
            at += len(page)
            total = answer.get("TotalFilteredCount")
            if not page or (isinstance(total, int) and at >= total):
                return
        raise bad_response("unreadable_answer", f"the list of {name} does not end", retryable=False)

    async def _start(self, offer: Offer, calls: Calls) -> Running | Ready:
        """The schedule comes last, and what failed or died before it has made no report."""
        if not _ACCOUNT.fullmatch(offer.connector.account_id):
            message = "a Trade Desk account is named by its advertiser id, without spaces"
            raise ProviderError(Failure(ErrorClass.INVALID_REQUEST, "invalid_account", message, retryable=False))
        if self._on_demand and graphql.is_fit(offer):
            return Ready(graphql.batches(offer, calls, self._graphql_url), {})
        template_id = await self._template(offer, calls)
        body = reports.schedule(offer, template_id)
        # The report runs once, from here on: this is the call the version of the data set is drawn with (R7).
        url = f"{self._base}myreports/reportschedule"
        answer = await calls.request("POST", url, charge=SCHEDULES, data=True, json=body)
        schedule_id = _id(_accepted("schedule", answer), "ReportScheduleId")
        began = durations.carried(durations.of_header(answer.headers.get("date")))
        first = self._durations.first_poll_s(offer.report_type, self.poll_schedule_s)
        return Running({"schedule_id": schedule_id, **began}, poll_after_s=first)

    async def _template(self, offer: Offer, calls: Calls) -> int:
        name = reports.template_name(self._prefix, offer.report_type)
        body = {"NameContains": name, "PageStartIndex": 0, "PageSize": 100}
        answer = await self._ask(calls, "template", "myreports/reporttemplateheader/query", TEMPLATES, body)
        # In which property the name comes is assumed: one that has none counts as found by what was asked.
        found = {_id(entry, "ReportTemplateId") for entry in _results(answer) if entry.get("Name", name) == name}
        if len(found) != 1:
            code, many = ("template_ambiguous", "several templates are") if found else ("template_missing", "none is")
            message = f"the grant's user needs one report template of the name {name!r}; {many} called so"
            raise ProviderError(Failure(ErrorClass.NOT_FOUND, code, message, retryable=False))
        return int(found.pop())

    async def _poll(self, offer: Offer, calls: Calls) -> Running | Ready:
        remote = offer.remote or {}
        schedule_id = _id(remote, "schedule_id")
        body = {
            "AdvertiserIds": [offer.connector.account_id],
            "ReportScheduleIds": [int(schedule_id)],
            "PageStartIndex": 0,
            "PageSize": 10,
        }
        path = "myreports/reportexecution/query/advertisers"
        found = [
            entry
            for entry in _results(await self._ask(calls, "executions", path, EXECUTIONS, body))
            if str(entry.get("ReportScheduleId", schedule_id)) == schedule_id
        ]
        if not found:
            return _unseen(schedule_id, remote)
        # Which of several would be ours is nowhere promised, so none is guessed.
        if len(found) > 1:
            raise bad_response("unreadable_answer", "a schedule that runs once has several executions", retryable=False)
        return self._judged(offer, calls, schedule_id, found[0])

    def _judged(self, offer: Offer, calls: Calls, schedule_id: str, execution: Mapping[str, Any]) -> Running | Ready:
        began = durations.carried(durations.begun(offer.remote or {}))
        match execution.get("ReportExecutionState"):
            case "Pending":
                return Running({"schedule_id": schedule_id, **began})
            case "Complete":
                self._durations.note(offer.report_type, durations.begun(began), _delivered_at(execution))
                return Ready(self._download(offer, calls, _link(execution)), {})
            case "Failed":
                raise report_failed("Failed")
        raise bad_response("unreadable_answer", "the report's state is none that is known")

    async def _download(self, offer: Offer, calls: Calls, link: str) -> AsyncIterator[Any]:
        """Rows of the file. A link to the API needs the token; one to a storage is signed and must not get it."""
        own = any(same_origin(link, base) for base in self._own)
        name, charge = ("view", FILES) if own else ("signed", DOWNLOADS)
        async with calls.stream("GET", link, charge=charge, authorised=own) as stream:
            if stream.status != 200:
                raise errors.refusal(name, stream.status, stream.headers, await beginning(stream))
            if stream.headers.get("content-type", "").partition(";")[0].strip().lower() not in _FILE_TYPES:
                raise bad_response("unexpected_content_type", "the link leads to something that is not a CSV file")
            announced = "content-length" in stream.headers
            fields, template = reports.columns(offer), "the report's template"
            rows = csv_report.batches(
                stream.chunks(), offer, fields, reports.FORM, announced=announced, made_by=template
            )
            async with aclosing(rows) as batches:
                async for batch in batches:
                    yield batch

    async def _ask(
        self, calls: Calls, name: str, path: str, charge: str, body: Mapping[str, Any], *, data: bool = False
    ) -> Mapping[str, Any]:
        answer = await calls.request("POST", self._base + path, charge=charge, data=data, json=body)
        return _accepted(name, answer)


def _accepted(call: str, answer: HttpAnswer) -> Mapping[str, Any]:
    """The answer's object; an empty one for a success without content."""
    if answer.status == NO_CONTENT:
        return {}
    if answer.status != 200:
        raise errors.refusal(call, answer.status, answer.headers, answer.body)
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise bad_response("unreadable_answer", f"the answer to {call} is not the JSON it should be")
    return content


def _results(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of a list's page; absent counts as empty."""
    result = answer.get("Result", [])
    if not isinstance(result, list) or not all(isinstance(entry, dict) for entry in result):
        raise bad_response("unreadable_answer", "the list is not the JSON it should be")
    return result


def _id(content: Mapping[str, Any], name: str) -> str:
    """A number that names a template, schedule or execution, as text; JSON has it as a number."""
    value = content.get(name)
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if _ID.fullmatch(text):
        return text
    raise bad_response("unreadable_answer", f"there is no {name} where one should be")


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if isinstance(value, str) and _ACCOUNT.fullmatch(value):
        return value
    raise bad_response("unreadable_answer", f"there is no {name} where one should be")


def _account(advertiser: Mapping[str, Any]) -> Account:
    name, currency = advertiser.get("AdvertiserName"), advertiser.get("CurrencyCode")
    return Account(_text(advertiser, "AdvertiserId"), str(name or ""), currency, None)


def _unseen(schedule_id: str, remote: Mapping[str, str]) -> Running:
    """How often the execution was missed travels with the ids, since nothing else is kept between polls."""
    missed = int(remote["unseen"]) + 1 if _ID.fullmatch(remote.get("unseen", "")) else 1
    if missed > MOST_UNSEEN:
        message = "the provider does not know the report that was scheduled"
        raise ProviderError(Failure(ErrorClass.NOT_FOUND, "report_lost", message, retryable=True, remote_lost=True))
    return Running({**remote, "schedule_id": schedule_id, "unseen": str(missed)})


def _deliveries(execution: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = execution.get("ReportDeliveries")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _delivered_at(execution: Mapping[str, Any]) -> float | None:
    """When the file was there, unix seconds, of an execution that tells (its ``DeliveredUTC`` is known from others'
    clients alone)."""
    instants = [durations.of_text(delivery.get("DeliveredUTC")) for delivery in _deliveries(execution)]
    return min((at for at in instants if at is not None), default=None)


def _link(execution: Mapping[str, Any]) -> str:
    for delivery in _deliveries(execution):
        link = delivery.get("DownloadURL")
        if isinstance(link, str) and link:
            return link
    raise bad_response("unreadable_answer", "the report is complete but has no link")
