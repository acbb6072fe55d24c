"""The answer's JSON: cut into elements wherever its pieces end, and read into exact columns in flat memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.connectors.google_ads import json_block, report_json, reports
from app.connectors.google_ads.cutter import Cutter
from app.domain.errors import ErrorClass, ProviderError
from tests.connectors.ads import CUSTOMER, ads_offer, ads_row, answer, element
from tests.connectors.support import pieces_of

texts = st.text(st.sampled_from('ab"\\{}[],:\né日🎈\x01'), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)
objects = st.dictionaries(texts, plain, max_size=5)


def cut(body: bytes, size: int) -> list[Any]:
    cutter = Cutter()
    found = [orjson.loads(part) for at in range(0, len(body), size) for part in cutter.feed(body[at : at + size])]
    cutter.finish()
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(objects, max_size=5), st.sampled_from([1, 3, 50, 300, 5_000]), st.booleans(), st.data())
def test_elements_come_out_as_they_went_in(elements: list[Any], size: int, pretty: bool, data: st.DataObject) -> None:
    body = orjson.dumps(elements, option=orjson.OPT_INDENT_2 if pretty else 0)
    assert cut(body, size) == elements
    shorter = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(ProviderError) as caught:
        cut(shorter, size)
    assert caught.value.failure.code == ("truncated_report" if shorter else "empty_report")


def test_a_long_element_is_passed_over_in_strides() -> None:
    text = "".join(("\\" * n) + '"' * (n % 2) + "}{"[n % 2] for n in range(400))
    elements = [{"a": [text] * 3, "b": {"c": [{"d": text}]}} for _ in range(3)]
    body = orjson.dumps(elements)
    assert len(body) > 1_000_000
    for size in (4_001, 65_536, 10_000_000):
        assert cut(body, size) == elements


def test_depth_is_counted_across_strides() -> None:
    space = b" " * 40_000
    for levels, fits in ((30, True), (40, False)):
        body = b"[{" + space + b'"a":' + (space + b"[") * levels + (space + b"]") * levels + b"}]"
        if fits:
            assert len(cut(body, 65_536)) == 1
        else:
            with pytest.raises(ProviderError) as caught:
                cut(body, 65_536)
            assert caught.value.failure.code == "unreadable_answer"


async def read(rows: list[Any], report_type: str = "campaign_performance") -> list[dict[str, Any]]:
    job = ads_offer(report_type=report_type)
    found: list[dict[str, Any]] = []
    async for batch in report_json.batches(pieces_of(answer(rows)), job, reports.columns(job)):
        found += batch.to_pylist()
    return found


async def refused(row: Any) -> Any:
    with pytest.raises(ProviderError) as caught:
        await read([ads_row(1), row])
    assert caught.value.failure.error_class == ErrorClass.PROVIDER_RESPONSE
    assert not caught.value.failure.retryable
    return caught.value.failure


async def test_columns_stand_in_the_order_of_the_schema() -> None:
    for name, report in reports.REPORTS.items():
        (found,) = await read([ads_row(1)], name)
        assert list(found) == list(report.standard_names)


async def test_money_is_exact_to_the_last_digit() -> None:
    micros = ("1", "999999999999999999", "-2500001", "0")
    rows = await read([ads_row(1, n, costMicros=text) for n, text in enumerate(micros)])
    assert [str(row["spend"]) for row in rows] == ["0.000001", "999999999999.999999", "-2.500001", "0.000000"]
    assert (await refused(ads_row(1, costMicros="1000000000000000000"))).code == "bad_value"


async def test_conversions_are_read_as_they_are_written() -> None:
    """Neither value survives a float: it has 17 digits of its own, and its halves are not where they seem."""
    written = {
        b"3": "3.000000",
        b"0.333333333333": "0.333333",
        b"123456789012.345678": "123456789012.345678",
        b"2.0000005": "2.000000",
        b"2.0000005000000001": "2.000001",
        b"1e-7": "0.000000",
        b"1.5E+2": "150.000000",
        b"-0.5": "-0.500000",
        b"12.000000000000002": "12.000000",
        b'"7.25"': "7.250000",
    }
    rows = b",".join(
        orjson.dumps(ads_row(1, n, conversions=0)).replace(b'"conversions":0', b'"conversions": ' + text)
        for n, text in enumerate(written)
    )
    job = ads_offer()
    (batch,) = json_block.parse([b'{"results":[%b]}' % rows], job, reports.columns(job))
    assert [str(value) for value in batch.column("conversions").to_pylist()] == list(written.values())


@pytest.mark.parametrize("text", [b"1" + b"0" * 12, b"9" * 41, b"1e60", b"1" * 30 + b".5"])
async def test_conversions_beyond_the_column(text: bytes) -> None:
    job = ads_offer()
    body = answer([ads_row(1, conversions=0)]).replace(b'"conversions":0', b'"conversions":' + text)
    with pytest.raises(ProviderError) as caught:
        [_ async for _ in report_json.batches(pieces_of(body), job, reports.columns(job))]
    assert caught.value.failure.code == "bad_value"


def other(**members: Any) -> dict[str, Any]:
    """A row with whole resources replaced."""
    return {**ads_row(1), **members}


@pytest.mark.parametrize(
    ("row", "code", "told"),
    [
        (ads_row(1, clicks="many"), "bad_value", "metrics.clicks holds 'many'"),
        (ads_row(1, clicks="1.5"), "bad_value", "metrics.clicks"),
        (ads_row(1, clicks=5), "bad_value", "metrics.clicks holds '5'"),
        (ads_row(1, impressions="9223372036854775808"), "bad_value", "out of range"),
        (ads_row(1, costMicros="1.5"), "bad_value", "metrics.cost_micros"),
        (ads_row(1, conversions="NaN"), "bad_value", "metrics.conversions holds 'NaN'"),
        (ads_row(1, conversions=[1]), "bad_value", "metrics.conversions"),
        (ads_row(31), "bad_value", "segments.date"),
        (ads_row(8), "date_out_of_range", "not asked for"),
        (other(segments={"date": "2026/11/01"}), "bad_value", "segments.date holds '2026/11/01'"),
        (other(segments={}), "missing_column", "segments.date"),
        (other(campaign={"name": "A"}), "missing_column", "campaign.id"),
        (other(campaign={"id": 5}), "bad_value", "campaign.id holds '5'"),
        (other(customer={"id": "5555555555"}), "wrong_account", "another account"),
        (other(customer={}), "wrong_account", "another account"),
    ],
)
async def test_rows_that_are_refused(row: dict[str, Any], code: str, told: str) -> None:
    failure = await refused(row)
    assert failure.code == code
    assert told in failure.message


async def test_the_first_and_the_last_day_are_in_it() -> None:
    assert [row["date"].day for row in await read([ads_row(1), ads_row(7)])] == [1, 7]
    before = ads_row(1) | {"segments": {"date": "2026-10-31"}}
    assert (await refused(before)).code == "date_out_of_range"


async def test_names_that_are_left_out_are_empty() -> None:
    nameless = {"id": "9", "resourceName": "customers/1/campaigns/9"}
    (row,) = await read([other(campaign=nameless, customer={"id": CUSTOMER})])
    assert (row["campaign_name"], row["currency"], row["date"]) == (None, None, date(2026, 11, 1))


async def test_batches_are_never_larger_than_a_row_group() -> None:
    job = ads_offer()
    body = answer([ads_row(1, n) for n in range(25_000)])
    sizes = [batch.num_rows async for batch in report_json.batches(pieces_of(body), job, reports.columns(job))]
    assert sizes == [20_000, 5_000]


async def repeated(part: bytes, count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield (b"," if number else b"[") + part
    yield b"]"


async def test_memory_does_not_grow_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_json, "BLOCK", 100_000)
    job = ads_offer()
    part = orjson.dumps(element([ads_row(1, n) for n in range(500)]))
    peaks = []
    for count in (2, 6, 30):
        tracemalloc.start()
        rows = 0
        async for batch in report_json.batches(repeated(part, count), job, reports.columns(job)):
            rows += batch.num_rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows == count * 500
    assert peaks[2] < 1.3 * peaks[1]


def test_numbers_pass_through_no_float() -> None:
    quoted = json_block.quoted(b'{"name":"\\"conversions\\":5","conversions":0.10,"x":{"conversions": -1e2}}')
    assert quoted == b'{"name":"\\"conversions\\":5","conversions":"0.10","x":{"conversions":"-1e2"}}'
    assert Decimal("123456789012.345678") != Decimal(float("123456789012.345678"))
