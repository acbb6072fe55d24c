"""What is recorded of each connector type: one fetch that succeeds, and the calls that its error cases are about."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from app.domain.messages import Offer
from app.ports import Calls, Connector
from app.sandbox.google_ads.accounts import FIRST_CUSTOMER
from app.sandbox.meta.accounts import FIRST_ACCOUNT
from app.sandbox.world import World
from tests.connectors.ads import ads_offer
from tests.connectors.csv_server import csv_offer
from tests.connectors.meta import meta_offer
from tests.connectors.sheets import BOOK, REQUEST, sheets_offer
from tests.connectors.support import facts, offer
from tests.connectors.ttd import ADVERTISER, ttd_offer

DAYS: dict[str, Any] = {"start": date(2026, 11, 1).toordinal(), "end": date(2026, 11, 2).toordinal()}
"""Of every fetch, so that a recording made again is the same."""


_FORM = "CONNECTOR__PROVIDERS__TTD__FORM"
_SYNC_DAYS = "CONNECTOR__PROVIDERS__META__SYNC_DAYS"

Apart = Callable[[Connector, Calls], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Subject:
    """``job`` is the fetch. ``calls``: the adapter's name of a call -> what its method and path look like at the
    sandbox (the first that fits). ``faults``: (route, fault) of the sandbox that are refusals. ``apart``: calls that
    are no part of a fetch, and what makes them. ``prepare`` is told the sandbox's world and the call a case is
    about. ``forms``: fetches that settings make in other ways -> those settings; ``usual`` are those of all others, and
    ``form_of`` says which form a call belongs to."""

    job: Callable[[], Offer]
    calls: Mapping[str, str]
    faults: tuple[tuple[str, str], ...]
    apart: Mapping[str, Apart] = field(default_factory=dict)
    prepare: Callable[[World, str], None] = field(default=lambda _world, _call: None)
    usual: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    form_of: Mapping[str, str] = field(default_factory=dict)

    def patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        """``calls``, compiled."""
        return [(name, re.compile(pattern)) for name, pattern in self.calls.items()]


def _links(world: World, call: str) -> None:
    world.ttd.links = "signed" if call == "signed" else "view"


async def _accounts(connector: Connector, calls: Calls) -> object:
    return await connector.accounts(calls)


def _write(mode: str) -> Apart:
    async def made(connector: Any, calls: Calls) -> object:
        return await connector.write(
            spreadsheet_id=BOOK, request_id=REQUEST, target="Leads!A1", mode=mode, rows=[["a", 1]], calls=calls
        )

    return made


SUBJECTS: Mapping[str, Subject] = {
    "DV360": Subject(
        lambda: offer("start", **DAYS),
        {
            "run": "POST .*:run$",
            "create": "POST .*/queries$",
            "status": "GET .*/queries/.*/reports/",
            "download": "GET /sandbox-reports/",
            "partners": "GET .*/partners$",
            "advertisers": "GET .*/advertisers$",
        },
        (
            ("reports.create", "403_daily"),
            ("reports.create", "403_user_rate"),
            ("reports.create", "403_rate"),
            ("reports.create", "429"),
            ("reports.create", "403_permission"),
            ("reports.create", "token_expired"),
            ("reports.create", "503"),
            ("storage.download", "403_permission"),
        ),
        {"partners": _accounts, "advertisers": _accounts},
    ),
    "GOOGLE_ADS": Subject(
        lambda: ads_offer(account_id=str(FIRST_CUSTOMER), **DAYS),
        {"search_stream": "POST .*:searchStream$", "accessible": "GET .*:listAccessibleCustomers$"},
        (
            ("ads.search_stream", "ads_daily"),
            ("ads.search_stream", "ads_temporary"),
            ("ads.search_stream", "revoked"),
            ("ads.search_stream", "token_expired"),
            ("ads.search_stream", "403_permission"),
            ("ads.search_stream", "internal"),
            ("ads.search_stream", "429"),
            ("ads.search_stream", "403_rate"),
            ("ads.search_stream", "503"),
        ),
        {"accessible": _accounts},
    ),
    "TTD": Subject(
        lambda: ttd_offer(
            "start", connector=facts(connector_type="TTD", account_id=ADVERTISER, time_zone="UTC"), **DAYS
        ),
        {
            "graphql": "POST .*/graphql$",
            "template": "POST .*/reporttemplateheader/query$",
            "schedule": "POST .*/reportschedule$",
            "executions": "POST .*/reportexecution/query/advertisers$",
            "view": "GET .*/view/",
            "signed": "GET /ttd-reports/",
            "partners": "POST .*/partner/query$",
            "advertisers": "POST .*/advertiser/query/partner$",
        },
        (
            ("ttd.schedule", "429_retry_after"),
            ("ttd.download", "403_permission"),
            ("ttd.executions", "403_permission"),
            ("ttd.schedule", "403_permission"),
            ("ttd.template", "token_expired"),
            ("ttd.graphql", "revoked"),
            ("ttd.graphql", "403_rate"),
            ("ttd.graphql", "403_permission"),
            ("ttd.graphql", "internal"),
            ("ttd.schedule", "503"),
        ),
        {"partners": _accounts},
        prepare=_links,
        usual={_FORM: "myreports"},
        forms={"a fetch by GraphQL": {_FORM: "graphql"}},
        form_of={"graphql": "a fetch by GraphQL"},
    ),
    "SHEETS": Subject(
        sheets_offer,
        {
            "stamp": "GET .*/developerMetadata/",
            "read": "GET .*/values",
            "update": "PUT .*/values/",
            "append": "POST .*:batchUpdate$",
            "metadata": "GET .*/spreadsheets/[^/]+$",
        },
        (
            ("sheets.values_batch_get", "429"),
            ("sheets.values_batch_get", "403_rate"),
            ("sheets.values_batch_get", "token_expired"),
            ("sheets.values_batch_get", "403_permission"),
            ("sheets.values_batch_get", "503"),
        ),
        {"append": _write("append"), "update": _write("update")},
    ),
    "CSV_HTTPS": Subject(
        lambda: csv_offer(**DAYS),
        {"file": "GET .*/csv/"},
        (
            ("csv.file", "429_retry_after"),
            ("csv.file", "token_expired"),
            ("csv.file", "403_permission"),
            ("csv.file", "503"),
        ),
    ),
    "META": Subject(
        lambda: meta_offer("start", account_id=str(FIRST_ACCOUNT), **DAYS),
        {
            "create": "POST .*/act_[0-9]+/insights$",
            "sync": "GET .*/act_[0-9]+/insights$",
            "page": "GET .*/[0-9]+/insights$",
            "accounts": "GET .*/me/adaccounts$",
            "status": "GET .*/[0-9]+$",
        },
        (
            ("meta.create", "token_expired"),
            ("meta.create", "403_rate"),
            ("meta.create", "429"),
            ("meta.create", "429_retry_after"),
            ("meta.create", "403_user_rate"),
            ("meta.create", "ads_daily"),
            ("meta.create", "403_daily"),
            ("meta.create", "403_permission"),
            ("meta.page", "less_data"),
            ("meta.create", "failed_report"),
            ("meta.create", "503"),
        ),
        {"accounts": _accounts},
        usual={_SYNC_DAYS: "0"},
        forms={"a fetch without a run": {_SYNC_DAYS: "3"}},
        form_of={"sync": "a fetch without a run"},
    ),
}
"""A connector type without an entry is not recorded, which a test refuses."""
