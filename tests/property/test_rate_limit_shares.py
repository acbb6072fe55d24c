"""Buckets with a reserve, classes and others' calls, against brute force: every call and every header by itself.

Our own count alone: tests/property/test_rate_limit_model.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import permits, rate_limit
from app.domain.messages import Returned, Told, Usage
from app.domain.model import ConnectorFacts, Quota
from app.domain.rate_limit import Limits, PermitRow
from app.domain.state import State
from app.domain.usage import STEPS
from app.testing.planning import facts, quota, rules
from app.testing.planning_checks import most_within
from tests.property.test_rate_limit_model import CONNECTORS, GUARD_MS, LIFETIME_MS, evenings, local_day, spans, zones

QUICK = settings(max_examples=150, deadline=None)
SLIDING = (
    quota("short", 3, 1_000, reserve=Decimal("0.34")),
    quota("user", 5, 4_000, scope="user", reserve=Decimal("0.9")),
    quota("account", 4, 7_000, scope="account"),
    quota("elsewhere", 2, 9_000, charge="entities", reserve=Decimal("0.5")),
)
RULES = {q.name: q for q in SLIDING}

Header = tuple[str, int]
"""Quota and the number of calls that the provider claims to have counted."""
Asked = tuple[int, ConnectorFacts, str, int | None, Header | None, bool]
"""ms to wait, connector, charge, ms until the return or None, what its headers tell, whether the reserve is its own."""
asks = st.tuples(
    spans,
    st.sampled_from(CONNECTORS),
    st.sampled_from(["reports", "reports", "entities"]),
    st.none() | st.integers(0, LIFETIME_MS + 3_000),
    st.none()
    | st.tuples(st.sampled_from([*RULES, "unknown"]), st.integers(-3, 9) | st.sampled_from([-(10**9), 10**9])),
    st.booleans(),
)


def owning(*quotas: Quota) -> State:
    """A planner's state with these buckets, and nothing else in it."""
    known = rules(quotas, permit_valid_ms=1_000, call_timeout_ms=LIFETIME_MS - 1_000, clock_guard_ms=GUARD_MS)
    return State(known, now=1_000_000)


@dataclass
class Call:
    """One permit, as anybody would write it down."""

    keys: tuple[str, ...]
    granted_at: int
    returned_at: int | None = None

    def free_at(self, period_ms: int) -> int:
        latest = self.granted_at + LIFETIME_MS
        ended = latest if self.returned_at is None else min(self.returned_at, latest)
        return ended + period_ms + 1


@dataclass
class Model:
    """The domain's count beside a list of all calls and all that was told."""

    state: State = field(default_factory=lambda: owning(*SLIDING))
    calls: dict[str, Call] = field(default_factory=dict)
    told: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    due: list[tuple[int, str, Header | None]] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        return self.state.limits_of_type("DV360")

    def wait(self, ms: int) -> None:
        until = self.state.now + ms
        for at, ask_id, header in sorted((d for d in self.due if d[0] <= until), key=lambda d: d[:2]):
            self.state.now = at
            permits.forget_permit(self.state, ask_id)
            told = () if header is None else (Told(ask_id, Usage(header[0], used=header[1])),)
            if header is not None:
                self.hear(self.calls[ask_id], header, at)
            self.calls[ask_id].returned_at = at
            permits.returned(self.state, Returned((ask_id,), usage=told))
        self.due = [d for d in self.due if d[0] > until]
        self.state.now = until

    def hear(self, call: Call, header: Header, at: int) -> None:
        """What exceeds all calls of ours that may have counted since this one was granted is others'."""
        name, used = header
        key = next((k for k in call.keys if k.partition("|")[0] == name), None)
        if key is None or at - call.granted_at > LIFETIME_MS:
            return
        rule = RULES[name]
        ours = [c for c in self.calls.values() if key in c.keys and c.free_at(rule.period_ms) > call.granted_at]
        others = min(used, rule.limit) - len(ours)
        known = self.told.setdefault(key, [])
        lately = [n for t, n in known if at - t < rule.period_ms // STEPS]
        if others > 0 and not any(n >= others for n in lately):
            known.append((at, others))

    def room(self, key: str, *, whole: bool, at: int | None = None) -> int:
        now, rule = self.state.now if at is None else at, RULES[key.partition("|")[0]]
        ours = [c for c in self.calls.values() if key in c.keys and c.free_at(rule.period_ms) > now]
        others = [n for t, n in self.told.get(key, []) if now < t + rule.period_ms]
        kept = 0 if whole else int(rule.limit * Fraction(rule.reserve or 0))
        return rule.limit - len(ours) - max(others, default=0) - kept

    def ask(
        self, connector: ConnectorFacts, charge: str, returned_after: int | None, header: Header | None, *, whole: bool
    ) -> bool:
        buckets = self.limits.of(charge, connector)
        if rate_limit.test(buckets, self.state.now, "", 1, whole=whole) is not None:
            return False
        row = PermitRow(f"ask{len(self.calls):03}", "", charge, tuple(b.key for b in buckets), self.state.now)
        rate_limit.hit(buckets, row)
        self.state.put(f"p/{row.ask_id}", row)
        self.calls[row.ask_id] = Call(row.keys, row.granted_at)
        if returned_after is not None:
            self.due.append((self.state.now + returned_after, row.ask_id, header))
        return True


@QUICK
@given(st.lists(asks, max_size=60))
def test_a_call_is_granted_exactly_where_ours_and_others_and_the_reserve_leave_room(steps: list[Asked]) -> None:
    model = Model()
    for wait, connector, charge, returned_after, header, whole in steps:
        model.wait(wait)
        buckets = model.limits.of(charge, connector)
        expected = all(model.room(b.key, whole=whole) >= 1 for b in buckets)
        for bucket in buckets:
            assert bucket.left(model.state.now, whole=whole) == model.room(bucket.key, whole=whole)
            assert bucket.window(model.state.now).remaining == max(0, model.room(bucket.key, whole=True))
        assert model.ask(connector, charge, returned_after, header, whole=whole) is expected
    for key in {key for call in model.calls.values() for key in call.keys}:
        rule = RULES[key.partition("|")[0]]
        granted = sorted(c.granted_at for c in model.calls.values() if key in c.keys)
        assert most_within(granted, rule.period_ms) <= rule.limit


@QUICK
@given(st.lists(asks, max_size=25))
def test_a_refusal_leads_by_its_times_to_the_first_moment_with_room(steps: list[Asked]) -> None:
    model = Model()
    for wait, connector, charge, returned_after, header, whole in steps:
        model.wait(wait)
        buckets = model.limits.of(charge, connector)
        if model.ask(connector, charge, returned_after, header, whole=whole):
            continue
        heir = Limits(SLIDING, LIFETIME_MS, GUARD_MS)
        told = {key: row.told for key, row in model.state.others.items()}
        heir.restore(model.state.permits.values(), {}, told)
        moment = model.state.now
        while (again := rate_limit.test(heir.of(charge, connector), moment, "", 1, whole=whole)) is not None:
            assert again.until > moment
            moment = again.until
        assert all(model.room(b.key, whole=whole, at=moment) >= 1 for b in buckets)
        assert not all(model.room(b.key, whole=whole, at=moment - 1) >= 1 for b in buckets), "asked again too late"


@QUICK
@given(st.lists(asks, max_size=40), st.integers(0, 20_000))
def test_rows_bring_others_calls_back(steps: list[Asked], later: int) -> None:
    model = Model()
    for wait, connector, charge, returned_after, header, whole in steps:
        model.wait(wait)
        model.ask(connector, charge, returned_after, header, whole=whole)
    heir = Limits(SLIDING, LIFETIME_MS, GUARD_MS)
    heir.restore(model.state.permits.values(), {}, {key: row.told for key, row in model.state.others.items()})
    for moment in (model.state.now, model.state.now + later):
        for key, bucket in model.limits.buckets.items():
            there = heir.buckets.get(key)
            assert bucket.others(moment) == (0 if there is None else there.others(moment)), key
            assert there is None or bucket.left(moment, whole=False) == there.left(moment, whole=False)


shares = st.sampled_from(["0", "0.1", "0.25", "0.9"])


@dataclass
class Day:
    """A calendar quota by hand: calls and others' calls by local day, and what is kept at an instant."""

    zone: str
    limit: int
    share: Fraction
    calls: Counter[date] = field(default_factory=Counter)
    others: dict[date, int] = field(default_factory=dict)

    def days(self, now: int) -> list[date]:
        """Those that a call permitted now may count in."""
        first, last = (local_day(at, self.zone) for at in (now - GUARD_MS, now + LIFETIME_MS + GUARD_MS))
        return [first + timedelta(n) for n in range((last - first).days + 1)]

    def kept(self, day: date, now: int) -> int:
        start, end = (
            int(datetime(d.year, d.month, d.day, tzinfo=ZoneInfo(self.zone)).timestamp() * 1000)
            for d in (day, day + timedelta(1))
        )
        opens, ends = start + GUARD_MS, end - GUARD_MS - LIFETIME_MS
        part = Fraction(min(max(ends - now, 0), ends - opens), ends - opens)
        return int(self.limit * self.share * part)

    def room(self, now: int, *, whole: bool) -> int:
        return min(
            self.limit - self.calls[d] - self.others.get(d, 0) - (0 if whole else self.kept(d, now))
            for d in self.days(now)
        )


CalendarStep = tuple[int, int | None, bool]
"""ms to wait, what the headers of a call that came back at once claim, whether the reserve is its own."""


@QUICK
@given(
    zones,
    evenings,
    shares,
    st.integers(1, 20),
    st.integers(0, 86_400_000),
    st.lists(st.tuples(st.integers(0, 14_000_000), st.none() | st.integers(-5, 30), st.booleans()), max_size=60),
)
def test_a_day_is_shared_as_by_hand_and_each_refusal_names_the_first_moment(
    zone: str, evening: tuple[int, int, int], share: str, limit: int, start: int, steps: list[CalendarStep]
) -> None:
    rule = quota("day", limit, 86_400_000, calendar_zone=zone, reserve=Decimal(share))
    state, model = owning(rule), Day(zone, limit, Fraction(share))
    state.now = int(datetime(*evening, tzinfo=UTC).timestamp() * 1000) + start
    for number, (wait, said, whole) in enumerate(steps):
        state.now += wait
        (bucket,) = state.limits_of_type("DV360").of("reports", facts())
        assert bucket.left(state.now, whole=whole) == model.room(state.now, whole=whole)
        full = rate_limit.test([bucket], state.now, "", 1, whole=whole)
        assert (full is None) is (model.room(state.now, whole=whole) >= 1)
        if full is None:
            row = PermitRow(f"ask{number}", "", "reports", (bucket.key,), state.now)
            rate_limit.hit([bucket], row)
            state.put(f"p/{row.ask_id}", row)
            model.calls.update(model.days(state.now))
            if said is not None:
                permits.returned(state, Returned((row.ask_id,), usage=(Told(row.ask_id, Usage("day", used=said)),)))
                day = model.days(state.now)[0]
                model.others[day] = max(model.others.get(day, 0), min(said, limit) - model.calls[day])
            continue
        assert full.kept is (model.room(state.now, whole=True) >= 1)
        assert full.until > state.now
        assert model.room(full.until - 1, whole=whole) < 1, "asked again too late"
        if full.kept and len(model.days(full.until)) == 1:
            assert model.room(full.until, whole=whole) >= 1, "no moment too early"
