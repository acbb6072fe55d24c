"""Tables in the planner's hands: no days on the wire, and equal ranges alone are merged and used again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bootstrap import rules_of
from app.config import Settings
from app.connectors.registry import connectors_of
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Accept, Ask, Event, Offer, Returned, StepOutcome, Tick
from app.domain.state import Changes, State, restore
from app.domain.tables import data_set_key
from app.services.status import status_body
from app.storage.postgres.requests import _row
from app.testing.planning import NOW, TODAY, Rows, accept, batches, facts, request_id, stored, take

SHEET = facts(1, connector_type="SHEETS", account_id="1abc", time_zone="Europe/Madrid")
COLUMNS = ["connector_id", "date", "range", "row", "account_id", "time_zone", "sheet", "first_column", "cells", "kinds"]
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def table(number: int, *ranges: str, **changes: Any) -> Accept:
    day = changes.pop("day", TODAY)
    return accept(number, day, day, **({"connector": SHEET, "report_type": "table", "fields": ranges} | changes))


def planner() -> State:
    settings = Settings.load({})
    return State(rules_of(settings, connectors_of(settings)), now=NOW)


def closed() -> State:
    """A planner whose quota is closed: batches wait and can be looked at."""
    state = planner()
    state.limits_of_type("SHEETS").close("reads_per_minute|", NOW + DAY_MS)
    return state


def finish(state: State, offer: Offer, *, at: int | None = None) -> Changes:
    file = stored(offer.start, offer.end, name=f"{offer.batch_id}-{offer.run}", rows=5)
    return take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", calls=1, file=file), at=at)


def receipts(changes: Changes) -> dict[str, Event]:
    return {event.request_id or "": event for event in changes.events if event.type == "data_fetched"}


def test_equal_ranges_are_one_fetch_in_whatever_order_they_stand() -> None:
    state = closed()
    take(state, table(1, "Leads!A:D", "Budget!A1"), table(2, "Budget!A1", "Leads!A:D"), table(3, "Leads!A:D"))
    assert [(set(b.members), b.extras) for b in sorted(state.batches.values(), key=lambda b: len(b.extras))] == [
        ({request_id(3)}, ("Leads!A:D",)),
        ({request_id(1), request_id(2)}, ("Budget!A1", "Leads!A:D")),
    ]


def test_a_range_may_be_called_like_a_column() -> None:
    """A sheet called ``date`` is no standard column that everybody has read."""
    state = closed()
    take(state, table(1, "date"), table(2, "cells"), table(3))
    assert sorted(b.extras for b in batches(state)) == [(), ("cells",), ("date",)]


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(["A", "B", "C", "date"]), unique=True), st.booleans(), st.booleans()),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_who_is_merged(asked: list[tuple[list[str], bool, bool]]) -> None:
    """One batch for each (connector, set of ranges, window)."""
    state, wanted = closed(), dict[tuple[Any, ...], set[str]]()
    for number, (ranges, second, late) in enumerate(asked):
        connector = replace(SHEET, connector_id=f"conn_{1 + second:032x}", account_id=f"1{second}")
        accepted_at = NOW + late * 300_000
        take(state, table(number, *ranges, connector=connector, accepted_at=accepted_at))
        wanted.setdefault((second, late, *sorted(ranges)), set()).add(request_id(number))
    found = sorted(sorted(batch.members) for batch in state.batches.values())
    assert found == sorted(sorted(members) for members in wanted.values())


def test_other_ranges_are_read_at_the_same_time() -> None:
    state = planner()
    changes = take(state, table(1, "A!A1"), table(2, "B!A1"))
    assert sorted(offer.fields for offer in changes.offers) == [("A!A1",), ("B!A1",)]
    assert {(offer.step, offer.report_type) for offer in changes.offers} == {("start", "table")}


def test_the_receipt_of_a_table_has_no_days() -> None:
    state = planner()
    (offer,) = take(state, table(1, "B!A1", "A!A1")).offers
    changes = finish(state, offer)
    data = receipts(changes)[request_id(1)].data
    assert (data["date_range"], data["fields"], data["records_fetched"]) == (None, ["B!A1", "A!A1"], 5)
    assert data["slice"] == {"columns": COLUMNS, "from": None, "to": None}
    assert [(file["from"], file["to"], file["rows"]) for file in data["files"]] == [(None, None, 5)]
    assert [event.type for event in changes.events] == ["data_fetched"], "nobody else could tell whose ranges it has"


def test_a_whole_spreadsheet_has_no_fields() -> None:
    state = planner()
    (offer,) = take(state, table(1)).offers
    assert offer.fields == ()
    data = receipts(finish(state, offer))[request_id(1)].data
    assert (data["fields"], data["slice"]["columns"]) == ([], COLUMNS)


@pytest.mark.parametrize(
    ("ranges", "later_ms", "max_age_s", "reused"),
    [
        (("B!A1", "A!A1"), 14 * MINUTE_MS, None, True),
        (("A!A1", "B!A1"), 16 * MINUTE_MS, None, False),
        (("A!A1",), MINUTE_MS, None, False),
        ((), MINUTE_MS, None, False),
        (("A!A1", "B!A1", "C!A1"), MINUTE_MS, None, False),
        (("A!A1", "B!A1"), 50 * MINUTE_MS, 3_600, True),
        (("A!A1", "B!A1"), 10 * MINUTE_MS, 420, False),
    ],
)
def test_reuse(ranges: tuple[str, ...], later_ms: int, max_age_s: int | None, reused: bool) -> None:
    state = planner()
    (offer,) = take(state, table(1, "A!A1", "B!A1")).offers
    finish(state, offer)
    at = NOW + later_ms
    changes = take(state, table(2, *ranges, accepted_at=at, max_age_s=max_age_s), at=at)
    assert (request_id(2) in receipts(changes), len(changes.offers)) == (reused, 0 if reused else 1)


def test_a_table_of_another_day_answers_nobody() -> None:
    state = planner()
    (offer,) = take(state, table(1, "A!A1")).offers
    finish(state, offer)
    changes = take(state, table(2, "A!A1", day=TODAY + 1, max_age_s=86_400 * 3), at=NOW + DAY_MS)
    assert len(changes.offers) == 1


def test_a_table_read_after_midnight_is_not_final() -> None:
    """Both were asked for before midnight, and the first was read after it, when its day was over."""
    state, midnight = planner(), NOW + 11 * HOUR_MS
    (offer,) = take(state, table(1, "A!A1")).offers
    finish(state, offer, at=midnight + 2 * MINUTE_MS)
    soon = take(state, table(2, "A!A1"), at=midnight + 12 * MINUTE_MS)
    assert request_id(2) in receipts(soon)
    late = take(state, table(3, "A!A1"), at=midnight + 30 * MINUTE_MS)
    assert len(late.offers) == 1


def test_while_the_circuit_is_open_equal_ranges_of_the_day_are_answered_stale() -> None:
    state, later = planner(), NOW + HOUR_MS
    (offer,) = take(state, table(1, "A!A1")).offers
    finish(state, offer)
    (failing,) = take(state, table(2, "X!A1"), at=later).offers
    for number in range(5):
        name = f"ask{number}"
        take(state, Ask(name, "w", failing.batch_id, failing.epoch, failing.step_no, "read"))
        take(state, Returned((name,), ends=((name, 5, 0),), left=(name,)))
    told = receipts(take(state, table(3, "A!A1", accepted_at=later), table(4, "B!A1", accepted_at=later)))
    assert list(told) == [request_id(3)], "nobody has read B"
    assert (told[request_id(3)].data["stale"], told[request_id(3)].data["date_range"]) == (True, None)
    assert [batch.extras for batch in state.batches.values() if batch.refresh] == [("A!A1",)]


def test_what_is_refused_names_no_days_either() -> None:
    state = planner()
    (offer,) = take(state, table(1, "Nowhere!A1")).offers
    failure = Failure(ErrorClass.INVALID_REQUEST, "invalid_range", "Unable to parse range", retryable=False)
    changes = take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", calls=1, failure=failure))
    (event,) = changes.events
    assert (event.type, event.data["date_range"], event.data["error"]["code"]) == (
        "fetch_failed", None, "invalid_range",
    )  # fmt: skip
    assert state.batches == {}


def test_what_is_shown_and_kept_of_a_table_has_no_days() -> None:
    state = closed()
    view = take(state, table(1, "A!A1")).views[request_id(1)]
    assert view is not None
    body = status_body(view)
    assert (body["date_range"], list(body["fields"])) == (None, ["A!A1"])
    assert _row(view)[4]["date_range"] is None


def keys(state: State) -> set[str]:
    assert set(state.data_sets) == {data.key for data in state.data_sets.values()}
    return set(state.data_sets)


@pytest.mark.parametrize("crashed", [False, True])
def test_what_nobody_asks_for_any_more_is_forgotten(crashed: bool) -> None:
    """Tables are as many as sets of ranges that somebody thinks of."""
    state, rows = planner(), Rows()
    rows.write(take(state, *(table(number, f"A!A{number}") for number in range(1, 4))))
    for batch in list(state.batches.values()):
        ask = Ask(batch.batch_id, "w", batch.batch_id, batch.epoch, batch.step_no, "read", data=True)
        rows.write(take(state, ask))
        outcome = StepOutcome(batch.batch_id, batch.epoch, batch.step_no, "w", calls=1)
        if batch.extras == ("A!A3",):
            gone = Failure(ErrorClass.NOT_FOUND, "spreadsheet_not_found", "Gone", retryable=False)
            rows.write(take(state, replace(outcome, failure=gone)))
        else:
            rows.write(take(state, replace(outcome, file=stored(TODAY, TODAY, name=batch.batch_id))))
    assert len(keys(state)) == 3
    if crashed:
        state = restore(state.rules, rows.read(), state.now)
        rows.write(take(state, Tick()))
    (offer,) = take(state, table(9, "A!A1", day=TODAY + 1), at=NOW + DAY_MS).offers
    rows.write(finish(state, offer, at=NOW + DAY_MS))
    rows.write(take(state, Tick(), at=NOW + 48 * HOUR_MS))
    assert keys(state) == {data_set_key(SHEET.connector_id, "SHEETS", "table", ["A!A1"])}
    assert [name for _, kind, name in state.due if kind == "table"] == list(keys(state))
    rows.write(take(state, Tick(), at=NOW + 72 * HOUR_MS))
    assert keys(state) == set()
    assert state.open_batches == {}
    assert not any(key.startswith("c/") for key in rows.read())


def test_a_table_that_is_waited_for_is_kept() -> None:
    state = planner()
    (offer,) = take(state, table(1, "A!A1")).offers
    finish(state, offer)
    state.limits_of_type("SHEETS").close("reads_per_minute|", NOW + 100 * DAY_MS)
    take(state, table(2, "A!A1", day=TODAY + 1), at=NOW + DAY_MS)
    take(state, Tick(), at=NOW + 3 * DAY_MS)
    assert len(keys(state)) == 1
    assert [at for at, kind, _ in state.due if kind == "table"] == [NOW + 5 * DAY_MS]


def test_other_types_keep_the_key_of_their_data_sets() -> None:
    assert data_set_key("conn_1", "META", "campaign_performance", ["reach"]) == "conn_1|campaign_performance"
    keys = {data_set_key("conn_1", "SHEETS", "table", ranges) for ranges in (["a|b"], ["a", "b"], ["a"], [])}
    assert len(keys) == 4
