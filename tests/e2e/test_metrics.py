"""A running worker's metrics, as a scraper sees them while it works and after."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.streams.kafka import Broker, Publisher, Record
from app.streams.wire import decode_command
from app.telemetry.metrics import DEFINITIONS, PREFIX
from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.scenarios import RAISED, SANDBOX
from tests.e2e.traffic import Mix
from tests.e2e.watching import watching
from tests.e2e.world import World, world

pytestmark = pytest.mark.timeout(180)
Scraped = Mapping[str, float]
GAUGES = ("queue_depth", "live_requests", "runnable_fetches", "fetch_steps_running", "consumer_lag", "projection_lag")


async def scrape(made: World) -> dict[str, float]:
    """Name without prefix, and name|label values, -> sum of its samples."""
    url = f"http://127.0.0.1:{made.lives['w1'].port}/metrics"
    body = await asyncio.to_thread(lambda: urlopen(url, timeout=10).read().decode())
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            name = sample.name.removeprefix(PREFIX)
            found[name] += sample.value
            for value in sample.labels.values():
                found[f"{name}|{value}"] += sample.value
    return found


async def watched(made: World, ended: asyncio.Task[None]) -> dict[str, float]:
    """The largest value of each gauge until the work is done."""
    most: dict[str, float] = defaultdict(float)
    while not ended.done():
        for name, value in (await scrape(made)).items():
            most[name] = max(most[name], value)
        await asyncio.wait([ended], timeout=0.3)
    await ended
    return most


async def at_rest(made: World) -> dict[str, float]:
    """A scrape after what follows the last event, a commit and a row in PostgreSQL, has had its time."""
    seen = await scrape(made)
    async with asyncio.timeout(15):
        while any(seen[name] for name in GAUGES):
            await asyncio.sleep(0.2)
            seen = await scrape(made)
    return seen


def fetch_again(records: list[traffic.Encoded]) -> traffic.Encoded:
    """The first of the commands once more under an id of its own: all its days are there by now."""
    body = decode_command(records[0][1])
    return traffic.encoded({**body, "request_id": traffic.new_id()}, avro=False)


async def test_what_a_scraper_sees_is_what_happened(stack: Stack, tmp_path: Path) -> None:
    settings = {**RAISED, "CONNECTOR__WORKER__MAX_STEPS": "1"}
    async with world(stack.env(), tmp_path, sandbox=SANDBOX, settings=settings, connectors=8) as made:
        records = list(traffic.overlapping(made.accounts, Mix(40, repeats=0.0), random.Random(7)))
        await made.start("w1")
        async with watching(made.bootstrap, made.prefix) as ends:
            await traffic.produce(made.bootstrap, made.prefix, [*records, (b"x", b"{")])
            publisher = Publisher(Broker(made.bootstrap))
            await publisher.start()
            await publisher.send([Record(f"{made.prefix}planner", b'{"k":"Ask","v":1}', None, 0)])
            await publisher.stop()
            done = asyncio.create_task(ends.all_of(traffic.ids_of(records), stall_s=60.0))
            most = await watched(made, done)
            again = fetch_again(records)
            await traffic.produce(made.bootstrap, made.prefix, [again])
            await ends.all_of(traffic.ids_of([again]), stall_s=60.0)
        rest = await at_rest(made)
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
    arrived = Counter(call["route"] for call in calls)
    print({name: most[name] for name in GAUGES}, arrived)
    assert {name: most[name] for name in GAUGES if name != "consumer_lag" and not most[name]} == {}
    assert {name: rest[name] for name in GAUGES if rest[name]} == {}
    assert {"consumer_lag|commands", "consumer_lag|planner"} <= set(rest)
    assert rest["fetch_requests_total|completed"] == rest["events_published_total|data_fetched"] == len(records) + 1
    assert rest["commands_total|unreadable"] == rest["dlq_total"] == rest["unreadable_records_total|planner"] == 1
    assert rest["events_published_total|dataset_updated"] == rest["fetch_duration_seconds_count"] > 0
    assert rest["provider_requests_total|200"] == sum(arrived.values()) - arrived["oauth.token"]
    assert rest["token_refresh_total|ok"] == arrived["oauth.token"]
    assert rest["reused_days_total"] >= 1
    assert 0 < rest["rate_limit_remaining_ratio|reports_per_day"] < 1
    moved = {name.removesuffix("_count") for seen in (most, rest) for name, value in seen.items() if value}
    # A lag may be over between two looks; no provider fails here, and no rows are old: both have tests of their own.
    assert {d.name for d in DEFINITIONS} - moved <= {"consumer_lag", "circuit_state", "old_rows_total"}
