"""Reads what a run left behind: topics from explicit offsets, read_committed; the sandbox's log and truth over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.domain.model import PARTITIONS
from app.streams.codecs import decode_event
from app.streams.topics import Names
from tests.e2e import check_ledger
from tests.e2e.evidence import Account, Cells, CommandRecord, Dead, Evidence, Rule, told, true_cells

_QUIET_S = 5.0
"""A partition's end may be a marker that is never delivered; so long without a record is the end as well."""
_TRUTH_DAYS = 120
_LEDGER_S = 30.0
"""A permit that never comes back is written when its call must have ended: 10 s and the call's 5 after its grant."""


async def read_topic(bootstrap: str, topic: str) -> AsyncIterator[Any]:
    """Every record of a topic from its first offset to the end it had when this began, read_committed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 2**20,
        fetch_max_wait_ms=200,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        consumer.assign(tps)
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        async for record in _to_the_end(consumer, ends):
            yield record
    finally:
        await consumer.stop()


async def _to_the_end(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Any]:
    heard = time.monotonic()
    while True:
        positions = {tp: await consumer.position(tp) for tp in ends}
        if all(positions[tp] >= end for tp, end in ends.items()) or time.monotonic() - heard > _QUIET_S:
            return
        for records in (await consumer.getmany(timeout_ms=500, max_records=5_000)).values():
            heard = time.monotonic()
            for record in records:
                yield record


async def read_topics(bootstrap: str, prefix: str, evidence: Evidence) -> None:
    """Fills the evidence with commands, events, dead letters, views and connectors."""
    names = Names(prefix)
    shared: dict[Any, Any] = {}
    async for r in read_topic(bootstrap, names.commands):
        evidence.commands.append(CommandRecord((r.topic, r.partition, r.offset), r.timestamp, r.value))
    async for r in read_topic(bootstrap, names.events):
        evidence.events.append(told(r.partition, r.offset, decode_event(r.value), shared))
    async for r in read_topic(bootstrap, names.dlq):
        evidence.dead.append(dead_letter(r.headers, r.value))
    async for r in read_topic(bootstrap, names.requests):
        if r.value is not None and r.key is not None:
            evidence.views[r.key.decode()] = json.loads(r.value)["state"]
    async for r in read_topic(bootstrap, names.connectors):
        if r.value is not None:
            row = json.loads(r.value)
            evidence.accounts[row["connector_id"]] = Account(
                row["connector_id"], row["org_id"], row["account_id"], row["time_zone"]
            )


def dead_letter(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Dead:
    """A dead-letter record by the newest reason in its headers."""
    said = {name: content.decode("utf-8", "replace") for name, content in headers}
    numbers = said.get("source_partition", ""), said.get("source_offset", "")
    place = (said["source_topic"], int(numbers[0]), int(numbers[1])) if all(n.isdigit() for n in numbers) else None
    return Dead(place, said.get("error_code", ""), said.get("error_detail", ""), value)


def ask(sandbox: str, door: str, **query: Any) -> Any:
    """The answer of one of the sandbox's own doors."""
    text = f"?{urlencode(query)}" if query else ""
    with urlopen(f"{sandbox}/_sandbox/{door}{text}", timeout=120) as answer:  # noqa: S310 - the sandbox's own address
        return json.load(answer)


def read_sandbox(sandbox: str, evidence: Evidence) -> None:
    """Fills the evidence with arrivals, quotas and reports."""
    evidence.calls = ask(sandbox, "calls", since=0)["calls"]
    evidence.reports = ask(sandbox, "reports")["reports"]
    rows = ask(sandbox, "quotas")["quotas"]
    evidence.own_over = sum(row["over"] for row in rows)
    names = ("name", "group", "scope", "value", "limit", "period_s", "calendar_zone")
    evidence.rules = [Rule(**{name: row[name] for name in names}) for row in rows]


@dataclass(slots=True)
class SandboxTruth:
    """``evidence.Truth`` from ``GET /_sandbox/truth``, asked in pieces and kept."""

    sandbox: str
    reports: Sequence[Mapping[str, Any]]
    _days: dict[str, dict[date, list[Cells]]] = field(default_factory=lambda: defaultdict(dict))
    ask: Callable[..., Any] = ask

    def __call__(self, report: str, account: str, first: date, last: date) -> Mapping[date, Sequence[Cells]]:
        if report:
            return self._as_run(report, account, first, last)
        known = self._days[account]
        missing = [day for day in range(first.toordinal(), last.toordinal() + 1) if date.fromordinal(day) not in known]
        if missing:
            # One question for many neighbours: ranges of one account lie close together.
            start = missing[0]
            end = max(missing[-1], min(start + _TRUTH_DAYS, date.today().toordinal()))  # noqa: DTZ011
            known |= {date.fromordinal(day): [] for day in range(start, end + 1)}
            known |= self._fetch(account, date.fromordinal(start), date.fromordinal(end))
        return known

    def _as_run(self, report: str, account: str, first: date, last: date) -> Mapping[date, Sequence[Cells]]:
        if not any(one["report_id"] == report for one in self.reports):
            return {}
        return self._fetch(account, first, last, report_id=report)

    def _fetch(self, account: str, first: date, last: date, **more: Any) -> dict[date, list[Cells]]:
        rows = self.ask(self.sandbox, "truth", advertiser_id=account, start=first, end=last, **more)["rows"]
        days: dict[date, list[Cells]] = {}
        for row in rows:
            days.setdefault(date.fromisoformat(row["date"]), []).append(true_cells(row))
        return days


async def read_ledger(bootstrap: str, prefix: str, evidence: Evidence, *, patience_s: float = _LEDGER_S) -> None:
    """Fills the evidence with the ledger's entries; reads again while calls are missing that may still be written."""
    deadline = time.monotonic() + patience_s
    while True:
        records = [json.loads(r.value) async for r in read_topic(bootstrap, Names(prefix).usage)]
        evidence.usage = [one["v"] for one in records if one["k"] == "Entry"]
        if not check_ledger.short(evidence) or time.monotonic() > deadline:
            return
        await asyncio.sleep(1.0)


async def gather(bootstrap: str, prefix: str, sandbox: str) -> Evidence:
    """Everything that can be read from outside."""
    evidence = Evidence()
    await read_topics(bootstrap, prefix, evidence)
    await asyncio.to_thread(read_sandbox, sandbox, evidence)
    await read_ledger(bootstrap, prefix, evidence)
    return evidence
