"""What a scenario means: the planner's rules, the organisations and their connectors, and the calls of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.config import Settings
from app.connectors.base import UNCOUNTED
from app.connectors.registry import catalogue_of, connectors_of
from app.domain.lanes import Fairness
from app.domain.model import Catalogue, ConnectorFacts, Quota
from app.domain.rules import ConnectorRules, Rules
from app.ports import Connector
from app.simulation.scenario import Organisation, QuotaSpec, Scenario, TypeSpec

Call = tuple[str, bool]
"""Charge, and whether its answer is the data."""


_FINE = 1_000
"""The planner's weights are whole numbers."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the adapters declare, by connector type."""

    connectors: Mapping[str, Connector]

    @property
    def catalogue(self) -> Catalogue:
        return catalogue_of(self.connectors)


@dataclass(frozen=True, slots=True)
class Org:
    """One organisation of the run. ``connectors``: of each type, in order."""

    org_id: int
    name: str
    group: str
    weight: float
    connectors: Mapping[str, tuple[ConnectorFacts, ...]]


@dataclass(frozen=True, slots=True)
class Steps:
    """The calls of each step of one connector type. ``polls``: the report is made while nobody waits for an answer."""

    polls: bool
    start: tuple[Call, ...]
    poll: tuple[Call, ...]
    download: tuple[Call, ...]


def declared() -> Declared:
    """Every adapter there is, as without any settings."""
    return Declared(connectors_of(Settings.load({})))


def rules_of(scenario: Scenario, known: Declared) -> Rules:
    """The planner's rules: the adapters' declarations, corrected by the scenario."""
    connectors = {name: _connector_rules(known.connectors[name], spec) for name, spec in scenario.connectors.items()}
    weights = {_plan(group): max(1, round(group.weight * _FINE)) for group in scenario.organisations}
    plain = Rules(connectors, known.catalogue, fairness=Fairness(weights))
    given = {name: _as_default(value, getattr(plain, name)) for name, value in scenario.planner.items()}
    return replace(plain, **given)


def _plan(group: Organisation) -> str:
    """The weight goes by the plan; here every weight is a plan of its own."""
    return f"{group.plan} {group.weight:g}"


def _as_default(value: Any, default: Any) -> Any:
    return int(value) if isinstance(default, int) else value


def _connector_rules(connector: Connector, spec: TypeSpec) -> ConnectorRules:
    charge = next(iter(connector.minimum_calls))
    quotas = tuple(connector.quotas)
    if spec.quotas is not None:
        quotas = tuple(_quota(connector.connector_type, charge, one) for one in spec.quotas)
    return ConnectorRules(
        quotas=quotas,
        steps=tuple(connector.steps),
        minimum_calls=connector.minimum_calls,
        poll_schedule_s=tuple(spec.poll_schedule or connector.poll_schedule_s),
    )


def _quota(connector_type: str, charge: str, spec: QuotaSpec) -> Quota:
    period_ms = round(spec.period * 1000)
    return Quota(
        spec.name, connector_type, spec.charge or charge, spec.scope, spec.limit, period_ms, spec.calendar_zone
    )


def steps_of(rules: ConnectorRules) -> Steps:
    """As the adapters make them: the minimum of calls, the last of which brings the data. Where a report is polled for,
    one call of the minimum is a poll, and the file is one more that no quota counts. That an adapter may have kept what
    saves a call (DV360's queries) is not assumed."""
    charges = [charge for charge, count in rules.minimum_calls.items() for _ in range(count)]
    polls = len(rules.steps) > 1
    start = charges[:-1] if polls else charges
    calls = tuple((charge, at == len(start) - 1) for at, charge in enumerate(start))
    return Steps(polls, calls, ((charges[-1], False),), ((UNCOUNTED, False),))


def organisations_of(scenario: Scenario) -> tuple[Org, ...]:
    """Every organisation with connectors of its own, numbered from 1."""
    found: list[Org] = []
    number = 0
    for group in scenario.organisations:
        for one in range(group.count):
            name = group.name if group.count == 1 else f"{group.name} {one + 1}"
            connectors = {}
            for kind in group.connectors or scenario.connectors:
                connectors[kind] = tuple(
                    _facts(len(found) + 1, kind, number + at, at, group) for at in range(group.accounts)
                )
                number += group.accounts
            found.append(Org(len(found) + 1, name, group.name, group.weight, connectors))
    return tuple(found)


def _facts(org_id: int, kind: str, number: int, at: int, group: Organisation) -> ConnectorFacts:
    user = f"user{org_id}-{at % group.users}"
    return ConnectorFacts(
        connector_id=f"conn_{number + 1:032x}",
        org_id=org_id,
        connector_type=kind,
        account_id=f"account{number + 1}",
        grant_id=f"grant_{org_id:016x}{at % group.users:016x}",
        subject=user,
        plan=_plan(group),
    )
