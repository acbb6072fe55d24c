"""The adapter of CSV servers: one GET with a bearer token, and its answer is the report."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import date
from typing import Any

from app.connectors import csv_report
from app.connectors.body import beginning
from app.connectors.csv_https import errors, reports
from app.connectors.csv_https.quotas import FILES, QUOTAS
from app.connectors.failures import bad_response
from app.connectors.usage import no_usage
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, Ready

_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CsvHttpsConnector:
    """``ports.Connector`` for CSV servers: ``{api_url}{account}/{report type}.csv?start=&end=``, both days included."""

    connector_type: str = ConnectorType.CSV_HTTPS
    reports: Mapping[str, ReportType] = reports.REPORTS
    quotas: Sequence[Quota] = QUOTAS
    steps: Sequence[str] = ("start",)
    minimum_calls: Mapping[str, int] = {FILES: 1}
    poll_schedule_s: Sequence[float] = ()
    usage = staticmethod(no_usage)

    def __init__(self, *, api_url: str) -> None:
        self._base = api_url if api_url.endswith("/") else api_url + "/"

    async def step(self, offer: Offer, calls: Calls) -> Ready:
        """``start``: the file. Raises ``ProviderError``; an id that is no part of a URL before anyone is called."""
        if offer.step != "start":
            raise ValueError(f"a CSV server has no step {offer.step!r}")
        account, days = offer.connector.account_id, (offer.start, offer.end)
        if not _ACCOUNT.fullmatch(account):
            message = "an account of a CSV server is named by letters, digits, - and _"
            raise ProviderError(Failure(ErrorClass.INVALID_REQUEST, "invalid_account", message, retryable=False))
        start, end = (date.fromordinal(day).isoformat() for day in days)
        url = f"{self._base}{account}/{offer.report_type}.csv?start={start}&end={end}"
        return Ready(_rows(offer, calls, url), {})

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """None: a CSV server has no list of them."""
        del calls
        return ()


async def _rows(offer: Offer, calls: Calls, url: str) -> AsyncIterator[Any]:
    async with calls.stream("GET", url, charge=FILES, data=True) as stream:
        if stream.status != 200:
            content = await beginning(stream)
            raise ProviderError(errors.classify("file", stream.status, stream.headers, content))
        if stream.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/csv":
            raise bad_response("unexpected_content_type", "the answer is not a CSV file")
        announced = "content-length" in stream.headers
        rows = csv_report.batches(stream.chunks(), offer, reports.columns(offer), reports.FORM, announced=announced)
        async with aclosing(rows) as batches:
            async for batch in batches:
                yield batch
