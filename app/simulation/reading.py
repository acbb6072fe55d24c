"""Reading a scenario: every fault at once, each with its place, and the nearest name for a misspelt one."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from app.domain.commands import nearest
from app.domain.model import Catalogue
from app.domain.rules import Rules
from app.domain.zones import zone_of
from app.simulation.scenario import Scenario

_OWN_RULES = ("connectors", "catalogue", "cost_unit")
"""Parts of the planner's rules that a scenario says elsewhere, or that change no decision."""
_MOST_FAULTS = 50


class ScenarioError(Exception):
    """The scenario cannot be run. ``faults``: a line for each thing that is wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def packaged() -> dict[str, str]:
    """Names of the scenarios that come with the product -> their text."""
    folder = resources.files("app.simulation") / "scenarios"
    found = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in sorted(found, key=str)}


def title_of(text: str) -> str:
    """The title of a scenario that comes with the product."""
    return str(yaml.safe_load(text).get("title", ""))


def load(name: str, catalogue: Catalogue) -> Scenario:
    """A scenario by its bare name, or from a file. Raises ``ScenarioError``."""
    known = packaged()
    if name in known:
        return parse(known[name], catalogue)
    path = Path(name)
    if not path.suffix and not path.exists():
        raise ScenarioError([f"there is no scenario {name!r}{nearest(name, known)}; there are: {', '.join(known)}"])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ScenarioError([f"{name} cannot be read: {reason}"]) from None
    return parse(text, catalogue)


def parse(text: str, catalogue: Catalogue) -> Scenario:
    """The scenario that a YAML text holds, checked against what there is. Raises ``ScenarioError``."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ScenarioError([f"this is not YAML{f', line {mark.line + 1}' if mark else ''}"]) from None
    try:
        scenario = Scenario.model_validate(content)
    except ValidationError as error:
        raise ScenarioError([_line(fault) for fault in _own(error.errors())][:_MOST_FAULTS]) from None
    faults = list(_unknown(scenario, catalogue))
    if faults:
        raise ScenarioError(faults[:_MOST_FAULTS])
    return scenario


def _own(faults: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Without the complaint that a list is empty when its only entries are at fault themselves."""
    for fault in faults:
        place = fault["loc"]
        inside = any(other["loc"][: len(place)] == place for other in faults if other is not fault)
        if fault["type"] != "too_short" or not inside:
            yield fault


def _line(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "the scenario"
    if fault["type"] == "extra_forbidden":
        *above, name = fault["loc"]
        return f"{where}: there is no such key{nearest(str(name), _keys(above))}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _keys(place: Sequence[str | int]) -> list[str]:
    """The keys that there are at a place of the form."""
    at: Any = Scenario
    for part in place:
        if isinstance(at, type) and issubclass(at, BaseModel):
            info = at.model_fields.get(str(part))
            at = None if info is None else info.annotation
        else:
            inner = [one for one in get_args(at) if one is not Ellipsis]
            at = inner[-1] if inner else None
        at = _one_of(at)
    return list(at.model_fields) if isinstance(at, type) and issubclass(at, BaseModel) else []


def _one_of(at: Any) -> Any:
    """An optional type's own one."""
    if get_origin(at) in (Union, types.UnionType):
        inner = [one for one in get_args(at) if one is not type(None)]
        return inner[0] if len(inner) == 1 else at
    return at


def _unknown(scenario: Scenario, catalogue: Catalogue) -> Iterator[str]:
    """Names that mean nothing: connector types, report types, organisations, time zones, the planner's settings."""
    given = [name for name in scenario.connectors if name in catalogue]
    for name in scenario.connectors:
        if name not in catalogue:
            yield f"connectors.{name}: there is no adapter of this name{nearest(name, map(str, catalogue))}"
    for name, spec in scenario.connectors.items():
        for at, quota in enumerate(spec.quotas or ()):
            if quota.calendar_zone is not None and zone_of(quota.calendar_zone) is None:
                yield f"connectors.{name}.quotas.{at}.calendar_zone: this time zone is not known"
    for at, org in enumerate(scenario.organisations):
        yield from _names(f"organisations.{at}.connectors", org.connectors, given)
    orgs = [org.name for org in scenario.organisations]
    if len(set(orgs)) < len(orgs):
        yield "organisations: each needs a name of its own"
    for at, stream in enumerate(scenario.streams):
        yield from _names(f"streams.{at}.organisations", stream.organisations, orgs)
        yield from _names(f"streams.{at}.connectors", stream.connectors, given)
        reports = {report for name in given for report in catalogue[name]}
        yield from _names(f"streams.{at}.report_types", stream.report_types, sorted(reports))
    yield from _names("outages", [outage.connector for outage in scenario.outages], given)
    yield from _rules_faults(scenario.planner)
    yield from _too_short(scenario)


def _names(place: str, names: Sequence[str] | None, known: Sequence[str]) -> Iterator[str]:
    for name in names or ():
        if name not in known:
            yield f"{place}: there is no {name!r} here{nearest(name, known)}"


def _rules_faults(given: Mapping[str, Any]) -> Iterator[str]:
    known = {field.name: field for field in fields(Rules) if field.name not in _OWN_RULES}
    defaults = Rules({}, {})
    for name, value in given.items():
        if name not in known:
            yield f"planner.{name}: there is no such setting{nearest(name, known)}"
            continue
        default = getattr(defaults, name)
        if not isinstance(default, int | float | Mapping):
            yield f"planner.{name}: this setting cannot be given here"
        elif isinstance(value, bool) or not isinstance(value, Mapping if isinstance(default, Mapping) else int | float):
            wanted = "a mapping" if isinstance(default, Mapping) else "a number"
            yield f"planner.{name}: must be {wanted}"
        elif isinstance(value, int | float) and not 1 <= value < 2**53:
            yield f"planner.{name}: must be at least 1, and below 2^53"


def _too_short(scenario: Scenario) -> Iterator[str]:
    """A permit that is always over when its worker hears of it: no call is ever made, every ask is asked again."""
    delays = scenario.delays
    way_ms = 1_000 * (delays.to_planner.least + delays.step + delays.to_worker.least)
    valid_ms = scenario.planner.get("permit_valid_ms", Rules({}, {}).permit_valid_ms)
    if isinstance(valid_ms, int | float) and valid_ms <= way_ms:
        yield f"planner.permit_valid_ms: must be above {way_ms:g}, which an ask and its answer take at least (delays)"
