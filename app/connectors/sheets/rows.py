"""Rows of a range to Arrow record batches. Imported only when a table is read (pyarrow is heavy)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from app.connectors.sheets import a1
from app.connectors.sheets.grid import Block, filled
from app.connectors.sheets.reports import TABLE
from app.domain.messages import Offer

_EPOCH = 719_163
"""Ordinal of 1970-01-01, from which Arrow counts."""
_TEXTS = pa.list_(pa.string())


def parse(block: Block, offer: Offer) -> Any:
    """One batch, in the order of the report's columns. Raises ``ProviderError`` unreadable_answer."""
    count = len(block.rows)
    cells, kinds = [], []
    for row in block.rows:
        texts, words = filled(row, block.width)
        cells.append(texts)
        kinds.append(words)
    facts = offer.connector
    known = {
        "connector_id": _same(facts.connector_id, count),
        "date": pa.repeat(pa.scalar(offer.start - _EPOCH, pa.int32()), count).view(pa.date32()),
        "range": _same(block.asked, count),
        "row": pa.array(range(block.first_row, block.first_row + count), pa.int64()),
        "account_id": _same(facts.account_id, count),
        "time_zone": _same(facts.time_zone, count),
        "sheet": _same(block.area.sheet, count),
        "first_column": _same(a1.column_letters(block.area.first_column), count),
        "cells": pa.array(cells, _TEXTS),
        "kinds": pa.array(kinds, _TEXTS),
    }
    names = [field.name for field in TABLE.fields]
    return pa.RecordBatch.from_arrays([known[name] for name in names], names=names)


def _same(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)
