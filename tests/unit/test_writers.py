"""Which connector types can be written to: those whose adapter can."""

from __future__ import annotations

from collections.abc import Sequence

from app.bootstrap import build, rules_of
from app.config import Settings
from app.connectors.dv360.client import Dv360Connector
from app.connectors.registry import connectors_of
from app.domain.commands import Cell
from app.ports import Calls, Writer


class Writing(Dv360Connector):
    """One that can be written to."""

    async def write(
        self, *, spreadsheet_id: str, request_id: str, target: str, mode: str, rows: Sequence[Sequence[Cell]],
        calls: Calls,
    ) -> int:  # fmt: skip
        return len(rows)


def test_what_can_write_is_written_to_and_nothing_else() -> None:
    settings = Settings.load({})
    known = connectors_of(settings)
    assert rules_of(settings, known).writers == {n for n, one in known.items() if isinstance(one, Writer)}
    dv360 = settings.providers.dv360
    known["SHEETS"] = Writing(reports_url=dv360.reports_url, api_url=dv360.api_url, poll_schedule_s=(1.0,))
    rules = rules_of(settings, known)
    assert "SHEETS" in rules.writers
    assert "DV360" not in rules.writers
    assert rules.connectors["SHEETS"].write_calls == {"write": 1}


async def test_intake_and_rest_take_writes_of_the_same_types() -> None:
    worker = build(Settings.load({}))
    assert worker.rest.writers == rules_of(worker.settings, connectors_of(worker.settings)).writers
