"""The Google Ads adapter: one searchStream call, whose answer is the report."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import orjson

from app.connectors.body import beginning
from app.connectors.failures import bad_response
from app.connectors.google_ads import errors, report_json, reports
from app.connectors.google_ads.quotas import OPERATIONS, QUOTAS
from app.connectors.usage import no_usage
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, HttpAnswer, HttpStream, Ready

API_URL = "https://googleads.googleapis.com/v26/"

log = logging.getLogger(__name__)

_CUSTOMER = re.compile(r"[0-9]{10}")
_RESOURCE_NAME = re.compile(r"customers/([0-9]{10})")
_LEFT_OUT = (ErrorClass.AUTHORISATION, ErrorClass.NOT_FOUND)


class GoogleAdsConnector:
    """``ports.Connector`` for Google Ads. ``api_url`` ends in a slash; ``developer_token`` is sent where there is one:
    since September 2026 the Cloud project counts instead, and the header is ignored."""

    connector_type: str = ConnectorType.GOOGLE_ADS
    reports: Mapping[str, ReportType] = reports.REPORTS
    quotas: Sequence[Quota] = QUOTAS
    steps: Sequence[str] = ("start",)
    minimum_calls: Mapping[str, int] = {OPERATIONS: 1}
    poll_schedule_s: Sequence[float] = ()
    usage = staticmethod(no_usage)

    def __init__(self, *, api_url: str = API_URL, developer_token: str = "") -> None:
        self._base = api_url if api_url.endswith("/") else api_url + "/"
        self._own = {"developer-token": developer_token} if developer_token else {}

    async def step(self, offer: Offer, calls: Calls) -> Ready:
        """``start``: the search. Raises ``ProviderError``; ids that are none before anyone is called."""
        if offer.step != "start":
            raise ValueError(f"Google Ads has no step {offer.step!r}")
        facts = offer.connector
        customer = _customer(facts.account_id)
        login = None if facts.manager_id is None else _customer(facts.manager_id)
        return Ready(self._fetch(offer, calls, customer, login), {})

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """What the grant's user can report on, directly or through a manager; managers have no figures of their own.
        Costs one call, and one for each account that the user has a role in. Raises ``ProviderError``."""
        url = f"{self._base}customers:listAccessibleCustomers"
        answer = await calls.request("GET", url, charge=OPERATIONS, headers=self._own)
        found: dict[str, Account] = {}
        for customer in _accessible(answer):
            for account in await self._clients(calls, customer):
                if account.manager_id is None or account.id not in found:
                    found[account.id] = account
        return tuple(found.values())

    async def _fetch(self, offer: Offer, calls: Calls, customer: str, login: str | None) -> AsyncIterator[Any]:
        async with self._search(calls, customer, login, reports.query(offer), data=True) as stream:
            await _check(stream)
            found = report_json.batches(stream.chunks(), offer, reports.columns(offer))
            async with aclosing(found) as batches:
                async for batch in batches:
                    yield batch

    async def _clients(self, calls: Calls, customer: str) -> list[Account]:
        """The account itself, or those below it. One that is closed or not to be read is no account."""
        try:
            async with self._search(calls, customer, customer, reports.ACCOUNTS_QUERY) as stream:
                await _check(stream)
                rows = await report_json.rows(stream.chunks())
        except ProviderError as error:
            if error.failure.error_class not in _LEFT_OUT or error.failure.code == "token_rejected":
                raise
            log.info("account_left_out", extra={"account_id": customer, "code": error.failure.code})
            return []
        return [account for row in rows if (account := _account(row, customer)) is not None]

    def _search(
        self, calls: Calls, customer: str, login: str | None, query: str, *, data: bool = False
    ) -> AbstractAsyncContextManager[HttpStream]:
        url = f"{self._base}customers/{customer}/googleAds:searchStream"
        headers = self._own if login is None else {**self._own, "login-customer-id": login}
        return calls.stream("POST", url, charge=OPERATIONS, data=data, json={"query": query}, headers=headers)


def _customer(account_id: str) -> str:
    """A customer id, which becomes part of the URL. Raises ``ProviderError`` for anything but ten digits."""
    if _CUSTOMER.fullmatch(account_id):
        return account_id
    message = "a Google Ads account is named by the ten digits of its customer id, without dashes"
    raise ProviderError(Failure(ErrorClass.INVALID_REQUEST, "invalid_account", message, retryable=False))


async def _check(stream: HttpStream) -> None:
    if stream.status != 200:
        raise errors.refusal("search_stream", stream.status, stream.headers, await beginning(stream))
    if stream.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise bad_response("unexpected_content_type", "the answer is not JSON")


def _accessible(answer: HttpAnswer) -> list[str]:
    if answer.status != 200:
        raise errors.refusal("accessible", answer.status, answer.headers, answer.body)
    try:
        names = orjson.loads(answer.body).get("resourceNames", [])
        matches = [_RESOURCE_NAME.fullmatch(name) for name in names]
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        matches = [None]
    if not all(matches):
        raise bad_response("unreadable_answer", "the list of accounts is not the JSON it should be")
    return [match.group(1) for match in matches if match]


def _account(row: Any, customer: str) -> Account | None:
    """None for a manager."""
    client = row.get("customerClient") if isinstance(row, dict) else None
    if not isinstance(client, dict) or not _CUSTOMER.fullmatch(str(client.get("id"))):
        raise bad_response("unreadable_answer", "there is an account without an id")
    if client.get("manager"):
        return None
    manager = None if str(client["id"]) == customer else customer
    name, currency, zone = (client.get(key) for key in ("descriptiveName", "currencyCode", "timeZone"))
    return Account(str(client["id"]), str(name or ""), currency, zone, manager)
