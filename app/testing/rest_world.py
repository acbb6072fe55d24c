"""A whole REST door over doubles: one organisation with one DV360 connector, a foreign one, an issuer, a planner that
decides and, if it is asked for, one that is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from api.rest.auth import JwtVerifier
from api.rest.jwks import JwksCache
from api.rest.peers import Peers
from api.rest.services import RestServices
from app.domain.messages import RequestView
from app.domain.model import Catalogue, ConnectorFacts, Field, ReportType
from app.domain.state import State
from app.services.board import Boards
from app.services.status import Check, CheckState
from app.telemetry.metrics import Metrics
from app.testing.clock import FakeClock
from app.testing.planning import quota, rules, take
from app.testing.rest import FakeCommandPublisher, FakeConnectors, FakeIssuer, FakeRequestViews

ORG, OTHER_ORG = 7, 8
CONNECTOR = "conn_" + "1" * 32
FOREIGN_CONNECTOR = "conn_" + "2" * 32
REQUEST = "req_" + "a" * 32
CATALOGUE: Catalogue = {
    "DV360": {
        "campaign_performance": ReportType(
            "campaign_performance",
            (
                Field("date", "date", "key", "FILTER_DATE"),
                Field("impressions", "int64", "metric", "METRIC_IMPRESSIONS"),
                Field("clicks", "int64", "metric", "METRIC_CLICKS"),
            ),
            retention_days=700,
            settling_days=3,
        )
    }
}


def facts(connector_id: str = CONNECTOR, org_id: int = ORG, **changes: Any) -> ConnectorFacts:
    """A connected DV360 account."""
    return ConnectorFacts(connector_id, org_id, "DV360", "acc", "grant_" + "3" * 32, "someone", **changes)


def queued(now: int, **changes: Any) -> RequestView:
    """A request that was just accepted: third in the queue."""
    given: dict[str, Any] = {
        "request_id": REQUEST,
        "org_id": ORG,
        "connector_id": CONNECTOR,
        "connector_type": "DV360",
        "report_type": "campaign_performance",
        "start": 739_500,
        "end": 739_506,
        "fields": ("impressions",),
        "priority_class": 2,
        "state": "queued",
        "accepted_at": now,
        "revision": 1,
        "body_hash": "-",
        "batched_with": ("req_" + "b" * 32,),
        "queue_position": 3,
        "estimated_wait_s": 45.0,
        "rate_limit": {"current": 98, "limit": 100, "reset_at": now + 60_000},
        "waiting": {"reason": "quota", "bucket": "reports", "until": now + 60_000},
    }
    return RequestView(**(given | changes))


@dataclass
class RestWorld:
    """Everything behind the door, to be looked at and broken by tests."""

    clock: FakeClock = field(default_factory=FakeClock)
    issuer: FakeIssuer = field(default_factory=FakeIssuer)
    views: FakeRequestViews = field(default_factory=FakeRequestViews)
    connectors: FakeConnectors = field(default_factory=FakeConnectors)
    planners: dict[str, State] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    peers_wait_s: float = 1.0
    metrics: Metrics = field(default_factory=Metrics)
    checks: list[Check] = field(default_factory=lambda: [Check("broker", CheckState.OK)])
    alive: bool = True
    jwks_reads: int = 0
    decide_within_s: float = 0.05
    writers: frozenset[str] = frozenset({"SHEETS"})

    def __post_init__(self) -> None:
        self.publisher = FakeCommandPublisher(self.views, decides=queued(self.clock.now()))
        self.keys = JwksCache(self._jwks, self.clock.monotonic)
        self.connectors.add(facts())
        self.connectors.add(facts(FOREIGN_CONNECTOR, OTHER_ORG))

    async def _jwks(self) -> bytes:
        self.jwks_reads += 1
        return self.issuer.jwks()

    async def _checks(self) -> Sequence[Check]:
        return self.checks

    @property
    def boards(self) -> Boards:
        """The real boards over the planners of this world, and the addresses of ``owners``."""

        def owned(connector_type: str) -> tuple[State, int] | None:
            state = self.planners.get(connector_type)
            return None if state is None else (state, self.clock.now())

        return Boards(
            owned, lambda connector_type: self.owners.get(connector_type), self.connectors.facts.get, lambda: 0.0
        )

    def own_planner(self) -> State:
        """A planner of DV360 whose provider says *not now* for another minute: what comes waits, or runs before."""
        state = self.planners["DV360"] = State(rules([quota(limit=100)]), now=self.clock.now())
        state.limits_of_type("DV360").close("per_second|", self.clock.now() + 60_000)
        return state

    async def decide(self, *messages: Any) -> None:
        """One step of the planner, and what it commits."""
        for view in take(self.planners["DV360"], *messages, at=self.clock.now()).views.values():
            if view is not None:
                await self.views.put(view)

    def services(self) -> RestServices:
        """The door's services over these doubles."""
        return RestServices(
            publisher=self.publisher,
            views=self.views,
            connector=self.connectors,
            connectors_of=self.connectors.of,
            boards=self.boards,
            peers=Peers(self.peers_wait_s),
            readiness=self._checks,
            metrics=self.metrics,
            verifier=JwtVerifier(self.keys, issuer=self.issuer.issuer, audience=self.issuer.audience, clock=self.clock),
            clock=self.clock,
            catalogue=CATALOGUE,
            writers=self.writers,
            alive=lambda: self.alive,
            decide_within_s=self.decide_within_s,
        )

    def headers(self, scope: str = "fetch connectors:read", org_id: int = ORG, **claims: Any) -> dict[str, str]:
        """The Authorization header of a caller."""
        return {"Authorization": "Bearer " + self.issuer.token(org_id, scope, now=self.clock.now(), **claims)}

    def body(self, **changes: Any) -> dict[str, Any]:
        """A good body of a fetch; changes to None take a field out."""
        today = datetime.fromtimestamp(self.clock.now() / 1000, UTC).date()
        usual: Mapping[str, Any] = {
            "connector_id": CONNECTOR,
            "report_type": "campaign_performance",
            "date_range": {"start": today.replace(day=1).isoformat(), "end": today.isoformat()},
            "fields": ["impressions", "clicks"],
        }
        return {name: value for name, value in (dict(usual) | changes).items() if value is not None}
