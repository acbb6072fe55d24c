"""``connector demo``: the main job once, on servers of this machine, ending by itself.

Two accounts are connected, twenty commands with overlapping ranges are published on Kafka as any upstream service
would, and what comes back is shown: events, files, and the provider's own count of calls. A demo, not a test: it
asserts nothing but that every command got its terminal event.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from aiokafka import TopicPartition

from app.cli.local import LocalRun
from app.config import Settings
from app.domain.events import TERMINAL_TYPES
from app.domain.model import PARTITIONS
from app.storage.postgres.migrations import migrate
from app.streams import kafka, topics
from app.streams.kafka import Publisher, Record
from app.streams.topics import Names
from app.streams.wire import decode_event

COMMANDS = 20
ACCOUNTS = ("4567", "4568")
LIMIT_S = 90.0
CALLS_OF_ONE_FETCH = 3
"""Create, run and at least one poll: what each command would cost if it were fetched alone."""


@dataclass(slots=True)
class Seen:
    """What came back: terminal events by request, data set versions, and when the first data was there."""

    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    first_data_s: float | None = None


def run(*, as_json: bool = False) -> int:
    """Runs the demo in a folder of its own; 0 if every command ended with data."""
    say: Callable[[str], None] = (lambda _line: None) if as_json else _say
    with tempfile.TemporaryDirectory(prefix="connector-demo-") as folder:
        began = time.monotonic()
        say("Starting PostgreSQL, Valkey and Kafka on free ports of this machine ...")
        with LocalRun(Path(folder), say, http_port=0, overrides=_quick()) as local:
            sandbox = local.start_sandbox("--report-seconds", "1")
            local.env |= _quick()
            settings = Settings.load({**os.environ, **local.env})
            asyncio.run(_prepare(settings))
            local.start_worker()
            say(f"broker: {local.stack.broker_name}; one worker, one simulated provider; ready to connect accounts")
            connectors = [_connect(local.env, Path(folder), account, say) for account in ACCOUNTS]
            say(f"Publishing {COMMANDS} fetch commands with overlapping ranges on {_names(settings).commands} ...")
            seen = asyncio.run(_publish_and_watch(settings, connectors, say))
            calls = _calls(str(sandbox["api_url"]))
            return _report(seen, calls, Path(folder), time.monotonic() - began, as_json=as_json)


def _quick() -> dict[str, str]:
    """The simulated report takes a second, so polls need not wait for minutes."""
    return {"CONNECTOR__PROVIDERS__DV360__POLL_SCHEDULE_S": "1,1,2,5", "CONNECTOR__LOG__LEVEL": "WARNING"}


def _names(settings: Settings) -> Names:
    return Names(settings.streams.topic_prefix)


async def _prepare(settings: Settings) -> None:
    await migrate(settings.postgres.dsn.get_secret_value())
    await topics.apply(settings)


def _connect(env: Mapping[str, str], folder: Path, account: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Connects an account as an operator would: through the command line, with a credentials file."""
    file = folder / "grant.json"
    file.write_text(json.dumps({"refresh_token": "1//sandbox-alice"}), encoding="utf-8")
    argv = ["connectors", "add", "--org", "1", "--type", "DV360", "--account", account, "--credentials", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "app", *argv, "--json"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"connector {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    facts: dict[str, Any] = json.loads(done.stdout)
    say(f"  connector connectors add --org 1 --type DV360 --account {account} ...  -> {facts['connector_id']}")
    return facts


def commands(connectors: list[dict[str, Any]], today: datetime) -> list[dict[str, Any]]:
    """Twenty commands: dashboards of two accounts asking for much the same weeks."""
    found = []
    for i in range(COMMANDS):
        start, end = today - timedelta(days=7 + 7 * (i % 4)), today - timedelta(days=1 + i % 3)
        found.append(
            {
                "type": "fetch",
                "org_id": 1,
                "connector_id": connectors[i % len(connectors)]["connector_id"],
                "report_type": "campaign_performance",
                "date_range": {"start": start.date().isoformat(), "end": end.date().isoformat()},
                "fields": ["impressions", "clicks", "spend"],
                "priority": ("normal", "scheduled")[i % 2],
                "labels": {"dashboard": f"d{i:02d}"},
            }
        )
    return found


async def _publish_and_watch(settings: Settings, connectors: list[dict[str, Any]], say: Callable[[str], None]) -> Seen:
    broker, names = kafka.broker_of(settings), _names(settings)
    publisher, consumer = Publisher(broker), kafka.reader(broker, fetch_max_wait_ms=200)
    await publisher.start()
    await consumer.start()
    seen, began = Seen(), time.monotonic()
    try:
        await kafka.from_start(consumer, [TopicPartition(names.events, p) for p in range(PARTITIONS)])
        made = commands(connectors, datetime.now(UTC))
        await publisher.send(Record(names.commands, json.dumps(c).encode(), c["connector_id"].encode()) for c in made)
        while len(seen.ended) < COMMANDS and time.monotonic() - began < LIMIT_S:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    _note(seen, decode_event(record.value), time.monotonic() - began, say)
    finally:
        await kafka.close(consumer)
        await publisher.stop()
    return seen


def _note(seen: Seen, event: Mapping[str, Any], at_s: float, say: Callable[[str], None]) -> None:
    data, kind = event["data"], event["type"]
    if kind == "dataset_updated":
        seen.versions.append(dict(data))
        days = f"{data['files'][0]['from']} .. {data['files'][0]['to']}"
        say(f"  {at_s:5.1f} s  dataset_updated  version {data['version']}, {days}, {data['files'][0]['rows']} rows")
    elif kind == "rate_limit_hit":
        say(f"  {at_s:5.1f} s  rate_limit_hit   {data['bucket'].rstrip('|')}: {data['limit']} per {data['period_s']} s")
    elif kind in TERMINAL_TYPES:
        seen.ended[event["request_id"]] = {**data, "type": kind}
        if kind == "data_fetched":
            seen.first_data_s = seen.first_data_s or at_s
            merged = f"with {len(data['batched_with'])} others" if data["batched_with"] else "from files already there"
            if data["batch_id"] and not data["batched_with"]:
                merged = "alone"
            rows = f"{data['records_fetched']} rows, {merged}"
            say(f"  {at_s:5.1f} s  data_fetched     {event['request_id'][:12]}...  {rows}")
        else:
            say(f"  {at_s:5.1f} s  {kind}  {event['request_id']}  {data}")


def _calls(api_url: str) -> list[dict[str, Any]]:
    """The provider's own arrival log."""
    with urlopen(f"{api_url}/_sandbox/calls?since=0", timeout=10) as answer:  # noqa: S310 - the sandbox on this machine
        content = json.loads(answer.read())
    calls: list[dict[str, Any]] = content["calls"] if isinstance(content, dict) else content
    return calls


def _report(seen: Seen, calls: list[dict[str, Any]], folder: Path, took_s: float, *, as_json: bool) -> int:
    spent = [c for c in calls if c["quota_group"] == "reports"]
    alone = COMMANDS * CALLS_OF_ONE_FETCH
    good = [d for d in seen.ended.values() if d["type"] == "data_fetched"]
    files = sorted({f["uri"]: f for d in good for f in d["files"]}.values(), key=lambda f: str(f["uri"]))
    told = {
        "commands": COMMANDS,
        "data_fetched": len(good),
        "dataset_versions": len(seen.versions),
        "provider_calls": len(spent),
        "provider_calls_if_each_were_fetched_alone": alone,
        "calls_saved": alone - len(spent),
        "calls_over_quota": sum(bool(c["over_quota"]) for c in calls),
        "files": len(files),
        "first_data_s": round(seen.first_data_s or 0.0, 1),
        "took_s": round(took_s, 1),
    }
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _table(told, files, folder)
    return 0 if len(good) == COMMANDS else 1


def _table(told: Mapping[str, Any], files: list[dict[str, Any]], folder: Path) -> None:
    _say("")
    for name, value in told.items():
        _say(f"  {name.replace('_', ' '):<44}{value}")
    if files:
        _say(f"\n  first rows of {str(files[0]['uri']).rpartition('/')[2]}:")
        _rows(Path(str(files[0]["uri"]).removeprefix("file://").removeprefix("file:")))
    _say("\n  Everything that was started is stopped; its data went with it. Next: make up, then README, One request")
    del folder


def _rows(path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["date", "campaign_id", "impressions", "clicks", "spend"]).slice(0, 3)
    for row in table.to_pylist():
        _say("    " + "  ".join(f"{name}={value}" for name, value in row.items()))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
