"""What the tests of Google Sheets share: offers, and the adapter against the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow.parquet as pq
import pytest

from app.config import Settings
from app.connectors.base import Limits, ProviderHttp
from app.connectors.registry import hosts_of
from app.connectors.session import provider_session
from app.connectors.sheets.client import SheetsConnector
from app.domain.commands import Cell
from app.domain.errors import Failure, ProviderError
from app.domain.messages import Offer, StepOutcome
from app.sandbox.fixture import RunningSandbox, running_sandbox
from app.sandbox.settings import SandboxSettings
from app.services.fetching import run_step
from app.storage.results import ObjectResultStore
from tests.connectors.rig import google_token
from tests.connectors.support import START, CountingPermits, TestClock, Tokens, facts, offer

BOOK = "1CRM-sheet_of-the-sandbox"
REQUEST = "req_0190163d8694739b9c21b7cf0a5b11a7"


def sheets_offer(*ranges: str, account_id: str = BOOK, **changes: Any) -> Offer:
    known: dict[str, Any] = {
        "connector": facts(connector_type="SHEETS", account_id=account_id),
        "report_type": "table",
        "start": START,
        "end": START,
        "fields": ranges,
    }
    return offer(changes.pop("step", "start"), **(known | changes))


@dataclass
class Sheets:
    """The adapter, as a worker uses it, and the sandbox it calls."""

    sandbox: RunningSandbox
    session: aiohttp.ClientSession
    tokens: Tokens
    folder: Path
    permits: CountingPermits
    clock: TestClock

    @property
    def connector(self) -> SheetsConnector:
        return SheetsConnector(api_url=str(Settings.load(self.sandbox.env).providers.sheets.api_url))

    def calls(self, job: Offer) -> ProviderHttp:
        hosts = hosts_of(Settings.load(self.sandbox.env))["SHEETS"]
        return ProviderHttp(
            session=self.session, permits=self.permits, tokens=self.tokens, clock=self.clock, offer=job, hosts=hosts,
            limits=Limits(),
        )  # fmt: skip

    async def run(self, job: Offer) -> StepOutcome:
        outcome = await run_step(
            job,
            connector=self.connector,
            calls=self.calls(job),
            results=ObjectResultStore(f"file://{self.folder}"),
            clock=self.clock,
            worker="w1",
        )
        assert outcome is not None
        assert self.permits.outstanding == []
        return outcome

    async def rows(self, job: Offer) -> list[dict[str, Any]]:
        outcome = await self.run(job)
        assert outcome.file is not None, outcome.failure
        found: list[dict[str, Any]] = pq.read_table(outcome.file.uri.removeprefix("file://")).to_pylist()
        return found

    async def failure(self, job: Offer) -> Failure:
        failure = await self.failure_of(job)
        assert list(self.folder.rglob("*.parquet")) == []
        return failure

    async def failure_of(self, job: Offer) -> Failure:
        outcome = await self.run(job)
        assert outcome.failure is not None
        return outcome.failure

    async def write(
        self,
        rows: Sequence[Sequence[Cell]],
        *,
        target: str = "Leads!A1",
        mode: str = "append",
        request_id: str = REQUEST,
        spreadsheet_id: str = BOOK,
    ) -> int:
        calls = self.calls(sheets_offer(account_id=spreadsheet_id))
        try:
            return await self.connector.write(
                spreadsheet_id=spreadsheet_id, request_id=request_id, target=target, mode=mode, rows=rows, calls=calls
            )
        finally:
            assert self.permits.outstanding == []

    async def refused(self, rows: Sequence[Sequence[Cell]], **changes: Any) -> Failure:
        with pytest.raises(ProviderError) as raised:
            await self.write(rows, **changes)
        return raised.value.failure

    def stored(self, title: str = "Leads", spreadsheet_id: str = BOOK) -> dict[int, dict[int, Any]]:
        """Row -> column -> what the provider keeps there, formulas as they are."""
        found: dict[int, dict[int, Any]] = {}
        for (row, column), value in sorted(self.sandbox.sheet(spreadsheet_id, title).cells.items()):
            found.setdefault(row, {})[column] = value
        return found


@asynccontextmanager
async def sheets(folder: Path, **settings: Any) -> AsyncIterator[Sheets]:
    async with (
        running_sandbox(SandboxSettings(**settings)) as sandbox,
        provider_session(["127.0.0.1"]) as session,
    ):
        clock = TestClock()
        tokens = Tokens((await google_token(sandbox), await google_token(sandbox)))
        yield Sheets(sandbox, session, tokens, folder, CountingPermits(clock), clock)
