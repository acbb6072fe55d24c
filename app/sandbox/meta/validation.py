"""What a run may be asked for. Anything else is refused with code 100."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import orjson

from app.sandbox.days import months_before
from app.sandbox.meta.state import Question

FIELDS = frozenset(
    {
        "account_currency",
        "account_id",
        "account_name",
        "actions",
        "campaign_id",
        "campaign_name",
        "clicks",
        "date_start",
        "date_stop",
        "impressions",
        "spend",
    }
)
"""Fields that are simulated."""
CAMPAIGN_FIELDS = frozenset({"campaign_id", "campaign_name"})
RETENTION_MONTHS = 37


class InvalidParameter(Exception):
    """Code 100; the text stands after ``(#100)``."""


def parse_question(account_id: int, form: Mapping[str, str], today: date) -> Question:
    """The question of a form; ``today`` in the account's zone. Raises ``InvalidParameter``."""
    level = form.get("level", "account")
    if level not in ("account", "campaign"):
        raise InvalidParameter("level must be one of the following values: account, campaign")
    if form.get("time_increment") != "1":
        raise InvalidParameter("only time_increment 1 is simulated")
    fields = frozenset(name for name in form.get("fields", "").split(",") if name)
    if unknown := sorted(fields - FIELDS):
        raise InvalidParameter(f"{unknown[0]} is not valid for fields param. please check the documentation")
    if level == "account" and fields & CAMPAIGN_FIELDS:
        raise InvalidParameter("campaign fields need level campaign")
    start, end = _range(form.get("time_range", ""))
    if start > end:
        raise InvalidParameter("since must not be later than until")
    if start < months_before(today, RETENTION_MONTHS):
        raise InvalidParameter("The start date of the time range cannot be beyond 37 months from the current date")
    return Question(account_id, level, start, end, fields)


def _range(text: str) -> tuple[date, date]:
    try:
        asked: Any = orjson.loads(text)
        return date.fromisoformat(asked["since"]), date.fromisoformat(asked["until"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise InvalidParameter("time_range must be an object with since and until") from None
