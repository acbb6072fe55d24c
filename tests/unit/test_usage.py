"""What headers say of a provider's count lowers room, never raises it, and is forgotten in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain import usage
from app.domain.messages import Ask, Returned, Tick, Told, Usage
from app.domain.model import Quota
from app.domain.rate_limit import Bucket, PermitRow
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, rules, take

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HOURLY = quota("per_hour", 10, HOUR_MS, scope="account")
DAILY = quota("per_day", 10, DAY_MS, calendar_zone="UTC")


class World:
    """One account's planner; every call is a permit of its own, told of by its return."""

    def __init__(self, *quotas: Quota) -> None:
        self.state = State(rules(quotas, minimum=1), now=NOW)
        self.rows = Rows()
        self.number = 0
        self.rows.write(take(self.state, accept(1, TODAY, TODAY)))

    def call(self, at: int | None = None) -> str | None:
        """A permit's ask id, None if there is none. A call without a fetch: the reserve is not its business."""
        self.number += 1
        ask = Ask(f"ask{self.number}", "w", None, 0, 0, "reports", connector=facts())
        changes = self.step(ask, at=at)
        return ask.ask_id if any(a.denied is None for a in changes.answers) else None

    def tell(self, ask_id: str | None, at: int | None = None, **said: Any) -> Changes:
        name = said.pop("quota", "per_hour")
        told = Told(ask_id or "", Usage(name, **said))
        return self.step(Returned((ask_id or "",), ((ask_id or "", 5, 1),), usage=(told,)), at=at)

    def step(self, message: Any, at: int | None = None) -> Changes:
        changes = take(self.state, message, at=at)
        self.rows.write(changes)
        return changes

    def bucket(self, key: str = "per_hour|acc1") -> Bucket:
        return self.state.limits["DV360"].buckets[key]


def test_what_exceeds_our_own_count_is_others_use_for_one_period() -> None:
    world = World(HOURLY)
    first, second = world.call(), world.call()
    world.tell(first, used=7)
    bucket = world.bucket()
    assert (bucket.others(NOW), bucket.left(NOW), bucket.window(NOW).remaining) == (5, 3, 3)
    assert [world.call() for _ in range(4)][3] is None
    world.tell(second, NOW + 10)
    assert world.bucket().others(NOW + HOUR_MS - 1) == 5
    assert world.bucket().others(NOW + HOUR_MS) == 0


@pytest.mark.parametrize(
    ("said", "others"),
    [
        ({"used": 4}, 3), ({"remaining": 6}, 3), ({"percent": 31.0}, 3), ({"percent": 30.0}, 2),
        ({"used": 4, "remaining": 9}, 3), ({"used": 1}, 0), ({"used": 0}, 0),
        ({"used": -5}, 0), ({"remaining": 10**12}, 0), ({"percent": -3.0}, 0), ({"percent": float("nan")}, 0),
        ({"used": 10**12}, 9), ({"remaining": -10**12}, 9), ({"percent": 1e300}, 9), ({"percent": float("inf")}, 9),
        ({"used": 9, "quota": "another"}, 0), ({"used": 9, "scope": "acc2"}, 0), ({"used": 9, "scope": "acc1"}, 8),
    ],
)  # fmt: skip
def test_whatever_a_header_says_it_lowers_room_by_at_most_the_limit(said: dict[str, Any], others: int) -> None:
    world = World(HOURLY)
    world.tell(world.call(), **said)
    bucket = world.bucket()
    assert bucket.others(NOW) == others
    assert bucket.left(NOW) == 9 - others
    assert bucket.left(NOW + HOUR_MS + 130_001) == 10, "and for a period at most"


def test_a_smaller_number_gives_no_room_and_larger_ones_are_remembered_each_for_its_own_period() -> None:
    world = World(HOURLY)
    for after_ms, used in ((0, 5), (600_000, 8), (1_200_000, 6), (1_800_000, 0)):
        world.tell(world.call(NOW + after_ms), NOW + after_ms, used=used)
    others = [world.bucket().others(NOW + at) for at in (1_800_000, HOUR_MS + 599_999, HOUR_MS + 600_000, 4_800_000)]
    assert others == [6, 6, 3, 0], "told 8 of which 2 were ours, then 6 of which 3"


def test_a_bucket_full_of_others_calls_says_so_and_names_the_time() -> None:
    world = World(HOURLY)
    world.tell(world.call(), used=10)
    (hit,) = world.step(accept(2, TODAY - 1, TODAY - 1)).events
    assert (hit.type, hit.data["source"], hit.data["spent_by_others"]) == ("rate_limit_hit", "local", True)
    assert hit.data["until"] == NOW + HOUR_MS
    days = [[o.start for o in world.step(Tick(), at=NOW + HOUR_MS - left).offers] for left in (1, 0)]
    assert days == [[TODAY], [TODAY - 1]], "the first one's lease has run out"


def test_our_own_calls_are_not_taken_for_others() -> None:
    """Freed or granted between the answer and its being told."""
    short = quota("per_hour", 10, 1_000)
    world = World(short)
    first = world.call()
    others = [world.call() for _ in range(4)]
    for ask_id in others:
        world.tell(ask_id, NOW + 100)
    world.tell(first, NOW + 2_000, used=5)
    assert world.bucket("per_hour|").used(NOW + 2_000) == 1
    assert world.bucket("per_hour|").others(NOW + 2_000) == 0


def test_a_call_that_comes_back_after_its_slot_is_counted_once() -> None:
    world = World(quota("per_hour", 10, 1_000), quota("long", 10, HOUR_MS))
    late = world.call()
    other = world.call(NOW + 131_000)
    assert world.bucket("per_hour|").used(NOW + 131_400) == 1
    world.tell(late, NOW + 131_500)
    world.tell(other, NOW + 131_600, used=3)
    assert world.bucket("per_hour|").others(NOW + 131_600) == 1


def test_what_is_told_after_a_calls_lifetime_says_nothing() -> None:
    world = World(HOURLY)
    world.tell(world.call(), NOW + 130_001, used=10)
    assert world.bucket().others(NOW + 130_001) == 0


def test_a_return_that_comes_twice_tells_nothing_new() -> None:
    world = World(HOURLY)
    ask_id = world.call()
    world.tell(ask_id, used=3)
    world.tell(ask_id, used=10)
    assert world.bucket().others(NOW) == 2


def test_others_calls_of_a_day_count_until_it_is_over() -> None:
    world = World(DAILY)
    world.tell(world.call(), quota="per_day", used=10)
    bucket = world.bucket("per_day|")
    midnight = NOW + 12 * HOUR_MS
    assert (bucket.others(NOW), bucket.left(midnight + 59_999), bucket.left(midnight + 60_000)) == (9, 0, 10)
    assert world.call(midnight + 59_999) is None
    assert world.call(midnight + 60_000) is not None


def test_what_was_told_of_the_old_day_does_not_count_in_the_new_one() -> None:
    world = World(DAILY)
    midnight = NOW + 12 * HOUR_MS
    ask_id = world.call(midnight - 1_000)
    world.tell(ask_id, midnight + 61_000, quota="per_day", used=10)
    assert world.bucket("per_day|").left(midnight + 61_000) == 9, "the call itself, which may have been in both"


def test_it_outlives_the_planner() -> None:
    world = World(HOURLY, DAILY)
    ask_id = world.call()
    world.step(
        Returned(
            (ask_id or "",),
            usage=(Told(ask_id or "", Usage("per_hour", used=7)), Told(ask_id or "", Usage("per_day", used=4))),
        )
    )
    heir = restore(world.state.rules, world.rows.read(), NOW)
    buckets = heir.limits["DV360"].buckets
    assert [buckets[key].others(NOW) for key in ("per_hour|acc1", "per_day|")] == [6, 3]


def test_rows_stay_small_however_often_it_is_told() -> None:
    world = World(replace(HOURLY, limit=10_000))
    for n in range(2_000):
        at = NOW + n * 1_000
        ask_id = world.call(at)
        assert ask_id is not None
        world.tell(ask_id, at, used=5_000 - n)
        assert len(world.bucket().told) <= usage.STEPS + 1


def test_a_permit_counts_the_same_with_and_without_what_was_told() -> None:
    bucket = Bucket("b|", quota("b", 3, 1_000), 100, 0, told=((NOW + 500, 2),))
    bucket.spend(PermitRow("a", "", "reports", ("b|",), NOW, NOW))
    assert [bucket.free_at(NOW, need) for need in (1, 2, 3)] == [NOW + 500, NOW + 500, NOW + 1_001]
    assert [bucket.left(at) for at in (NOW, NOW + 500, NOW + 1_001)] == [0, 2, 3]
