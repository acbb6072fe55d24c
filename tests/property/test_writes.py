"""Writes told to the planner in any order: what must hold after every step, whatever came before it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.domain import closing, planner
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Accept, Ask, Cancel, Heartbeat, Members, Offer, Returned, StepOutcome, Tick
from app.domain.retry import RetryPolicy
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, Rows, request_id
from app.testing.planning_checks import left_over
from app.testing.writing import sheet, sheet_quotas, sheet_rules, write

CONNECTORS = [
    sheet(1, account_id="book"),
    sheet(2, account_id="book", org_id=2, subject="other"),
    sheet(3, account_id="sheet"),
]
"""Two of them name one spreadsheet."""
FAILURES = (
    Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True),
    Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, retry_after_s=90.0),
    Failure(ErrorClass.INVALID_REQUEST, "sheet_write_rejected", "No.", retryable=False),
    Failure(ErrorClass.QUOTA, "rate_limited", "Not now.", retryable=True, throttle=Throttle(None, 2.0)),
)
ENDS = {"data_written", "write_failed", "fetch_cancelled"}
RULES = sheet_rules(
    sheet_quotas(read=4, write=4, user=4),
    max_concurrent=3,
    retry=RetryPolicy(3, 2.0, 20.0),
    call_timeout_ms=20_000,
    closed_mark_ms=60_000,
)
LIFETIME_MS = RULES.permit_valid_ms + RULES.call_timeout_ms
"""How long after its grant a call may still land. (It is of a charge that quotas count.)"""
picks = st.integers(0, 1_000)


class Writes(RuleBasedStateMachine):
    """Every rule is one step."""

    @initialize()
    def begin(self) -> None:
        self.now, self.number = NOW, 0
        self.state, self.rows = State(RULES, now=NOW), Rows()
        self.commands: dict[str, Accept] = {}
        self.ends: Counter[str] = Counter()
        self.how: dict[str, str] = {}
        self.begun: dict[str, str] = {}
        """Request -> spreadsheet, of those that have begun and not ended."""
        self.offers: list[Offer] = []
        self.asks: dict[str, tuple[Ask, str]] = {}
        self.out: dict[str, tuple[str, int]] = {}
        """Ask id of a permit to write that has not come back -> (request, when it was granted)."""
        self.sent: set[str] = set()

    # What it is told

    @rule(
        who=st.integers(0, 2),
        late=st.sampled_from([0, 0, 1, 5_000]),
        class_=st.sampled_from([1, 2, 3, 5]),
        same=st.booleans(),
        mode=st.sampled_from(["append", "update"]),
        left=st.sampled_from([None, None, 30_000]),
    )
    def come(self, who: int, late: int, class_: int, same: bool, mode: str, left: int | None) -> None:
        """``same``: its record stands before all others of its instant, on another partition."""
        self.number += 1
        command = write(
            self.number,
            [["n", self.number, 1.5, True, None]],
            mode=mode,
            connector=CONNECTORS[who],
            priority_class=class_,
            accepted_at=self.now - late,
            source=("connector.commands", 0 if same else 1, 1_000 - self.number if same else self.number),
            deadline_at=None if left is None else self.now + left,
        )
        self.commands[command.request_id] = command
        self.step(command)

    @precondition(lambda self: self.number)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        name = request_id(1 + pick % self.number)
        who, live = self.commands[name].connector, name in self.state.requests
        source = ("connector.commands", 2, pick)
        changes = self.step(Cancel(name, who.org_id, who.connector_id, source))
        if live and name in self.sent:
            assert [code for at, code, _ in changes.dead if at == source] == ["already_running"]
            assert name in self.state.requests
        elif live:
            assert self.how[name] == "fetch_cancelled"

    @precondition(lambda self: self.offers)
    @rule(pick=picks, charge=st.sampled_from(["write", "write", "read"]), worker=st.sampled_from(["w0", "w0", "w1"]))
    def ask(self, pick: int, charge: str, worker: str) -> None:
        offer = self._offer(pick)
        assert offer.write is not None
        ask = Ask(f"ask{len(self.asks)}", worker, offer.batch_id, offer.epoch, offer.step_no, charge)
        self.asks[ask.ask_id] = ask, offer.write.request_id
        self.step(ask)

    @precondition(lambda self: self.out)
    @rule(pick=picks)
    def give_back(self, pick: int) -> None:
        name = sorted(self.out)[pick % len(self.out)]
        del self.out[name]
        self.step(Returned((name,), ((name, 5, 1),), (name,)))

    @precondition(lambda self: self.offers)
    @rule(pick=picks, how=st.sampled_from(["written", "written", "failure", "released"]))
    def outcome(self, pick: int, how: str) -> None:
        offer = self._offer(pick)
        every: dict[str, dict[str, Any]] = {
            "written": {"rows_written": 1},
            "failure": {"failure": FAILURES[pick % len(FAILURES)]},
            "released": {"released": True, "not_before_s": float(pick % 4)},
        }
        self.step(StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w0", 0, ended_at=self.now, **every[how]))

    @rule(by=st.sampled_from([1, 40, 1_000, 15_001, 60_000]), heard=st.booleans())
    def time_passes(self, by: int, heard: bool) -> None:
        """With or without heartbeats: fifteen seconds without one end a lease."""
        if heard:
            self.step(Heartbeat("w0", tuple((b, self.state.batches[b].epoch) for b in self.state.leases)))
        self.now += by
        self.step(Tick())

    @rule()
    def time_comes(self) -> None:
        self.now = max(self.now, planner.next_due(self.state) or 0)
        self.step(Tick())

    @rule(workers=st.sampled_from([("w0",), ("w1",), ()]))
    def workers_change(self, workers: tuple[str, ...]) -> None:
        self.step(Members(workers))

    @rule()
    def move(self) -> None:
        self.state = restore(RULES, self.rows.read(), self.now)
        self.step(Tick())

    def _offer(self, pick: int) -> Offer:
        """Mostly one that is under way."""
        live = [o for o in self.offers if self._current(o)]
        some = live if live and pick % 10 else self.offers
        return some[pick % len(some)]

    def _current(self, offer: Offer) -> bool:
        row = self.state.batches.get(offer.batch_id)
        return row is not None and (row.epoch, row.step_no, row.state) == (offer.epoch, offer.step_no, "leased")

    # What must hold

    def step(self, *messages: Any) -> Changes:
        """One step, and all that is promised of it."""
        waited = {n for n in self.commands if n not in self.ends and n not in self.begun}
        changes = planner.step(self.state, [(m, self.now) for m in messages])
        self.rows.write(changes)
        self._end_once(changes)
        self._begin_in_order(changes, waited)
        self._land_alone(changes)
        self._who_waits_knows_why()
        self._heirs_know_the_same()
        return changes

    def _end_once(self, changes: Changes) -> None:
        for event in changes.events:
            if event.type in ENDS and event.request_id:
                self.ends[event.request_id] += 1
                self.how[event.request_id] = event.type
        assert max(self.ends.values(), default=1) == 1
        assert self.ends.keys().isdisjoint(self.state.requests)
        assert self.ends.keys() | self.state.requests.keys() == self.commands.keys()
        assert self.state.writes.keys() == self.state.requests.keys()
        self.begun = {n: s for n, s in self.begun.items() if self._lives(n)}

    def _lives(self, name: str) -> bool:
        """It has not ended, or was cancelled and its step is still with a worker."""
        mine = {o.batch_id for o in self.offers if o.write is not None and o.write.request_id == name}
        return name not in self.ends or bool(mine & self.state.batches.keys())

    def _begin_in_order(self, changes: Changes, waited: set[str]) -> None:
        """In accepted order of those that are there, and none while another one has begun or may still land."""
        for offer in changes.offers:
            self.offers.append(offer)
            assert offer.write is not None
            assert offer.step == "write"
            command = self.commands[offer.write.request_id]
            assert offer.write == command.write, "the rows came back as they went in"
            name, book = command.request_id, command.connector.account_id
            if name in self.begun:
                continue
            assert book not in self.begun.values(), f"{name} began beside another one"
            there = [n for n in {*waited, name} - self.ends.keys() if self.commands[n].connector.account_id == book]
            first = min(map(self._order, there))
            assert self._order(name) == first, f"{name} overtook {first}"
            assert not [n for n in self._landing(book) if n != name], f"{name} began while another one may land"
            self.begun[name] = book

    def _order(self, name: str) -> tuple[int, int, int]:
        command = self.commands[name]
        _, partition, offset = command.source or ("", 0, 0)
        return command.accepted_at, partition, offset

    def mode(self, name: str) -> str:
        command = self.commands[name].write
        assert command is not None
        return command.mode

    def _landing(self, book: str) -> set[str]:
        """An append that is in the sheet does not come twice."""
        return {
            name
            for name, granted in self.out.values()
            if self.commands[name].connector.account_id == book and granted + LIFETIME_MS > self.now
            if not (self.mode(name) == "append" and self.how.get(name) == "data_written")
        }

    def _land_alone(self, changes: Changes) -> None:
        for answer in changes.answers:
            ask, name = self.asks[answer.ask_id]
            if answer.denied is not None or ask.charge != "write":
                continue
            assert self.how.get(name) != "fetch_cancelled", f"{name} was cancelled and may land"
            assert self._landing(self.commands[name].connector.account_id) <= {name}
            self.out[ask.ask_id] = name, self.now
            self.sent.add(name)

    def _who_waits_knows_why(self) -> None:
        for name, row in self.state.requests.items():
            view = closing.view(self.state, row)
            assert view.write == {"target": "Leads!A1", "mode": self.mode(name), "rows": 1, "sent": name in self.sent}
            if row.state == "queued":
                assert view.waiting is not None
                until = view.waiting["until"]
                assert until is None or until > self.now
                others = set(self.begun) - {name}
                book = row.accept.connector.account_id
                if any(self.begun[o] == book for o in others):
                    assert view.waiting["reason"] in ("earlier_write", "quota", "concurrency"), view.waiting
        if self.state.requests:
            assert (planner.next_due(self.state) or 0) <= max(self.now, self.state.now) + planner.IDLE_MS

    def _heirs_know_the_same(self) -> None:
        heir = restore(RULES, self.rows.read(), self.state.now)
        assert (heir.requests, heir.batches, heir.writes) == (
            self.state.requests,
            self.state.batches,
            self.state.writes,
        )
        assert heir.write_chars == self.state.write_chars == sum(len(w.rows) for w in heir.writes.values())
        for book in ("book", "sheet"):
            assert heir.sheets.first(book) == self.state.sheets.first(book)
        for row in heir.batches.values():
            assert heir.sheets.ahead(row) == self.state.sheets.ahead(row)
            mine = [s.sheets.landing_until(row, self.state.now) for s in (heir, self.state)]
            assert mine[0] == mine[1]

    def teardown(self) -> None:
        """Whatever happened, all end when workers work and time goes on; then nothing is left of them."""
        if not hasattr(self, "state"):
            return
        for _ in range(400):
            if not (self.state.requests or self.state.batches):
                break
            under_way = [o for o in self.offers if self._current(o)]
            self.now += 0 if under_way else 30_000
            self.step(
                *(StepOutcome(o.batch_id, o.epoch, o.step_no, "w0", 0, rows_written=1) for o in under_way), Tick()
            )
        assert self.ends.keys() == self.commands.keys()
        for by in (200_000, 2 * 86_400_000):
            self.now += by
            self.step(Tick())
        assert list(left_over(self.state)) == []
        assert not self.state.sheets
        assert not self.state.writes


TestWrites = Writes.TestCase
TestWrites.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
