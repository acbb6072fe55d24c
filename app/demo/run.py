"""Starts everything, plays, draws the table, and stops everything: the exit code says whether all went as it should."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from app.cli.failures import NOT_READY, CommandFailed
from app.cli.issuer import DevelopmentIssuer
from app.cli.local import LocalRun
from app.config import Settings
from app.connecting import connecting
from app.demo import naive, report, story
from app.demo.acts import Play, Told
from app.demo.events import Seen, following
from app.demo.screen import Screen
from app.demo.service import Service
from app.domain.model import ConnectorFacts
from app.storage.postgres.database import Database
from app.storage.postgres.migrations import migrate
from app.storage.postgres.organizations import put_organization
from app.streams import topics
from deploy.local.processes import tail

OURS = "sandbox-client"
SETTINGS: Mapping[str, str] = {
    "CONNECTOR__PROVIDERS__DV360__POLL_SCHEDULE_S": "1,1,2,5",  # the simulated report takes a second
    "CONNECTOR__QUEUE__MAX_CONCURRENT": "4",  # so that something waits for its turn
    "CONNECTOR__LOG__LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Played:
    """What is left of a performance."""

    told: Told
    seen: Seen


def run(*, as_json: bool = False, log: Path | None = None) -> int:
    """Plays once in a folder of its own. ``log``: where to leave the simulator's arrival log. 0 if every command ended
    with data, nothing went over a quota, and the comparison could be made."""
    screen, began = Screen(quiet=as_json), time.monotonic()
    if log is not None:
        log.touch()  # what cannot be written is better known now than in the end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaves nothing behind, like Ctrl-C
    with tempfile.TemporaryDirectory(prefix="connector-demo-") as folder:
        screen.head("starting PostgreSQL, Valkey, Kafka, a simulated provider and a worker on this machine")
        with LocalRun(Path(folder), lambda line: screen.say(f"  {line}"), http_port=0, overrides=SETTINGS) as local:
            sandbox = local.start_sandbox("--report-seconds", "1")
            local.env |= SETTINGS
            asyncio.run(_prepare(Settings.load({**os.environ, **local.env})))
            local.start_worker_on_a_free_port()
            settings = Settings.load({**os.environ, **local.env})
            ready_s = time.monotonic() - began
            issuer = DevelopmentIssuer(local.folder / "auth")
            try:
                played = asyncio.run(_play(settings, issuer, screen, str(sandbox["api_url"])))
            except TimeoutError as late:
                # The folder goes with the demo; why the worker did nothing is in its log.
                raise CommandFailed(f"{late}; {tail(local.folder / 'logs' / 'worker.log')}", code=NOT_READY) from None
            calls = _calls(str(sandbox["api_url"]))
            took_s = time.monotonic() - began
            found = report.figures(played.told, played.seen, calls, OURS, naive.CLIENT_ID, ready_s, took_s)
            _show(found, played, screen, as_json=as_json)
        if log is not None:
            shutil.copyfile(Path(folder) / "logs" / "sandbox-calls.jsonl", log)
    screen.say("\nEverything that was started is stopped; its data went with it.")
    return 0 if _as_it_should(found) else 1


async def _prepare(settings: Settings) -> None:
    await migrate(settings.postgres.dsn.get_secret_value())
    await topics.apply(settings)


async def _play(settings: Settings, issuer: DevelopmentIssuer, screen: Screen, api_url: str) -> Played:
    connectors = await _connect(settings, screen)
    accounts = {connectors[one.name].connector_id: one.shown for one in story.ACCOUNTS}
    today = datetime.now(UTC).date()
    async with Service(settings, issuer, connectors) as service, following(settings) as seen:
        play = Play(service, seen, screen, api_url, accounts, today)
        screen.bar(2 * len(story.dashboards(today)) + story.MONTHS + 3)
        try:
            await play.all()
        finally:
            screen.end_bar()
    screen.head("beside it: a client that neither merges nor waits, with the same limits of its own")
    got = await naive.run(api_url, play.told.asked)
    screen.say(f"  it got {got} of {len(play.told.asked)} commands")
    return Played(play.told, seen)


async def _connect(settings: Settings, screen: Screen) -> dict[str, ConnectorFacts]:
    """Connects the accounts as ``connector connectors add`` does, in one go."""
    database = Database(settings.postgres)
    try:
        for org_id, (name, plan) in story.ORGANISATIONS.items():
            await put_organization(database, org_id, name, plan)
    finally:
        await database.close()
    found = {}
    async with connecting(settings) as connect:
        for one in story.ACCOUNTS:
            credentials = {"refresh_token": f"1//sandbox-{one.user}"}
            found[one.name] = await connect(one.org_id, one.connector_type, one.account_id, credentials)
    screen.say(f"  {len(found)} accounts connected")
    return found


def _calls(api_url: str) -> list[dict[str, Any]]:
    """The provider's own arrival log."""
    with urlopen(f"{api_url}/_sandbox/calls?since=0", timeout=10) as answer:  # noqa: S310 - the simulator on this machine
        content: list[dict[str, Any]] = json.loads(answer.read())["calls"]
    return content


def _show(found: Mapping[str, Any], played: Played, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    screen.head("what it came to")
    for line in report.lines(found, played.seen):
        screen.say(line)


def _as_it_should(found: Mapping[str, Any]) -> bool:
    return (
        found["answered_with_data"] == found["commands"]
        and found["calls_over_quota"] == 0
        and found["naive_first_429_at_call"] is not None
    )
