"""``connector simulate``: a workload in simulated time, decided by the planner's own code."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.failures import USAGE, CommandFailed
from app.cli.output import AsJson, print_json, print_lines, say, table

if TYPE_CHECKING:
    from app.simulation.engine import Progress
    from app.simulation.scenario import Scenario
    from app.simulation.setup import Declared

_BAR_AFTER_S = 1.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Try it")(simulate)


def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario of the product by its name, or a YAML file.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the scenarios that come with the product.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the scenario's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a page with plots here: one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a workload through the planner in simulated time.

    No broker and no provider: waits, quota use, calls saved, estimates and fairness of hours within a minute or so. The
    same seed gives the same result.

    Example: connector simulate dashboards --out page.html
    """
    if listed:
        _list(as_json=as_json)
        return
    if scenario is None:
        raise CommandFailed("name a scenario, or a file", advice="connector simulate --list", code=USAGE)
    from app.simulation.setup import declared

    if out is not None and not out.parent.is_dir():
        raise CommandFailed(f"there is no folder {out.parent}", advice=f"mkdir -p {out.parent}", code=USAGE)
    known = declared()
    found = _load(scenario, known)
    if out is not None:
        # Now, not when what took an hour to run is to be kept.
        with out.open("a"):
            pass
    if seed is not None:
        found = found.model_copy(update={"seed": seed})
    _run(found, known, out=out, as_json=as_json)


def _list(*, as_json: bool) -> None:
    from app.simulation.reading import packaged, title_of

    rows = [{"name": name, "what": title_of(text)} for name, text in packaged().items()]
    if as_json:
        print_json(rows)
    else:
        table(rows, ("name", "what"))


def _load(name: str, known: Declared) -> Scenario:
    from app.simulation.reading import ScenarioError, load

    try:
        return load(name, known.catalogue)
    except ScenarioError as error:
        raise CommandFailed(str(error), advice="connector simulate --list", code=USAGE) from None


def _run(scenario: Scenario, known: Declared, *, out: Path | None, as_json: bool) -> None:
    from app.simulation import results
    from app.simulation.engine import Simulation

    simulation = Simulation(scenario, known)
    began = time.monotonic()
    with _bar() as progress:
        simulation.run(progress)
    took_s = time.monotonic() - began
    told = results.of(simulation)
    if out is not None:
        from app.simulation.page import page

        out.write_text(page(simulation, told), encoding="utf-8")
        say(f"the page is in {out}")
    if as_json:
        print_json(told)
    else:
        _show(told, took_s)
    if told["over_quota"]:
        raise CommandFailed(f"{told['over_quota']} calls exceeded a quota")


@contextmanager
def _bar() -> Iterator[Progress]:
    """Progress on standard error of whatever takes over a second, where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda _share, _sent, _ended: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("simulating"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=1.0)
    began = time.monotonic()

    def tell(share: float, sent: int, ended: int) -> None:
        if time.monotonic() - began > _BAR_AFTER_S:
            bar.start()
        bar.update(task, completed=share, description=f"{sent:,} commands, {ended:,} ended")

    try:
        yield tell
    finally:
        bar.stop()


def _show(told: Mapping[str, Any], took_s: float) -> None:
    from app.services.wording import count, span

    commands, saving = told["commands"], told["saving"]
    sent, simulated = count(commands["sent"], "command"), span(told["simulated_s"])
    print_lines(
        (told["scenario"], f"{sent} in {simulated} of simulated time, seed {told['seed']}; took {span(took_s)}")
    )
    print_lines(("",))
    _section("seconds until a request starts", _waits(told["waits"]["start_by_priority"]), on="priority")
    _section("seconds until its data is there", _waits(told["waits"]["done_by_priority"]), on="priority")
    _section("quotas", list(_quotas(told["connectors"])), on="quota")
    _section("estimates against waits", _estimates(told["estimates"]["by_priority"]), on="priority")
    _section("calls by organisation", list(_shares(told["connectors"])), on="organisation")
    print_lines(_summary(commands, saving, told["over_quota"]))


def _section(title: str, rows: Sequence[Mapping[str, Any]], *, on: str) -> None:
    if rows:
        columns = [on, *(name for name in rows[0] if name != on)]
        print_lines((f"-- {title}",))
        table(rows, columns)
        print_lines(("",))


def _waits(waits: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    return [{"priority": name, "requests": one["n"], **_but(one, "n")} for name, one in waits.items()]


def _quotas(connectors: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, one in connectors.items():
        for name, use in one["quotas"].items():
            yield {
                "quota": f"{kind} {name}", "limit": use["limit"], "period": f"{use['period_s']:g} s",
                "fullest": use["fullest"], "calls": use["calls"], "over": use["over"], "used": _percent(use["used"]),
            }  # fmt: skip


def _estimates(estimates: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "priority": name, "waited": one["n"], "told_s": one["mean_told_s"], "real_s": one["mean_wait_s"],
            "median_error": _percent((one["error"] or {}).get("p50")), "inside_p90": _percent(one["inside_p90"]),
        }
        for name, one in estimates.items()
    ]  # fmt: skip


def _shares(connectors: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, one in connectors.items():
        for name, share in one["shares"].items():
            yield {
                "organisation": name, "type": kind, "calls": share["calls"], "fair": share["fair"],
                "of_its_share": _percent(share["share_of_fair"]),
            }  # fmt: skip


def _summary(commands: Mapping[str, Any], saving: Mapping[str, Any], over: int) -> Iterator[str]:
    ends = ", ".join(f"{number:,} {name}" for name, number in commands["outcomes"].items())
    yield f"ended: {ends or 'none'}; {commands['open']:,} still open; {commands['reused']:,} needed no fetch"
    saved = "" if saving["calls_saved"] is None else f", {_percent(saving['calls_saved'])} saved"
    yield f"calls: {saving['calls']:,}; a client without merging and reuse makes {saving['calls_alone']:,}{saved}"
    yield f"days: {saving['days_requested']:,} requested, {saving['days_needed']:,} different ones needed"
    yield f"over a quota: {over:,} calls"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _but(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != name}
