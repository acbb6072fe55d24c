"""What the services need from the outside, as Protocols. Adapters live in streams, connectors, oauth and storage; their
tested twins in ``app.testing``. Nothing here opens anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from app.domain.commands import Cell
from app.domain.ledger import LedgerRecord
from app.domain.messages import Accept, Event, Offer, RequestView, StoredFile, Usage
from app.domain.model import ConnectorFacts, Quota, ReportType


class Clock(Protocol):
    """The only sources of time. ``now`` is milliseconds since the epoch; ``monotonic`` seconds of a clock that never
    steps."""

    def now(self) -> int: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call, until ``usable_until`` on this process's monotonic clock (R2)."""

    ask_id: str
    usable_until: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call has ended: milliseconds until its answer began (or until it failed), and whether the provider did its
    part (``ok`` False: nobody there, no answer, a cut one, or a 5xx, and ``error`` is its code; None: its end says
    nothing of the provider, as when it was cancelled). ``left``: the request was sent, so the provider may have counted
    it. ``neutral``: what came says nothing of whether the provider works, as a refusal, or a body whose reading was
    given up. ``usage``: what its headers told of quotas."""

    latency_ms: int
    ok: bool | None
    left: bool = True
    neutral: bool = False
    error: str = ""
    usage: tuple[Usage, ...] = ()


class Permits(Protocol):
    """Asks the planner for permits on behalf of one leased step. One permit, one HTTP request."""

    async def take(self, charge: str, *, data: bool = False) -> Permit:
        """Waits for a permit. Raises ``PermitDenied``: ``stale`` (stop, say nothing), ``quota`` or ``circuit`` (hand
        the step back)."""

    def give_back(self, permit: Permit, ended: Ended | None = None) -> None:
        """The permit's call has ended, as ``ended`` says (None: it never left and says nothing of the provider); never
        blocks."""


class TokenSource(Protocol):
    """Access tokens for a grant."""

    async def access_token(self, org_id: int, grant_id: str, *, rejected: str | None = None) -> str:
        """A token to send. ``rejected`` is a token the provider has just refused: forces one refresh, unless a newer
        one is known. Raises ``ProviderError`` (authorisation, or retryable when the token endpoint is away)."""


class Kept(Protocol):
    """Bytes by key, shared by all processes, that may be lost at any moment. None of these raises."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None: never put, over, or lost."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keeps a value for ``ttl_s`` seconds. False: it was not kept."""

    async def drop(self, key: str) -> bool:
        """Forgets a value. False: it may still be there."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole small answer of a provider. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpStream(Protocol):
    """An answer whose body is read in pieces, within the limits on decoded bytes, line length and total time."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Decoded pieces. Raises ``ProviderError`` too_large, or provider_response when the body is cut short."""


class Calls(Protocol):
    """HTTP to a provider for one step. Each request spends its own permit, checked last before the socket; a 401 is
    tried once more with a refreshed token and a permit of its own; redirects are not followed; no secret reaches a
    log."""

    made: int
    """Requests that left so far."""
    first_at: int | None
    """Clock.now() of the first request, ms."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        charge: str,
        data: bool = False,
        authorised: bool = True,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        check: Callable[[HttpAnswer], None] | None = None,
    ) -> HttpAnswer:
        """One call, whole answer (at most 4 MiB). Any status is returned; transport failures raise ``ProviderError``
        (provider_system, retryable). ``authorised=False`` sends no credential (signed download links). ``check`` looks
        at the answer while its permit is still out, so that what it raises is how the call ended, whatever the status;
        a ``TokenRefused`` of it is a 401."""

    def stream(
        self,
        method: str,
        url: str,
        *,
        charge: str,
        data: bool = False,
        authorised: bool = True,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """One call whose body is read in pieces."""


@dataclass(frozen=True, slots=True)
class Running:
    """The provider works on it: its ids (durable before the next step), percent if known, wished poll delay."""

    remote: dict[str, str]
    percent: int | None = None
    poll_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The data is there: Arrow record batches in the report type's column order (standard columns, then asked extras),
    plus control totals of the provider by column (None: it gives none), filled in once the batches were read."""

    batches: AsyncIterator[Any]
    control: dict[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider that a grant's user can report on. ``currency`` ISO 4217 and ``time_zone`` IANA name, if
    the provider tells them; ``manager_id``: the account through which alone it is reached."""

    id: str
    name: str
    currency: str | None
    time_zone: str | None
    manager_id: str | None = None


class Connector(Protocol):
    """One provider. The same four files every time: client, reports, errors, quotas."""

    connector_type: str
    reports: Mapping[str, ReportType]
    quotas: Sequence[Quota]
    steps: Sequence[str]
    """Names of its steps in order: DV360 ``("start", "poll")``; a provider that answers at once ``("start",)``. The
    last one may answer ``Ready``; where others may as well, an attribute ``storing_steps`` names all that do."""
    minimum_calls: Mapping[str, int]
    """Charge -> the fewest calls one whole fetch needs; reserved at dispatch in long quotas (R3)."""
    poll_schedule_s: Sequence[float]
    """Seconds before poll 1, 2, ...; the last repeats."""

    def usage(self, headers: Mapping[str, str]) -> Sequence[Usage]:
        """What an answer's headers (names in lower case) tell of the provider's own counts; nothing where it has no
        such headers."""

    async def step(self, offer: Offer, calls: Calls) -> Running | Ready:
        """Runs one step. Raises ``ProviderError`` with the classified failure."""

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """The accounts that the grant behind ``calls`` can report on. Raises ``ProviderError``."""


@runtime_checkable
class Writer(Protocol):
    """A connector that can be written to as well; its calls are charged ``write``, and ``read`` for what they look
    up."""

    async def write(
        self,
        *,
        spreadsheet_id: str,
        request_id: str,
        target: str,
        mode: str,
        rows: Sequence[Sequence[Cell]],
        calls: Calls,
    ) -> int:
        """Writes the rows at ``target`` (``Sheet!A1``), ``mode`` ``append`` or ``update``; how many were written.

        May be called again with the same ``request_id`` when nobody knows how it ended, and then writes nothing twice.
        Raises ``ProviderError``."""


class ResultsUnavailable(Exception):
    """Nothing can be written or read at the moment: the object store is away, or a disk is full. No fetch's fault."""


class ResultStore(Protocol):
    """Write-once result objects (spec section 11). Both methods raise ``ResultsUnavailable``."""

    def key(self, offer: Offer) -> str:
        """Object key of the run this offer belongs to."""

    async def find(self, offer: Offer) -> StoredFile | None:
        """The object of this run, if an earlier attempt already wrote it: stored size, checksum, rows, days (R6)."""

    async def write(self, offer: Offer, report: ReportType, ready: Ready) -> StoredFile:
        """Writes the batches as Parquet, create-if-absent; on already-exists describes the object that is there.
        Control totals are compared with the rows before anything is visible (``ProviderError`` provider_response)."""

    async def check(self) -> None:
        """Raises if the store cannot be reached."""


class CommandPublisher(Protocol):
    async def publish(self, connector_id: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """One command record, acknowledged by the broker. Raises ``BrokerUnavailable`` within 5 s."""


class BrokerUnavailable(Exception):
    """The broker did not acknowledge in time; nothing is known about the record."""


PageKey = tuple[int, str]
"""(accepted_at in ms, request id): where a page of requests, newest first, begins or ends."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests: of an organisation, in one state, of one connector (None: any)."""

    org_id: int
    status: str | None = None
    connector_id: str | None = None


class RequestViews(Protocol):
    """The committed state of requests, as any worker can see it."""

    async def get(self, request_id: str) -> RequestView | None:
        """None: unknown. Raises ``ViewUnavailable`` while nobody can know."""

    async def wait_for(self, request_id: str, timeout_s: float) -> RequestView | None:
        """The first committed view of a request that is being decided, or None after the time."""

    async def wait_until_ended(self, request_id: str, timeout_s: float) -> RequestView | None:
        """The view of a request that is completed, failed or cancelled, or None after the time."""

    def held(self, request_id: str) -> RequestView | None:
        """The view in this worker's memory."""

    def newest(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        """The newest of them in this worker's memory that come before ``before`` in order of (accepted, id)."""

    async def page(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        """The same of what is stored, which may be older than what is held. Raises ``ViewUnavailable``."""


class ViewUnavailable(Exception):
    """Partitions are moving and PostgreSQL is away: ask again."""


class PlannerBoard(Protocol):
    """What one planner says of this moment (ADR 8). Reading changes nothing. Bodies are plain JSON values as
    docs/front-door.md shows them, instants as ISO 8601 text."""

    def part(self, org_id: int, connector_ids: Sequence[str]) -> dict[str, Any]:
        """``{"as_of", "queue": {"total_queued", "your_requests", "positions", "estimated_wait_seconds", "requests"},
        "connectors": {id: {"health", "rate_limit"}}}``: the organisation's queued requests of this type, best first
        (``requests`` the first 100), and these connectors; ``total_queued`` counts everybody's."""

    def live(self, request_id: str) -> dict[str, Any] | None:
        """The fields of a status body that change by themselves, with ``as_of``; None for a request that is not live
        here."""

    def dry_run(self, accept: Accept) -> dict[str, Any]:
        """The plan for a command that passed validation; nothing is queued."""


class PlannerBoards(Protocol):
    """Who can say it."""

    def here(self, connector_type: str) -> PlannerBoard | None:
        """The board of a planner that this worker owns and that is ready."""

    def owner(self, connector_type: str) -> str | None:
        """Base URL (no trailing slash) of another worker that owns it; None while nobody or this worker does."""


class ConnectorStore(Protocol):
    """Connectors and grants in PostgreSQL (durable truth)."""

    async def find(self, connector_id: str) -> ConnectorFacts | None: ...

    async def list_for(self, org_id: int) -> Sequence[ConnectorFacts]: ...


class RequestHistory(Protocol):
    """Requests in PostgreSQL."""

    async def project(self, views: Sequence[RequestView]) -> None:
        """Idempotent upserts; an older revision never overwrites a newer one."""

    async def find(self, request_id: str) -> RequestView | None: ...

    async def page(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        """Newest first by (accepted, id), from ``before`` on, that itself left out."""


class UsageLog(Protocol):
    """The planner's ledger in PostgreSQL."""

    async def project(self, records: Sequence[LedgerRecord]) -> None:
        """Idempotent upserts, in any order."""


class EventSink(Protocol):
    """What the planner's transaction needs of the codecs: an event as Kafka key, value and headers."""

    def encode(self, event: Event) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]: ...
