"""Turns what GraphQL tells of campaigns, or of an advertiser, into an Arrow record batch, exactly typed. Imported only
when a report is read (pyarrow is heavy).

An owner of figures is ``{"id", "name"?, "reporting": {"generalReporting": {"nodes": [{"dimensions": {"time": {"day"}},
"metrics": {"impressions", "clicks", "conversions", "spend": {"advertiserCurrency"}}}], "pageInfo": {"hasNextPage"}}}}``
with every number as the text it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from app.connectors.columns import KINDS, array_of, own_array
from app.connectors.failures import bad_response
from app.domain.errors import ProviderError
from app.domain.messages import Offer
from app.domain.model import Field

_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(T00:00:00(\.0+)?(Z|\+00:00)?)?")


def parse(owners: Sequence[Mapping[str, Any]], offer: Offer, fields: Sequence[Field]) -> pa.RecordBatch:
    """A batch in the order of ``fields``, empty where nothing happened. Raises ``ProviderError`` provider_response."""
    rows = [row for owner in owners for row in _rows(owner)]
    arrays = [_array(field, rows, offer) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def _array(field: Field, rows: Sequence[Mapping[str, Any]], offer: Offer) -> pa.Array:
    own = own_array(field, offer, len(rows))
    if own is not None:
        return own
    if field.name in ("account_id", "currency"):
        # The answer is that account's alone, and its money is in ``advertiserCurrency``, whichever that is: the code
        # is what the account was connected with.
        return pa.repeat(pa.scalar(getattr(offer.connector, field.name), pa.string()), len(rows))
    return array_of(field, [row[field.name] for row in rows], offer) if rows else pa.array([], KINDS[field.kind])


def _rows(owner: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A row for each day, by our names of the columns."""
    report = _member(_member(owner, "reporting"), "generalReporting")
    nodes = report.get("nodes")
    if not isinstance(nodes, list):
        raise _unreadable("the list of days is not the list it should be")
    if _member(report, "pageInfo").get("hasNextPage") is not False:
        raise _unreadable("not all days have come")
    seen = set()
    for node in nodes:
        metrics = _member(node, "metrics")
        day = _day(_member(_member(node, "dimensions"), "time").get("day"))
        if day in seen:
            raise _unreadable("a day comes twice")
        seen.add(day)
        spend = metrics.get("spend")
        yield {
            "date": day,
            "campaign_id": owner.get("id"),
            "campaign_name": owner.get("name"),
            **{name: metrics.get(name) for name in ("impressions", "clicks", "conversions")},
            "spend": None if spend is None else _member(metrics, "spend").get("advertiserCurrency"),
        }


def _day(value: Any) -> Any:
    """As a date is written; what is no midnight stays, to be refused with its column's name."""
    match = _DAY.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else value


def _member(content: Any, name: str) -> Mapping[str, Any]:
    found = content.get(name) if isinstance(content, dict) else None
    if isinstance(found, dict):
        return found
    raise _unreadable(f"a row has no {name}")


def _unreadable(message: str) -> ProviderError:
    return bad_response("unreadable_answer", message, retryable=False)
