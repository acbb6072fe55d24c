"""Builders for writes: rules of a type that is written to, and accepted writes that a test names only in part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from app.domain.commands import Cell
from app.domain.messages import Accept, Ask, Offer, Returned, StepOutcome, Write
from app.domain.model import Catalogue, ConnectorFacts, Field, Quota, ReportType
from app.domain.rules import ConnectorRules, Rules
from app.domain.sheets import WRITE_CALLS
from app.domain.state import Changes, State
from app.domain.writes import text_of
from app.testing.planning import NOW, facts, request_id

TABLE: Catalogue = {
    "SHEETS": {"table": ReportType("table", (Field("row", "int64", "key", "row"),), retention_days=0, settling_days=0)}
}
READ_CALLS = {"read": 1}


def sheet_quotas(read: int = 300, write: int = 300, user: int = 60) -> tuple[Quota, ...]:
    """Reads and writes apart, of the application and of a user."""
    most = {"read": read, "write": write}
    return tuple(
        Quota(f"{charge}s_per_minute_{scope}", "SHEETS", charge, scope, min(limit, most[charge]), 60_000)
        for charge in ("read", "write")
        for scope, limit in (("application", most[charge]), ("user", user))
    )


def sheet_rules(quotas: Iterable[Quota] = (), **changes: Any) -> Rules:
    """Rules of one connector type that is read in one step and written to."""
    one = ConnectorRules(tuple(quotas), ("start",), READ_CALLS, write_calls=WRITE_CALLS)
    return Rules({"SHEETS": one}, TABLE, **changes)


def sheet(number: int = 1, **changes: Any) -> ConnectorFacts:
    """Connector ``number`` of organisation 1, with a spreadsheet of its own."""
    return facts(number, connector_type="SHEETS", **changes)


def write(
    number: int,
    rows: Sequence[Sequence[Cell]] = (("a", 1),),
    *,
    target: str = "Leads!A1",
    mode: str = "append",
    **changes: Any,
) -> Accept:
    """Request ``number``: a scheduled write, accepted at ``NOW`` as the record of that offset."""
    given: dict[str, Any] = {
        "request_id": request_id(number),
        "connector": sheet(),
        "report_type": "",
        "start": 0,
        "end": 0,
        "fields": (),
        "priority_class": 3,
        "accepted_at": NOW,
        "body_hash": f"{number:032x}",
        "source": ("connector.commands", 0, number),
        "write": Write(request_id(number), target, mode, len(rows), text_of(rows)),
    }
    return Accept(**(given | changes))


def planner(*quotas: Any, **changes: Any) -> State:
    """A planner of spreadsheets with these quotas, at ``NOW``."""
    return State(sheet_rules(quotas, **changes), now=NOW)


def offered(changes: Changes) -> list[str]:
    """Requests whose writes a step gave out, in order."""
    return [offer.write.request_id for offer in changes.offers if offer.write is not None]


def asked(offer: Offer, name: str = "ask", charge: str = "write", worker: str = "w0") -> Ask:
    """The ask of a worker that is at an offered step."""
    return Ask(name, worker, offer.batch_id, offer.epoch, offer.step_no, charge)


def came_back(name: str = "ask") -> Returned:
    """A permit has come back."""
    return Returned((name,), ((name, 5, 1),), (name,))


def ended(offer: Offer, **what: Any) -> StepOutcome:
    """How an offered step ended."""
    return StepOutcome(
        offer.batch_id, offer.epoch, offer.step_no, "w0", 1, ended_at=NOW + 70, first_call_at=NOW, **what
    )
