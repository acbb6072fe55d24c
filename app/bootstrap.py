"""The only file that picks concrete classes. ``build`` wires one worker; importing it opens nothing."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from faust.types import TP

from agents import fetcher, intake, planner
from api.readiness import Readiness
from api.rest.auth import build_verifier
from api.rest.services import RestServices
from app.clock import SystemClock
from app.config import Settings, effective_quotas
from app.config_sections import OAuthProvider
from app.connectors.base import Hosts, Limits, ProviderHttp
from app.connectors.registry import catalogue_of, connectors_of, hosts_of
from app.connectors.session import provider_session
from app.domain.breaker import BreakerPolicy
from app.domain.coverage import Freshness
from app.domain.lanes import Fairness
from app.domain.messages import Offer, StepOutcome
from app.domain.retry import RetryPolicy
from app.domain.rules import ConnectorRules, Rules
from app.domain.sheets import WRITE_CALLS
from app.oauth.login_endpoint import LoginEndpoint
from app.oauth.meta_endpoint import MetaTokenEndpoint
from app.oauth.token_endpoint import TokenEndpoint
from app.oauth.tokens import GrantTokenSource
from app.oauth.vault import Vault
from app.ports import Clock, Connector, PlannerBoards, Writer
from app.services.board import Boards
from app.services.fetching import run_step
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.storage.postgres.grants import PostgresGrantStore
from app.storage.postgres.requests import PostgresRequestHistory
from app.storage.postgres.usage import PostgresUsage
from app.storage.redis_cache import RedisCache
from app.storage.results import ObjectResultStore
from app.streams import crash, faust_touches, kafka, projector, topology
from app.streams.codecs import EventCodec
from app.streams.connector_news import ConnectorNews
from app.streams.fetch_shell import FetchShell
from app.streams.follower import Follower
from app.streams.intake_shell import IntakeShell
from app.streams.kafka import Broker, Commands, Publisher
from app.streams.lag import ConsumerLag
from app.streams.ownership import Ownership
from app.streams.pace import Pace
from app.streams.permits import PermitDesk
from app.streams.planner_shell import PlannerShell
from app.streams.planners import Planners
from app.streams.projector import Projector
from app.streams.topics import Names
from app.streams.views import WorkerConnectors, WorkerViews
from app.telemetry.metrics import Metrics


def limits_of(settings: Settings) -> Limits:
    """What one provider call may cost."""
    timeout = settings.call.timeout_s
    return Limits(call_s=timeout, stream_s=max(timeout, settings.call.stream_timeout_s))


def rules_of(settings: Settings, connectors: Mapping[str, Connector]) -> Rules:
    """The planner's settings: the adapters' declarations, corrected by the settings."""
    limits = limits_of(settings)
    window_ms = int(settings.queue.batch_window * 1000)
    return Rules(
        connectors={
            name: ConnectorRules(
                quotas=effective_quotas(connector.quotas, settings),
                steps=tuple(connector.steps),
                minimum_calls=connector.minimum_calls,
                write_calls=WRITE_CALLS if isinstance(connector, Writer) else {},
                poll_schedule_s=tuple(connector.poll_schedule_s),
                cost_per_call=f"{settings.cost_per_call.of(name):f}",
                max_remote_jobs=settings.rate_limit.of(name).max_remote_jobs,
            )
            for name, connector in connectors.items()
        },
        catalogue=catalogue_of(connectors),
        window_ms=window_ms,
        max_concurrent=settings.queue.max_concurrent,
        max_live=settings.queue.max_live_requests,
        fairness=Fairness(
            {"premium": settings.queue.premium_weight},
            floor_percent=round(settings.queue.floor_share * 100),
            aging_ms=int(settings.queue.aging * 1000),
        ),
        backfill_slice_days=settings.queue.backfill_slice_days,
        freshness=Freshness(int(settings.reuse.open_s * 1000), int(settings.reuse.settling_s * 1000), window_ms),
        retry=RetryPolicy(settings.retry.max_attempts, settings.retry.base_s, settings.retry.cap_s),
        breaker=BreakerPolicy(
            settings.circuit_breaker.failure_threshold,
            int(settings.circuit_breaker.recovery_timeout * 1000),
            settings.circuit_breaker.success_threshold,
        ),
        permit_valid_ms=int(settings.streams.permit_valid_s * 1000),
        call_timeout_ms=int(limits.call_s * 1000),
        stream_timeout_ms=int(limits.stream_s * 1000),
        lease_ms=int(settings.streams.lease_s * 1000),
        closed_mark_ms=int(settings.streams.closed_mark_s * 1000),
        retention_ms=settings.storage.retention_days * 86_400_000,
        cost_unit=settings.cost_per_call.unit,
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """PostgreSQL and Redis."""

    database: Database
    connectors: PostgresConnectorStore
    grants: PostgresGrantStore
    history: PostgresRequestHistory
    usage: PostgresUsage
    cache: RedisCache
    vault: Vault


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What needs a running loop to be made: the HTTP sessions and what uses them."""

    providers: aiohttp.ClientSession
    oauth: aiohttp.ClientSession
    tokens: GrantTokenSource

    async def close(self) -> None:
        await self.tokens.close()
        await self.providers.close()
        await self.oauth.close()


@dataclass(slots=True)
class Fetching:
    """Runs a leased step with everything it needs."""

    settings: Settings
    clock: Clock
    stores: Stores
    connectors: Mapping[str, Connector]
    hosts: Mapping[str, Hosts]
    limits: Limits
    results: ObjectResultStore
    desk: PermitDesk
    point: crash.CrashPoint
    on_refused: Callable[[int, str, int], Awaitable[None]]
    metrics: Metrics
    outgoing: Outgoing | None = None

    async def run(self, offer: Offer) -> StepOutcome | None:
        """``services.fetching.run_step`` for one offer."""
        if self.outgoing is None:
            self.outgoing = self._open()
        kind = offer.connector.connector_type
        calls = ProviderHttp(
            session=self.outgoing.providers,
            permits=self.desk.of(offer),
            tokens=self.outgoing.tokens,
            clock=self.clock,
            offer=offer,
            hosts=self.hosts[kind],
            limits=self.limits,
            crash=self.point,
            observe=lambda ending: self.metrics.provider_requests_total.labels(kind, ending).inc(),
            usage=self.connectors[kind].usage,
        )
        return await run_step(
            offer,
            connector=self.connectors[kind],
            calls=calls,
            results=self.results,
            clock=self.clock,
            worker=self.desk.worker,
            crash=self.point,
        )

    def _open(self) -> Outgoing:
        private = [name for h in self.hosts.values() for name in h.private_names()]
        oauth = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        stores = self.stores
        tokens = GrantTokenSource(
            stores.grants, stores.vault, self._endpoints(oauth), self.clock, cache=stores.cache,
            on_refused=self.on_refused,
            observe=lambda provider, outcome: self.metrics.token_refresh_total.labels(provider, outcome).inc(),
        )  # fmt: skip
        return Outgoing(provider_session(private), oauth, tokens)

    def _endpoints(self, session: aiohttp.ClientSession) -> dict[str, TokenEndpoint]:
        """Where each provider's tokens come from."""
        providers, breaker = self.settings.providers, self.settings.circuit_breaker
        limits: dict[str, Any] = {
            "timeout_s": self.settings.call.token_timeout_s,
            "failure_threshold": breaker.failure_threshold,
            "recovery_s": breaker.recovery_timeout,
            "success_threshold": breaker.success_threshold,
        }

        def of(kind: type[TokenEndpoint], name: str, oauth: OAuthProvider) -> TokenEndpoint:
            url, secret = str(oauth.token_url), oauth.client_secret.get_secret_value()
            return kind(name, url, oauth.client_id, secret, session=session, clock=self.clock, **limits)

        logins = f"{providers.ttd.api_url.rstrip('/')}/authentication"
        found = {
            "google": of(TokenEndpoint, "google", providers.google),
            "ttd": LoginEndpoint("ttd", logins, session=session, clock=self.clock, **limits),
        }
        # Without an application of one's own there is nobody to exchange a token for; that of a system user needs none.
        return found | ({"meta": of(MetaTokenEndpoint, "meta", providers.meta)} if providers.meta.client_id else {})

    async def close(self) -> None:
        if self.outgoing is not None:
            await self.outgoing.close()


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker, wired and not started."""

    settings: Settings
    topology: topology.Topology
    publisher: Publisher
    ownership: Ownership
    follower: Follower
    projector: Projector
    planner: PlannerShell
    fetches: FetchShell
    fetching: Fetching
    database: Database
    cache: RedisCache
    readiness: Readiness
    rest: RestServices
    metrics: Metrics


def stores_of(settings: Settings, clock: Clock) -> Stores:
    """Opens nothing: each connects when it is first used."""
    database = Database(settings.postgres)
    return Stores(
        database,
        PostgresConnectorStore(database),
        PostgresGrantStore(database),
        PostgresRequestHistory(database),
        PostgresUsage(database),
        RedisCache(settings.redis.url.get_secret_value(), clock, timeout_s=settings.redis.timeout_s),
        Vault(settings.vault.ring()),
    )


def worker_name(settings: Settings) -> str:
    """This incarnation's name in the group: its URL and what tells it from the one before a restart."""
    url = settings.http.advertised_url or f"http://{socket.gethostname()}:{settings.http.port}"
    return f"{url.rstrip('/')}/{uuid.uuid4().hex[:12]}"


def build(settings: Settings) -> Worker:
    """Wires one worker from the settings."""
    clock, metrics, names = SystemClock(), Metrics(), Names(settings.streams.topic_prefix)
    point = crash.armed(settings.streams.crash_at)
    broker, stores = kafka.broker_of(settings), stores_of(settings, clock)
    connectors = connectors_of(settings, stores.cache)
    rules = rules_of(settings, connectors)
    name = worker_name(settings)
    topo = topology.build(settings, names, broker, name)
    publisher = Publisher(broker)
    desk = PermitDesk(publisher, names.planner, name, clock, settings.streams.permit_valid_s, clock.now)
    pace = Pace(name, names.planner)
    follower = Follower(broker, names, desk.on_answer, pace.on_reached)
    ownership = Ownership(
        broker=broker, group=settings.streams.group, names=names, rules=rules, publisher=publisher, now=clock.now
    )
    events = EventCodec(settings.kafka.event_format)
    news = ConnectorNews(publisher, names, events, clock, stores.connectors.of_grant, _count_event(metrics))
    fetching = _fetching(settings, clock, connectors, stores, desk, point, news, metrics)
    planner_shell = _planner(settings, topo, names, ownership, publisher, broker, point, metrics)
    fetches = FetchShell(
        publisher=publisher,
        inbox=names.planner,
        worker=name,
        run_step=fetching.run,
        most=settings.worker.max_steps,
        heartbeat_s=settings.streams.heartbeat_s,
        crash=point,
        metrics=metrics,
    )
    ConsumerLag(topo.app, names, ownership.owners, metrics)
    _agents(topo, names, publisher, rules, follower, stores, clock, planner_shell, fetches, pace, point, metrics)
    readiness = Readiness(topo.app, publisher, ownership, follower, stores.database, stores.cache)
    planners = Planners(topo.app, names.state, name, ownership, clock)
    boards = Boards(planners.owned, planners.owner, follower.connectors.get, clock.monotonic)
    rest = _rest(settings, clock, metrics, names, publisher, follower, stores, readiness, rules, boards)
    sources = {names.requests: projector.views(stores.history), names.usage: projector.usage(stores.usage)}
    projecting = Projector(broker, f"{settings.streams.group}-projector", sources, metrics)
    metrics.describe_build(rest.version)
    return Worker(
        settings, topo, publisher, ownership, follower, projecting, planner_shell, fetches, fetching,
        stores.database, stores.cache, readiness, rest, metrics,
    )  # fmt: skip


def _count_event(metrics: Metrics) -> Callable[[str], None]:
    return lambda type_: metrics.events_published_total.labels(type_).inc()


def _fetching(
    settings: Settings, clock: Clock, connectors: Mapping[str, Connector], stores: Stores, desk: PermitDesk,
    point: crash.CrashPoint, news: ConnectorNews, metrics: Metrics,
) -> Fetching:  # fmt: skip
    results = ObjectResultStore(settings.storage.url, crash_point=point)
    hosts, limits = hosts_of(settings), limits_of(settings)
    return Fetching(settings, clock, stores, connectors, hosts, limits, results, desk, point, news.refused, metrics)


def _planner(
    settings: Settings, topo: topology.Topology, names: Names, ownership: Ownership, publisher: Publisher,
    broker: Broker, point: crash.CrashPoint, metrics: Metrics,
) -> PlannerShell:  # fmt: skip
    async def read_back(source: tuple[str, int, int]) -> Any:
        record = await kafka.fetch_one(broker, *source)
        return None if record is None else (record.key, record.value, list(record.headers))

    shell = PlannerShell(
        app=topo.app, names=names, ownership=ownership, publisher=publisher,
        events=EventCodec(settings.kafka.event_format), crash=point, read_back=read_back, metrics=metrics,
    )  # fmt: skip

    async def take_over(partitions: set[int]) -> None:
        doubted = ownership.doubted
        await ownership.take_over(partitions, faust_touches.generation(topo.app))
        metrics.table_recovery_seconds.labels("planner").observe(ownership.recovery_s)
        metrics.old_rows_total.inc(ownership.doubted - doubted)
        await shell.announce_members()

    def positions() -> dict[Any, int]:
        return {TP(topic, p): offset for (topic, p), offset in ownership.positions().items()}

    faust_touches.install(topo.app, take_over=take_over, positions=positions, written=ownership.written, crash=point)

    async def settle(*_args: Any, **_kwargs: Any) -> None:
        await ownership.settle()

    topo.app.on_partitions_revoked.connect(settle, weak=False)
    return shell


def _agents(
    topo: topology.Topology, names: Names, publisher: Publisher, rules: Rules, follower: Follower, stores: Stores,
    clock: Clock, planner_shell: PlannerShell, fetches: FetchShell, pace: Pace, point: crash.CrashPoint,
    metrics: Metrics,
) -> None:  # fmt: skip
    intake_shell = IntakeShell(
        names=names, publisher=publisher, catalogue=rules.catalogue, replica=follower.connectors,
        find_connector=stores.connectors.find, known_bodies=stores.history.known_bodies,
        known_here=follower.holds, now=clock.now,
        pace=pace, crash=point, metrics=metrics, writers=rules.writers,
    )  # fmt: skip
    intake.register(topo.app, topo.commands, intake_shell.run)
    planner.register(topo.app, topo.planner, planner_shell.run)
    fetcher.register(topo.app, topo.fetches, fetches.run)


def _rest(
    settings: Settings, clock: Clock, metrics: Metrics, names: Names, publisher: Publisher, follower: Follower,
    stores: Stores, readiness: Readiness, rules: Rules, boards: PlannerBoards,
) -> RestServices:  # fmt: skip
    auth, connectors = settings.auth, WorkerConnectors(follower, stores.connectors)
    return RestServices(
        publisher=Commands(publisher, names.commands),
        views=WorkerViews(follower, stores.history),
        connector=connectors.find,
        connectors_of=connectors.of,
        boards=boards,
        readiness=readiness.checks,
        metrics=metrics,
        verifier=build_verifier(
            clock, jwks_url=auth.jwks_url, jwks_file=auth.jwks_file, issuer=auth.issuer, audience=auth.audience
        ),
        clock=clock,
        catalogue=rules.catalogue,
        writers=rules.writers,
        alive=readiness.alive,
    )


def topic_names(settings: Settings) -> Sequence[str]:
    """Every topic the service needs."""
    return list(Names(settings.streams.topic_prefix).settings())
