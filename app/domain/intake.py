"""Intake's decision: is this command accepted, and if not, for which reasons: all of them at once, before any call.

A connector that is unknown, deleted or another organisation's gets one and the same answer: nobody learns what exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from app.domain import events, tables, writes
from app.domain.commands import CancelCommand, Command, FetchCommand, WriteCommand, nearest, pointer, shown
from app.domain.errors import ErrorClass, Failure, Fault
from app.domain.identity import body_hash
from app.domain.messages import Accept, Cancel, Refuse
from app.domain.model import (
    INBOX_PARTITION,
    PRIORITY_CLASS,
    Catalogue,
    ConnectorFacts,
    Days,
    Priority,
    ReportType,
)
from app.domain.zones import day_of, zone_of

READY_STATUSES = frozenset({"connected", "paused", "reauthorise"})
"""Connectors that take commands: paused ones and those that wait for a person queue them and call nobody."""

REFUSAL_KIND: Mapping[str, str | None] = {"fetch": "fetch_failed", "write": "write_failed", "cancel": None}
"""Type of a command -> type of the event that refuses it (None: the dead-letter topic alone)."""

_CLASS_OF: Mapping[str, ErrorClass] = {
    "connector_not_ready": ErrorClass.AUTHORISATION,
    "deadline_passed": ErrorClass.DEADLINE,
}
_SUGGESTIONS = 10
LATEST_DEADLINE_MS = 366 * 86_400_000
"""How long after its acceptance a request may still be wanted, ms."""

Today = Callable[[str], int]
"""Name of a time zone -> ordinal of the day it is there."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a command is refused. ``kind`` is the type of the event that says so, None where none does."""

    kind: str | None
    faults: tuple[Fault, ...]
    error_class: ErrorClass = ErrorClass.INVALID_COMMAND

    @property
    def code(self) -> str:
        """The first fault's slug."""
        return self.faults[0].code

    @property
    def detail(self) -> str:
        """Every reason in one line, with its place."""
        return detail_of(self.faults)

    @property
    def failure(self) -> Failure:
        """The refusal as the ``error`` of its event."""
        return Failure(self.error_class, self.code, self.detail, retryable=False)


def detail_of(faults: Iterable[Fault]) -> str:
    """All faults in one line: ``/fields/0: there is no field ...; /force: ...``."""
    return "; ".join(f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in faults)


def refused(kind: str | None, faults: tuple[Fault, ...]) -> Refused:
    """A refusal for at least one fault; its class is that of the faults where they agree, else ``invalid_command``."""
    if not faults:
        raise ValueError("a refusal needs a reason")
    classes = {_CLASS_OF.get(fault.code, ErrorClass.INVALID_COMMAND) for fault in faults}
    return Refused(kind, faults, classes.pop() if len(classes) == 1 else ErrorClass.INVALID_COMMAND)


def refusal(
    reasons: Refused,
    *,
    request_id: str | None,
    value: bytes,
    now: int,
    org_id: int | None = None,
    connector_id: str | None = None,
    connector: ConnectorFacts | None = None,
    command: Command | None = None,
    traceparent: str | None = None,
) -> Refuse | None:
    """The message that has the planner answer this command record with one refused event, if its id is unknown there.

    None where no event says so: cancels, and commands whose id could not be read. ``connector`` lends its type
    only to its own organisation.
    """
    if reasons.kind is None or request_id is None:
        return None
    own = connector is not None and org_id is not None and _is_own(connector, org_id)
    event = events.refused(
        kind=reasons.kind,
        now=now,
        request_id=request_id,
        value=value,
        failure=reasons.failure,
        org_id=org_id,
        connector_id=connector_id,
        connector_type=connector.connector_type if connector is not None and own else None,
        labels=command.labels if isinstance(command, FetchCommand) else None,
        report_type=command.report_type if isinstance(command, FetchCommand) else None,
        days=_days(command) if isinstance(command, FetchCommand) else None,
        traceparent=traceparent,
    )
    return Refuse(request_id, reasons.kind, event)


def _days(command: FetchCommand) -> Days | None:
    return None if command.start is None or command.end is None else Days(command.start, command.end)


def today_at(now: int) -> Today:
    """The calendar at an instant (ms): a zone's name -> the day it is there."""
    return partial(day_of, now)


def judge(
    command: Command,
    *,
    request_id: str,
    accepted_at: int,
    connector: ConnectorFacts | None,
    catalogue: Catalogue,
    today: Today,
    writers: AbstractSet[str] = frozenset(),
    traceparent: str | None = None,
    source: tuple[str, int, int] | None = None,
) -> Accept | Cancel | Refused:
    """Accepts or refuses one parsed command.

    ``request_id`` is the command's own or the one its place on the topic makes; ``accepted_at`` the LogAppendTime, ms;
    ``connector`` what is known under its connector_id, whoever owns it; ``writers`` the connector types that can be
    written to; ``source`` the record's (topic, partition, offset). Spends nothing, changes nothing.
    """
    if isinstance(command, CancelCommand):
        # An unknown request is no reason to refuse: the cancel may have come first and then leaves a tombstone.
        return Cancel(command.request_id, command.org_id, command.connector_id, source)
    known = connector if connector is not None and _is_own(connector, command.org_id) else None
    if isinstance(command, WriteCommand):
        wrong = tuple(_write_faults(command, known, writers))
        if wrong or known is None:
            return refused(REFUSAL_KIND["write"], wrong)
        return replace(_accept_write(command, request_id, accepted_at, known), traceparent=traceparent, source=source)
    faults = tuple(_fetch_faults(command, accepted_at, known, catalogue, today))
    if faults or known is None:
        return refused(REFUSAL_KIND["fetch"], faults)
    report = catalogue[known.connector_type][command.report_type]
    accepted = _accept(command, request_id, accepted_at, known, report, today)
    return replace(accepted, traceparent=traceparent, source=source)


def _is_own(connector: ConnectorFacts, org_id: int) -> bool:
    return connector.org_id == org_id and not connector.deleted


def _accept(
    command: FetchCommand,
    request_id: str,
    accepted_at: int,
    connector: ConnectorFacts,
    report: ReportType,
    today: Today,
) -> Accept:
    table = tables.is_table(connector.connector_type)
    # A table has no days of its own: it is what it is on the day it was asked for.
    now = today(connector.time_zone)
    return Accept(
        request_id=request_id,
        connector=connector,
        report_type=command.report_type,
        start=now if command.start is None else command.start,
        end=now if command.end is None else command.end,
        fields=command.fields or (() if table else report.standard_names),
        priority_class=PRIORITY_CLASS[command.priority],
        accepted_at=accepted_at,
        body_hash=body_hash(command),
        deadline_at=command.deadline_at,
        max_age_s=command.max_age_s,
        force=command.force,
        labels=dict(command.labels),
    )


def _accept_write(command: WriteCommand, request_id: str, accepted_at: int, connector: ConnectorFacts) -> Accept:
    return Accept(
        request_id=request_id,
        connector=connector,
        report_type="",
        start=0,
        end=0,
        fields=(),
        priority_class=PRIORITY_CLASS[command.priority],
        accepted_at=accepted_at,
        body_hash=body_hash(command),
        write=writes.write_of(command, request_id),
    )


def _fetch_faults(
    command: FetchCommand, accepted_at: int, connector: ConnectorFacts | None, catalogue: Catalogue, today: Today
) -> Iterable[Fault]:
    if connector is None:
        yield _unknown_connector()
    else:
        yield from _connector_faults(command, connector)
        yield from _report_faults(command, connector, catalogue, today)
    yield from _order_faults(command)
    yield from _urgency_faults(command, accepted_at)


def _unknown_connector() -> Fault:
    return Fault("unknown_connector", "/connector_id", "this organisation has no such connector")


def _not_ready(connector: ConnectorFacts) -> Iterable[Fault]:
    if connector.connector_type not in INBOX_PARTITION or zone_of(connector.time_zone) is None:
        advice = "this version does not know the connector's type or time zone: connect the account again"
        yield Fault("connector_not_ready", "/connector_id", advice)
    elif connector.status not in READY_STATUSES:
        advice = f"the connector is {connector.status}: connect the account again, then send the command again"
        yield Fault("connector_not_ready", "/connector_id", advice)


def _connector_faults(command: FetchCommand | WriteCommand, connector: ConnectorFacts) -> Iterable[Fault]:
    yield from _not_ready(connector)
    if command.priority == Priority.PREMIUM and connector.plan != "premium":
        yield Fault("priority_not_allowed", "/priority", "premium needs the premium plan; ask for normal instead")


def _report_faults(
    command: FetchCommand, connector: ConnectorFacts, catalogue: Catalogue, today: Today
) -> Iterable[Fault]:
    reports = catalogue.get(connector.connector_type, {})
    report = reports.get(command.report_type)
    if report is None:
        hint = nearest(command.report_type, reports) or (f"; it has {', '.join(sorted(reports))}" if reports else "")
        detail = f"{connector.connector_type} has no report {shown(command.report_type)}{hint}"
        yield Fault("unknown_report_type", "/report_type", detail)
    if tables.is_table(connector.connector_type):
        # Its fields are A1 ranges of a table that only the provider knows.
        if command.start is not None or command.end is not None:
            yield Fault("invalid_date_range", "/date_range", "a table has no days: leave date_range out")
        return
    if command.start is None or command.end is None:
        yield Fault("invalid_date_range", "/date_range", "date_range with start and end is required")
    if report is not None:
        yield from _field_faults(command, report)
    yield from _day_faults(command, report, today(connector.time_zone))


def _field_faults(command: FetchCommand, report: ReportType) -> Iterable[Fault]:
    names = report.askable_names
    unknown = [(place, name) for place, name in enumerate(command.fields) if name not in names]
    for count, (place, name) in enumerate(unknown):
        # Looking for neighbours is the dear part, and ten of them are advice enough.
        hint = nearest(name, names) if count < _SUGGESTIONS else ""
        detail = f"{report.name} has no field {shown(name)}{hint}"
        yield Fault("unknown_field_name", pointer("fields", place), detail)


def _day_faults(command: FetchCommand, report: ReportType | None, today: int) -> Iterable[Fault]:
    if command.end is not None and command.end > today:
        detail = f"the last day that can be asked for is today in the account's zone, {_day(today)}"
        yield Fault("invalid_date_range", "/date_range/end", detail)
    if report is None or command.start is None:
        return
    oldest = today - report.retention_days
    if report.retention_days > 0 and command.start < oldest:
        detail = f"the provider keeps {report.retention_days} days: the first that can be asked for is {_day(oldest)}"
        yield Fault("invalid_date_range", "/date_range/start", detail)


def _order_faults(command: FetchCommand) -> Iterable[Fault]:
    if command.start is not None and command.end is not None and command.start > command.end:
        yield Fault(
            "invalid_date_range", "/date_range", f"start {_day(command.start)} is after end {_day(command.end)}"
        )


def _urgency_faults(command: FetchCommand, accepted_at: int) -> Iterable[Fault]:
    if command.force and command.priority not in (Priority.PREMIUM, Priority.NORMAL):
        detail = f"force is for premium and normal only, not for {command.priority}"
        yield Fault("force_not_allowed", "/force", detail)
    if command.deadline_at is not None and command.deadline_at <= accepted_at:
        yield Fault("deadline_passed", "/deadline", "the deadline had passed when the command arrived")
    if command.deadline_at is not None and command.deadline_at > accepted_at + LATEST_DEADLINE_MS:
        yield Fault("invalid_value", "/deadline", "the deadline must be at most 366 days after the command arrived")


def _write_faults(
    command: WriteCommand, connector: ConnectorFacts | None, writers: AbstractSet[str]
) -> Iterable[Fault]:
    if connector is None:
        yield _unknown_connector()
    else:
        yield from _connector_faults(command, connector)
        if connector.connector_type not in writers:
            yield Fault("write_not_supported", "/connector_id", f"{connector.connector_type} can only be read")
    yield from writes.size_faults(command)


def _day(ordinal: int) -> str:
    return date.fromordinal(max(1, ordinal)).isoformat()
