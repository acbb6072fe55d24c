"""A run as one HTML page: tables and plots, no script, nothing loaded from anywhere."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from app.simulation import plots
from app.simulation.engine import Simulation
from app.simulation.measures import Measures, Traffic
from app.simulation.plots import Points
from app.simulation.provider import Use
from app.simulation.results import priority_name, quantile

_STEPS = 200
"""Points of a distribution."""
_STYLE = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}
figure{margin:2rem 0}figcaption{font-weight:600}svg{width:100%;height:auto;font-size:12px}svg text{fill:currentColor}
polyline{fill:none;stroke-width:1.6}.frame{fill:none;stroke:currentColor;opacity:.5}
.grid{stroke:currentColor;opacity:.12}.tick{stroke:currentColor}.mid{text-anchor:middle}.end{text-anchor:end}
.level{stroke:currentColor;stroke-dasharray:5 4;opacity:.7}.legend span{margin-right:1rem}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}
"""
_NO_LOADING = "default-src 'none'; style-src 'unsafe-inline'"


def page(simulation: Simulation, told: Mapping[str, Any]) -> str:
    """The whole page. ``told``: ``results.of`` the same run."""
    title = escape(str(told["scenario"]) or "simulation")
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_LOADING}">', f"<title>{title}</title>",
        f"<style>{_STYLE}</style>", "</head>", "<body>", f"<h1>{title}</h1>", *_words(told), *_tables(told),
        *_plots(simulation, told), "</body>", "</html>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _words(told: Mapping[str, Any]) -> Iterator[str]:
    commands, saving = told["commands"], told["saving"]
    yield (
        f"<p>Seed {told['seed']}: {commands['sent']:,} commands in {told['simulated_s']:,.0f} s of simulated time, "
        f"{commands['open']:,} of them still open; {commands['reused']:,} needed no fetch. {saving['calls']:,} calls, "
        f"where a client without merging and reuse makes {saving['calls_alone']:,}. "
        f"{told['over_quota']:,} calls exceeded a quota.</p>"
    )


def _tables(told: Mapping[str, Any]) -> Iterator[str]:
    waits = told["waits"]
    yield from _table("Seconds until a request starts", "priority", waits["start_by_priority"])
    yield from _table("Seconds until its data is there", "priority", waits["done_by_priority"])
    for kind, one in told["connectors"].items():
        quotas = {
            name: {key: use[key] for key in ("limit", "period_s", "fullest", "calls", "over", "used")}
            for name, use in one["quotas"].items()
        }
        yield from _table(f"Quotas of {kind}", "quota", quotas)


def _table(title: str, first: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    columns = list(next(iter(rows.values())))
    yield f"<h2>{escape(title)}</h2><table><tr><th>{escape(first)}</th>"
    yield "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns) + "</tr>"
    for name, row in rows.items():
        cells = "".join(f"<td>{_cell(row.get(column))}</td>" for column in columns)
        yield f"<tr><td>{escape(name)}</td>{cells}</tr>"
    yield "</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,g}" if isinstance(value, int | float) else escape(str(value))


def _plots(simulation: Simulation, told: Mapping[str, Any]) -> Iterator[str]:
    measures = simulation.measures
    if measures.started:
        series = {priority_name(number): _shares_done(measures.started[number]) for number in sorted(measures.started)}
        yield plots.lines(
            "Waits by priority", series, x="seconds until the first start", y="share of requests", log_x=True
        )
    used: dict[str, Points] = {}
    waiting: dict[str, Points] = {}
    for name, desk in simulation.desks.items():
        traffic = measures.traffic[name]
        for use in desk.crew.provider.uses.values():
            if use.calls:
                used[f"{name} {use.quota.name}"] = _used(simulation.begins_at, traffic, use)
        for what, values in (("queued", traffic.queued), ("a step at a worker", traffic.leased),
                             ("report in the making", traffic.remote)):  # fmt: skip
            if any(values):
                waiting[f"{name} {what}"] = _over_time(simulation.begins_at, traffic.times, values)
    if used:
        yield plots.lines("Quota use over time", used, x="minutes", y="share of the limit", level=1.0)
    if waiting:
        yield plots.lines("Queue over time", waiting, x="minutes", y="requests; batches")
    if measures.scatter:
        yield plots.scatter(
            "Estimated and real waits",
            _estimates(measures),
            x="estimated at acceptance, s",
            y="real wait, s",
            least=1.0,
        )
    yield from _shares(told)


def _shares(told: Mapping[str, Any]) -> Iterator[str]:
    for kind, one in told["connectors"].items():
        rows = [(name, row["share_of_fair"]) for name, row in one["shares"].items()]
        if rows:
            yield plots.bars(
                f"{kind}: calls of each organisation against its fair share",
                rows,
                x="share of its fair share",
                level=1.0,
            )


def _shares_done(waits_ms: array[int]) -> Points:
    """(seconds, share of requests that waited no longer)."""
    ordered = sorted(waits_ms)
    return [(quantile(ordered, at / _STEPS) / 1000, at / _STEPS) for at in range(1, _STEPS + 1)]


def _over_time(begins_at: int, times: Sequence[int], values: Sequence[float]) -> Points:
    return [((at - begins_at) / 60_000, value) for at, value in zip(times, values, strict=True)]


def _used(begins_at: int, traffic: Traffic, use: Use) -> Points:
    """Calls of the last period, or of the last interval of the plot where that is longer, against the limit."""
    times, calls, quota = traffic.times, traffic.counted[use.quota.name], use.quota
    limit = quota.limit * max(1, len(use.counts))
    points = []
    first = 0
    for number, at in enumerate(times):
        while first + 1 < number and at - times[first + 1] >= quota.period_ms:
            first += 1
        since = times[first] if number else begins_at
        before = calls[first] if number else 0
        span = max(1, at - since)
        points.append(
            ((at - begins_at) / 60_000, (calls[number] - before) / (limit * max(1.0, span / quota.period_ms)))
        )
    return points


def _estimates(measures: Measures) -> Mapping[str, Points]:
    found: dict[str, list[tuple[float, float]]] = {}
    for number, told_s, wait_s in sorted(measures.scatter):
        found.setdefault(priority_name(number), []).append((told_s, wait_s))
    return found
