"""The file of a complete report: a header and rows, nothing else. A generator of blocks of text, so a million rows
never stand in memory at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial
from itertools import groupby

from app.sandbox.ttd.figures import TruthRow, advertiser, sum_of, truth_rows
from app.sandbox.ttd.state import Schedule

ROWS_PER_BLOCK = 500


def csv_blocks(schedule: Schedule, seed: int) -> Iterator[str]:
    """The file's text in blocks of up to ``ROWS_PER_BLOCK`` rows."""
    columns = schedule.template.columns
    block = [columns]
    for row in report_rows(schedule, seed):
        cells = _cells(row)
        block.append(tuple(cells[name] for name in columns))
        if len(block) == ROWS_PER_BLOCK:
            yield _text(block)
            block = []
    yield _text(block)


def row_count(schedule: Schedule) -> int:
    """An upper bound of the rows in the file."""
    return sum(schedule.campaigns.values()) * (schedule.end.toordinal() - schedule.start.toordinal() + 1)


def report_rows(schedule: Schedule, seed: int) -> Iterator[TruthRow]:
    """By advertiser and day; one row per campaign if the template has campaigns, else their sum."""
    for number in schedule.advertisers:
        rows = truth_rows(
            seed, advertiser(seed, number), schedule.time_zone, schedule.start, schedule.end,
            schedule.campaigns[number], partial(_revision, schedule, number),
        )  # fmt: skip
        if "Campaign ID" in schedule.template.columns:
            yield from rows
        else:
            yield from (sum_of(list(of_day)) for _, of_day in groupby(rows, key=lambda row: row.day))


def _revision(schedule: Schedule, number: int, day: int) -> int:
    return schedule.revisions.get((number, day), 0)


def _cells(row: TruthRow) -> dict[str, str]:
    return {
        "Date": f"{row.day.isoformat()}T00:00:00",
        "Advertiser ID": row.advertiser_id,
        "Advertiser Currency Code": row.currency,
        "Campaign ID": row.campaign_id,
        "Campaign": row.campaign_name,
        "Ad Group ID": f"{row.campaign_id}g",
        "Impressions": str(row.impressions),
        "Clicks": str(row.clicks),
        "All Last Click + View Conversions": f"{row.conversions:f}",
        "Advertiser Cost (Adv Currency)": f"{row.cost:f}",
    }


def _text(rows: list[tuple[str, ...]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
