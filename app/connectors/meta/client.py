"""The Meta adapter: make a report run, poll it, read the pages of its rows; or read a small report at once; and the
list of accounts."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from app.connectors import durations
from app.connectors.ahead import parsed_ahead
from app.connectors.durations import Durations
from app.connectors.failures import bad_response
from app.connectors.meta import errors, headers, reports
from app.connectors.meta.errors import Reading
from app.connectors.meta.pages import Source, pages
from app.connectors.meta.quotas import ENTITIES, INSIGHTS, quotas_of
from app.connectors.meta.reports import CONVERSION_ACTIONS
from app.connectors.meta.sync import is_small, small_answer
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, Ready, Running

API_URL = "https://graph.facebook.com/v26.0/"
POLL_SCHEDULE_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""A run takes seconds to an hour, and every poll is a call of the account's hour; the planner adds jitter."""
PAGE_SIZE = 500

_ID = re.compile(r"[0-9]{1,32}")
_ACCOUNT_FIELDS = "id,account_id,name,currency,timezone_name,account_status"
_ACCOUNTS_PAGE = 100
_CLOSED = 101
"""Of the states of an account (1 active, 2 disabled, 3 unsettled, 101 closed) the one that is left out: what became
before it was closed is assumed not to be asked for."""


class MetaConnector:
    """``ports.Connector`` for Meta. ``api_url`` ends in a slash; ``tier`` is the app's access, ``limited`` or ``full``;
    ``page_size`` rows of a page; ``conversion_actions`` the action types that are conversions; ``sync_days`` how many
    days by campaign are asked for without a run (``sync.is_small``), 0: none."""

    connector_type: str = ConnectorType.META
    reports: Mapping[str, ReportType] = reports.REPORTS
    steps: Sequence[str] = ("start", "poll")
    minimum_calls: Mapping[str, int] = {INSIGHTS: 3}
    usage = staticmethod(headers.usage)

    def __init__(
        self,
        *,
        api_url: str = API_URL,
        tier: str = "limited",
        poll_schedule_s: Sequence[float] = POLL_SCHEDULE_S,
        page_size: int = PAGE_SIZE,
        conversion_actions: Sequence[str] = CONVERSION_ACTIONS,
        sync_days: int = 0,
    ) -> None:
        self.quotas: Sequence[Quota] = quotas_of(tier)
        self.poll_schedule_s: Sequence[float] = tuple(poll_schedule_s)
        self._base = api_url if api_url.endswith("/") else api_url + "/"
        self._page_size = page_size
        self._actions = frozenset(conversion_actions)
        self._durations = Durations()
        self._sync_days = sync_days
        self.storing_steps: Sequence[str] = self.steps if sync_days else self.steps[-1:]
        self._most_calls = min(quota.limit for quota in self.quotas if quota.enforced)

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        """``start``: make the run, or read a small report at once. ``poll``: how the run stands, and its rows when it
        is done. Raises ``ProviderError``."""
        if offer.step == "start":
            return await self._start(offer, calls)
        if offer.step == "poll":
            return await self._poll(offer, calls)
        raise ValueError(f"Meta has no step {offer.step!r}")

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """The ad accounts that the grant's user can report on, without closed ones. Costs a call for each 100. Raises
        ``ProviderError``."""
        source = Source(
            f"{self._base}me/adaccounts", ENTITIES, "accounts", _ACCOUNTS_PAGE, {"fields": _ACCOUNT_FIELDS}, 10**9
        )
        found: dict[str, Account] = {}
        async for page in pages(calls, source):
            for entry in page:
                if entry.get("account_status") != _CLOSED:
                    account = _account(entry)
                    found.setdefault(account.id, account)
        return tuple(found.values())

    async def _start(self, offer: Offer, calls: Calls) -> Running | Ready:
        url = f"{self._base}act_{_checked_account(offer)}/insights"
        if is_small(offer, self._sync_days):
            limit = self._page_size
            # What is too much for one call is a run at once: smaller pages would only bring more calls.
            source = Source(
                url, INSIGHTS, "sync", limit, reports.parameters(offer), self._most_calls, least=limit, data=True
            )
            if (found := await small_answer(calls, source)) is not None:
                return Ready(self._batches(offer, _each(found)), {})
        reading = Reading("create")
        # The figures are read when the run is made, so this is the call the data set's version is drawn with (R7).
        await calls.request("POST", url, charge=INSIGHTS, data=True, form=reports.parameters(offer), check=reading)
        first = self._durations.first_poll_s(offer.report_type, self.poll_schedule_s)
        return Running({"report_run_id": _id(reading.content, "report_run_id")}, poll_after_s=first)

    async def _poll(self, offer: Offer, calls: Calls) -> Running | Ready:
        run_id = _id(offer.remote or {}, "report_run_id")
        account_id = _checked_account(offer)
        reading = Reading("status")
        await calls.request("GET", f"{self._base}{run_id}", charge=INSIGHTS, check=reading)
        content = reading.content
        if _id(content, "id") != run_id or content.get("account_id", account_id) != account_id:
            raise bad_response("wrong_account", "the answer is about another report", retryable=False)
        percent = content.get("async_percent_completion")
        match content.get("async_status"):
            case "Job Completed" if percent == 100:
                began_at, ended_at = (durations.of_number(content.get(n)) for n in ("time_ref", "time_completed"))
                self._durations.note(offer.report_type, began_at, ended_at)
                return Ready(self._rows(offer, calls, run_id), {})
            # Completed is not enough: rows may still be missing below 100 percent.
            case "Job Completed" | "Job Not Started" | "Job Started" | "Job Running":
                return Running({"report_run_id": run_id}, _percent(percent))
            case "Job Failed":
                raise errors.run_failure(content)
            case "Job Skipped":
                raise ProviderError(_skipped())
        raise bad_response("unreadable_answer", "the report's state is none that is known")

    async def _rows(self, offer: Offer, calls: Calls, run_id: str) -> AsyncGenerator[Any, None]:
        source = Source(f"{self._base}{run_id}/insights", INSIGHTS, "page", self._page_size, {}, self._most_calls)
        async with aclosing(self._batches(offer, pages(calls, source))) as batches:
            async for batch in batches:
                yield batch

    async def _batches(self, offer: Offer, found: AsyncIterator[list[Any]]) -> AsyncGenerator[Any, None]:
        fields = reports.columns(offer)

        def parse(rows: list[Any]) -> Any:
            # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
            from app.connectors.meta import rows as arrow

            return arrow.parse(rows, offer, fields, self._actions)

        async with aclosing(parsed_ahead(_filled(found), parse)) as batches:
            async for batch in batches:
                yield batch


async def _each(found: list[list[Any]]) -> AsyncIterator[list[Any]]:
    for rows in found:
        yield rows


async def _filled(source: AsyncIterator[list[Any]]) -> AsyncIterator[list[Any]]:
    async for rows in source:
        if rows:
            yield rows


def _checked_account(offer: Offer) -> str:
    """The account's digits, which become part of the URL."""
    account_id = offer.connector.account_id
    if _ID.fullmatch(account_id):
        return account_id
    message = "a Meta ad account is named by its digits, without act_"
    raise ProviderError(Failure(ErrorClass.INVALID_REQUEST, "invalid_account", message, retryable=False))


def _id(content: Mapping[str, Any], name: str) -> str:
    """An id, which JSON carries as text; checked, because it becomes part of a URL."""
    value = content.get(name)
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise bad_response("unreadable_answer", f"there is no {name} where one should be")


def _percent(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100 else None


def _account(entry: Mapping[str, Any]) -> Account:
    name, currency, zone = (
        value if isinstance(value := entry.get(key), str) else None for key in ("name", "currency", "timezone_name")
    )
    return Account(_id(entry, "account_id"), name or "", currency, zone)


def _skipped() -> Failure:
    # It expired in the provider's own line; that says nothing about its health.
    return Failure(
        ErrorClass.PROVIDER_SYSTEM, "report_skipped", "the provider let the report expire before it was made",
        retryable=True, provider_code="Job Skipped", remote_lost=True,
    )  # fmt: skip
