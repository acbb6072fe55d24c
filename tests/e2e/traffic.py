"""Commands as an upstream service sends them: a plain Kafka producer, JSON and Avro, several thousand a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, product
from typing import Any

from aiokafka import AIOKafkaProducer
from uuid_utils import uuid7

from app.streams.topics import Names
from app.streams.wire import decode_command, encode_avro, encode_json
from tests.e2e.evidence import Account

REPORT_TYPES = ("campaign_performance", "account_performance")
_PRIORITIES = ("normal", "scheduled", "scheduled", "backfill")
_CHUNK = 2_000
_OLDEST_DAYS = 700
_YOUNGEST_DAYS = 40
"""Days between are final at the provider, so a day that was read once is never read again."""

Encoded = tuple[bytes, bytes | None]
"""Key and value of a command record."""


def today() -> date:
    """Today in UTC."""
    return datetime.now(UTC).date()


def new_id() -> str:
    """A request id as producers should make it: a UUIDv7."""
    return f"req_{uuid7().hex}"


def fetch(account: Account, start: date, end: date, **more: Any) -> dict[str, Any]:
    """A fetch command; ``more`` overrides its fields."""
    return {
        "request_id": new_id(),
        "org_id": account.org_id,
        "connector_id": account.connector_id,
        "report_type": REPORT_TYPES[0],
        "date_range": {"start": start.isoformat(), "end": end.isoformat()},
        "fields": [],
        "priority": "normal",
        **more,
    }


def encoded(body: dict[str, Any], *, avro: bool) -> Encoded:
    """The record of a fetch command."""
    value = encode_avro("FetchCommand", body) if avro else encode_json("FetchCommand", body)
    return str(body["connector_id"]).encode(), value


@dataclass(frozen=True, slots=True)
class Mix:
    """A load: ``count`` records over the accounts, in ``eras`` one after the other, each with ``span_days`` days of its
    own that ranges of up to ``longest_days`` overlap in; ``repeats`` is the share of records that come twice."""

    count: int
    eras: int = 1
    span_days: int = 40
    longest_days: int = 14
    repeats: float = 0.02


def overlapping(accounts: Sequence[Account], mix: Mix, rng: random.Random) -> Iterator[Encoded]:
    """Overlapping ranges, three priorities, both report types, JSON and Avro in turn, some records twice."""
    earlier: list[Encoded] = []
    for at in range(mix.count):
        if earlier and rng.random() < mix.repeats:
            yield rng.choice(earlier)
            continue
        account = accounts[at % len(accounts)]
        start, end = _range(at * mix.eras // mix.count, mix, rng)
        body = fetch(
            account,
            start,
            end,
            report_type=REPORT_TYPES[at // len(accounts) % 8 == 7],
            priority=rng.choice(_PRIORITIES),
            fields=["clicks", "media_cost"] if rng.random() < 0.2 else [],
            labels={"n": str(at)},
        )
        record = encoded(body, avro=at % 2 == 0)
        if len(earlier) < 500:
            earlier.append(record)
        yield record


def _range(era: int, mix: Mix, rng: random.Random) -> tuple[date, date]:
    first = today() - timedelta(days=_OLDEST_DAYS - era * (mix.span_days + 1))
    if era * (mix.span_days + 1) + mix.span_days > _OLDEST_DAYS - _YOUNGEST_DAYS:
        raise ValueError("so many eras do not fit into what the provider keeps")
    length = rng.randint(1, mix.longest_days)
    start = first + timedelta(days=rng.randint(0, mix.span_days - length))
    return start, start + timedelta(days=length - 1)


def nested(
    accounts: Sequence[Account], number: int, rng: random.Random, *, each: int = 5, span_days: int = 8
) -> list[dict[str, Any]]:
    """``each`` commands per account and report type, in days that are ``number``'s own: first the one that asks for
    everything, then such as lie within it. Whatever is killed meanwhile, one report for each of the pairs is enough."""
    if (number + 1) * span_days > _OLDEST_DAYS - _YOUNGEST_DAYS:
        raise ValueError("so many numbers do not fit into what the provider keeps")
    first = today() - timedelta(days=_OLDEST_DAYS - number * span_days)
    bodies = []
    for at in range(each):
        for account, report_type in product(accounts, REPORT_TYPES):
            length = span_days if at == 0 else rng.randint(1, span_days)
            start = first + timedelta(days=rng.randint(0, span_days - length))
            more = {"fields": ["clicks", "media_cost"]} if at == 0 or rng.random() < 0.2 else {}
            end = start + timedelta(days=length - 1)
            priority = rng.choice(_PRIORITIES)
            bodies.append(fetch(account, start, end, report_type=report_type, priority=priority, **more))
    return bodies


def own_days(account: Account, number: int, **more: Any) -> dict[str, Any]:
    """A command whose days overlap with no other number's: nothing can be merged or reused."""
    day = today() - timedelta(days=_YOUNGEST_DAYS + 2 * number)
    return fetch(account, day, day, **more)


async def produce(
    bootstrap: str,
    prefix: str,
    records: Iterable[Encoded],
    *,
    per_second: float | None = None,
    said: Callable[[int], None] = lambda _count: None,
) -> int:
    """Sends all records and waits until the broker has them; how many there were. ``said`` hears the count about once a
    second."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, enable_idempotence=True)
    await producer.start()
    try:
        return await _send_all(producer, Names(prefix).commands, iter(records), per_second, said)
    finally:
        await producer.stop()


async def _send_all(
    producer: AIOKafkaProducer,
    topic: str,
    records: Iterator[Encoded],
    per_second: float | None,
    said: Callable[[int], None],
) -> int:
    began = told = time.monotonic()
    count = 0
    step = _CHUNK if per_second is None else max(1, int(per_second / 20))
    while chunk := list(islice(records, step)):
        waiting = [await producer.send(topic, value, key=key) for key, value in chunk]
        await asyncio.gather(*waiting)
        count += len(chunk)
        if per_second is not None:
            await asyncio.sleep(max(0.0, began + count / per_second - time.monotonic()))
        if time.monotonic() - told > 1:
            told = time.monotonic()
            said(count)
    said(count)
    return count


def ids_of(records: Iterable[Encoded]) -> set[str]:
    """The request ids of good records."""
    return {str(decode_command(value)["request_id"]) for _, value in records}
