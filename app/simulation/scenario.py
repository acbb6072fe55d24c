"""A scenario: who asks for what, what providers allow and how they answer. The form of ``connector simulate`` files.

Spans are written as in the settings (``500ms``, ``30s``, ``5m``, ``2h``, ``1d``) and read as seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.config_reading import duration
from app.domain.model import Priority

Seconds = Annotated[float, BeforeValidator(duration), Field(ge=0, le=10 * 366 * 86_400)]
Span = Annotated[float, BeforeValidator(duration), Field(gt=0, le=10 * 366 * 86_400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ .-]{0,63}$")]
Range = Annotated[int, Field(ge=1, le=3_660)] | Literal["month_to_date"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lognormal(_Strict):
    """A span whose logarithm is normal: half are below ``median``; sigma 0 is always the median. ``jitter``: up to that
    much more, evenly spread."""

    median: Seconds
    sigma: Annotated[float, Field(ge=0, le=5)] = 0.0
    jitter: Seconds = 0.0


class Between(_Strict):
    """A span evenly spread between two."""

    least: Seconds
    most: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most < self.least:
            raise ValueError("most must not be below least")
        return self


class Delays(_Strict):
    """How long messages and calls are under way, and how long a planner's step takes until it is durable.
    ``returned``: a worker gathers returned permits for a moment before it tells them."""

    to_planner: Between = Between(least=0.002, most=0.01)
    to_worker: Between = Between(least=0.002, most=0.01)
    to_provider: Between = Between(least=0.005, most=0.03)
    returned: Between = Between(least=0.022, most=0.03)
    step: Span = 0.02


class QuotaSpec(_Strict):
    """A provider's rule, in place of what the adapter declares."""

    name: Name
    limit: Count
    period: Span
    charge: Name | None = None
    scope: Literal["application", "account", "user"] = "application"
    calendar_zone: str | None = None


class TypeSpec(_Strict):
    """One connector type. What is left out is as its adapter declares it."""

    quotas: tuple[QuotaSpec, ...] | None = None
    poll_schedule: tuple[Span, ...] | None = None
    preparation: Lognormal = Lognormal(median=30.0, sigma=0.5)
    response: Lognormal = Lognormal(median=0.3, sigma=0.3)
    download: Lognormal = Lognormal(median=1.0, sigma=0.5)


class Organisation(_Strict):
    """``count`` organisations alike, each with its own accounts and provider's users. ``weight``: its fair share."""

    name: Name = "org"
    count: Count = 1
    plan: Name = "standard"
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    accounts: Count = 1
    users: Count = 1
    connectors: tuple[str, ...] | None = None
    """Connector types (default: all of the scenario)."""


class Stream(_Strict):
    """One kind of traffic of some organisations.

    - ``dashboards``: the trace of figure F4. ``dashboards`` opened within ``within``, ``widgets`` requests each.
    - ``poisson``: ``per_hour`` commands of each organisation, independent of each other.
    - ``bursts``: ``size`` commands of each organisation at once, ``times`` times, one burst each ``every``.
    - ``saturated``: each organisation always has ``depth`` open commands: an ended one is followed by the next.

    ``ending`` is the last day of a range: ``today``, ``yesterday``, ``random`` (a day of the last ``history`` days), or
    ``walk``: each range ends before the last one of its data set began, so that no two overlap.
    """

    kind: Literal["dashboards", "poisson", "bursts", "saturated"]
    name: Name | None = None
    organisations: tuple[str, ...] | None = None
    connectors: tuple[str, ...] | None = None
    report_types: tuple[str, ...] | None = None
    priority: Priority = Priority.NORMAL
    ranges: Annotated[tuple[Range, ...], Field(min_length=1)] = (7, 14, 30, "month_to_date")
    ending: Literal["today", "yesterday", "random", "walk"] = "today"
    history: Annotated[int, Field(ge=1, le=3_660)] = 365
    force: bool = False
    at: Seconds = 0.0
    until: Span | None = None
    per_hour: Annotated[float, Field(gt=0, le=10_000_000)] | None = None
    size: Count | None = None
    times: Count = 1
    every: Span = 3_600.0
    depth: Count | None = None
    dashboards: Count = 20
    widgets: Count = 4
    within: Span = 600.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"poisson": "per_hour", "bursts": "size", "saturated": "depth"}.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"a stream of kind {self.kind} needs {needed}")
        if self.force and self.priority not in (Priority.PREMIUM, Priority.NORMAL):
            raise ValueError("force is for premium and normal only")
        return self


class Outage(_Strict):
    """From ``begins`` until ``ends`` every call of the connector type fails: ``unavailable`` (503), or ``throttle``
    (429), which names ``retry_after`` or no time at all."""

    connector: str
    begins: Seconds
    ends: Span
    kind: Literal["unavailable", "throttle"] = "unavailable"
    retry_after: Span | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ends <= self.begins:
            raise ValueError("ends must be after begins")
        if self.retry_after is not None and self.kind != "throttle":
            raise ValueError("only a throttle names retry_after")
        return self


_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _instant(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _known(value: datetime) -> datetime:
    """Refuses what no service has lived through: before 1970 the planner's instants are negative, and at the ends of
    the calendar a range or a local day is no date."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    if not _FIRST <= value < _LAST:
        raise ValueError(f"must lie between the years {_FIRST.year} and {_LAST.year - 1}")
    return value


Instant = Annotated[datetime, BeforeValidator(_instant), AfterValidator(_known)]


class Scenario(_Strict):
    """All of it. Commands come for ``duration``; what is open then is given ``drain`` to end."""

    title: str = Field("", max_length=200)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    starts_at: Annotated[datetime, BeforeValidator(_instant), AfterValidator(_known)] = datetime(
        2026, 3, 17, 12, tzinfo=UTC
    )
    duration: Span
    drain: Seconds = 86_400.0
    workers: Annotated[int, Field(ge=1, le=1_000)] = 3
    heartbeat: Span = 3.0
    delays: Delays = Delays()
    planner: dict[str, Any] = Field(default_factory=dict)
    """Settings of the planner by their names in ``app.domain.rules.Rules``."""
    connectors: Annotated[dict[str, TypeSpec], Field(min_length=1)]
    organisations: Annotated[tuple[Organisation, ...], Field(min_length=1)]
    streams: Annotated[tuple[Stream, ...], Field(min_length=1)]
    outages: tuple[Outage, ...] = ()
