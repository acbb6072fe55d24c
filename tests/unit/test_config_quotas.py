"""Settings of limits: which bucket each number goes into, and what the adapters declare without any."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from app.config import Settings, SettingsError, effective_quotas
from app.connectors.dv360 import quotas as dv360
from app.connectors.google_ads import quotas as google_ads
from app.connectors.meta import quotas as meta_ads
from app.domain.model import Quota
from tests.unit.test_config import SEED, written


def quota(charge: str, scope: str, limit: int, period_s: int, kind: str = "DV360", zone: str | None = None) -> Quota:
    return Quota(f"{kind} {charge} {scope} {period_s}", kind, charge, scope, limit, period_s * 1000, zone)


DV360 = (
    quota("reports", "application", 4, 1),
    quota("reports", "application", 2_000, 86_400, zone="America/Los_Angeles"),
    quota("reports", "user", 240, 60),
    quota("entities", "application", 1_500, 60),
    quota("entities", "account", 300, 60),
)


def limits(quotas: tuple[Quota, ...]) -> list[int]:
    return [one.limit for one in quotas]


def test_quotas_stay_as_declared_where_nothing_is_set() -> None:
    assert effective_quotas(DV360, Settings.load({})) == DV360


def test_the_files_numbers_go_into_their_buckets(tmp_path: Path) -> None:
    found = effective_quotas(DV360, Settings.load({}, file=written(tmp_path, SEED)))
    assert all(quota.enforced for quota in found)
    assert limits(found) == [4, 10_000, 50, 1_500, 300]
    assert found[1].calendar_zone == "America/Los_Angeles"
    assert found[2].source == "setting rate_limit.dv360.requests_per_minute"


def test_the_widest_scope_of_data_calls_is_meant_and_others_left_alone() -> None:
    sheets = (
        quota("read", "application", 300, 60, "SHEETS"),
        quota("read", "user", 60, 60, "SHEETS"),
        quota("write", "application", 300, 60, "SHEETS"),
    )
    found = effective_quotas(
        (*sheets, *DV360), Settings.load({"CONNECTOR__RATE_LIMIT__SHEETS__REQUESTS_PER_MINUTE": "7"})
    )
    assert limits(found) == [7, 60, 300, *limits(DV360)]


def test_a_limit_without_its_bucket_adds_one() -> None:
    meta = (quota("insights", "account", 600, 3_600, "META"),)
    environ = {
        "CONNECTOR__RATE_LIMIT__META__REQUESTS_PER_HOUR": "200",
        "CONNECTOR__RATE_LIMIT__META__DAILY_LIMIT": "1000",
        "CONNECTOR__RATE_LIMIT__META__REQUESTS_PER_MINUTE": "30",
    }
    found = effective_quotas(meta, Settings.load(environ))
    assert [(q.scope, q.limit, q.period_ms, q.charge) for q in found] == [
        ("account", 200, 3_600_000, "insights"),
        ("application", 30, 60_000, "insights"),
        ("application", 1_000, 86_400_000, "insights"),
    ]
    assert len({q.name for q in found}) == 3


def test_the_seed_is_yaml_of_the_documented_shape() -> None:
    assert set(yaml.safe_load(SEED)) == {"connector"}


def test_a_shadow_limit_is_counted_and_not_enforced() -> None:
    found = effective_quotas(DV360, Settings.load({"CONNECTOR__RATE_LIMIT__DV360__SHADOW": "true"}))
    assert [quota.enforced for quota in found] == [False] * len(DV360)


def test_the_reserve_is_that_of_all_limits_per_hour_or_longer() -> None:
    found = effective_quotas(DV360, Settings.load({"CONNECTOR__RATE_LIMIT__DV360__RESERVE": "0.25"}))
    assert [quota.reserve for quota in found] == [None, Decimal("0.25"), None, None, None]


@pytest.mark.parametrize("value", ["0.91", "1", "-0.1", "nan", "0.12345", "much"])
def test_a_reserve_that_leaves_nothing_or_is_no_share_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="CONNECTOR__RATE_LIMIT__TTD__RESERVE"):
        Settings.load({"CONNECTOR__RATE_LIMIT__TTD__RESERVE": value})


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("REQUESTS_PER_MINUTE", "50", {"reports_per_user": 50}),
        ("REQUESTS_PER_HOUR", "70", {"reports requests_per_hour": 70}),
        ("DAILY_LIMIT", "10000", {"reports_per_day": 10_000}),
    ],
)
def test_each_key_sets_the_limit_that_is_documented_for_dv360(key: str, value: str, changed: dict[str, int]) -> None:
    settings = Settings.load({f"CONNECTOR__RATE_LIMIT__DV360__{key}": value})
    found = {quota.name: quota.limit for quota in effective_quotas(dv360.QUOTAS, settings)}
    assert found == {quota.name: quota.limit for quota in dv360.QUOTAS} | changed


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("REQUESTS_PER_MINUTE", "50", {"operations requests_per_minute": 50}),
        ("REQUESTS_PER_HOUR", "70", {"operations requests_per_hour": 70}),
        ("DAILY_LIMIT", "2880", {"operations_per_day": 2_880}),
    ],
)
def test_each_key_sets_the_limit_that_is_documented_for_google_ads(
    key: str, value: str, changed: dict[str, int]
) -> None:
    settings = Settings.load({f"CONNECTOR__RATE_LIMIT__GOOGLE_ADS__{key}": value})
    found = {quota.name: quota.limit for quota in effective_quotas(google_ads.QUOTAS, settings)}
    assert found == {"operations_per_day": 15_000} | changed


@pytest.mark.parametrize("tier", meta_ads.TIERS)
@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("REQUESTS_PER_MINUTE", "50", {"insights requests_per_minute": 50}),
        ("REQUESTS_PER_HOUR", "200", {"insights_per_hour": 200}),
        ("DAILY_LIMIT", "5000", {"insights daily_limit": 5_000}),
    ],
)
def test_each_key_sets_the_limit_that_is_documented_for_meta(
    key: str, value: str, changed: dict[str, int], tier: str
) -> None:
    quotas, settings = meta_ads.quotas_of(tier), Settings.load({f"CONNECTOR__RATE_LIMIT__META__{key}": value})
    found = {quota.name: quota.limit for quota in effective_quotas(quotas, settings)}
    assert found == {quota.name: quota.limit for quota in quotas} | changed


def test_what_meta_does_not_publish_is_counted_and_not_enforced() -> None:
    found = effective_quotas(meta_ads.QUOTAS, Settings.load({}))
    assert {q.name for q in found if q.enforced} == {"insights_per_hour", "account_score"}
    assert all("no number is published" in q.source for q in found if not q.enforced)


PUBLISHED = (
    (dv360.QUOTAS, "reports", "application", 4, 1_000, None),
    (dv360.QUOTAS, "reports", "application", 2_000, 86_400_000, "America/Los_Angeles"),
    (dv360.QUOTAS, "reports", "user", 240, 60_000, None),
    (dv360.QUOTAS, "entities", "application", 1_500, 60_000, None),
    (dv360.QUOTAS, "entities", "account", 300, 60_000, None),
    (google_ads.QUOTAS, "operations", "application", 15_000, 86_400_000, None),
)


def test_the_declared_quotas_are_those_of_the_providers_and_no_more() -> None:
    declared = [
        (quotas, q.charge, q.scope, q.limit, q.period_ms, q.calendar_zone)
        for quotas in (dv360.QUOTAS, google_ads.QUOTAS)
        for q in quotas
    ]
    assert sorted(declared, key=repr) == sorted(PUBLISHED, key=repr)
    assert all(q.enforced and q.reserve is None for quotas in (dv360.QUOTAS, google_ads.QUOTAS) for q in quotas)
