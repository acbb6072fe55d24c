"""GAQL: what is accepted, which days a query is about, and the code of every refusal."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.google_ads import accounts
from app.sandbox.google_ads.accounts import customer
from app.sandbox.google_ads.errors import AdsError
from app.sandbox.google_ads.gaql import Condition, Order, Query, Token, parse
from app.sandbox.google_ads.plan import Plan, plan_of

TODAY = date(2026, 11, 20)
ACCOUNT = customer(1, 1234567890)


def planned(text: str) -> Plan:
    return plan_of(parse(text), ACCOUNT, TODAY)


def days_of(where: str, select: str = "segments.date") -> tuple[str, str]:
    plan = planned(f"SELECT {select} FROM campaign WHERE {where}")
    return plan.start.isoformat(), plan.end.isoformat()


def refusal(text: str) -> dict[str, str]:
    with pytest.raises(AdsError) as refused:
        planned(text)
    assert refused.value.status == 400
    assert str(refused.value)
    return {refused.value.family: refused.value.code}


def test_a_query_in_all_its_parts() -> None:
    query = parse(
        "select campaign.id, campaign.name,campaign.id FROM campaign\n WHERE segments.date BETWEEN '2026-11-01' AND "
        "\"2026-11-07\" AND campaign.status NOT IN (REMOVED, 'PAUSED') AND metrics.conversions >= 1.5 "
        "ORDER BY campaign.name DESC, campaign.id asc LIMIT 10 "
    )
    assert query == Query(
        ("campaign.id", "campaign.name"),
        "campaign",
        (
            Condition("segments.date", "BETWEEN", (Token("text", "2026-11-01"), Token("text", "2026-11-07"))),
            Condition("campaign.status", "NOT IN", (Token("word", "REMOVED"), Token("text", "PAUSED"))),
            Condition("metrics.conversions", ">=", (Token("number", "1.5"),)),
        ),
        (Order("campaign.name", descending=True), Order("campaign.id", descending=False)),
        10,
    )


@pytest.mark.parametrize(
    ("where", "days"),
    [
        ("segments.date BETWEEN '2026-11-01' AND '2026-11-07'", ("2026-11-01", "2026-11-07")),
        ("segments.date >= '2026-11-01' AND segments.date <= '2026-11-07'", ("2026-11-01", "2026-11-07")),
        ("segments.date > '2026-11-01' AND segments.date < '2026-11-07'", ("2026-11-02", "2026-11-06")),
        ("segments.date = '2026-11-05'", ("2026-11-05", "2026-11-05")),
        ("segments.date DURING LAST_7_DAYS", ("2026-11-13", "2026-11-19")),
        ("segments.date DURING LAST_14_DAYS", ("2026-11-06", "2026-11-19")),
        ("segments.date DURING LAST_30_DAYS", ("2026-10-21", "2026-11-19")),
        ("segments.date DURING YESTERDAY", ("2026-11-19", "2026-11-19")),
        ("segments.date DURING TODAY", ("2026-11-20", "2026-11-20")),
        ("segments.date DURING THIS_MONTH", ("2026-11-01", "2026-11-20")),
        ("segments.date DURING LAST_MONTH", ("2026-10-01", "2026-10-31")),
        ("segments.date DURING LAST_30_DAYS AND segments.date <= '2026-11-01'", ("2026-10-21", "2026-11-01")),
        ("segments.date BETWEEN '2023-10-20' AND '2023-10-21'", ("2023-10-20", "2023-10-21")),
    ],
)
def test_the_days_of_a_query(where: str, days: tuple[str, str]) -> None:
    assert days_of(where) == days
    assert days_of(where, "metrics.clicks") == days, "a date segment may be in WHERE alone"


def test_without_days_the_metrics_are_of_all_time() -> None:
    plan = planned("SELECT campaign.id, metrics.clicks FROM campaign")
    assert (plan.segmented, plan.start, plan.end) == (False, date(2023, 10, 20), TODAY)


DAYS = "segments.date DURING YESTERDAY"
REFUSED: list[tuple[str, str]] = [
    ("campaign.id FROM campaign", "EXPECTED_SELECT"),
    ("SELECT campaign.id WHERE campaign.id = 1", "EXPECTED_FROM"),
    ("SELECT campaign.id FROM", "UNEXPECTED_END_OF_QUERY"),
    ("SELECT campaign.id,, campaign.name FROM campaign", "BAD_FIELD_NAME"),
    ("SELECT FROM campaign", "BAD_FIELD_NAME"),
    ("SELECT * FROM campaign", "UNEXPECTED_INPUT"),
    ("SELECT campaign.id FROM campaign;", "UNEXPECTED_INPUT"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id = 1 OR campaign.id = 2", "UNEXPECTED_INPUT"),
    ("SELECT campaign.id FROM campaign WHERE (campaign.id = 1)", "BAD_FIELD_NAME"),
    ("SELECT campaign.id FROM campaign LIMIT 1 WHERE campaign.id = 1", "UNEXPECTED_INPUT"),
    ("SELECT campaign.id FROM campaign ORDER campaign.id", "EXPECTED_BY"),
    ("SELECT campaign.id FROM campaign LIMIT x", "BAD_LIMIT_VALUE"),
    ("SELECT campaign.id FROM campaign LIMIT 0", "LIMIT_VALUE_TOO_LOW"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id", "UNEXPECTED_END_OF_QUERY"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id LIKE '1'", "BAD_OPERATOR"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id =", "UNEXPECTED_END_OF_QUERY"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id = AND", "BAD_VALUE"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id = (1)", "EXPECTED_SINGLE_VALUE"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id IN 1", "EXPECTED_LIST"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id IN ()", "PROHIBITED_EMPTY_LIST_IN_CONDITION"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id = 12ab", "BAD_NUMBER"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name = 'x", "STRING_NOT_TERMINATED"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name = 'x\ny'", "PROHIBITED_NEWLINE_IN_STRING"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name = 'x\\n'", "BAD_ESCAPE_SEQUENCE"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name = Marke", "INVALID_STRING_VALUE"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name = §", "BAD_SYMBOL"),
    ("SELECT campaign.id FROM campaign WHERE campaign.name > 'x'", "OPERATOR_FIELD_MISMATCH"),
    ("SELECT campaign.id FROM campaign WHERE campaign.status = 'PAUSE'", "BAD_ENUM_CONSTANT"),
    ("SELECT campaign.id FROM campaign WHERE customer.manager = 1", "BAD_VALUE"),
    ("SELECT campaign.id FROM campaign WHERE campaign.id = '1'", "BAD_VALUE"),
    ("SELECT campaign.id FROM ad_group", "BAD_RESOURCE_TYPE_IN_FROM_CLAUSE"),
    ("SELECT campaign.nam FROM campaign", "UNRECOGNIZED_FIELD"),
    ("SELECT campaign.id FROM campaign WHERE metrics.spend > 1", "UNRECOGNIZED_FIELD"),
    ("SELECT campaign.id FROM campaign ORDER BY campaign.budget", "UNRECOGNIZED_FIELD"),
    ("SELECT Campaign.id FROM campaign", "UNRECOGNIZED_FIELD"),
    ("SELECT campaign.id FROM campaign ORDER BY campaign.name", "EXPECTED_REFERENCED_FIELD_IN_SELECT_CLAUSE"),
    ("SELECT campaign.id FROM customer", "PROHIBITED_RESOURCE_TYPE_IN_SELECT_CLAUSE"),
    ("SELECT customer.id FROM customer WHERE campaign.id = 1", "PROHIBITED_RESOURCE_TYPE_IN_WHERE_CLAUSE"),
    ("SELECT metrics.clicks FROM customer_client", "PROHIBITED_METRIC_IN_SELECT_OR_WHERE_CLAUSE"),
    ("SELECT customer.id FROM customer_client WHERE " + DAYS, "PROHIBITED_SEGMENT_IN_SELECT_OR_WHERE_CLAUSE"),
    ("SELECT segments.date FROM campaign", "EXPECTED_FILTERS_ON_DATE_RANGE"),
    ("SELECT segments.date FROM campaign WHERE segments.date >= '2026-11-01'", "EXPECTED_FILTERS_ON_DATE_RANGE"),
    ("SELECT metrics.clicks FROM campaign WHERE segments.date <= '2026-11-01'", "EXPECTED_FILTERS_ON_DATE_RANGE"),
    (
        "SELECT segments.date FROM campaign WHERE segments.date DURING LAST_90_DAYS",
        "INVALID_VALUE_WITH_DURING_OPERATOR",
    ),
    ("SELECT segments.date FROM campaign WHERE segments.date DURING 'YESTERDAY'", "INVALID_VALUE_WITH_DURING_OPERATOR"),
    ("SELECT segments.date FROM campaign WHERE segments.date = '2026-11-31'", "INVALID_DATE_FORMAT"),
    ("SELECT segments.date FROM campaign WHERE segments.date = '20261101'", "INVALID_DATE_FORMAT"),
    ("SELECT segments.date FROM campaign WHERE segments.date = 2026", "INVALID_DATE_FORMAT"),
    ("SELECT segments.date FROM campaign WHERE segments.date != '2026-11-01'", "OPERATOR_FIELD_MISMATCH"),
    (
        "SELECT segments.date FROM campaign WHERE segments.date BETWEEN '2026-11-01' AND 'x'",
        "INVALID_VALUE_WITH_BETWEEN_OPERATOR",
    ),
    (
        "SELECT segments.date FROM campaign WHERE segments.date BETWEEN '2026-11-01'",
        "EXPECTED_AND",
    ),
    ("SELECT segments.date FROM campaign WHERE segments.date BETWEEN AND", "EXPECTED_VALUE_WITH_BETWEEN_OPERATOR"),
    (
        "SELECT segments.date FROM campaign WHERE segments.date BETWEEN '2026-11-01' AND",
        "EXPECTED_VALUE_WITH_BETWEEN_OPERATOR",
    ),
    (
        "SELECT segments.date FROM campaign WHERE segments.date BETWEEN '2026-11-02' AND '2026-11-01'",
        "DATE_RANGE_TOO_NARROW",
    ),
]


@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_refusals_have_the_code_of_the_documentation(text: str, code: str) -> None:
    assert refusal(text) == {"queryError": code}


def test_days_older_than_37_months_are_refused() -> None:
    old = "SELECT segments.date FROM campaign WHERE segments.date BETWEEN '2023-10-19' AND '2023-10-21'"
    assert refusal(old) == {"dateRangeError": "REQUESTED_DATE_GRANULARITY_NOT_SUPPORTED"}


def test_managers_have_no_metrics_not_even_in_a_condition() -> None:
    manager = customer(1, 9234567890)
    for text in ("SELECT metrics.clicks FROM customer", "SELECT customer.id FROM customer WHERE metrics.clicks > 1"):
        with pytest.raises(AdsError) as refused:
            plan_of(parse(text), manager, TODAY)
        assert refused.value.code == "REQUESTED_METRICS_FOR_MANAGER"


@given(st.text("SELECTFROMWHERANDBY campign.d,='\"()<>!*0123456789-\\\n§", max_size=80))
def test_any_text_is_a_query_or_a_refusal(text: str) -> None:
    with suppress(AdsError):
        planned(text)


@given(st.integers(1_000_000_000, 9_999_999_999))
def test_every_client_of_a_manager_is_reached_through_it_and_nobody_else(customer_id: int) -> None:
    managers = [9_000_000_000 + customer_id % 1_000_000_000, 9_000_000_000 + (customer_id + 1) % 1_000_000_000]
    kept = str(customer_id)[0] in "45"
    assert [accounts.reaches(one, customer_id) for one in managers] == [kept or managers[0] == customer_id, False]
    assert accounts.reaches(customer_id, customer_id) == (str(customer_id)[0] != "5")
    assert (customer_id in accounts.clients(managers[0])) == kept
