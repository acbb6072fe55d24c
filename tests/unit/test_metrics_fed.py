"""Every metric is fed by somebody, and those outside the planner move with what they count."""

from __future__ import annotations

import asyncio
import re
from collections import namedtuple
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer, StepOutcome
from app.domain.state import State
from app.oauth.token_endpoint import GrantRefused, Issued
from app.oauth.tokens import GrantTokenSource
from app.oauth.vault import Vault
from app.ports import BrokerUnavailable
from app.streams import internal
from app.streams.codecs import EventCodec
from app.streams.connector_news import ConnectorNews
from app.streams.fetch_shell import FetchShell
from app.streams.kafka import Broker
from app.streams.lag import ConsumerLag
from app.streams.ownership import Owner
from app.streams.projector import Projector, views
from app.streams.topics import Names
from app.telemetry.metrics import DEFINITIONS, PREFIX, Metrics
from app.testing.clock import FakeClock
from app.testing.planning import accept, facts, rules, take
from app.testing.rest_world import queued

ROOT = Path(__file__).parents[2]
TYPE = {"connector_type": "DV360"}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    metrics.exposition("")
    return metrics.registry.get_sample_value(PREFIX + name, labels)


@pytest.mark.parametrize("name", [d.name for d in DEFINITIONS])
def test_every_metric_is_fed_by_some_shell(name: str) -> None:
    files = [f for folder in ("app", "api") for f in ROOT.joinpath(folder).rglob("*.py")]
    fed = re.compile(rf"\.{name}\b(?!\.clear)")
    users = [f for f in files if f.name != "metrics.py" and fed.search(f.read_text(encoding="utf-8"))]
    assert users or name == "build_info"
    assert not [f for f in users if "domain" in f.parts]


# fetch steps


def offer(number: int) -> Offer:
    return take(State(rules()), accept(number, 10, 10)).offers[0]


async def test_steps_count_as_waiting_for_a_slot_and_then_as_running() -> None:
    metrics, ends = Metrics(), asyncio.Event()

    async def run_step(leased: Offer) -> StepOutcome | None:
        await ends.wait()
        raise RuntimeError("a step that breaks frees its slot too")

    nobody: Any = None
    shell = FetchShell(
        publisher=nobody, inbox="inbox", worker="w", run_step=run_step, most=2, heartbeat_s=3.0,
        crash=lambda _point: None, metrics=metrics,
    )  # fmt: skip
    for n in range(1, 6):
        shell.start(internal.dump(offer(n)))
    await asyncio.sleep(0)
    assert (value(metrics, "fetch_steps_running", **TYPE), value(metrics, "runnable_fetches", **TYPE)) == (2, 3)
    ends.set()
    await shell.stop(5.0)
    assert (value(metrics, "fetch_steps_running", **TYPE), value(metrics, "runnable_fetches", **TYPE)) == (0, 0)
    shell.start(b"{")
    assert value(metrics, "unreadable_records_total", topic="fetches") == 1


# what waits to be taken

Row = namedtuple("Row", "key value offset")  # noqa: PYI024 - as aiokafka gives them: attributes are all that is read


@dataclass
class Log:
    """A consumer of two partitions of views; ``ends`` as fetched, ``now`` as the broker would say."""

    batches: list[dict[TopicPartition, list[Row]]]
    ends: dict[TopicPartition, int | None]
    now: dict[TopicPartition, int]
    at: dict[TopicPartition, int]
    commits: int = 0

    def assignment(self) -> set[TopicPartition]:
        return set(self.ends)

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.ends[tp]

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.now[tp] for tp in tps}

    async def position(self, tp: TopicPartition) -> int:
        return self.at[tp]

    async def getmany(self, **_options: Any) -> dict[TopicPartition, list[Row]]:
        return self.batches.pop(0)

    async def commit(self) -> None:
        self.commits += 1


@dataclass
class History:
    metrics: Metrics
    away: int = 0
    lags: list[float | None] = field(default_factory=list)

    async def project(self, views: list[Any]) -> None:
        self.lags.append(value(self.metrics, "projection_lag"))
        if self.away:
            self.away -= 1
            raise ConnectionError


async def test_the_projection_lags_until_postgresql_has_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.streams.projector.PAUSE_S", 0.0)
    metrics = Metrics()
    history = History(metrics, away=1)
    projector = Projector(Broker("nowhere:1"), "group", {"views": views(history)}, metrics)  # type: ignore[arg-type]
    one, two = TopicPartition("views", 0), TopicPartition("views", 1)
    view = internal.dump_row(queued(1))
    rows = [Row(b"a", view, 0), Row(b"b", view, 1), Row(b"c", b"1", 2)]
    log = Log([{one: rows}, {}], ends={one: 10, two: None}, now={one: 60, two: 7}, at={one: 3, two: 7})
    await projector._once(log)
    assert history.lags == [3 + 7, 3 + 57], "in hand and behind them; anew while PostgreSQL is away"
    assert (log.commits, value(metrics, "projection_lag")) == (1, 7)
    assert value(metrics, "unreadable_records_total", topic="requests") == 1
    log.at[one] = 10
    await projector._once(log)
    assert value(metrics, "projection_lag") == 0


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_row_that_can_never_be_written_is_left_out(monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    monkeypatch.setattr("app.streams.projector.PAUSE_S", 0.0)
    metrics, written = Metrics(), list[str]()
    ids = [f"req_{n:032x}" for n in range(3)]

    async def project(views: list[Any]) -> None:
        if any(view.request_id == ids[1] for view in views):
            fault = OverflowError("date value out of range")
            if wrapped:
                raise ConnectionError from fault
            raise fault
        written.extend(view.request_id for view in views)

    history: Any = SimpleNamespace(project=project)
    projector = Projector(Broker("nowhere:1"), "group", {"views": views(history)}, metrics)
    one = TopicPartition("views", 0)
    rows = [Row(b"%d" % n, internal.dump_row(replace(queued(1), request_id=ids[n])), n) for n in range(3)]
    log = Log([{one: rows}], ends={one: 10}, now={one: 10}, at={one: 10})
    async with asyncio.timeout(5):
        await projector._once(log)
    assert written == [ids[0], ids[2]]
    assert (projector.healthy, log.commits) == (True, 1)
    assert value(metrics, "unreadable_records_total", topic="requests") == 1


class Consumer:
    """Faust's consumer, as far as lag asks it."""

    def __init__(self) -> None:
        names = Names()
        self.ends = {TP(names.commands, 2): 50, TP(names.commands, 3): 8, TP(names.planner, 0): 120}
        self._committed_offset = {TP(names.commands, 2): 45, TP(names.commands, 3): None}
        self.error: type[Exception] | None = None

    def highwater(self, tp: TP) -> int | None:
        if self.error is not None:
            raise self.error
        return self.ends.get(tp)


def test_lag_is_that_of_the_partitions_held_now() -> None:
    metrics, app = Metrics(), SimpleNamespace(consumer=Consumer())
    owners = {0: Owner(0, State(rules()), position=99, ready=True), 1: Owner(1, State(rules()), ready=True)}
    mine = {2, 3}
    ConsumerLag(app, Names(), owners, metrics, assigned=lambda _app, _topic: mine)
    assert value(metrics, "consumer_lag", topic="commands", partition="2") == 5
    assert value(metrics, "consumer_lag", topic="commands", partition="3") is None, "nothing committed yet"
    assert value(metrics, "consumer_lag", topic="planner", partition="0") == 20
    assert value(metrics, "consumer_lag", topic="planner", partition="1") is None, "nothing fetched yet"
    owners[0].position = 119
    assert value(metrics, "consumer_lag", topic="planner", partition="0") == 0
    owners[0].ready = False
    mine.clear()
    assert value(metrics, "consumer_lag", topic="planner", partition="0") is None
    assert value(metrics, "consumer_lag", topic="commands", partition="2") is None


@pytest.mark.parametrize("error", [ConsumerNotStarted, AssertionError, KeyError])
def test_lag_is_not_told_while_partitions_move(error: type[Exception]) -> None:
    metrics, consumer = Metrics(), Consumer()
    consumer.error = error
    ConsumerLag(SimpleNamespace(consumer=consumer), Names(), {}, metrics, assigned=lambda _app, _topic: {2})
    assert value(metrics, "consumer_lag", topic="commands", partition="2") is None


# tokens

VAULT = Vault([("k1", b"1" * 32)])


class Grants:
    """One grant whose refresh anybody may claim."""

    def __init__(self) -> None:
        key_id, ciphertext = VAULT.seal_secret(1, "grant", "refresh_token", "1//secret")
        self.row = SimpleNamespace(
            org_id=1, grant_id="grant", provider="google", kind="refresh_token", key_id=key_id, ciphertext=ciphertext,
            generation=1, version=1, status="active",
        )  # fmt: skip

    async def read(self, org_id: int, grant_id: str) -> Any:
        return self.row

    async def claim(self, org_id: int, grant_id: str, version: int, lease_s: float) -> Any:
        return self.row

    async def finish(self, claim: Any, **_what: Any) -> bool:
        return True

    async def release(self, claim: Any) -> None:
        return

    async def refuse(self, claim: Any, status: str) -> bool:
        return True


AWAY = ProviderError(Failure(ErrorClass.PROVIDER_SYSTEM, "token_endpoint_unavailable", "away", retryable=True))


@pytest.mark.parametrize(
    ("answer", "told"), [(Issued("t", 3600.0), "ok"), (AWAY, "failed"), (GrantRefused(), "refused")]
)
async def test_a_refresh_tells_its_provider_and_its_end(answer: Any, told: str) -> None:
    async def refresh(_secret: str) -> Issued:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Issued)
        return answer

    heard: list[tuple[str, str]] = []
    endpoints: Any = {"google": SimpleNamespace(timeout_s=1.0, refresh=refresh)}
    source = GrantTokenSource(
        Grants(), VAULT, endpoints, FakeClock(), observe=lambda provider, end: heard.append((provider, end))
    )
    if told == "ok":
        assert await source.access_token(1, "grant") == "t"
    else:
        with pytest.raises(ProviderError):
            await source.access_token(1, "grant")
    assert heard == [("google", told)]


# events that no planner step publishes


@pytest.mark.parametrize(("away", "counted"), [(False, ["oauth_revoked"] * 2), (True, [])])
async def test_revocations_count_as_published_once_the_broker_has_them(away: bool, counted: list[str]) -> None:
    async def send(_records: Any) -> None:
        if away:
            raise BrokerUnavailable

    async def of_grant(_grant_id: str) -> list[Any]:
        return [facts(1), facts(2)]

    heard: list[str] = []
    publisher: Any = SimpleNamespace(send=send)
    news = ConnectorNews(publisher, Names(), EventCodec("json"), FakeClock(), of_grant, heard.append)
    await news.refused(1, "grant_" + "1" * 32, 1)
    assert heard == counted
