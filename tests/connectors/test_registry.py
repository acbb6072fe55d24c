"""Every adapter is made from the settings, and none carries what only reports need."""

from __future__ import annotations

import subprocess
import sys

from app.config import Settings
from app.connectors.hosts import checked
from app.connectors.registry import catalogue_of, connectors_of, hosts_of

NAMED = {
    "CONNECTOR__PROVIDERS__DV360__REPORTS_URL": "https://reports.example/v2/",
    "CONNECTOR__PROVIDERS__GOOGLE_ADS__API_URL": "https://ads.example/v26/",
    "CONNECTOR__PROVIDERS__GOOGLE_ADS__DEVELOPER_TOKEN": "canary",
    "CONNECTOR__PROVIDERS__SHEETS__API_URL": "https://sheets.example/v4/spreadsheets/",
    "CONNECTOR__PROVIDERS__META__API_URL": "https://graph.example/v26.0/",
    "CONNECTOR__PROVIDERS__META__ACCESS_TIER": "full",
    "CONNECTOR__PROVIDERS__META__CONVERSION_ACTIONS": "lead,purchase",
    "CONNECTOR__PROVIDERS__META__POLL_SCHEDULE_S": "1,2",
    "CONNECTOR__PROVIDERS__META__PAGE_SIZE": "50",
    "CONNECTOR__PROVIDERS__META__SYNC_DAYS": "5",
}


def test_every_adapter_is_there_with_the_hosts_it_may_call() -> None:
    connectors, hosts = connectors_of(Settings.load({})), hosts_of(Settings.load({}))
    assert set(connectors) == set(hosts) == {"DV360", "GOOGLE_ADS", "TTD", "META", "SHEETS", "CSV_HTTPS"}
    assert all(name == connector.connector_type for name, connector in connectors.items())
    catalogue = catalogue_of(connectors)
    advertising = {"campaign_performance", "account_performance"}
    assert all(set(reports) == ({"table"} if name == "SHEETS" else advertising) for name, reports in catalogue.items())
    assert set(catalogue) == set(connectors)
    for name, connector in connectors.items():
        assert {quota.connector_type for quota in connector.quotas} == {name}
        assert set(connector.minimum_calls) <= {quota.charge for quota in connector.quotas}


def test_settings_reach_their_adapter() -> None:
    settings = Settings.load(NAMED)
    hosts = hosts_of(settings)
    checked("https://ads.example/v26/customers", hosts["GOOGLE_ADS"], authorised=True)
    checked("https://reports.example/v2/queries", hosts["DV360"], authorised=True)
    checked("https://graph.example/v26.0/act_1/insights", hosts["META"], authorised=True)
    checked("https://sheets.example/v4/spreadsheets/1", hosts["SHEETS"], authorised=True)
    meta = connectors_of(settings)["META"]
    assert (meta.poll_schedule_s, max(quota.limit for quota in meta.quotas if quota.scope == "account")) == (
        (1.0, 2.0), 190_000,
    )  # fmt: skip
    assert (vars(meta)["_page_size"], vars(meta)["_actions"]) == (50, {"lead", "purchase"})
    assert vars(meta)["_sync_days"] == 5
    ads = connectors_of(settings)["GOOGLE_ADS"]
    assert vars(ads)["_own"] == {"developer-token": "canary"}
    assert "canary" not in repr(settings) + repr(ads)


def test_only_sheets_can_be_written_to() -> None:
    assert [name for name, one in connectors_of(Settings.load({})).items() if hasattr(one, "write")] == ["SHEETS"]


def test_graphql_may_be_called_where_it_is_asked() -> None:
    graphql = {
        "CONNECTOR__PROVIDERS__TTD__FORM": "graphql",
        "CONNECTOR__PROVIDERS__TTD__GRAPHQL_URL": "https://q.example/g",
    }
    for env, asked in ((graphql, True), ({}, False)):
        settings = Settings.load(env)
        assert ("https://q.example/g" in hosts_of(settings)["TTD"].api) == asked
        ttd = connectors_of(settings)["TTD"]
        assert vars(ttd)["_on_demand"] == asked
        assert not asked or vars(ttd)["_graphql_url"] == "https://q.example/g"


def test_a_worker_that_reads_no_report_does_not_carry_arrow() -> None:
    script = "import sys, app.connectors.registry; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
