"""One result file: rows in, typed Parquet out, and its description kept inside it. Imported only when a result is
written.

What others must know of a file they did not write (rows per day, digests, totals) stands in its key-value metadata.
Its checksum cannot, so whoever finds a file computes that from its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import Field, ReportType
from app.storage.digests import DayDigests

ROW_GROUP = 20_000
META = b"connector_service"
_EPOCH = date(1970, 1, 1).toordinal()
_KINDS = {
    "string": pa.string(),
    "date": pa.date32(),
    "int64": pa.int64(),
    "decimal(18,6)": pa.decimal128(18, 6),
    "list<string>": pa.list_(pa.string()),
}
_WORDS = pa.dictionary(pa.int32(), pa.string())
_TOTALS = ("impressions", "clicks", "spend")
# A provider's totals are sums of figures it has not rounded yet: half a cent, and half of the last place per row.
_CENT = Decimal("0.005")
_PLACE = Decimal("0.0000005")


def columns_of(report: ReportType, asked: Sequence[str]) -> tuple[Field, ...]:
    """The columns of a file, in order: standard ones, then the extras asked for."""
    return tuple(field for field in report.fields if field.standard or field.name in asked)


def schema_of(fields: Sequence[Field]) -> pa.Schema:
    """The Arrow schema these columns must have."""
    return pa.schema([pa.field(field.name, _KINDS[field.kind], nullable=field.nullable) for field in fields])


class ResultFile:
    """Writes one file at ``path``; not visible to anyone before ``finish``. Blocking: use it in a thread."""

    def __init__(self, path: Path, offer: Offer, report: ReportType) -> None:
        self._offer = offer
        self._report = report
        self._fields = columns_of(report, offer.fields)
        self._schema = _in_words(schema_of(self._fields))
        self._writer = pq.ParquetWriter(
            str(path),
            self._schema,
            compression="zstd",
            store_decimal_as_integer=True,
            write_batch_size=ROW_GROUP,
            store_schema=False,  # it would tell readers of dictionaries, which are only how the rows come here
            # Figures hardly repeat, but are small for 64 bits: packed, they leave zstd a quarter of the bytes.
            use_dictionary=[field.name for field in self._fields if field.role != "metric"],
            column_encoding={field.name: "DELTA_BINARY_PACKED" for field in self._fields if field.role == "metric"},
            # Nobody looks for rows by the range of their names.
            write_statistics=[field.name for field in self._fields if field.role != "attribute"],
        )
        self._pending: list[pa.RecordBatch] = []
        self._waiting = 0
        self._rows = 0
        self._digests = DayDigests()
        self._sums: dict[str, Decimal] = {}
        self._nulls: dict[str, int] = {field.name: 0 for field in self._fields}
        self._words: dict[str, str | None] = {"currency": None, "time_zone": None}

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows whose columns are those of the report type, in order; texts may be dictionaries of texts, which
        are counted faster. Raises ``ProviderError`` for a null in a key."""
        typed = self._typed(batch)
        self._count(typed)
        self._pending.append(typed)
        self._waiting += typed.num_rows
        if self._waiting >= ROW_GROUP:
            self._write(keep=self._waiting % ROW_GROUP)

    def finish(self, control: Mapping[str, str]) -> dict[str, Any]:
        """Compares with the provider's totals, closes the file, and returns its description (as ``describe`` reads
        it)."""
        self._compare(control)
        self._write(keep=0)
        description = self._description()
        self._writer.add_key_value_metadata({META.decode(): json.dumps(description, separators=(",", ":"))})
        self._writer.close()
        return description

    def close(self) -> None:
        """Lets go of the file, finished or not."""
        self._writer.close()

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [column.dictionary_encode() if column.type == pa.string() else column for column in batch.columns]
        if batch.schema.names != self._schema.names or [one.type for one in columns] != self._schema.types:
            raise TypeError(f"rows of {self._report.name} have the columns {batch.schema.names}")
        for field in self._fields:
            if not field.nullable and batch.column(field.name).null_count:
                raise _wrong("null_key", f"column {field.name} may not be empty")
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _count(self, batch: pa.RecordBatch) -> None:
        self._rows += batch.num_rows
        self._digests.add(batch)
        for field in self._fields:
            column = batch.column(field.name)
            self._nulls[field.name] += column.null_count
            if field.role == "metric":
                self._sums[field.name] = self._sums.get(field.name, Decimal(0)) + (pc.sum(column).as_py() or 0)
        for name, known in self._words.items():
            if known is None and name in self._nulls and batch.num_rows:
                self._words[name] = batch.column(name)[0].as_py()

    def _write(self, *, keep: int) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._pending)
        self._writer.write_table(_one_dictionary(table.slice(0, self._waiting - keep)), row_group_size=ROW_GROUP)
        self._pending = table.slice(self._waiting - keep).to_batches() if keep else []
        self._waiting = keep

    def _compare(self, control: Mapping[str, str]) -> None:
        kinds = {field.name: field.kind for field in self._fields}
        for name, text in control.items():
            if self._nulls[name]:
                continue  # a figure the provider keeps to itself is still in its total
            slack = Decimal(0) if kinds[name] == "int64" else _CENT + _PLACE * self._rows
            found = self._sums.get(name, Decimal(0))
            if abs(found - Decimal(text)) > slack:
                raise _wrong("control_total_mismatch", f"the rows' {name} add up to {found}, the report says {text}")

    def _description(self) -> dict[str, Any]:
        offer = self._offer
        present = {field.name for field in self._fields}
        return {
            "schema": f"{self._report.name}.v1",
            "run": f"{offer.batch_id}-{offer.run}",
            "remote": dict(offer.remote or {}),
            "start": offer.start,
            "end": offer.end,
            "rows": self._rows,
            "days": list(self._days()),
            "totals": {name: f"{self._sums.get(name, Decimal(0)):f}" for name in _TOTALS if name in present},
            "columns_absent": [field.name for field in self._report.fields if self._is_absent(field, present)],
            "currency": self._words["currency"] or offer.connector.currency,
            "time_zone": self._words["time_zone"] or offer.connector.time_zone,
        }

    def _days(self) -> Iterator[tuple[int, int, str]]:
        counted = self._digests.days
        if any(not self._offer.start <= day + _EPOCH <= self._offer.end for day in counted):
            raise _wrong("date_out_of_range", "the report holds a day that was not asked for")
        for day in range(self._offer.start, self._offer.end + 1):
            rows, digest = counted.get(day - _EPOCH, (0, 0))
            yield day, rows, f"{digest:016x}"

    def _is_absent(self, field: Field, present: set[str]) -> bool:
        lacking = field.role == "metric" and not field.provider_name
        return field.name not in present or lacking


def describe(path: Path) -> dict[str, Any]:
    """The description inside a finished file. Raises ``ValueError`` when it is none of ours."""
    metadata = pq.read_metadata(str(path))
    text = (metadata.metadata or {}).get(META)
    if text is None:
        raise ValueError("the object is no result file")
    description: dict[str, Any] = json.loads(text)
    if metadata.num_rows != description["rows"]:
        raise ValueError("the object's rows are not those it describes")
    return description


def _in_words(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionaries for its texts, as Parquet writes them fastest."""
    return pa.schema([field.with_type(_WORDS) if field.type == pa.string() else field for field in schema])


def _one_dictionary(rows: pa.Table) -> pa.Table:
    """The rows with one dictionary for all chunks of a column, else it would be written text by text. Batches overlap
    row groups; a dictionary that is long for its rows is made again, of the words that they use."""
    for at, column in enumerate(rows.columns):
        if pa.types.is_dictionary(column.type) and sum(len(one.dictionary) for one in column.chunks) > len(column) // 2:
            used = column.cast(pa.string()).combine_chunks().dictionary_encode()
            rows = rows.set_column(at, rows.schema.field(at), used)
    return rows.unify_dictionaries()


def _wrong(code: str, message: str) -> ProviderError:
    return ProviderError(Failure(ErrorClass.PROVIDER_RESPONSE, code, message, retryable=True))
