"""Report files: every form they come in, and that a file cut anywhere never passes for a whole one."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from app.connectors.dv360 import report_csv, reports
from app.connectors.dv360.cutter import Cutter
from app.domain.errors import ErrorClass, ProviderError
from app.domain.messages import Offer
from tests.connectors.support import FOOTER, HEADER, offer, pieces_of, report_text, row

ROWS = [row(1), row(2, "10"), row(3)]


async def read(
    text: str | bytes, job: Offer | None = None, size: int = 65536
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and control totals of a file that arrives in pieces of ``size`` bytes."""
    content = text.encode() if isinstance(text, str) else text
    job = job or offer()
    control: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    async for batch in report_csv.batches(pieces_of(content, size), job, reports.columns(job), control):
        rows += batch.to_pylist()
    return rows, control


async def refused(text: str | bytes) -> Any:
    with pytest.raises(ProviderError) as caught:
        await read(text)
    assert caught.value.failure.error_class == ErrorClass.PROVIDER_RESPONSE
    return caught.value.failure


async def test_plain_report() -> None:
    rows, control = await read(report_text(ROWS, ["360", "9", "4.5", "37.037034"]))
    assert rows[1] == {
        "connector_id": "conn_" + "1" * 32,
        "date": date(2026, 11, 2),
        "campaign_id": "10",
        "campaign_name": "Campaign 10",
        "account_id": "4567",
        "currency": "EUR",
        "time_zone": "Europe/Madrid",
        "impressions": 120,
        "clicks": 3,
        "conversions": Decimal("1.500000"),
        "spend": Decimal("12.345678"),
    }
    assert list(rows[1]) == list(reports.CAMPAIGN_PERFORMANCE.standard_names)
    assert len(rows) == 3
    assert control == {"impressions": "360", "clicks": "9", "conversions": "4.5", "spend": "37.037034"}


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_pieces_of_any_size_give_the_same_rows(size: int) -> None:
    text = report_text([row(1, Campaign='"A, ""quoted""\nname"'), *ROWS], ["480", "12", "-", "-"])
    rows, control = await read(text, size=size)
    assert [each["campaign_name"] for each in rows] == ['A, "quoted"\nname', "Campaign 9", "Campaign 10", "Campaign 9"]
    assert control == {"impressions": "480", "clicks": "12"}


async def test_cut_anywhere_is_never_a_report() -> None:
    content = report_text([row(day, str(campaign)) for day in range(1, 8) for campaign in range(20)]).encode()
    # Whole once the first footer cell has ended: what follows it is not needed by anyone.
    whole_from = content.index(b"Report Time:") + len(b"Report Time:")
    cuts = {*range(0, len(content), 50), *range(whole_from - 120, whole_from)}
    for cut in sorted(cuts):
        if cut >= whole_from:
            assert len((await read(content[:cut]))[0]) == 140
        else:
            failure = await refused(content[:cut])
            assert failure.code == ("truncated_report" if cut else "empty_report"), cut
            assert failure.retryable


async def test_cut_report_counts_against_the_breaker() -> None:
    assert (await refused(report_text(ROWS)[:-200])).system


async def test_no_data() -> None:
    head = ",".join(HEADER) + "\n"
    for text in (head + "No data returned by the reporting service.\n" + FOOTER,
                 "No data returned by the reporting service.\n" + FOOTER,
                 head + '"No data returned by the reporting service."\n' + FOOTER):  # fmt: skip
        assert await read(text) == ([], {})


async def test_no_data_below_rows_is_refused() -> None:
    text = ",".join(HEADER) + "\n" + ",".join(row(1)) + "\nNo data returned by the reporting service.\n" + FOOTER
    assert (await refused(text)).code == "truncated_report"


async def test_totals_without_rows_are_refused() -> None:
    assert (await refused(report_text([], ["5", "1", "1", "1"]))).code == "truncated_report"


async def test_missing_totals_row_is_refused() -> None:
    text = ",".join(HEADER) + "\n" + ",".join(row(1)) + "\n" + FOOTER
    assert (await refused(text)).code == "truncated_report"


@pytest.mark.parametrize("cell", ["-", "--", "Unknown", "< 1000", ""])
async def test_untold_metrics_are_null(cell: str) -> None:
    rows, _ = await read(report_text([row(1, Impressions=cell), row(2)], ["120", "6", "-", "-"]))
    assert [each["impressions"] for each in rows] == [None, 120]


async def test_unknown_is_a_name_where_names_stand() -> None:
    rows, _ = await read(report_text([row(1, Campaign="Unknown")]))
    assert rows[0]["campaign_name"] == "Unknown"


async def test_untold_totals_are_no_control() -> None:
    _, control = await read(report_text(ROWS, ["< 1000", "9", "Unknown", "-"]))
    assert control == {"clicks": "9"}


async def test_thousands_separators() -> None:
    changes = {"Impressions": '"1,234,567"', "Revenue (Adv Currency)": '"1,234.5"'}
    rows, control = await read(report_text([row(1, **changes), row(2)], ['"1,234,687"', "6", "3", '"1,246.845678"']))
    assert rows[0]["impressions"] == 1234567
    assert rows[0]["spend"] == Decimal("1234.500000")
    assert control["impressions"] == "1234687"
    assert control["spend"] == "1246.845678"


async def test_more_than_six_decimals_round_half_to_even() -> None:
    cells = ("0.1234565", "0.1234575", "1e-7", "7")
    rows, _ = await read(
        report_text([row(1, str(n), **{"Revenue (Adv Currency)": cell}) for n, cell in enumerate(cells)])
    )
    assert [str(each["spend"]) for each in rows] == ["0.123456", "0.123458", "0.000000", "7.000000"]


async def test_money_is_exact_where_floats_are_not() -> None:
    cell = "123456789012.345679"
    rows, _ = await read(report_text([row(1, **{"Revenue (Adv Currency)": cell})]))
    assert rows[0]["spend"] == Decimal(cell)
    assert Decimal(math.fsum([float(cell)])) != Decimal(cell)


async def test_byte_order_mark_and_windows_lines() -> None:
    text = "\ufeff" + report_text(ROWS).replace("\n", "\r\n")
    assert len((await read(text))[0]) == 3


async def test_columns_are_found_by_name_not_place() -> None:
    order = [5, 0, 8, 1, 2, 7, 3, 4, 6]
    lines = [HEADER, *ROWS]
    text = "".join(",".join(cells[place] for place in [0, *[n for n in order if n]]) + ",x\n" for cells in lines)
    text = text.replace(",x\n", ",Extra\n", 1)
    rows, control = await read(text + ",360,,,,,,,9,\n" + FOOTER)
    assert rows == (await read(report_text(ROWS)))[0]
    assert control == {"impressions": "360", "clicks": "9"}


async def test_extras_come_last_when_asked_for() -> None:
    job = offer(fields=("media_cost", "billable_impressions"))
    lines = [[*HEADER, "Billable Impressions", "Media Cost (Advertiser Currency)"], [*row(1), "100", "3.25"]]
    text = "".join(",".join(cells) + "\n" for cells in lines) + ",,,,,120,3,1.5,12.345678,100,3.25\n" + FOOTER
    rows, control = await read(text, job)
    assert list(rows[0])[-2:] == ["billable_impressions", "media_cost"]
    assert rows[0]["media_cost"] == Decimal("3.250000")
    assert control["billable_impressions"] == "100"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_report"),
        ("\n\n", "empty_report"),
        ("<!DOCTYPE html><html>Sign in</html>", "not_a_report"),
        ('{"error": {"code": 500}}', "not_a_report"),
        ("[]", "not_a_report"),
        (report_text(ROWS).encode("utf-16"), "bad_encoding"),
        (report_text([row(1, Campaign="Ünal")]).encode("latin-1"), "bad_encoding"),
        (report_text(ROWS).replace("Clicks", "Impressions"), "duplicate_column"),
        (report_text(ROWS).replace("Revenue (Adv Currency)", "Revenue"), "missing_column"),
        (report_text([row(1, Impressions="12")]).replace(",12,3,", ",12.5,3,", 1), "bad_value"),
        (report_text([row(1)]).replace(",3,1.5,", ",1,5,1.5,", 1), "malformed_csv"),
        (report_text([row(1)]).replace(",1.5,", ",=1+1,", 1), "bad_value"),
        (report_text([row(1)]).replace("12.345678", "1" * 13), "bad_value"),
        (report_text([row(1, Date="2026-11-01")]), "bad_value"),
        (report_text([row(1, Date="2026/02/30")]), "bad_value"),
        (report_text([row(8)]), "date_out_of_range"),
        (report_text([row(1, **{"Advertiser ID": "999"})]), "wrong_account"),
        (report_text(ROWS) + "x" * 300_000, "malformed_csv"),
        (report_text([row(1, Campaign='"open')]) + "y\n" * 5_000_000, "malformed_csv"),
    ],
)
async def test_what_is_no_report(text: str | bytes, code: str) -> None:
    assert (await refused(text)).code == code


async def test_refusals_name_the_column() -> None:
    assert "Revenue (Adv Currency)" in (await refused(report_text(ROWS).replace("Revenue (Adv", "Revenu (Adv"))).message
    assert "'Clicks' holds 'many'" in (await refused(report_text([row(1)]).replace(",3,", ",many,", 1))).message


async def test_many_blocks_keep_every_row_in_order() -> None:
    rows = [row(1 + n % 7, str(n)) for n in range(40_000)]
    content = report_text(rows).encode()
    assert len(content) > 2 * 1024 * 1024
    job = offer()
    sizes, ids = [], []
    async for batch in report_csv.batches(pieces_of(content), job, reports.columns(job), {}):
        sizes.append(batch.num_rows)
        ids += batch.column("campaign_id").to_pylist()
    assert ids == [str(n) for n in range(40_000)]
    assert max(sizes) < 25_000


def test_a_block_never_ends_inside_a_quoted_cell() -> None:
    cutter = Cutter(block=200)
    lines = "".join(f'2026/11/01,{n},"a\nb,\n,c"\n' for n in range(50))
    blocks = [block for at in range(0, 2000, 9) for block in cutter.feed(("h\n" + lines).encode()[at : at + 9])]
    assert len(blocks) > 2
    assert all(block.startswith(b"2026") and block.endswith(b'c"\n') for block in blocks)
