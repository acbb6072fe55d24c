"""Rows of insights to Arrow: exact figures, what may be missing, and what is refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.meta import reports, rows
from app.domain.errors import ProviderError
from tests.connectors.meta import ACCOUNT, meta_offer, meta_row

ACTIONS = frozenset({"purchase"})


def parsed(*found: dict[str, Any], actions: Collection[str] = ACTIONS, **changes: Any) -> list[dict[str, Any]]:
    job = meta_offer(**changes)
    listed: list[dict[str, Any]] = rows.parse(found, job, reports.columns(job), actions).to_pylist()
    return listed


def refusal(*found: dict[str, Any]) -> str:
    with pytest.raises(ProviderError) as caught:
        parsed(*found)
    assert not caught.value.failure.retryable
    return caught.value.failure.code


def test_a_row_of_campaigns() -> None:
    assert parsed(meta_row(3)) == [
        {
            "connector_id": "conn_" + "1" * 32,
            "date": date(2026, 11, 3),
            "campaign_id": "9",
            "campaign_name": "Campaign 9",
            "account_id": ACCOUNT,
            "currency": "EUR",
            "time_zone": "Europe/Madrid",
            "impressions": 120,
            "clicks": 3,
            "conversions": Decimal("2.000000"),
            "spend": Decimal("1.230000"),
        }
    ]


def test_a_row_of_accounts() -> None:
    (row,) = parsed(meta_row(3, account_name="Shop"), report_type="account_performance")
    assert (row["account_name"], row["clicks"]) == ("Shop", 3)
    assert "campaign_id" not in row


def test_what_is_missing_is_zero_or_nothing() -> None:
    (row,) = parsed(meta_row(1, impressions=None, clicks=None, spend=None, actions=None, campaign_name=None))
    assert (row["impressions"], row["clicks"], row["spend"], row["conversions"]) == (0, 0, 0, 0)
    assert row["campaign_name"] is None
    assert parsed(meta_row(1, actions=[]))[0]["conversions"] == 0


@given(st.decimals("-999999999999.999999", "999999999999.999999", places=6))
def test_money_is_exact(spend: Decimal) -> None:
    assert parsed(meta_row(1, spend=f"{spend:f}"))[0]["spend"] == spend


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.1", "0.1"), ("1e-3", "0.001"), ("0.12345650", "0.123456"), ("0.1234575", "0.123458"), ("1", "1")],
)
def test_numbers_in_every_form(written: str, read: str) -> None:
    assert parsed(meta_row(1, spend=written))[0]["spend"] == Decimal(read)


LISTED = [
    {"action_type": "purchase", "value": "0.1"},
    {"action_type": "omni_purchase", "value": "0.1"},
    {"action_type": "lead", "value": "0.2", "7d_click": "9"},
    {"value": "5"},
]


@pytest.mark.parametrize(
    ("actions", "total"), [(("purchase",), "0.1"), (("purchase", "lead"), "0.3"), (("subscribe",), "0")]
)
def test_only_chosen_actions_are_conversions(actions: tuple[str, ...], total: str) -> None:
    assert parsed(meta_row(1, actions=LISTED), actions=actions)[0]["conversions"] == Decimal(total)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"spend": 1.23}, "bad_value"),
        ({"spend": "EUR 1"}, "bad_value"),
        ({"spend": "1,5"}, "bad_value"),
        ({"spend": "NaN"}, "bad_value"),
        ({"spend": "1" * 13}, "bad_value"),
        ({"impressions": 120}, "bad_value"),
        ({"impressions": "1.5"}, "bad_value"),
        ({"impressions": str(2**63)}, "bad_value"),
        ({"campaign_id": 9}, "bad_value"),
        ({"campaign_name": ["x"]}, "bad_value"),
        ({"actions": {}}, "bad_value"),
        ({"actions": [5]}, "bad_value"),
        ({"actions": [{"action_type": [], "value": "1"}]}, "bad_value"),
        ({"actions": [{"action_type": "purchase"}]}, "bad_value"),
        ({"actions": [{"action_type": "purchase", "value": 2}]}, "bad_value"),
        ({"actions": [{"action_type": "purchase", "value": "two"}]}, "bad_value"),
        ({"actions": [{"action_type": "purchase", "value": "1"}] * 2}, "bad_value"),
        ({"date_start": "2026/11/01", "date_stop": "2026/11/01"}, "bad_value"),
        ({"campaign_id": None}, "missing_column"),
        ({"date_start": None, "date_stop": None}, "missing_column"),
        ({"account_id": None}, "wrong_account"),
        ({"account_id": "9999"}, "wrong_account"),
        ({"account_id": "act_" + ACCOUNT}, "wrong_account"),
        ({"date_stop": "2026-11-02"}, "unreadable_answer"),
        ({"date_stop": None}, "unreadable_answer"),
        ({"date_start": "2026-10-31", "date_stop": "2026-10-31"}, "date_out_of_range"),
        ({"date_start": "2026-11-08", "date_stop": "2026-11-08"}, "date_out_of_range"),
    ],
)
def test_rows_that_are_refused(change: dict[str, Any], code: str) -> None:
    assert refusal(meta_row(1), meta_row(1, 10, **change)) == code
