"""Result objects: where they lie, what is in them, and that a run has one for ever."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.connectors.dv360.reports import ACCOUNT_PERFORMANCE, CAMPAIGN_PERFORMANCE
from app.domain.errors import ErrorClass, ProviderError
from app.domain.messages import Offer, StoredFile
from app.ports import Ready, ResultsUnavailable
from app.storage.results import ObjectResultStore
from tests.connectors.support import END, START, facts, offer

KEY = (
    "v1/report_type=campaign_performance/connector_type=DV360/org_id=7/connector_id=conn_11111111111111111111111111111111/"
    "bat_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-1.parquet"
)
TYPES = {"string": pa.string(), "date": pa.date32(), "int64": pa.int64(), "decimal(18,6)": pa.decimal128(18, 6)}


def batch(*rows: dict[str, Any], names: tuple[str, ...] = CAMPAIGN_PERFORMANCE.standard_names) -> pa.RecordBatch:
    kinds = {field.name: TYPES[field.kind] for field in CAMPAIGN_PERFORMANCE.fields}
    return pa.RecordBatch.from_pylist(list(rows), schema=pa.schema([(name, kinds[name]) for name in names]))


def line(day: int, campaign: str = "9", **changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "connector_id": "conn_" + "1" * 32, "date": date(2026, 11, day), "campaign_id": campaign,
        "campaign_name": f"Campaign {campaign}", "account_id": "4567", "currency": "EUR", "time_zone": "Europe/Madrid",
        "impressions": 120, "clicks": 3, "conversions": Decimal("1.5"), "spend": Decimal("12.345678"),
    }  # fmt: skip
    return known | changes


def ready(*batches: pa.RecordBatch, control: dict[str, str] | None = None, fail: Exception | None = None) -> Ready:
    async def produce() -> AsyncIterator[pa.RecordBatch]:
        for each in batches:
            yield each
        if fail is not None:
            raise fail

    return Ready(produce(), control or {})


@pytest.fixture
def store(tmp_path: Path) -> ObjectResultStore:
    (tmp_path / "spool").mkdir()
    return ObjectResultStore(f"file://{tmp_path}/results", spool=tmp_path / "spool")


async def write(store: ObjectResultStore, given: Ready, job: Offer | None = None) -> StoredFile:
    return await store.write(job or offer(), CAMPAIGN_PERFORMANCE, given)


async def digests(store: ObjectResultStore, run: int, *batches: pa.RecordBatch) -> list[str]:
    stored = await write(store, ready(*batches), offer(run=run))
    return [digest for _, _, digest in stored.days]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_file_is_typed_checked_and_described(store: ObjectResultStore, tmp_path: Path) -> None:
    stored = await write(store, ready(batch(line(1), line(2, "10")), batch(line(2)), control={"clicks": "9"}))
    path = tmp_path / "results" / KEY
    content = path.read_bytes()
    assert stored.uri == f"file://{tmp_path}/results/{KEY}"
    assert (stored.rows, stored.size_bytes) == (3, len(content))
    assert stored.checksum == "sha256:" + hashlib.sha256(content).hexdigest()
    assert stored.totals == {"impressions": "360", "clicks": "9", "spend": "37.037034"}
    assert [(day, rows) for day, rows, _ in stored.days] == [
        (START + n, rows) for n, rows in enumerate([1, 2, 0, 0, 0, 0, 0])
    ]
    assert (stored.start, stored.end, stored.currency, stored.time_zone) == (START, END, "EUR", "Europe/Madrid")
    assert stored.columns_absent == ("billable_impressions", "media_cost")
    table = pq.read_table(path)
    assert table.schema.names == list(CAMPAIGN_PERFORMANCE.standard_names)
    assert [str(kind) for kind in table.schema.types] == [
        "string", "date32[day]", "string", "string", "string", "string", "string",
        "int64", "int64", "decimal128(18, 6)", "decimal128(18, 6)",
    ]  # fmt: skip
    assert [field.nullable for field in table.schema] == [field.nullable for field in CAMPAIGN_PERFORMANCE.fields[:11]]
    assert table.to_pylist()[0] == line(1)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert files(tmp_path / "spool") == []


async def test_key_is_exact(store: ObjectResultStore) -> None:
    assert store.key(offer()) == KEY


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_id": "bat_../../etc"}, {"batch_id": "bat_" + "A" * 32}, {"batch_id": "bat_" + "a" * 32 + "\n"},
        {"report_type": "a/b"}, {"report_type": ".."}, {"report_type": ""}, {"run": -1},
        {"connector": facts(connector_id="conn_" + "1" * 31)}, {"connector": facts(connector_id="../" + "1" * 32)},
        {"connector": facts(connector_type="dv360")}, {"connector": facts(org_id=-1)},
    ],
)  # fmt: skip
def test_key_takes_only_our_own_ids(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ids"):
        ObjectResultStore("memory:///").key(offer(**bad))


async def test_written_twice_is_the_first_one(store: ObjectResultStore, tmp_path: Path) -> None:
    first = await write(store, ready(batch(line(1))))
    content = (tmp_path / "results" / KEY).read_bytes()
    second = await write(store, ready(batch(line(1, clicks=99), line(2))))
    assert second == first
    assert (tmp_path / "results" / KEY).read_bytes() == content


async def test_two_writers_at_once_agree(store: ObjectResultStore) -> None:
    answers = await asyncio.gather(*(write(store, ready(batch(line(1, clicks=n)))) for n in range(4)))
    assert len(set(map(str, answers))) == 1


async def test_what_is_found_is_what_was_written(store: ObjectResultStore) -> None:
    assert await store.find(offer()) is None
    written = await write(store, ready(batch(line(1), line(3, clicks=None))))
    assert await store.find(offer()) == written
    assert await store.find(offer(run=2)) is None


async def test_no_rows_is_a_file_too(store: ObjectResultStore, tmp_path: Path) -> None:
    stored = await write(store, ready())
    assert (stored.rows, len(stored.days), stored.totals["spend"]) == (0, 7, "0")
    assert {rows for _, rows, _ in stored.days} == {0}
    assert (stored.currency, stored.time_zone) == ("EUR", "Europe/Madrid")
    assert pq.read_table(tmp_path / "results" / KEY).schema.names == list(CAMPAIGN_PERFORMANCE.standard_names)


async def test_rows_of_extras(store: ObjectResultStore) -> None:
    names = (*CAMPAIGN_PERFORMANCE.standard_names, "media_cost")
    given = batch(line(1, media_cost=Decimal(1)), names=names)
    assert (await write(store, ready(given), offer(fields=("media_cost",)))).columns_absent == ("billable_impressions",)


async def test_columns_the_provider_lacks_are_absent(store: ObjectResultStore) -> None:
    lacking = replace(
        CAMPAIGN_PERFORMANCE,
        fields=tuple(replace(f, provider_name="") if f.name == "clicks" else f for f in CAMPAIGN_PERFORMANCE.fields),
    )
    stored = await store.write(offer(), lacking, ready(batch(line(1, clicks=None))))
    assert "clicks" in stored.columns_absent


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"impressions": "121"}, "impressions add up to 120, the report says 121"),
        ({"spend": "12.36"}, "spend"),
        ({"clicks": "0"}, "clicks"),
    ],
)
async def test_wrong_totals_make_nothing_visible(
    store: ObjectResultStore, tmp_path: Path, control: dict[str, str], message: str
) -> None:
    with pytest.raises(ProviderError, match=message) as caught:
        await write(store, ready(batch(line(1)), control=control))
    assert (caught.value.failure.error_class, caught.value.failure.code) == (
        ErrorClass.PROVIDER_RESPONSE, "control_total_mismatch",
    )  # fmt: skip
    assert files(tmp_path) == []


async def test_totals_may_be_rounded_and_untold_rows_excuse_them(store: ObjectResultStore) -> None:
    await write(store, ready(batch(line(1)), control={"spend": "12.35", "clicks": "3"}))
    await write(store, ready(batch(line(1, clicks=None)), control={"clicks": "900"}), offer(run=2))


@pytest.mark.parametrize("column", ["connector_id", "date", "campaign_id", "account_id"])
async def test_null_in_a_key_is_refused(store: ObjectResultStore, column: str) -> None:
    with pytest.raises(ProviderError, match=column):
        await write(store, ready(batch(line(1), line(2) | {column: None})))


async def test_days_outside_the_range_are_refused(store: ObjectResultStore) -> None:
    with pytest.raises(ProviderError) as caught:
        await write(store, ready(batch(line(8))))
    assert caught.value.failure.code == "date_out_of_range"


async def test_rows_of_other_columns_are_our_own_mistake(store: ObjectResultStore, tmp_path: Path) -> None:
    given = batch(line(1)).rename_columns(["x", *CAMPAIGN_PERFORMANCE.standard_names[1:]])
    with pytest.raises(TypeError):
        await write(store, ready(given))
    with pytest.raises(TypeError):
        await store.write(offer(), ACCOUNT_PERFORMANCE, ready(batch(line(1))))
    assert files(tmp_path) == []


async def test_failing_download_leaves_nothing(store: ObjectResultStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        await write(store, ready(batch(line(1)), fail=RuntimeError()))
    assert files(tmp_path) == []


async def test_digests_ignore_order_and_batches(store: ObjectResultStore) -> None:
    rows = [line(1, str(n), clicks=n) for n in range(50)]
    whole = await digests(store, 1, batch(*rows))
    assert await digests(store, 2, batch(*rows[25:]), batch(), batch(*reversed(rows[:25]))) == whole
    assert whole[1:] == ["0" * 16] * 6
    assert len(whole[0]) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"clicks": 4}, {"clicks": None}, {"clicks": 0}, {"impressions": 3, "clicks": 120}, {"currency": "USD"},
        {"conversions": Decimal("12.345678"), "spend": Decimal("1.5")}, {"campaign_name": "Other"},
        {"campaign_id": "09"}, {"spend": Decimal("12.345679")}, {"campaign_name": None},
        {"spend": Decimal("-12.345678")},
    ],
)  # fmt: skip
async def test_digests_see_every_change(store: ObjectResultStore, change: dict[str, Any]) -> None:
    before = await digests(store, 1, batch(line(1), line(2)))
    after = await digests(store, 2, batch(line(1, **change), line(2)))
    assert after[0] != before[0]
    assert after[1:] == before[1:]


async def test_digests_tell_days_apart_and_count_repeats(store: ObjectResultStore) -> None:
    stored = await digests(store, 1, batch(line(1), line(2), line(3), line(3)))
    assert len(set(stored[:4])) == 4


async def test_a_new_column_without_values_keeps_the_digest(store: ObjectResultStore) -> None:
    before = await digests(store, 1, batch(line(1)))
    given = batch(line(1, media_cost=None), names=(*CAMPAIGN_PERFORMANCE.standard_names, "media_cost"))
    stored = await write(store, ready(given), offer(run=2, fields=("media_cost",)))
    assert [digest for _, _, digest in stored.days] == before


async def test_digest_of_a_row_never_changes_between_releases(store: ObjectResultStore) -> None:
    assert (await digests(store, 1, batch(line(1))))[0] == "b110cd6f046b2c45"


async def test_row_groups_are_of_one_size(store: ObjectResultStore, tmp_path: Path) -> None:
    blocks = [batch(*(line(1, str(n)) for n in range(15_000))) for _ in range(3)]
    await write(store, ready(*blocks))
    metadata = pq.ParquetFile(tmp_path / "results" / KEY).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [20_000, 20_000, 5_000]


@pytest.mark.parametrize("campaigns", [1, 700, 15_000, 45_000])
async def test_texts_in_dictionaries_are_stored_as_texts(
    store: ObjectResultStore, tmp_path: Path, campaigns: int
) -> None:
    """Few words, some per row group, one per row: the file is the same as that of plain texts, and none of its
    dictionaries holds words that its rows do not use."""
    blocks = [
        batch(*(line(1 + n % 7, str(n % campaigns), campaign_name=[None, "A"][n % 2]) for n in range(at, at + 15_000)))
        for at in range(0, 45_000, 15_000)
    ]
    encoded = [
        pa.RecordBatch.from_arrays(
            [column.dictionary_encode() if column.type == pa.string() else column for column in block.columns],
            names=block.schema.names,
        )
        for block in blocks
    ]
    plain = await write(store, ready(*blocks), offer(run=1))
    stored = await write(store, ready(*encoded), offer(run=2))
    assert replace(stored, uri=plain.uri, checksum=plain.checksum) == plain
    path = tmp_path / "results" / KEY.replace("-1.parquet", "-2.parquet")
    table = pq.read_table(path)
    assert table.schema.field("campaign_id").type == pa.string()
    assert table.to_batches()[0].to_pylist()[:50] == blocks[0].to_pylist()[:50]
    assert table.equals(pa.Table.from_batches(blocks).cast(table.schema))
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.total_uncompressed_size < 20_000 * (len("12345") + 4 + 2) + 1_000


async def test_figures_are_packed_and_attributes_have_no_ranges(store: ObjectResultStore, tmp_path: Path) -> None:
    await write(store, ready(batch(line(1), line(2))))
    group = pq.ParquetFile(tmp_path / "results" / KEY).metadata.row_group(0)
    kept = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in kept["spend"].encodings
    assert kept["spend"].dictionary_page_offset is None
    assert kept["campaign_id"].dictionary_page_offset is not None
    assert kept["date"].statistics.max == date(2026, 11, 2)
    assert not kept["campaign_name"].is_stats_set


async def test_object_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    seen: list[Any] = []
    folder = tmp_path / "results"
    store = ObjectResultStore(f"file://{folder}", crash_point=lambda point: seen.append((point, files(folder))))
    await write(store, ready(batch(line(1))))
    assert seen == [("object_spooled", [])]
    assert files(folder) == [KEY]


async def test_foreign_objects_are_not_described(store: ObjectResultStore, tmp_path: Path) -> None:
    await write(store, ready(batch(line(1))))
    path = tmp_path / "results" / KEY
    path.rename(path.with_name("bat_" + "a" * 32 + "-2.parquet"))
    with pytest.raises(ValueError, match="another run"):
        await store.find(offer(run=2))
    path.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(pa.ArrowInvalid):
        await store.find(offer())
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="no result file"):
        await store.find(offer())


async def test_memory_store_and_check(tmp_path: Path) -> None:
    memory = ObjectResultStore("memory:///")
    await memory.check()
    stored = await write(memory, ready(batch(line(1))))
    assert stored.uri == f"memory:///{KEY}"
    assert await memory.find(offer()) == stored
    await ObjectResultStore(f"file://{tmp_path}/new").check()


async def test_check_raises_when_the_store_does_not_answer() -> None:
    away = {
        "config": {"endpoint": "http://127.0.0.1:9", "access_key_id": "x", "secret_access_key": "y", "region": "eu"},
        "client_options": {"allow_http": True, "timeout": "1s"},
        "retry_config": {"max_retries": 0},
    }
    with pytest.raises(obstore.exceptions.BaseError):
        await ObjectResultStore("s3://bucket/prefix", options=away).check()


async def test_metadata_is_readable_by_others(store: ObjectResultStore, tmp_path: Path) -> None:
    await write(store, ready(batch(line(1))))
    kept = pq.read_metadata(tmp_path / "results" / KEY).metadata[b"connector_service"]
    assert json.loads(kept)["run"] == "bat_" + "a" * 32 + "-1"
    assert json.loads(kept)["remote"] == {"query_id": "11", "report_id": "22"}


async def test_a_spool_that_cannot_be_written_leaves_no_object(tmp_path: Path) -> None:
    store = ObjectResultStore(f"file://{tmp_path}/results", spool=tmp_path / "missing")
    with pytest.raises(ResultsUnavailable):
        await write(store, ready(batch(line(1))))
    assert not (tmp_path / "results" / KEY).exists()
