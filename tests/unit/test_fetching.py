"""One step from offer to outcome: the order of looking, calling and writing, and what each way of ending is called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.connectors.dv360.client import Dv360Connector
from app.domain.errors import ErrorClass, Failure, PermitDenied, ProviderError
from app.domain.messages import Offer, StepOutcome, StoredFile, Write
from app.domain.model import ReportType
from app.ports import Calls, Ready, ResultsUnavailable, Running, Writer
from app.services.fetching import STORE_RETRY_S, run_step
from tests.connectors.support import TestClock, offer

FILE = StoredFile("file:///x", 1, 1, 0, 10, "sha256:0", ((1, 0, "0" * 16),), {})


@dataclass
class Steps(Dv360Connector):
    """A connector whose step answers, or raises, ``answer``."""

    answer: Any
    order: list[str]

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        self.order.append("step")
        if isinstance(self.answer, BaseException):
            raise self.answer
        assert isinstance(self.answer, Running | Ready)
        return self.answer


@dataclass
class Store:
    order: list[str]
    found: StoredFile | None = None
    refused: Exception | None = None

    def key(self, offer: Offer) -> str:
        return "key"

    async def find(self, offer: Offer) -> StoredFile | None:
        self.order.append("find")
        return self.found

    async def write(self, offer: Offer, report: ReportType, ready: Ready) -> StoredFile:
        self.order.append(f"write {report.name}")
        if self.refused is not None:
            raise self.refused
        return FILE

    async def check(self) -> None:
        return


@dataclass
class Made:
    """Calls nobody makes; it only says how many were made."""

    made: int = 3
    first_at: int | None = 1_000
    request: Any = None
    stream: Any = None


@dataclass
class Room:
    order: list[str] = field(default_factory=list)

    async def run(self, answer: Any, step: str = "poll", **store: Any) -> StepOutcome | None:
        return await run_step(
            offer(step),
            connector=Steps(answer, self.order),
            calls=Made(),
            results=Store(self.order, **store),
            clock=TestClock(),
            worker="w1",
            crash=lambda point: self.order.append(f"crash {point}"),
        )


async def nothing() -> AsyncIterator[Any]:
    return
    yield


def ready() -> Ready:
    return Ready(nothing(), {})


async def test_ready_rows_are_written_and_reported() -> None:
    room = Room()
    outcome = await room.run(ready())
    assert outcome is not None
    assert room.order == ["find", "step", "write campaign_performance", "crash object_written"]
    assert (outcome.file, outcome.failure, outcome.remote, outcome.released) == (FILE, None, None, False)
    assert (outcome.batch_id, outcome.epoch, outcome.step_no, outcome.worker) == ("bat_" + "a" * 32, 3, 1, "w1")
    assert (outcome.calls, outcome.first_call_at) == (3, 1_000)
    assert outcome.ended_at is not None


async def test_object_of_an_earlier_worker_ends_the_step_before_any_call() -> None:
    room = Room()
    outcome = await room.run(ready(), found=FILE)
    assert outcome is not None
    assert outcome.file == FILE
    assert room.order == ["find"]


async def test_a_step_that_cannot_write_does_not_look() -> None:
    room = Room()
    outcome = await room.run(Running({"query_id": "1"}, 40, 7.5), step="start")
    assert outcome is not None
    assert room.order == ["step"]
    assert (outcome.remote, outcome.percent, outcome.poll_after_s) == ({"query_id": "1"}, 40, 7.5)
    assert (outcome.file, outcome.failure) == (None, None)


async def test_an_earlier_step_that_can_write_looks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "storing_steps", ("start", "poll"), raising=False)
    room = Room()
    outcome = await room.run(ready(), step="start", found=FILE)
    assert (room.order, outcome and outcome.file) == (["find"], FILE)
    room = Room()
    await room.run(ready(), step="start")
    assert room.order == ["find", "step", "write campaign_performance", "crash object_written"]


@pytest.mark.parametrize("where", ["step", "write"])
async def test_provider_errors_are_outcomes(where: str) -> None:
    failure = Failure(ErrorClass.PROVIDER_RESPONSE, "truncated_report", "cut", retryable=True, system=True)
    error = ProviderError(failure)
    outcome = await (Room().run(error) if where == "step" else Room().run(ready(), refused=error))
    assert outcome is not None
    assert (outcome.failure, outcome.file, outcome.calls) == (failure, None, 3)


@pytest.mark.parametrize("why", ["quota", "circuit"])
@pytest.mark.parametrize("where", ["step", "write"])
async def test_no_permit_hands_the_step_back(where: str, why: str) -> None:
    denied = PermitDenied(why, 4.5)
    outcome = await (Room().run(denied) if where == "step" else Room().run(ready(), refused=denied))
    assert outcome is not None
    assert (outcome.released, outcome.not_before_s, outcome.failure) == (True, 4.5, None)


async def test_a_store_that_is_away_costs_no_attempt() -> None:
    outcome = await Room().run(ready(), refused=ResultsUnavailable("GenericError"))
    assert outcome is not None
    assert (outcome.released, outcome.not_before_s, outcome.failure) == (True, STORE_RETRY_S, None)


async def test_a_lost_lease_says_nothing() -> None:
    assert await Room().run(PermitDenied("stale")) is None


@pytest.mark.parametrize("where", ["step", "write"])
async def test_anything_else_is_internal_and_names_no_secret(where: str, caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("GET https://x/?signature=canary")
    outcome = await (Room().run(error) if where == "step" else Room().run(ready(), refused=error))
    assert outcome is not None
    assert outcome.failure is not None
    assert (outcome.failure.error_class, outcome.failure.retryable) == (ErrorClass.INTERNAL, True)
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert "fetching.py" in str(vars(record))
    assert "canary" not in repr(outcome) + caplog.text + repr(vars(record))


async def test_cancellation_is_passed_on() -> None:
    with pytest.raises(asyncio.CancelledError):
        await Room().run(asyncio.CancelledError())


@dataclass
class Written(Steps):
    """The same that can be written to: keeps what it was told, answers or raises ``answer``."""

    told: list[dict[str, Any]] = field(default_factory=list)

    async def write(self, *, calls: Calls, **what: Any) -> int:
        self.told.append(what)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return int(self.answer)


def to_write(**changes: Any) -> Offer:
    return replace(offer("write"), write=Write("req_1", "Leads!A1", "append", 2, '[["a",1],[null,true]]'), **changes)


async def write_with(connector: Any, order: list[str] | None = None) -> StepOutcome | None:
    return await run_step(
        to_write(), connector=connector, calls=Made(), results=Store(order or []), clock=TestClock(), worker="w"
    )


async def test_a_write_calls_the_writer_and_nobody_else() -> None:
    order: list[str] = []
    connector = Written(2, order)
    outcome = await write_with(connector, order)
    assert outcome is not None
    assert (outcome.rows_written, outcome.file, outcome.failure, outcome.calls, outcome.first_call_at) == (
        2,
        None,
        None,
        3,
        1_000,
    )
    assert order == []
    assert connector.told == [
        {
            "spreadsheet_id": to_write().connector.account_id,
            "request_id": "req_1",
            "target": "Leads!A1",
            "mode": "append",
            "rows": [["a", 1], [None, True]],
        }
    ]


async def test_a_write_fails_as_a_fetch_does() -> None:
    rejected = Failure(ErrorClass.INVALID_REQUEST, "sheet_write_rejected", "No.", retryable=False)
    outcome = await write_with(Written(ProviderError(rejected), []))
    assert outcome is not None
    assert (outcome.failure, outcome.rows_written) == (rejected, None)
    handed_back = await write_with(Written(PermitDenied("quota", 3.0), []))
    assert handed_back is not None
    assert (handed_back.released, handed_back.not_before_s) == (True, 3.0)
    assert await write_with(Written(PermitDenied("stale"), [])) is None


async def test_a_connector_that_cannot_write_says_so_and_leaves_it_to_others() -> None:
    outcome = await write_with(Steps(None, []))
    assert outcome is not None
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.retryable) == ("write_not_supported", True)
    assert not isinstance(Steps(None, []), Writer)
    assert isinstance(Written(None, []), Writer)
