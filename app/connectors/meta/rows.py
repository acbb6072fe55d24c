"""Turns the rows of one page of insights into an Arrow record batch, exactly typed. Imported only when a report is read
(pyarrow is heavy).

A row is ``{"campaign_id": "23", "impressions": "120", "spend": "1.23", "actions": [{"action_type", "value"}],
"date_start": "2026-11-01", "date_stop": "2026-11-01", ...}``. Every figure is a text; one of zero is often missing, and
so are ``actions`` where there are none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from app.connectors.columns import array_of, own_array, rounded
from app.connectors.failures import bad_response
from app.domain.errors import ProviderError
from app.domain.messages import Offer
from app.domain.model import Field

_ZERO = Decimal(0)


def parse(rows: Sequence[dict[str, Any]], offer: Offer, fields: Sequence[Field], actions: Collection[str]) -> Any:
    """A batch in the order of ``fields``; ``actions`` are the action types that are conversions. Raises
    ``ProviderError`` provider_response."""
    if any(row.get("date_start") != row.get("date_stop") for row in rows):
        raise bad_response("unreadable_answer", "a row of the report is not of one day", retryable=False)
    arrays = [_array(field, rows, offer, actions) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def _array(field: Field, rows: Sequence[dict[str, Any]], offer: Offer, actions: Collection[str]) -> pa.Array:
    own = own_array(field, offer, len(rows))
    if own is not None:
        return own
    if field.name == "conversions":
        return array_of(field, [_conversions(row.get("actions"), actions) for row in rows], offer)
    default = "0" if field.role == "metric" else None
    return array_of(field, [row.get(field.provider_name, default) for row in rows], offer)


def _conversions(entries: Any, actions: Collection[str]) -> str:
    """The sum of the actions that are conversions, as text."""
    if entries is None:
        return "0"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _no_actions()
    if not all(isinstance(entry.get("action_type", ""), str) for entry in entries):
        raise _no_actions()
    chosen = [entry for entry in entries if entry.get("action_type") in actions]
    if len({entry["action_type"] for entry in chosen}) != len(chosen):
        raise bad_response("bad_value", "a row names an action type twice", retryable=False)
    try:
        total = sum((Decimal(rounded(entry["value"])) for entry in chosen), _ZERO)
    except (InvalidOperation, KeyError, TypeError):
        raise _no_actions() from None
    return f"{total:f}"


def _no_actions() -> ProviderError:
    return bad_response("bad_value", "a row's actions are not the list of numbers they should be", retryable=False)
