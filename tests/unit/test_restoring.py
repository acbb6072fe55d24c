"""Rows that are older than what was done: no bucket is trusted for a period, also by the next owner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain import restoring
from app.domain.messages import Tick
from app.domain.model import Quota
from app.domain.rate_limit import EVERY_SCOPE
from app.domain.state import State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, reasons, rules, take

HOUR_MS = 3_600_000
PER_USER = quota("per_user", 9, 60_000, scope="user")
PER_DAY = quota("per_day", 9, 86_400_000, calendar_zone="UTC")
LIFETIME_MS = 130_000
LATER = NOW + 5 * HOUR_MS


def heir(*quotas: Quota, at: int = LATER) -> State:
    """The owner of old rows: quota time in them is ``NOW``, the broker's is ``at``."""
    state = restore(rules(quotas), {}, NOW)
    restoring.doubt(state, at, ["DV360"])
    return state


@pytest.mark.parametrize(
    ("rule", "until"),
    [
        (PER_USER, LATER + LIFETIME_MS + 60_000 + 1),
        (quota("per_second"), LATER + LIFETIME_MS + 1_000 + 1),
        (PER_DAY, NOW + 12 * HOUR_MS + 60_000),
    ],
)
def test_every_bucket_is_closed_as_if_its_calls_had_just_left(rule: Quota, until: int) -> None:
    state = heir(rule)
    assert not take(state, accept(1, TODAY, TODAY), at=NOW + 1).offers, "records from before are read again"
    assert not take(state, Tick(), at=until - 1).offers
    assert len(take(state, Tick(), at=until).offers) == 1


@pytest.mark.parametrize("after_noon_ms", [12 * HOUR_MS - 190_000, 12 * HOUR_MS, 12 * HOUR_MS + 59_999])
def test_a_call_that_may_count_in_the_next_day_closes_that_one_too(after_noon_ms: int) -> None:
    at = NOW + after_noon_ms
    state = heir(PER_DAY, at=at)
    take(state, Tick(), at=at)
    assert restoring.distrusted_until(state) == NOW + 36 * HOUR_MS + 60_000


def test_the_closures_hold_for_accounts_that_nobody_knew_yet_and_for_the_next_owner() -> None:
    rows = Rows()
    rows.write(take(heir(PER_USER), Tick(), at=NOW + 1))
    again = restore(rules((PER_USER,)), rows.read(), NOW + 1)
    until = LATER + LIFETIME_MS + 60_001
    assert restoring.distrusted_until(again) == until
    changes = take(again, accept(1, TODAY, TODAY, connector=facts(2, subject="new")), at=until - 1)
    assert (changes.offers, changes.events) == ([], []), "nobody has hit a limit"
    (waiting,) = reasons(again).values()
    assert waiting == {"reason": "quota", "until": until, "bucket": "per_user"}
    assert len(take(again, Tick(), at=until).offers) == 1


def test_a_shadow_quota_holds_nobody() -> None:
    state = heir(replace(PER_USER, enforced=False))
    assert len(take(state, accept(1, TODAY, TODAY), at=NOW + 1).offers) == 1


def test_a_closure_that_lasts_longer_stays() -> None:
    state = heir(PER_USER)
    key = f"per_user|{EVERY_SCOPE}"
    state.limits_of_type("DV360").close(key, LATER + 9 * HOUR_MS)
    take(state, Tick(), at=LATER)
    assert state.closures[key].until == LATER + 9 * HOUR_MS


def test_a_bucket_that_a_throttle_keeps_closed_longer_stays_so() -> None:
    state = heir(PER_USER)
    limits = state.limits_of_type("DV360")
    bucket = limits.bucket(PER_USER, facts())
    limits.close(bucket.key, LATER + 9 * HOUR_MS)
    take(state, Tick(), at=LATER)
    assert bucket.closed_until == LATER + 9 * HOUR_MS


def test_only_rows_in_doubt_close_anything() -> None:
    state = restore(rules((PER_USER,)), {}, NOW)
    assert len(take(state, accept(1, TODAY, TODAY), at=NOW + 1).offers) == 1
    assert restoring.distrusted_until(state) == 0
