"""Buckets against brute force: every call counted by itself, wherever between grant and end the provider saw it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain import rate_limit, rhythm
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Limits, PermitRow
from app.testing.planning import facts, quota
from app.testing.planning_checks import most_within

LIFETIME_MS, GUARD_MS = 5_000, 2_000
CONNECTORS = (facts(1), facts(2), facts(3, subject="other"))
SLIDING = (
    quota("short", 2, 1_000),
    quota("user", 3, 4_000, scope="user"),
    quota("account", 2, 7_000, scope="account"),
    quota("elsewhere", 1, 9_000, charge="entities"),
)
QUICK = settings(max_examples=100, deadline=None)

Asked = tuple[int, ConnectorFacts, str, int | None, float]
"""ms to wait, connector, charge, ms until the permit's return or None, where between grant and end the call was."""
spans = st.integers(0, 2_500) | st.sampled_from([0, 1, 999, 1_000, 1_001])
asks = st.tuples(
    spans,
    st.sampled_from(CONNECTORS),
    st.sampled_from(["reports", "reports", "reports", "entities"]),
    st.none() | st.integers(0, LIFETIME_MS + 3_000),
    st.floats(0, 1),
)


@dataclass
class Model:
    """A desk that grants what ``test`` allows, and the provider's own log of calls (bucket key -> microseconds)."""

    limits: Limits
    now: int = 1_000_000
    rows: dict[str, PermitRow] = field(default_factory=dict)
    due: list[tuple[int, str]] = field(default_factory=list)
    calls: dict[str, list[int]] = field(default_factory=dict)
    days: dict[str, dict[int, int]] = field(default_factory=dict)

    def wait(self, ms: int) -> None:
        """Time passes; permits whose calls end meanwhile come back."""
        self.now += ms
        for at, ask_id in sorted(d for d in self.due if d[0] <= self.now):
            row = self.rows[ask_id] = replace(self.rows[ask_id], returned_at=at)
            for bucket in self.limits.buckets.values():
                if bucket.key in row.keys:
                    bucket.spend(row)
        self.due = [d for d in self.due if d[0] > self.now]

    def ask(self, connector: ConnectorFacts, charge: str, returned_after: int | None, where: float) -> bool:
        """Grants one permit if there is room and makes its call; the provider sees it up to the last microsecond."""
        buckets = self.limits.of(charge, connector)
        if rate_limit.test(buckets, self.now, "bat_1", 1) is not None:
            return False
        row = PermitRow(f"ask{len(self.rows)}", "bat_1", charge, tuple(b.key for b in buckets), self.now)
        self.days |= rate_limit.hit(buckets, row)
        self.rows[row.ask_id] = row
        late = LIFETIME_MS if returned_after is None else min(returned_after, LIFETIME_MS)
        seen = self.now * 1_000 + int(where * (late * 1_000 + 999))
        for key in row.keys:
            self.calls.setdefault(key, []).append(seen)
        if returned_after is not None:
            self.due.append((self.now + returned_after, row.ask_id))
        return True

    def full(self, key: str, limit: int, period_ms: int) -> bool:
        """Whether as many permits as the limit may still be within a period, counted one by one."""
        live = [r for r in self.rows.values() if key in r.keys and self._free_at(r, period_ms) > self.now]
        return len(live) >= limit

    def _free_at(self, row: PermitRow, period_ms: int) -> int:
        latest = row.granted_at + LIFETIME_MS
        ended = latest if row.returned_at is None else min(row.returned_at, latest)
        return ended + period_ms + 1


@QUICK
@given(st.lists(asks, max_size=60))
@example(
    [
        (0, CONNECTORS[0], "reports", 0, 1.0),
        (0, CONNECTORS[0], "reports", 0, 1.0),
        (1_001, CONNECTORS[0], "reports", 0, 0.0),
    ]
)
def test_no_interval_of_the_period_holds_more_calls_than_the_limit(
    steps: list[Asked],
) -> None:
    model = Model(Limits(SLIDING, LIFETIME_MS, GUARD_MS))
    for wait, connector, charge, returned_after, where in steps:
        model.wait(wait)
        expected = not any(
            model.full(b.key, b.quota.limit, b.quota.period_ms) for b in model.limits.of(charge, connector)
        )
        assert model.ask(connector, charge, returned_after, where) is expected, "granted all or none, as one by one"
    rules = {q.name: q for q in SLIDING}
    for key, calls in model.calls.items():
        rule = rules[key.partition("|")[0]]
        assert most_within(sorted(calls), rule.period_ms * 1_000) <= rule.limit


@QUICK
@given(st.lists(asks, max_size=25))
def test_a_refusal_spends_nothing_and_names_a_time_that_is_not_too_late(
    steps: list[Asked],
) -> None:
    model = Model(Limits(SLIDING, LIFETIME_MS, GUARD_MS))
    for wait, connector, charge, returned_after, where in steps:
        model.wait(wait)
        buckets = model.limits.of(charge, connector)
        used = [b.used(model.now) for b in buckets]
        full = rate_limit.test(buckets, model.now, "bat_1", 1)
        if full is None:
            model.ask(connector, charge, returned_after, where)
            continue
        assert [b.used(model.now) for b in buckets] == used
        assert model.now < full.until <= patience(model, full.key)
        heir = Limits(SLIDING, LIFETIME_MS, GUARD_MS)
        heir.restore(model.rows.values(), {})
        moment = model.now
        while (again := rate_limit.test(heir.of(charge, connector), moment, "bat_1", 1)) is not None:
            assert again.until > moment
            moment = again.until
        heir = Limits(SLIDING, LIFETIME_MS, GUARD_MS)
        heir.restore(model.rows.values(), {})
        assert rate_limit.test(heir.of(charge, connector), moment - 1, "bat_1", 1) is not None, "asked again too late"


def patience(model: Model, key: str) -> int:
    """A permit that is out comes back soon, as a rule: nobody waits longer than a period for what that may free."""
    return model.now + next(q.period_ms for q in SLIDING if q.name == key.partition("|")[0]) + 1


@QUICK
@given(st.lists(asks, max_size=40), st.integers(0, 20_000))
def test_rows_bring_the_same_counts_back(steps: list[Asked], later: int) -> None:
    quotas = (*SLIDING, quota("day", 30, 86_400_000, calendar_zone="Europe/Berlin"))
    model = Model(Limits(quotas, LIFETIME_MS, GUARD_MS))
    for wait, connector, charge, returned_after, where in steps:
        model.wait(wait)
        model.ask(connector, charge, returned_after, where)
    heir = Limits(quotas, LIFETIME_MS, GUARD_MS)
    heir.restore(model.rows.values(), model.days)
    for moment in (model.now, model.now + later):
        for key, bucket in model.limits.buckets.items():
            there = heir.buckets.get(key)
            assert bucket.used(moment) == (0 if there is None else there.used(moment)), key


@QUICK
@given(st.lists(asks, max_size=40), st.lists(st.integers(0, 20_000), min_size=1, max_size=4), st.integers(1, 9))
def test_a_look_counts_as_one_by_one_and_sets_nothing_free(steps: list[Asked], looks: list[int], nth: int) -> None:
    model = Model(Limits(SLIDING, LIFETIME_MS, GUARD_MS))
    for wait, connector, charge, returned_after, where in steps:
        model.wait(wait)
        model.ask(connector, charge, returned_after, where)
    for bucket in model.limits.buckets.values():
        known = dict(bucket.taken)
        for at in (model.now + look for look in looks):
            assert bucket.remaining(at) == bucket.quota.limit - sum(free > at for free in bucket.taken.values())
            times = [rhythm.nth_free_at(bucket, at, n, heard_at=model.now) for n in range(1, nth + 1)]
            assert times == sorted(times)
            # Of permits that are out, a later look expects that they are back.
            free, sure = sum(t <= at for t in times), min(nth, bucket.remaining(at))
            assert free == sure if at == model.now else free >= sure
            assert times[-1] <= at + (1 + nth // bucket.quota.limit) * (bucket.quota.period_ms + 2 * LIFETIME_MS)
        assert bucket.taken == known


zones = st.sampled_from(
    ["UTC", "America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"]
)
evenings = st.sampled_from([(2026, 3, 7), (2026, 3, 28), (2026, 11, 1), (2026, 10, 24), (2026, 12, 31), (2026, 4, 23)])


@QUICK
@given(
    zones,
    evenings,
    st.integers(0, 86_400_000),
    st.lists(st.tuples(st.integers(0, 40_000_000), st.floats(0, 1))),
    st.floats(-1, 1),
)
def test_no_calendar_day_holds_more_calls_than_the_limit(
    zone: str, evening: tuple[int, int, int], start: int, steps: list[tuple[int, float]], skew: float
) -> None:
    """Whichever way the provider's clock is off within the guard, and wherever within its lifetime the call was."""
    rule = quota("day", 3, 86_400_000, calendar_zone=zone)
    limits = Limits((rule,), LIFETIME_MS, GUARD_MS)
    now = int(datetime(*evening, tzinfo=UTC).timestamp() * 1000) + start
    seen: Counter[date] = Counter()
    for number, (wait, where) in enumerate(steps):
        now += wait
        buckets = limits.of("reports", facts())
        if rate_limit.test(buckets, now, "bat_1", 1) is None:
            rate_limit.hit(buckets, PermitRow(f"ask{number}", "bat_1", "reports", (buckets[0].key,), now))
            at = now + where * LIFETIME_MS + skew * GUARD_MS
            seen[local_day(at, zone)] += 1
    assert all(count <= rule.limit for count in seen.values())


@QUICK
@given(zones, evenings, st.integers(0, 86_400_000))
def test_a_full_day_opens_again_at_the_zones_own_midnight_and_the_guard(
    zone: str, evening: tuple[int, int, int], start: int
) -> None:
    rule = quota("day", 1, 86_400_000, calendar_zone=zone)
    bucket = Limits((rule,), LIFETIME_MS, GUARD_MS).bucket(rule, facts())
    now = int(datetime(*evening, tzinfo=UTC).timestamp() * 1000) + start
    bucket.spend_day(now)
    again = bucket.free_at(now)
    today = local_day(now - GUARD_MS, zone)
    assert local_day(again - GUARD_MS, zone) > today
    assert local_day(again - GUARD_MS - 1, zone) == today
    both = local_day(now + LIFETIME_MS + GUARD_MS, zone) != today
    assert bucket.room(again) == (0 if both else 1), "a call that may have touched the next day counts there, too"


def local_day(at_ms: float, zone: str) -> date:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).date()
