"""The file of a finished report: header, rows, totals row, blank line, footer. A generator of blocks of text, so a
million rows never stand in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

from app.sandbox.dv360.catalogue import (
    HEADERS,
    ITEM_DIMENSIONS,
    METRIC_HEADERS,
    METRIC_WRITERS,
    ORDER_DIMENSIONS,
)
from app.sandbox.dv360.figures import advertiser, campaign_id, split
from app.sandbox.dv360.state import Query, Quirks, Report
from app.sandbox.figures import Metrics, add, campaign_name, metrics_of

Cells = dict[str, str]
Row = tuple[tuple[str, ...], Metrics]
ROWS_PER_BLOCK = 500
NO_DATA = "No data returned by the reporting service."


def csv_blocks(query: Query, report: Report, seed: int, quirks: Quirks, now: float) -> Iterator[str]:
    """The file's text in blocks of up to ``ROWS_PER_BLOCK`` rows; ``now`` unix seconds, for the footer."""
    yield _line([HEADERS[one] for one in query.group_bys] + [METRIC_HEADERS[one] for one in query.metrics])
    write = _row_writer(query, quirks)
    total: Metrics | None = None
    block: list[str] = []
    for keys, figures in report_rows(query, report, seed, quirks):
        total = figures if total is None else add(total, figures)
        block.append(write(keys, figures))
        if len(block) == ROWS_PER_BLOCK:
            yield "".join(block)
            block.clear()
    if total is None:
        yield NO_DATA + "\n"
    else:
        block.append(_totals(query, total))
        yield "".join(block)
    yield "\n" + _footer(query, report, now)


def row_count(query: Query, report: Report) -> int:
    """An upper bound of the rows in the file, to choose between sending it whole and streaming it."""
    days = report.end.toordinal() - report.start.toordinal() + 1
    return sum(report.campaigns.values()) * days * (4 if _finer(query) else 1)


def report_rows(query: Query, report: Report, seed: int, quirks: Quirks) -> Iterator[Row]:
    """Rows as (key cells in groupBy order, figures): one per day and campaign as they come, else summed by key."""
    rows = _leaves(query, report, seed, quirks)
    if "FILTER_DATE" in query.group_bys and "FILTER_MEDIA_PLAN" in query.group_bys and not _finer(query):
        return rows
    summed: dict[tuple[str, ...], Metrics] = {}
    for keys, figures in rows:
        known = summed.get(keys)
        summed[keys] = figures if known is None else add(known, figures)
    return iter(summed.items())


def _leaves(query: Query, report: Report, seed: int, quirks: Quirks) -> Iterator[Row]:
    for account_id in query.advertisers:
        account = advertiser(seed, account_id)
        cells = {
            "FILTER_ADVERTISER": str(account_id),
            "FILTER_ADVERTISER_NAME": account.name,
            "FILTER_ADVERTISER_CURRENCY": account.currency,
            "FILTER_ADVERTISER_TIMEZONE": account.time_zone,
        }
        yield from _account_rows(query, report, seed, quirks, account_id, cells)


def _account_rows(
    query: Query, report: Report, seed: int, quirks: Quirks, account_id: int, cells: Cells
) -> Iterator[Row]:
    campaigns = []
    for index in range(report.campaigns[account_id]):
        number = campaign_id(account_id, index)
        name = "Unknown" if quirks.unknown and index % 3 == 2 else campaign_name(index)
        own = cells | {"FILTER_MEDIA_PLAN": str(number), "FILTER_MEDIA_PLAN_NAME": name}
        campaigns.append((_key_writer(query, own), number, metrics_of(seed, number)))
    finer = _finer(query)
    for day in range(report.start.toordinal(), report.end.toordinal() + 1):
        revision = report.revisions.get((account_id, day), 0)
        shown = f"{date.fromordinal(day):%Y/%m/%d}"
        for keys, number, read in campaigns:
            figures = read(day, revision)
            if finer:
                yield from _parts(keys, shown, number, figures)
            else:
                yield keys(shown, 0, 0), figures


def _parts(
    keys: Callable[[str, int, int], tuple[str, ...]], shown: str, number: int, figures: Metrics
) -> Iterator[Row]:
    for order in (0, 1):
        for item in (0, 1):
            order_id = number * 10 + order
            yield keys(shown, order_id, order_id * 10 + item), split(split(figures, order), item)


def _finer(query: Query) -> bool:
    return any(one in ORDER_DIMENSIONS or one in ITEM_DIMENSIONS for one in query.group_bys)


def _key_writer(query: Query, cells: Cells) -> Callable[[str, int, int], tuple[str, ...]]:
    """A function (day, order id, item id) -> key cells; what does not change with them is looked up once."""
    varying = {"FILTER_DATE", *ORDER_DIMENSIONS, *ITEM_DIMENSIONS}
    if query.group_bys[:1] == ("FILTER_DATE",) and not varying.intersection(query.group_bys[1:]):
        rest = tuple(cells[one] for one in query.group_bys[1:])
        return lambda shown, _order, _item: (shown, *rest)

    def write(shown: str, order: int, item: int) -> tuple[str, ...]:
        moving = {
            "FILTER_DATE": shown,
            "FILTER_INSERTION_ORDER": str(order),
            "FILTER_INSERTION_ORDER_NAME": f"Order {order}",
            "FILTER_LINE_ITEM": str(item),
            "FILTER_LINE_ITEM_NAME": f"Line {item}",
        }
        return tuple(moving[one] if one in moving else cells[one] for one in query.group_bys)

    return write


def _row_writer(query: Query, quirks: Quirks) -> Callable[[tuple[str, ...], Metrics], str]:
    writers = [METRIC_WRITERS[one] for one in query.metrics]
    if quirks.dash or quirks.threshold:
        return lambda keys, figures: _line([*keys, *_quirky(query, quirks, figures)])
    return lambda keys, figures: _line([*keys, *[write(figures[place]) for place, write in writers]])


def _quirky(query: Query, quirks: Quirks, figures: Metrics) -> Iterator[str]:
    for metric in query.metrics:
        place, write = METRIC_WRITERS[metric]
        value = figures[place]
        if quirks.dash and value == 0:
            yield "-"
        elif quirks.threshold and place == 0 and value < 1_000:
            yield "< 1000"
        else:
            yield write(value)


def _totals(query: Query, total: Metrics) -> str:
    metrics = [METRIC_WRITERS[one] for one in query.metrics]
    return _line([""] * len(query.group_bys) + [write(total[place]) for place, write in metrics])


def _footer(query: Query, report: Report, now: float) -> str:
    made = datetime.fromtimestamp(now, UTC)
    lines = [
        ["Report Time:", f"{made:%Y/%m/%d %H:%M} GMT"],
        ["Date Range:", f"{report.start:%Y/%m/%d} to {report.end:%Y/%m/%d}"],
        ["Group By:", ", ".join(HEADERS[one] for one in query.group_bys)],
    ]
    lines += [["Filter by Advertiser ID:", str(one)] for one in query.advertisers]
    return "".join(_line(cells) for cells in lines)


def _line(cells: list[str]) -> str:
    text = ",".join(cells)
    if '"' in text or "\n" in text or text.count(",") >= len(cells):
        text = ",".join(map(_quoted, cells))
    return text + "\n"


def _quoted(cell: str) -> str:
    if any(mark in cell for mark in ',"\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
