"""Scenarios: all that is wrong at once, each with its place and the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.simulation.reading import ScenarioError, load, packaged, parse
from app.simulation.scenario import (
    Between,
    Delays,
    Lognormal,
    Organisation,
    Outage,
    QuotaSpec,
    Scenario,
    Stream,
    TypeSpec,
)
from app.simulation.setup import declared, organisations_of, rules_of, steps_of

KNOWN = declared()
GOOD: dict[str, Any] = {
    "duration": "10m",
    "connectors": {"DV360": {}},
    "organisations": [{"name": "one"}],
    "streams": [{"kind": "poisson", "per_hour": 10}],
}


def faults(**changes: Any) -> list[str]:
    with pytest.raises(ScenarioError) as raised:
        parse(yaml.safe_dump(GOOD | changes), KNOWN.catalogue)
    return list(raised.value.faults)


def test_every_scenario_of_the_product_can_be_read() -> None:
    names = set(packaged())
    assert names == {"dashboards", "saturated", "greedy", "backfills", "million"}
    assert all(load(name, KNOWN.catalogue).title for name in names)


def test_unknown_keys_are_refused_with_the_nearest_name_at_any_depth() -> None:
    found = faults(
        sed=3,
        organisations=[{"name": "one", "acounts": 2}],
        connectors={"DV360": {"quotas": [{"name": "q", "limt": 1, "limit": 1, "period": "1s"}], "respons": {}}},
        streams=[{"kind": "poisson", "per_hour": 10, "prioritty": "normal"}],
        delays={"stepp": 1},
    )
    assert found == [
        "delays.stepp: there is no such key (did you mean 'step'?)",
        "connectors.DV360.quotas.0.limt: there is no such key (did you mean 'limit'?)",
        "connectors.DV360.respons: there is no such key (did you mean 'response'?)",
        "organisations.0.acounts: there is no such key (did you mean 'accounts'?)",
        "streams.0.prioritty: there is no such key (did you mean 'priority'?)",
        "sed: there is no such key (did you mean 'seed'?)",
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duration": "soon"}, "duration: must be a duration"),
        ({"duration": 0}, "duration: input should be greater than 0"),
        ({"connectors": {}}, "connectors: dictionary should have at least 1 item"),
        ({"connectors": {"DV36": {}}}, "connectors.DV36: there is no adapter of this name (did you mean 'DV360'?)"),
        ({"streams": [{"kind": "poisson"}]}, "streams.0: a stream of kind poisson needs per_hour"),
        ({"streams": [{"kind": "bursts"}]}, "streams.0: a stream of kind bursts needs size"),
        ({"streams": [{"kind": "saturated"}]}, "streams.0: a stream of kind saturated needs depth"),
        (
            {"streams": [{"kind": "bursts", "size": 1, "force": True, "priority": "backfill"}]},
            "streams.0: force is for premium and normal only",
        ),
        (
            {"streams": [{"kind": "bursts", "size": 1, "organisations": ["won"]}]},
            "streams.0.organisations: there is no 'won' here (did you mean 'one'?)",
        ),
        (
            {"streams": [{"kind": "bursts", "size": 1, "report_types": ["campaign_perf"]}]},
            "streams.0.report_types: there is no 'campaign_perf' here",
        ),
        ({"outages": [{"connector": "DV360", "begins": 5, "ends": 5}]}, "outages.0: ends must be after begins"),
        (
            {"outages": [{"connector": "DV360", "begins": 1, "ends": 5, "retry_after": 3}]},
            "outages.0: only a throttle names retry_after",
        ),
        ({"outages": [{"connector": "META", "begins": 1, "ends": 5}]}, "outages: there is no 'META' here"),
        ({"planner": {"max_concurent": 3}}, "planner.max_concurent: there is no such setting (did you mean 'max_conc"),
        ({"planner": {"max_concurrent": "many"}}, "planner.max_concurrent: must be a number"),
        ({"planner": {"max_concurrent": -1}}, "planner.max_concurrent: must be at least 1"),
        ({"planner": {"max_concurrent": 0}}, "planner.max_concurrent: must be at least 1"),
        ({"planner": {"window_ms": 0.5}}, "planner.window_ms: must be at least 1"),
        ({"planner": {"permit_valid_ms": 24}}, "planner.permit_valid_ms: must be above 24, "),
        ({"delays": {"step": "30s"}}, "planner.permit_valid_ms: must be above 30004, "),
        ({"starts_at": "1969-12-31"}, "starts_at: must lie between the years 2000 and 2099"),
        ({"starts_at": "9999-12-31T23:00:00Z"}, "starts_at: must lie between the years 2000 and 2099"),
        ({"streams": [{"kind": "bursts", "size": 1, "history": 3_661}]}, "streams.0.history: input should be less"),
        ({"planner": {"connectors": {}}}, "planner.connectors: there is no such setting"),
        ({"planner": {"retry": 3}}, "planner.retry: this setting cannot be given here"),
        ({"organisations": [{"name": "a"}, {"name": "a"}]}, "organisations: each needs a name of its own"),
        ({"delays": {"to_planner": {"least": 2, "most": 1}}}, "delays.to_planner: most must not be below least"),
        (
            {"connectors": {"DV360": {"quotas": [{"name": "q", "limit": 1, "period": "1d", "calendar_zone": "Mars"}]}}},
            "connectors.DV360.quotas.0.calendar_zone: this time zone is not known",
        ),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, Any], says: str) -> None:
    (fault,) = faults(**changes)
    assert fault.startswith(says)


@pytest.mark.parametrize("text", ["[", "- 1\n- 2\n", ""])
def test_a_text_that_is_no_scenario(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse(text, KNOWN.catalogue)


def test_a_scenario_is_found_by_name_or_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert load(str(file), KNOWN.catalogue).duration == 600
    with pytest.raises(ScenarioError, match="did you mean 'dashboards'"):
        load("dashbord", KNOWN.catalogue)
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        load(str(tmp_path / "other.yaml"), KNOWN.catalogue)


def test_rules_are_the_adapters_own_corrected_by_the_scenario() -> None:
    plain = rules_of(parse(yaml.safe_dump(GOOD), KNOWN.catalogue), KNOWN).connectors["DV360"]
    connector = KNOWN.connectors["DV360"]
    assert plain.quotas == tuple(connector.quotas)
    assert plain.poll_schedule_s == tuple(connector.poll_schedule_s)
    given = {"quotas": [{"name": "q", "limit": 7, "period": "2s", "scope": "user"}], "poll_schedule": ["1s"]}
    content = GOOD | {"connectors": {"DV360": given}, "planner": {"max_concurrent": 3.0}}
    rules = rules_of(parse(yaml.safe_dump(content), KNOWN.catalogue), KNOWN)
    (quota,) = rules.connectors["DV360"].quotas
    assert (quota.charge, quota.limit, quota.period_ms, quota.scope) == ("reports", 7, 2_000, "user")
    assert rules.connectors["DV360"].poll_schedule_s == (1.0,)
    assert rules.max_concurrent == 3
    assert isinstance(rules.max_concurrent, int)


def test_the_calls_of_a_step_are_those_of_the_adapters() -> None:
    scenario = parse(yaml.safe_dump(GOOD | {"connectors": {"DV360": {}, "GOOGLE_ADS": {}}}), KNOWN.catalogue)
    rules = rules_of(scenario, KNOWN)
    dv360, ads = steps_of(rules.connectors["DV360"]), steps_of(rules.connectors["GOOGLE_ADS"])
    assert dv360.start == (("reports", False), ("reports", True))
    assert (dv360.poll, dv360.download) == ((("reports", False),), (("downloads", False),))
    assert (ads.polls, ads.start) == (False, (("operations", True),))


def test_organisations_alike_have_connectors_of_their_own() -> None:
    orgs = [{"name": "one", "count": 2, "accounts": 3, "users": 2}, {"name": "two"}]
    found = organisations_of(parse(yaml.safe_dump(GOOD | {"organisations": orgs}), KNOWN.catalogue))
    assert [org.name for org in found] == ["one 1", "one 2", "two"]
    every = [facts for org in found for facts in org.connectors["DV360"]]
    assert len({facts.connector_id for facts in every}) == len({facts.account_id for facts in every}) == 7
    assert [facts.subject for facts in found[0].connectors["DV360"]] == ["user1-0", "user1-1", "user1-0"]


def test_every_key_is_on_the_page_and_its_example_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "scenarios.md").read_text()
    models = (Scenario, Delays, Between, TypeSpec, QuotaSpec, Lognormal, Organisation, Stream, Outage)
    names = {name for model in models for name in model.model_fields}
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert parse(page.partition("```yaml")[2].partition("```")[0], KNOWN.catalogue).outages
