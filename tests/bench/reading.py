"""F11: provider report to Parquet: rows per second against the plain way with the same libraries, by turns in one run,
and peak memory by the length of the report.

``python -m tests.bench.reading rates DV360 FILE ROWS`` is the process that measures rates, ``peak DV360 FILE ROWS`` the
one that reads one report and tells its peak.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from app.connectors.body import PIECE
from app.connectors.columns import KINDS
from app.connectors.dv360 import report_csv
from app.connectors.dv360 import reports as dv360
from app.connectors.google_ads import report_json
from app.connectors.google_ads import reports as google_ads
from app.ports import Ready
from app.storage.results import ObjectResultStore
from tests.bench.measured import Measured
from tests.bench.report_bodies import Body, body_of, write
from tests.e2e.scenarios import Place

LONG, SHORT = 1_000_000, 100_000
FORMS: Mapping[str, str] = {"csv": "DV360", "json": "GOOGLE_ADS"}
TARGETS: Mapping[str, float] = {"csv": 0.6, "json": 0.5}
ROUNDS: Mapping[str, int] = {"csv": 9, "json": 3}
MOST_MIB = 32.0
TARGET = ">= 0.6 (CSV), >= 0.5 (JSON); <= 32 MiB more for 1,000,000 rows than for 100,000"
_ROOT = Path(__file__).resolve().parents[2]

Rates = Mapping[str, list[float]]
"""``ours`` and ``plain`` -> rows per second of each round."""


async def measure(place: Place, *, rows: int = LONG) -> Measured:
    """Makes the bodies, then measures each in processes of their own, one at a time."""
    return await asyncio.to_thread(_measure, place, rows)


def _measure(place: Place, rows: int) -> Measured:
    rates, peaks = {}, {}
    for form, connector_type in FORMS.items():
        with tempfile.TemporaryDirectory(dir=place.folder) as folder:
            bodies = [body_of(connector_type, Path(folder) / str(count), count) for count in (rows // 10, rows)]
            for body in bodies:
                place.say(f"{form}: writing a report of {body.rows:,} rows")
                write(body)
            place.say(f"{form}: reading them, for their peaks of memory")
            peaks[form] = [_child("peak", body)["peak_bytes"] for body in bodies]
            place.say(f"{form}: rates, by turns")
            rates[form] = _child("rates", bodies[-1])
    return judge(rates, peaks)


def _child(what: str, body: Body) -> Any:
    connector_type = body.offer.connector.connector_type
    command = [sys.executable, "-m", "tests.bench.reading", what, connector_type, str(body.path), str(body.rows)]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    return orjson.loads(done.stdout)


def judge(rates: Mapping[str, Rates], peaks: Mapping[str, list[int]]) -> Measured:
    """Both ratios are of medians; ``peaks`` holds bytes of the short and the long report. All four halves must hold."""
    measured: dict[str, float] = {}
    detail: dict[str, Any] = {}
    ok = True
    for form, found in rates.items():
        ours, plain = (statistics.median(found[name]) for name in ("ours", "plain"))
        more = (peaks[form][1] - peaks[form][0]) / 2**20
        measured |= {f"{form}_ratio": round(ours / plain, 3), f"{form}_more_mib": round(more, 1)}
        detail[form] = {
            "rows_per_s": round(ours),
            "plain_rows_per_s": round(plain),
            "ratio_by_round": [round(a / b, 3) for a, b in zip(found["ours"], found["plain"], strict=True)],
            "peaks_mib": [round(peak / 2**20, 1) for peak in peaks[form]],
        }
        ok = ok and ours / plain >= TARGETS[form] and more <= MOST_MIB
    return Measured("F11", measured, TARGET, ok, detail)


async def store(body: Body, pieces: AsyncIterator[bytes], folder: Path) -> None:
    """The way of a worker, from the pieces of a decoded answer to the stored object. Raises ``ValueError`` when rows
    are missing."""
    offer, control = body.offer, dict[str, str]()
    if offer.connector.connector_type == FORMS["csv"]:
        batches = report_csv.batches(pieces, offer, dv360.columns(offer), control)
    else:
        batches = report_json.batches(pieces, offer, google_ads.columns(offer))
    stored = await ObjectResultStore(f"file://{folder}").write(offer, body.report, Ready(batches, control))
    if stored.rows != body.rows:
        raise ValueError(f"{stored.rows} rows were stored, not {body.rows}")


def plain_csv(content: memoryview, path: Path) -> int:
    """The same columns with pyarrow alone, in as many threads as it likes; answers the number of rows."""
    headers = {dv360.HEADERS[field.provider_name][0]: field for field in dv360.CAMPAIGN_PERFORMANCE.fields
               if field.provider_name}  # fmt: skip
    types = {name: KINDS[field.kind] for name, field in headers.items()} | {"Date": pa.timestamp("s")}
    options = pacsv.ConvertOptions(column_types=types, timestamp_parsers=["%Y/%m/%d"])
    table = pacsv.read_csv(pa.py_buffer(content), convert_options=options)
    place = table.schema.get_field_index("Date")
    table = table.set_column(place, "Date", table.column(place).cast(pa.date32()))
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def plain_json(content: memoryview, path: Path) -> int:
    """``orjson.loads``, ``from_pylist``, write; types as pyarrow guesses them. Answers the number of rows."""
    rows = [row for part in orjson.loads(content) for row in part["results"]]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def rates(body: Body) -> Rates:
    """Rows per second of each round, after one that does not count. The body is in memory for both; what pyarrow
    cannot read, the totals and the footer, is cut off for it beforehand."""
    content = body.path.read_bytes()
    form = next(form for form, connector_type in FORMS.items() if connector_type == body.offer.connector.connector_type)
    plain, end = (plain_csv, content.rindex(b"\n,,") + 1) if form == "csv" else (plain_json, len(content))
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS[form] + 1):
        with tempfile.TemporaryDirectory(dir=body.path.parent) as folder:
            ours = _seconds(lambda: asyncio.run(store(body, _pieces(content), Path(folder))))
            theirs = _seconds(lambda: _checked(plain(memoryview(content)[:end], Path(folder) / "plain"), body))
        found["ours"].append(body.rows / ours)
        found["plain"].append(body.rows / theirs)
    return {name: values[1:] for name, values in found.items()}


def _checked(rows: int, body: Body) -> None:
    if rows != body.rows:
        raise ValueError(f"{rows} rows were read, not {body.rows}")


def _seconds(work: Callable[[], None]) -> float:
    """How long it takes. Without the garbage collector, which has much to look at in the millions of objects that
    ``orjson.loads`` makes, and would flatter us."""
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    try:
        work()
        return time.perf_counter() - began
    finally:
        gc.enable()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """As ``body.pieces`` gives them: aiohttp hands on what one read of the socket brought, asyncio's 256 KiB, if the
    network is faster than the reader."""
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]
        await asyncio.sleep(0)


async def _from_file(path: Path) -> AsyncIterator[bytes]:
    for piece in _read(path):
        yield piece
        await asyncio.sleep(0)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def peak(body: Body) -> int:
    """Most memory this process ever had resident, in bytes, after reading the report. Not ``ru_maxrss``: that begins
    with the memory of the parent a process was forked from."""
    with tempfile.TemporaryDirectory(dir=body.path.parent) as folder:
        asyncio.run(store(body, _from_file(body.path), Path(folder)))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(what: str, connector_type: str, path: str, rows: str) -> None:
    """One line of JSON on standard output."""
    body = body_of(connector_type, Path(path), int(rows))
    answer = {"peak_bytes": peak(body)} if what == "peak" else rates(body)
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
