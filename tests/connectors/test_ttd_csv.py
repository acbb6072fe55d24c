"""Report files: every form they come in, and that one cut within a row never passes for a whole one."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors import csv_block, csv_report
from app.connectors.csv_cutter import Cutter
from app.connectors.ttd import reports
from app.domain.errors import ErrorClass, ProviderError
from app.domain.messages import Offer
from tests.connectors.support import pieces_of
from tests.connectors.ttd import HEADER, ttd_offer, ttd_row, ttd_text

ROWS = [ttd_row(1), ttd_row(2, "c10"), ttd_row(3)]
COST = "Advertiser Cost (Adv Currency)"


def _batches(job: Offer, content: bytes, *, announced: bool, size: int = 65536) -> AsyncIterator[Any]:
    return csv_report.batches(
        pieces_of(content, size), job, reports.columns(job), reports.FORM, announced=announced,
        made_by="the report's template",
    )  # fmt: skip


async def read(
    text: str | bytes, job: Offer | None = None, size: int = 65536, *, announced: bool = False
) -> list[dict[str, Any]]:
    """Rows of a file that arrives in pieces of ``size`` bytes."""
    content = text.encode() if isinstance(text, str) else text
    job = job or ttd_offer("poll")
    rows: list[dict[str, Any]] = []
    async for batch in _batches(job, content, announced=announced, size=size):
        rows += batch.to_pylist()
    return rows


async def refused(text: str | bytes, *, announced: bool = False) -> Any:
    with pytest.raises(ProviderError) as caught:
        await read(text, announced=announced)
    assert caught.value.failure.error_class == ErrorClass.PROVIDER_RESPONSE
    return caught.value.failure


async def test_plain_report() -> None:
    rows = await read(ttd_text(ROWS))
    assert rows[1] == {
        "connector_id": "conn_" + "1" * 32,
        "date": date(2026, 11, 2),
        "campaign_id": "c10",
        "campaign_name": "Campaign c10",
        "account_id": "adv4567",
        "currency": "EUR",
        "time_zone": "Europe/Madrid",
        "impressions": 120,
        "clicks": 3,
        "conversions": Decimal("1.500000"),
        "spend": Decimal("12.345678"),
    }
    assert list(rows[1]) == list(reports.CAMPAIGN_PERFORMANCE.standard_names)
    assert len(rows) == 3


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_pieces_of_any_size_give_the_same_rows(size: int) -> None:
    rows = await read(ttd_text([ttd_row(1, Campaign='"A, ""quoted""\nname"'), *ROWS]), size=size)
    names = ['A, "quoted"\nname', "Campaign c9", "Campaign c10", "Campaign c9"]
    assert [each["campaign_name"] for each in rows] == names


NAMES = st.lists(st.text('ab ,;"\n=ü', max_size=6), max_size=12)


@given(NAMES, st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 300), st.booleans())
def test_any_names_in_any_pieces_are_read_as_they_were_written(
    names: list[str], sizes: list[int], block: int, announced: bool
) -> None:
    """The reference is the standard library's writer and reader of CSV."""
    out = io.StringIO()
    rows = [ttd_row(1 + at % 7, f"c{at}", Campaign=name) for at, name in enumerate(names)]
    csv.writer(out, lineterminator="\n").writerows([HEADER, *rows])
    content = out.getvalue().encode()
    cutter, blocks, at = Cutter(block), list[bytes](), 0
    while at < len(content):
        size = sizes[len(blocks) % len(sizes)]
        blocks += [b"", *cutter.feed(content[at : at + size])]
        at += size
    blocks += cutter.finish(announced=announced)
    assert cutter.header == HEADER
    job, found = ttd_offer("poll"), list[Any]()
    plan = csv_block.layout(reports.FORM, job, reports.columns(job), HEADER)
    for one in filter(None, blocks):
        found += csv_block.parse(one, plan).column("campaign_name").to_pylist()
    assert found == names


async def test_cut_within_a_row_is_never_a_report() -> None:
    content = ttd_text([ttd_row(day, f"c{campaign}") for day in range(1, 8) for campaign in range(20)]).encode()
    ends = {at + 1 for at, byte in enumerate(content) if byte == 10}
    for cut in range(0, len(content) + 1, 1 if len(content) < 3_000 else 7):
        if cut not in ends:
            failure = await refused(content[:cut])
            assert failure.code == ("truncated_report" if cut else "empty_report"), cut
            assert failure.retryable
            assert failure.system == bool(cut)


async def test_a_length_that_was_announced_stands_for_the_last_newline() -> None:
    text = ttd_text(ROWS)[:-1]
    assert len(await read(text, announced=True)) == 3
    assert (await refused(text)).code == "truncated_report"
    assert await read(ttd_text([])[:-1], announced=True) == []


async def test_header_alone_is_a_report_without_rows() -> None:
    assert await read(ttd_text([])) == []


async def test_byte_order_mark_and_windows_lines() -> None:
    assert await read("\ufeff" + ttd_text(ROWS).replace("\n", "\r\n")) == await read(ttd_text(ROWS))


async def test_columns_are_found_by_name_not_place() -> None:
    order = [5, 0, 8, 1, 2, 7, 3, 4, 6]
    lines = [[cells[place] for place in order] for cells in (HEADER, *ROWS)]
    assert await read(ttd_text(lines[1:], lines[0])) == await read(ttd_text(ROWS))


async def test_a_metric_that_is_not_told_is_null_and_a_word_is_no_metric() -> None:
    rows = await read(ttd_text([ttd_row(1, Impressions=""), ttd_row(2)]))
    assert [each["impressions"] for each in rows] == [None, 120]
    for word in ("-", "Unknown", "NaN", "1e400", "1,2"):
        assert (await refused(ttd_text([ttd_row(1, Impressions=f'"{word}"')]))).code == "bad_value"


async def test_thousands_separators() -> None:
    rows = await read(ttd_text([ttd_row(1, Impressions='"1,234,567"', **{COST: '"1,234.5"'})]))
    assert (rows[0]["impressions"], rows[0]["spend"]) == (1_234_567, Decimal("1234.500000"))


@given(st.decimals(min_value=0, max_value=Decimal("999999999999.999999"), places=6))
def test_money_is_what_was_written(amount: Decimal) -> None:
    job = ttd_offer("poll")
    plan = csv_block.layout(reports.FORM, job, reports.columns(job), HEADER)
    cells = ttd_row(1, **{COST: f"{amount:f}"})
    batch = csv_block.parse((",".join(cells) + "\n").encode(), plan)
    assert batch.column("spend").to_pylist() == [amount]


async def test_more_than_six_decimals_round_half_to_even() -> None:
    cells = ("0.1234565", "0.1234575", "7")
    rows = await read(ttd_text([ttd_row(1, f"c{n}", **{COST: cell}) for n, cell in enumerate(cells)]))
    assert [str(each["spend"]) for each in rows] == ["0.123456", "0.123458", "7.000000"]


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_report"),
        ("\n\n", "empty_report"),
        ("<!DOCTYPE html><html>Sign in</html>\n", "not_a_report"),
        ('{"Message":"No."}\n', "not_a_report"),
        (b"PK\x03\x04\x14\x00\x06\x00 a spreadsheet\n", "bad_encoding"),
        (ttd_text(ROWS).encode("utf-16"), "bad_encoding"),
        (ttd_text([ttd_row(1, Campaign="Ünal")]).encode("latin-1"), "bad_encoding"),
        (ttd_text(ROWS).replace("Clicks", "Impressions"), "duplicate_column"),
        (ttd_text(ROWS).replace(COST, "Cost"), "missing_column"),
        (ttd_text([]).replace(COST, "Cost"), "missing_column"),
        (ttd_text([[*ttd_row(1), "g1"]], [*HEADER, "Ad Group ID"]), "unexpected_column"),
        (ttd_text([], [*HEADER, "Ad Group ID"]), "unexpected_column"),
        (ttd_text(ROWS).replace(",", ";"), "missing_column"),
        (ttd_text([ttd_row(1, Clicks="2.5")]), "bad_value"),
        (ttd_text([ttd_row(1)]).replace(",3,1.5,", ",1,5,1.5,", 1), "malformed_csv"),
        (ttd_text([ttd_row(1)[:-1], ttd_row(2)]), "malformed_csv"),
        (ttd_text([ttd_row(1)]).replace(",1.5,", ",=1+1,", 1), "bad_value"),
        (ttd_text([ttd_row(1, **{COST: "1" * 13})]), "bad_value"),
        (ttd_text([ttd_row(1, Date="2026-11-01T01:00:00")]), "bad_value"),
        (ttd_text([ttd_row(1, Date="11/01/2026")]), "bad_value"),
        (ttd_text([ttd_row(1, Date="2026-02-30T00:00:00")]), "bad_value"),
        (ttd_text([ttd_row(8)]), "date_out_of_range"),
        (ttd_text([ttd_row(1, **{"Advertiser ID": "adv1"})]), "wrong_account"),
        (ttd_text([ttd_row(1, Campaign='"open')]) + "y\n" * 2_000_000, "malformed_csv"),
    ],
)
async def test_what_is_no_report(text: str | bytes, code: str, announced: bool) -> None:
    assert (await refused(text, announced=announced)).code == code


async def test_a_quote_that_does_not_end_is_a_cut_or_a_fault_of_the_file() -> None:
    text = ttd_text([ttd_row(1), ttd_row(2, Campaign='"open')])
    assert (await refused(text)).code == "truncated_report"
    assert (await refused(text, announced=True)).code == "malformed_csv"


async def test_refusals_name_the_column() -> None:
    assert COST in (await refused(ttd_text(ROWS).replace(COST, "Cost"))).message
    assert "Ad Group ID" in (await refused(ttd_text([], [*HEADER, "Ad Group ID"]))).message
    assert "'Clicks' holds 'many'" in (await refused(ttd_text([ttd_row(1, Clicks="many")]))).message


async def test_many_blocks_keep_every_row_in_order() -> None:
    content = ttd_text([ttd_row(1 + n % 7, f"c{n}") for n in range(40_000)]).encode()
    assert len(content) > 2 * 1024 * 1024
    job = ttd_offer("poll")
    sizes, ids = [], []
    async for batch in _batches(job, content, announced=False):
        sizes.append(batch.num_rows)
        ids += batch.column("campaign_id").to_pylist()
    assert ids == [f"c{n}" for n in range(40_000)]
    assert max(sizes) < 25_000


def test_a_block_never_ends_inside_a_quoted_cell() -> None:
    cutter = Cutter(block=200)
    content = ("h\n" + "".join(f'2026,{n},"a\nb,\n,c"\n' for n in range(50))).encode()
    blocks = [block for at in range(0, len(content), 9) for block in cutter.feed(content[at : at + 9])]
    blocks += cutter.finish(announced=False)
    assert len(blocks) > 2
    assert b"".join(blocks) == content[2:]
    assert all(block.startswith(b"2026") and block.endswith(b'c"\n') for block in blocks)
