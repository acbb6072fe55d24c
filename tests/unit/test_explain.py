"""A request's story: a sentence for every state and every reason to wait, and none for what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.errors import ErrorClass
from app.domain.model import RequestState
from app.services.explain import explain, next_step, reason, story
from app.services.explain_plan import planned
from tests.unit.cli_door import CONNECTOR, FILE, OTHER, completed, failed, status_body

NOW = 1_767_225_604_000
"""2026-01-01T00:00:04Z: four seconds after acceptance."""
UNTIL = "2026-01-01T00:00:46.000Z"


def told(body: dict[str, Any]) -> list[str]:
    return explain(body, NOW)


def test_a_queued_request_tells_who_asked_what_and_why_it_waits() -> None:
    assert explain(status_body(), NOW, org_id=7) == [
        (
            f"Organisation 7 asked DV360 ({CONNECTOR}) for campaign_performance, 2025-12-01 to 2025-12-07 (7 days): "
            "2 columns (impressions, clicks), at normal priority, labelled team=x."
        ),
        "It was accepted at 00:00:00 (4 s ago).",
        f"It shares its fetch with 1 other request: {OTHER}.",
        "It waits: the quota reports_per_day is used up until 00:01:00 (in 56 s).",
        "It is 3rd in the queue of DV360 and should start in about 45 s (at 00:00:49).",
    ]


def test_every_sentence_about_an_instant_has_it() -> None:
    at = {s.text.split(" at ")[0]: s.at for s in story(completed(), NOW) if s.at}
    assert at == {"It was accepted": "2026-01-01T00:00:00.000Z", "It was completed": "2026-01-01T00:00:06.000Z"}


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"reason": "quota", "bucket": "b", "until": UNTIL}, "the quota b is used up until 00:00:46 (in 42 s)"),
    ({"reason": "quota", "until": None}, "its quota is used up"),
    (
        {"reason": "circuit_open", "until": UNTIL},
        "calls for this account are stopped after failures in a row until 00:00:46 (in 42 s)",
    ),
    ({"reason": "concurrency", "until": None}, "as many fetches as may be are under way, of this account or of all"),
    (
        {"reason": "organisation_share", "until": UNTIL},
        "the organisation has used its share, and others go first until 00:00:46 (in 42 s)",
    ),
    ({"reason": "backing_off", "until": UNTIL}, "backing off after a failure until 00:00:46 (in 42 s)"),
    (
        {"reason": "authorisation", "until": None, "reconnect_url": "https://x/y"},
        "somebody has to connect the account again at https://x/y",
    ),
    ({"reason": "authorisation"}, "somebody has to connect the account again"),
    (
        {"reason": "provider_running", "percent": 40, "until": UNTIL},
        "the provider is making the report (40 % done) and is asked again at 00:00:46 (in 42 s)",
    ),
    ({"reason": "provider_running", "percent": None, "until": None}, "the provider is making the report"),
    ({"reason": "overlapping_fetch", "until": None}, "a fetch of overlapping days is under way"),
    ({"reason": "of_tomorrow", "until": UNTIL}, "of tomorrow until 00:00:46 (in 42 s)"),
]


@pytest.mark.parametrize(("waiting", "text"), REASONS)
def test_every_reason_has_its_words(waiting: dict[str, Any], text: str) -> None:
    assert reason(waiting, NOW) == text
    opening = "Now" if waiting["reason"] == "provider_running" else "It waits:"
    assert f"{opening} {text}." in told(status_body(waiting=waiting))


def test_what_is_published_and_not_decided_on_says_so() -> None:
    body = status_body(accepted_at=None, waiting=None, queue_position=None, estimated_wait_seconds=None, as_of=None)
    assert told(body)[1] == "The command is on its way: it is published, and nothing is decided yet."
    assert not any("planner" in sentence for sentence in told(body))


def test_a_silent_planner_is_told_and_the_history_makes_no_such_claim() -> None:
    silent = "The planner does not answer just now: place, wait and reason are as they were written last."
    assert told(status_body(as_of=None))[-1] == silent
    stored = status_body()
    del stored["as_of"]
    assert silent not in told(stored)


def test_nothing_but_its_turn() -> None:
    assert "Nothing but its turn keeps it waiting." in told(status_body(waiting=None))


def test_a_deadline_is_told_while_it_matters() -> None:
    sentence = "It fails unless it is done by 00:00:46 (in 42 s)."
    assert sentence in told(status_body(deadline=UNTIL))
    assert sentence not in told(completed(deadline=UNTIL))


@pytest.mark.parametrize(
    ("others", "text"),
    [
        (["a", "b"], "It shares its fetch with 2 other requests: a and b."),
        (["a", "b", "c", "d", "e"], "It shares its fetch with 5 other requests: a, b, c and 2 more."),
    ],
)
def test_company_is_named_up_to_three(others: list[str], text: str) -> None:
    assert text in told(status_body(batched_with=others))


def test_a_running_request() -> None:
    body = status_body(status="running", progress=33, waiting=None, started_at="2026-01-01T00:00:01.000Z", attempts=1)
    body |= {"queue_position": None, "estimated_wait_seconds": 5.0, "batched_with": []}
    assert told(body)[2:] == [
        "Its first fetch began at 00:00:01 (3 s ago).",
        "1 attempt has been made so far.",
        "Calls are being made right now (33 % done).",
        "It should start in about 5 s (at 00:00:09).",
    ]
    provider = {"reason": "provider_running", "percent": 5, "until": None}
    assert "Now the provider is making the report (5 % done)." in told(body | {"waiting": provider})
    assert "2 attempts have been made so far." in told(body | {"attempts": 2})


def test_a_completed_request_tells_cost_rows_and_files() -> None:
    assert told(completed())[2:] == [
        "It was completed at 00:00:06, 6 s after it was accepted.",
        "It took 1 attempt, cost 3 calls and needed 4.2 s from the first call to the finished file.",
        "It got 1,234 rows in 1 file (5.1 kB), version 2 of the data set.",
        f"{FILE['uri']} holds 70 rows of 2025-12-01 to 2025-12-07 (7 days).",
    ]


def test_a_shared_fetch_tells_the_share() -> None:
    sentences = told(completed(batched_with=[OTHER], cost=1.5))
    assert f"It was fetched together with 1 other request: {OTHER}." in sentences
    assert any("cost 1.5 calls (its share among 2 requests)" in sentence for sentence in sentences)
    assert any("cost 0.25 EUR" in sentence for sentence in told(completed(cost=0.25, cost_unit="EUR")))


@pytest.mark.parametrize(
    ("as_of", "text"),
    [
        ("2025-12-31T23:59:00.000Z", "All its days were held already, the oldest read at 2025-12-31 23:59:00 (1 min"),
        ("2026-01-01T00:00:02.000Z", "Its days were read for other requests at 00:00:02 (2 s ago)"),
    ],
)  # fmt: skip
def test_reuse_costs_nothing_and_says_how_old_it_is(as_of: str, text: str) -> None:
    body = completed(attempts=0, cost=0.0, started_at=None, execution_time_ms=None)
    body["result"] = {**body["result"], "as_of": as_of}
    assert told(body)[3].startswith(text)
    assert "0 calls" in told(body)[3]


def test_a_result_without_rows_needs_no_file() -> None:
    body = completed()
    body["result"] = {**body["result"], "records_fetched": 0, "files": [], "dataset_version": None}
    assert told(body)[-1] == "It got 0 rows and needs no file."


def test_a_failed_request_says_what_and_what_to_do() -> None:
    assert told(failed())[2:] == [
        (
            "It failed at 00:00:06, 6 s after it was accepted, after 2 attempts: "
            "The provider is away (provider_unavailable; the provider says 503)."
        ),
        "It cost 3 calls.",
        "The same request may well succeed later: ask again.",
    ]


@pytest.mark.parametrize("name", ErrorClass)
@pytest.mark.parametrize("retryable", [True, False])
def test_every_class_of_error_has_a_next_step(name: ErrorClass, retryable: bool) -> None:
    step = next_step({"class": name, "retryable": retryable})
    assert step.endswith(".")
    if name is ErrorClass.AUTHORISATION and not retryable:
        assert "connector connectors add" in step


@pytest.mark.parametrize(
    ("cost", "started", "end"),
    [
        (None, False, "and cost no call."),
        (0.0, True, "; the calls of its fetch are paid for by those it was shared with."),
        (1.0, True, "; until then it cost 1 call."),
    ],
)
def test_a_cancelled_request(cost: float | None, started: bool, end: str) -> None:
    more = {} if started else {"started_at": None}
    last = told(completed(status="cancelled", result=None, cost=cost, **more))[-1]
    assert last.startswith("It was cancelled at 00:00:06, 6 s after it was accepted")
    assert last.endswith(end)


@pytest.mark.parametrize("state", RequestState)
def test_every_state_has_a_story(state: RequestState) -> None:
    sentences = told({**status_body(), "status": state.value})
    assert len(sentences) > 2
    assert all(sentence[-1] == "." and "None" not in sentence for sentence in sentences)


@pytest.mark.parametrize("number", [1, 2, 12])
def test_long_lists_of_columns_are_counted(number: int) -> None:
    first = told(status_body(fields=[f"c{i}" for i in range(number)]))[0]
    assert ("1 column (c0)" in first) == (number == 1)
    assert ("12 columns," in first) == (number == 12)
    assert "all standard columns" in told(status_body(fields=[]))[0]


PLAN: dict[str, Any] = {
    "dry_run": True,
    "outcome": "queue",
    "days": {"asked": 7, "held": 3, "running": 1, "to_fetch": 3},
    "batches": [
        {"batch_id": "bat_1", "start": "2025-12-04", "end": "2025-12-04", "members": 1},
        {"batch_id": None, "start": "2025-12-05", "end": "2025-12-07", "members": 0},
    ],
    "calls": {"reports": 3, "downloads": 0},
    "buckets": [
        {"bucket": "reports_per_day", "limit": 2_000, "remaining": 1_997, "reset_at": UNTIL, "calls": 3},
        {"bucket": "reports_per_second", "limit": 1, "remaining": 1, "reset_at": None, "calls": 3},
    ],
    "queue_position": 2,
    "estimated_wait_seconds": 90.0,
    "waiting": {"reason": "quota", "bucket": "reports_per_day", "until": UNTIL},
}


def test_a_plan_tells_days_calls_buckets_and_place() -> None:
    assert planned(PLAN, NOW) == [
        "Of 7 days, 3 are held already, 1 is being fetched by others and 3 would be fetched.",
        "The fetch bat_1 would bring 2025-12-04 (1 day), shared with 1 other request.",
        "A new fetch would bring 2025-12-05 to 2025-12-07 (3 days).",
        "It would spend at least 3 calls (3 of reports).",
        (
            "The quota reports_per_day has 1,997 of 2,000 calls left and would lose 3; "
            "all of it is free again at 00:00:46 (in 42 s)."
        ),
        "The quota reports_per_second has 1 of 1 call left and would lose 3.",
        "It would wait: the quota reports_per_day is used up until 00:00:46 (in 42 s).",
        "It would stand 2nd in the queue and start in about 1 min 30 s (at 00:01:34).",
        "Nothing was asked for and nothing was spent: this is a plan.",
    ]


@pytest.mark.parametrize(
    ("days", "text"),
    [
        ({"asked": 7, "held": 7, "running": 0, "to_fetch": 0}, "All 7 days are held already."),
        ({"asked": 7, "held": 0, "running": 0, "to_fetch": 7}, "All 7 days would be fetched."),
        ({"asked": 1, "held": 1, "running": 0, "to_fetch": 0}, "The day is held already."),
        ({"asked": 2, "held": 0, "running": 1, "to_fetch": 1}, "Of 2 days, 1 is being fetched by others and 1 "),
    ],
)  # fmt: skip
def test_days_are_told_in_one_sentence(days: dict[str, int], text: str) -> None:
    assert planned(PLAN | {"days": days}, NOW)[0].startswith(text)


def test_reuse_needs_no_call_and_no_wait() -> None:
    days = {"asked": 7, "held": 7, "running": 0, "to_fetch": 0}
    body = PLAN | {"outcome": "reuse", "days": days, "batches": [], "calls": {}, "buckets": [], "waiting": None}
    assert planned(body | {"queue_position": None, "estimated_wait_seconds": 0.0}, NOW) == [
        "All 7 days are held already.",
        "The answer would be there at once.",
        "It would spend no call of its own.",
        "Nothing was asked for and nothing was spent: this is a plan.",
    ]
