"""What the planner does with writes (docs/planner.md section 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain import closing, writes
from app.domain.breaker import BreakerPolicy
from app.domain.commands import WriteCommand
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Answer, Cancel, Returned, StepOutcome, Tick
from app.domain.retry import RetryPolicy
from app.domain.state import Changes, restore
from app.streams import internal
from app.streams.codecs import EventCodec
from app.streams.wire import decode_event
from app.testing.planning import NOW, TODAY, Rows, accept, quota, reasons, request_id, take
from app.testing.writing import asked, came_back, ended, offered, planner, sheet, sheet_quotas, write

CELLS: list[list[Any]] = [["=1+1", 'a "b"\n', -(2**63)], [None, 0.1, True], [False, 1, 1.0]]
SYSTEM = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)


def table(number: int, **changes: Any) -> Any:
    """A fetch from a spreadsheet."""
    return accept(number, TODAY, TODAY, report_type="table", connector=sheet(), **changes)


def test_a_write_is_offered_with_its_rows_and_ends_with_one_event() -> None:
    state = planner()
    began = take(state, write(1, CELLS, target="Leads!B2"))
    (offer,) = began.offers
    assert offer.write is not None
    assert (offer.step, offer.write.target, offer.write.mode, offer.write.count) == ("write", "Leads!B2", "append", 3)
    assert writes.rows_of(offer.write.rows) == CELLS
    assert [[type(c) for c in row] for row in writes.rows_of(offer.write.rows)] == [[type(c) for c in r] for r in CELLS]
    view = began.views[request_id(1)]
    assert view is not None
    assert view.write == {"target": "Leads!B2", "mode": "append", "rows": 3, "sent": False}
    assert (view.state, view.report_type, view.fields, view.waiting) == ("running", "", (), None)

    take(state, asked(offer))
    done = take(state, came_back(), ended(offer, rows_written=3))
    (event,) = done.events
    assert (event.type, event.data, event.request_id) == (
        "data_written",
        {"target": "Leads!B2", "rows_written": 3},
        request_id(1),
    )
    _, value, _ = EventCodec("avro").encode(event)
    assert decode_event(value)["data"] == event.data
    last = done.views[request_id(1)]
    assert last is not None
    assert (last.state, last.progress, last.attempts, last.cost) == ("completed", 100, 1, "1.0000")
    assert (last.result, last.execution_time_ms) == ({"target": "Leads!B2", "rows_written": 3}, 70)
    assert (state.batches, state.requests, state.writes, state.write_chars) == ({}, {}, {}, 0)


def test_its_rows_are_written_down_once_and_dropped_with_its_end() -> None:
    state = planner(retry=RetryPolicy(2, 1.0, 1.0))
    all_: list[Changes] = [take(state, write(1, CELLS))]
    for _ in range(2):
        (offer,) = all_[-1].offers
        all_.append(take(state, asked(offer, f"ask{len(all_)}")))
        all_.append(take(state, ended(offer, failure=SYSTEM)))
        all_.append(take(state, Tick(), at=state.now + 2_000))
    rows = [(key, row) for changes in all_ for key, row in changes.rows.items()]
    kept = [(key, row is None) for key, row in rows if key[:2] == "w/"]
    assert kept == [(f"w/{request_id(1)}", False), (f"w/{request_id(1)}", True)]
    views = [view for changes in all_ for view in changes.views.values()]
    others = [internal.dump_row(row) or b"" for row in [*(row for key, row in rows if key[:2] != "w/"), *views]]
    assert len(others) > 10
    assert b"=1+1" not in b"".join(others)


def test_an_heir_offers_the_same_rows() -> None:
    state, rows = planner(), Rows()
    first = take(state, write(1, CELLS))
    rows.write(first)
    heir = restore(state.rules, rows.read(), NOW)
    rows.write(take(heir, Tick()))
    lost = take(heir, Tick(), at=NOW + 16_000)
    (again,) = lost.offers
    assert again.write == first.offers[0].write
    assert (again.epoch, again.step_no) == (2, 0)
    # And over the wire that the offer takes.
    assert internal.load(internal.dump(again)) == again


def test_writes_of_one_spreadsheet_begin_in_accepted_order_whatever_their_class() -> None:
    state = planner()
    later = write(3, priority_class=1, accepted_at=NOW - 1)
    first = take(state, write(1, accepted_at=NOW - 2, priority_class=5), write(2, accepted_at=NOW - 2), later)
    assert offered(first) == [request_id(1)]
    assert {r["reason"] for r in reasons(state).values() if r} == {"earlier_write"}
    order, offers = [], first.offers
    while offers:
        changes = take(state, ended(offers[0], rows_written=1))
        offers = changes.offers
        order += offered(changes)
    assert order == [request_id(2), request_id(3)]


def test_spreadsheets_wait_by_class_as_everything_does() -> None:
    state = planner(max_concurrent=2)
    take(state, *(write(n, connector=sheet(n)) for n in (1, 2)))
    took = take(state, write(3, connector=sheet(3)), write(4, connector=sheet(4), priority_class=1))
    assert took.offers == []
    held = next(iter(state.leases))
    freed = take(state, StepOutcome(held, 1, 0, "w0", 1, rows_written=1))
    assert offered(freed) == [request_id(4)]


def test_two_organisations_write_to_one_spreadsheet_one_after_the_other() -> None:
    state = planner()
    theirs = sheet(2, account_id="acc1", org_id=2, subject="them")
    changes = take(state, write(1), write(2, connector=theirs))
    assert offered(changes) == [request_id(1)]


def test_a_retry_stays_before_later_writes_however_long_it_waits() -> None:
    state = planner()
    (offer,) = take(state, write(1), write(2)).offers
    take(state, asked(offer))
    patient = replace(SYSTEM, retry_after_s=3_600.0)
    failed = take(state, came_back(), ended(offer, failure=patient))
    assert failed.offers == []
    assert state.batches[offer.batch_id].priority_class == 4
    assert [r and r["reason"] for r in reasons(state).values()] == ["earlier_write", "backing_off"]
    take(state, Tick(), at=NOW + 3_599_000)
    assert state.leases == {}
    again = take(state, Tick(), at=NOW + 3_600_000)
    assert offered(again) == [request_id(1)]


def test_who_comes_late_does_not_overtake_one_that_has_begun() -> None:
    state = planner()
    (offer,) = take(state, write(2)).offers
    take(state, ended(offer, failure=SYSTEM), write(1, accepted_at=NOW - 5_000))
    again = take(state, Tick(), at=NOW + 10_000)
    assert offered(again) == [request_id(2)]


@pytest.mark.parametrize("scope", ["application", "user"])
@pytest.mark.parametrize(("full", "free"), [("read", "write"), ("write", "read")])
def test_reads_and_writes_wait_for_buckets_of_their_own(scope: str, full: str, free: str) -> None:
    tight = quota(f"{full}s", 1, 60_000, connector_type="SHEETS", charge=full, scope=scope)
    state = planner(tight, ask_hold_ms=0)
    commands = {"read": table, "write": write}
    (first,) = take(state, commands[full](1)).offers
    take(state, asked(first, charge=full))
    result = {"rows_written": 1} if full == "write" else {"failure": replace(SYSTEM, retryable=False)}
    take(state, came_back(), ended(first, **result))
    waits = take(state, commands[full](2))
    assert (waits.offers, [r and r["reason"] for r in reasons(state).values()]) == ([], ["quota"])
    goes = take(state, commands[free](3))
    assert len(goes.offers) == 1
    assert (goes.offers[0].write is not None) == (free == "write")


def test_its_place_in_the_quota_is_told_of_the_buckets_it_spends() -> None:
    state = planner(*sheet_quotas(read=4, write=5, user=60))
    view = take(state, write(1)).views[request_id(1)]
    assert view is not None
    assert view.rate_limit is not None
    assert (view.rate_limit["bucket"], view.rate_limit["limit"]) == ("writes_per_minute_application", 5)
    other = take(state, table(2)).views[request_id(2)]
    assert other is not None
    assert other.rate_limit is not None
    assert other.rate_limit["bucket"] == "reads_per_minute_application"


def test_a_throttle_is_no_attempt_and_loses_no_place() -> None:
    state = planner(*sheet_quotas())
    (offer,) = take(state, write(1), write(2)).offers
    take(state, asked(offer))
    throttle = Failure(ErrorClass.QUOTA, "rate_limited", "429", retryable=True, throttle=Throttle(None, 30.0))
    told = take(state, came_back(), ended(offer, failure=throttle))
    assert [e.type for e in told.events] == ["rate_limit_hit"]
    assert told.events[0].data["bucket"].startswith("writes_per_minute_application")
    assert state.batches[offer.batch_id].attempts == 0
    assert offered(take(state, Tick(), at=NOW + 30_000)) == [request_id(1)]


def test_a_refused_write_fails_and_the_next_one_begins() -> None:
    state = planner()
    (offer,) = take(state, write(1), write(2)).offers
    rejected = Failure(ErrorClass.INVALID_REQUEST, "sheet_write_rejected", "No such sheet.", retryable=False)
    changes = take(state, ended(offer, failure=rejected))
    (event,) = changes.events
    assert (event.type, event.data["error"]["code"], event.data["report_type"], event.data["date_range"]) == (
        "write_failed",
        "sheet_write_rejected",
        None,
        None,
    )
    assert (event.data["batch_id"], event.data["refused"]) == (offer.batch_id, False)
    assert offered(changes) == [request_id(2)]


def test_an_open_circuit_stops_writes_and_answers_none() -> None:
    state = planner(breaker=BreakerPolicy(1, 30_000, 1), retry=RetryPolicy(9, 1.0, 1.0))
    (offer,) = take(state, write(1)).offers
    take(state, asked(offer))
    changes = take(state, Returned(("ask",), (("ask", 5, 0),), ("ask",)), ended(offer, failure=SYSTEM))
    assert [e.type for e in changes.events] == ["circuit_opened"]
    take(state, write(2, connector=sheet(5, account_id="acc1")), Tick(), at=NOW + 5_000)
    assert len(state.requests) == 2
    assert {r["reason"] for r in reasons(state).values() if r} == {"circuit_open"}


def test_a_cancel_wins_before_the_call_that_writes() -> None:
    state = planner()
    (offer,) = take(state, write(1), write(2)).offers
    take(state, asked(offer, charge="read"))
    changes = take(state, Cancel(request_id(1), 1, sheet().connector_id))
    assert [(e.type, e.request_id) for e in changes.events] == [("fetch_cancelled", request_id(1))]
    assert changes.offers == []
    stopped = take(state, asked(offer, "ask2"))
    assert stopped.answers == [Answer("ask2", "w0", "stale")]
    assert offered(stopped) == [request_id(2)]


def test_a_queued_write_is_cancelled_and_wakes_nobody_too_early() -> None:
    state = planner()
    take(state, write(1), write(2), write(3))
    changes = take(state, Cancel(request_id(2), 1, sheet().connector_id))
    assert [e.type for e in changes.events] == ["fetch_cancelled"]
    assert changes.offers == []
    assert f"w/{request_id(2)}" in changes.rows


@pytest.mark.parametrize("again", [False, True], ids=["under way", "waits to be tried again"])
def test_a_cancel_comes_too_late_once_its_call_may_have_left(again: bool) -> None:
    state = planner()
    (offer,) = take(state, write(1)).offers
    shown = take(state, asked(offer)).views[request_id(1)]
    assert shown is not None
    assert shown.write is not None
    assert shown.write["sent"] is True
    if again:
        take(state, came_back(), ended(offer, failure=SYSTEM))
    source = ("connector.commands", 3, 9)
    changes = take(state, Cancel(request_id(1), 1, sheet().connector_id, source))
    assert [(at, code) for at, code, _ in changes.dead] == [(source, "already_running")]
    assert (changes.events, list(state.requests)) == ([], [request_id(1)])
    # A stranger's is not answered at all.
    foreign = take(state, Cancel(request_id(1), 2, sheet().connector_id, source))
    assert foreign.dead == []


@pytest.mark.parametrize("left", [True, False], ids=["its call left", "no call left"])
@pytest.mark.parametrize("how", ["written", "failed", "failed after a hand-over"])
def test_how_it_ended_tells_whether_its_rows_may_be_in_the_sheet(how: str, left: bool) -> None:
    """A write that failed after its call left may be there all the same, and who sends it again must know that."""
    state, rows = planner(retry=RetryPolicy(1, 1.0, 1.0)), Rows()
    began = take(state, write(1))
    (offer,) = began.offers
    rows.write(began)
    rows.write(take(state, asked(offer, charge="write" if left else "read"), came_back()))
    if how == "failed after a hand-over":
        state = restore(state.rules, rows.read(), NOW)
    outcome = ended(offer, rows_written=1) if how == "written" else ended(offer, failure=SYSTEM)
    shown = take(state, outcome).views[request_id(1)]
    assert shown is not None
    assert shown.write is not None
    assert (shown.state, shown.write["sent"]) == ("completed" if how == "written" else "failed", left)


def test_a_cancel_that_came_first_ends_it_before_it_begins() -> None:
    state = planner()
    take(state, Cancel(request_id(1), 1, sheet().connector_id))
    changes = take(state, write(1))
    assert [(e.type, e.request_id) for e in changes.events] == [("fetch_cancelled", request_id(1))]
    assert (changes.offers, state.writes) == ([], {})


def test_a_deadline_ends_it_as_a_failed_write() -> None:
    state = planner()
    take(state, write(1), write(2, deadline_at=NOW + 5_000))
    changes = take(state, Tick(), at=NOW + 5_000)
    assert [(e.type, e.data["error"]["code"]) for e in changes.events] == [("write_failed", "deadline_passed")]


def test_the_same_command_again_is_the_same_write() -> None:
    state = planner()
    take(state, write(1))
    again = take(state, write(1))
    assert (again.offers, again.dead, len(state.batches)) == ([], [], 1)
    other = take(state, write(1, body_hash="f" * 32))
    assert [code for _, code, _ in other.dead] == ["idempotency_mismatch"]


def test_the_rows_of_all_writes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    state = planner()
    first = write(1)
    assert first.write is not None
    monkeypatch.setattr(writes, "MAX_LIVE_BYTES", 2 * len(first.write.rows))
    changes = take(state, first, write(2), write(3))
    assert [(e.type, e.data["error"]["code"], e.request_id) for e in changes.events] == [
        ("write_failed", "queue_full", request_id(3))
    ]
    assert state.write_chars == 2 * len(first.write.rows)


def test_a_held_write_is_told_how_many_stand_before_it() -> None:
    state = planner()
    state.pace.job_ms.add(2_000.0)
    take(state, *(write(n) for n in range(1, 5)))
    waits = [closing.view(state, state.requests[request_id(n)]).estimated_wait_s or 0 for n in range(1, 5)]
    assert waits[0] == 0
    assert 0 < waits[1] < waits[2] < waits[3]


def test_a_write_is_never_answered_from_a_fetch_nor_joined() -> None:
    state = planner()
    changes = take(state, table(1), write(2), write(3), table(4))
    assert len(state.batches) == 3
    assert [len(b.members) for b in state.batches.values()] == [2, 1, 1]
    assert len(changes.offers) == 2


def test_no_version_of_any_data_set_is_drawn_for_it() -> None:
    state = planner()
    (offer,) = take(state, write(1)).offers
    take(state, replace(asked(offer), data=True))
    assert state.data_sets == {}


def test_one_call_carries_no_more_than_it_should() -> None:
    wide = WriteCommand(None, 1, "conn", "A!A1", "append", (tuple(range(writes.MAX_CELLS + 1)),))
    (fault,) = writes.size_faults(wide)
    assert (fault.code, fault.pointer) == ("invalid_rows", "/rows")
    assert "20000 cells in one write, not 20001" in fault.detail
    assert list(writes.size_faults(replace(wide, rows=(tuple(range(writes.MAX_CELLS)),)))) == []
    # Bytes as they travel, not characters.
    text = "\u00e4" * ((writes.MAX_BYTES - 6) // 2)
    assert list(writes.size_faults(replace(wide, rows=((text,),)))) == []
    (large,) = writes.size_faults(replace(wide, rows=((text + "\u00e4",),)))
    assert f"{writes.MAX_BYTES + 2} bytes as JSON, at most {writes.MAX_BYTES}" in large.detail
