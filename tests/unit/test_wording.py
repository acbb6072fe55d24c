"""Numbers, spans and instants as people read them."""

from __future__ import annotations

import pytest

from app.services import wording

NOON = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 calls"), (1, "1 call"), (1.0, "1 call"), (2, "2 calls"), (1.5, "1.5 calls"), (12_345, "12,345 calls")],
)
def test_one_is_singular_and_all_else_plural(number: float, text: str) -> None:
    assert wording.count(number, "call") == text


def test_a_plural_of_its_own() -> None:
    assert wording.count(2, "query", "queries") == "2 queries"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.045, "45 ms"),
        (0.44, "0.4 s"),
        (5, "5 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400, "1 day"),
        (86_400 * 3 + 4 * 3_600, "3 days 4 h"),
        (-3, "0 ms"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (21, "21st")]
)  # fmt: skip
def test_ordinals(number: int, text: str) -> None:
    assert wording.ordinal(number) == text


@pytest.mark.parametrize(("parts", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_enumerations(parts: list[str], text: str) -> None:
    assert wording.enumerated(parts) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1 byte"), (999, "999 bytes"), (5_120, "5.1 kB"), (3_250_000, "3.2 MB"), (7 * 10**9, "7.0 GB")],
)
def test_sizes(number: int, text: str) -> None:
    assert wording.size(number) == text


def test_instants_are_utc_and_name_their_day_when_it_is_not_today() -> None:
    assert wording.moment(NOON + 42_000, NOON) == "12:00:42 (in 42 s)"
    assert wording.moment(NOON - 4_000, NOON) == "11:59:56 (4 s ago)"
    assert wording.moment(NOON, NOON + 100) == "12:00:00 (now)"
    assert wording.clock(NOON, NOON + 86_400_000) == "2026-01-01 12:00:00"


def test_an_end_that_is_over_comes_any_moment() -> None:
    assert wording.until(NOON + 1_000, NOON) == " until 12:00:01 (in 1 s)"
    assert wording.until(NOON, NOON) == " until any moment now"
    assert wording.until(None, NOON) == ""


def test_ranges_count_their_days() -> None:
    assert wording.period({"start": "2026-01-01", "end": "2026-01-07"}) == "2026-01-01 to 2026-01-07 (7 days)"
    assert wording.period({"start": "2026-01-01", "end": "2026-01-01"}) == "2026-01-01 (1 day)"


def test_what_is_no_instant_is_none() -> None:
    assert [wording.millis(text) for text in ("2026-01-01T12:00:00.000Z", "noon", None, 5)] == [NOON, None, None, None]
