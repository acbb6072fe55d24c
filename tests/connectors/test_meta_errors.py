"""Every documented code of Meta at any status, and what the headers tell."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.connectors.failures import TokenRefused
from app.connectors.meta import headers as told
from app.connectors.meta.errors import ROWS, MetaError, Reading, classify, read
from app.connectors.meta.quotas import QUOTAS, TIERS, quotas_of
from app.domain.errors import Failure, ProviderError
from app.domain.messages import Usage
from app.ports import HttpAnswer
from tests.connectors.meta import refused

# Every code that is documented, and what becomes of it at any status.
CODES: tuple[tuple[int, int | None, str, str | None], ...] = (
    *((190, subcode, "reauthorise", None) for subcode in (None, 458, 459, 460, 463, 464, 467)),
    (102, None, "reauthorise", None),
    (4, None, "rate_limited", "application_calls"),
    (4, 1504022, "rate_limited", "application_calls"),
    (4, 1504039, "rate_limited", "application_calls"),
    (17, None, "rate_limited", "user_calls"),
    (17, 2446079, "rate_limited", "account_score"),
    (32, None, "rate_limited", "user_calls"),
    (613, None, "rate_limited", "account_score"),
    (613, 1487742, "rate_limited", "account_score"),
    *((code, None, "rate_limited", "insights_per_hour") for code in range(80000, 80015)),
    *((code, None, "no_access", None) for code in (3, 10, 200, 250, 299)),
    (100, 1504018, "too_much_data", None),
    (2, 1504038, "too_much_data", None),
    (2, 1504043, "provider_unavailable", None),
    *((code, None, "provider_unavailable", None) for code in (1, 2, 960)),
)


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
@pytest.mark.parametrize(("code", "subcode", "name", "quota"), CODES)
def test_the_code_decides_whatever_the_status(
    code: int, subcode: int | None, name: str, quota: str | None, status: int
) -> None:
    failure = classify("create", read(status, refused(code, subcode)), {})
    assert failure.code == name
    assert (failure.throttle.quota if failure.throttle else None) == quota
    assert failure.provider_code == (str(code) if subcode is None else f"{code}/{subcode}")


def test_quota_names_of_the_table_exist() -> None:
    named = {row.quota for row in ROWS if row.quota}
    for tier in TIERS:
        assert named <= {quota.name for quota in quotas_of(tier)}


def use_case(*entries: dict[str, Any], **others: list[dict[str, Any]]) -> dict[str, str]:
    return {"x-business-use-case-usage": orjson.dumps({"4567": list(entries), **others}).decode()}


INSIGHTS = {"type": "ads_insights", "call_count": 95, "total_cputime": 20, "total_time": 20}


@pytest.mark.parametrize(
    ("code", "headers", "until_s"),
    [
        (80000, use_case(INSIGHTS | {"estimated_time_to_regain_access": 3}), 180.0),
        (80000, use_case(INSIGHTS | {"estimated_time_to_regain_access": 0}), None),
        (
            80000,
            use_case(
                INSIGHTS | {"estimated_time_to_regain_access": 3},
                {"type": "ads_management", "estimated_time_to_regain_access": 50},
            ),
            180.0,
        ),
        (80004, use_case({"type": "ads_management", "estimated_time_to_regain_access": 50}, INSIGHTS), 3000.0),
        (80000, use_case(INSIGHTS | {"estimated_time_to_regain_access": "soon"}), None),
        (80000, use_case(INSIGHTS | {"estimated_time_to_regain_access": 1e8}), 86_400.0),
        (80000, {"x-business-use-case-usage": "[5"}, None),
        (80000, {"x-business-use-case-usage": '{"a": 5, "b": [5]}'}, None),
        (80000, {"retry-after": "7"}, None),
        (613, {"x-ad-account-usage": '{"acc_id_util_pct": 100, "reset_time_duration": 210}'}, 210.0),
        (613, {"x-ad-account-usage": '{"acc_id_util_pct": 9.67, "reset_time_duration": 0}'}, None),
        (613, {"x-ad-account-usage": '{"reset_time_duration": true}'}, None),
        (4, {"x-ad-account-usage": '{"reset_time_duration": 210}'}, None),
        (1, {"x-ad-account-usage": '{"reset_time_duration": 210}'}, None),
    ],
)
def test_the_header_names_the_time(code: int, headers: dict[str, str], until_s: float | None) -> None:
    failure = classify("create", read(400, refused(code)), headers)
    assert failure.retry_after_s == until_s
    if code != 1:
        assert failure.throttle is not None
        assert failure.throttle.until_s == until_s


@pytest.mark.parametrize(
    ("headers", "usage"),
    [
        ({}, ()),
        (
            {"x-app-usage": '{"call_count":28,"total_time":25,"total_cputime":31.5}'},
            (Usage("application_calls", percent=31.5),),
        ),
        (
            {"x-ad-account-usage": '{"acc_id_util_pct":9.67,"reset_time_duration":100}'},
            (Usage("account_score", percent=9.67),),
        ),
        (
            {"x-fb-ads-insights-throttle": '{"app_id_util_pct":100,"acc_id_util_pct":10}'},
            (Usage("application_calls", percent=100.0), Usage("insights_per_hour", percent=10.0)),
        ),
        (use_case(INSIGHTS), (Usage("insights_per_hour", percent=95.0),)),
        (use_case(INSIGHTS, {"type": "ads_management", "call_count": 99}), (Usage("insights_per_hour", percent=95.0),)),
        (
            use_case(INSIGHTS, other=[INSIGHTS | {"total_time": 97}]),
            (
                Usage("insights_per_hour", percent=95.0, scope="4567"),
                Usage("insights_per_hour", percent=97.0, scope="other"),
            ),
        ),
        ({"x-app-usage": '{"call_count":"28"}', "x-ad-account-usage": "{}"}, ()),
        ({"x-app-usage": "28", "x-ad-account-usage": "<html>", "x-business-use-case-usage": "null"}, ()),
        ({"x-app-usage": '{"call_count":-1,"total_time":true}'}, ()),
    ],
)
def test_usage(headers: dict[str, str], usage: tuple[Usage, ...]) -> None:
    assert tuple(told.usage(headers)) == usage


def test_quotas_have_sources_and_charges() -> None:
    assert {(q.charge, q.scope, q.limit, q.period_ms, q.enforced) for q in QUOTAS} == {
        ("insights", "account", 600, 3_600_000, True),
        ("insights", "account", 60, 300_000, True),
        ("insights", "application", 190_000, 3_600_000, False),
        ("insights", "user", 190_000, 3_600_000, False),
        ("entities", "application", 190_000, 3_600_000, False),
    }
    full = {q.name: q.limit for q in quotas_of("full") if q.enforced}
    assert full == {"insights_per_hour": 190_000, "account_score": 9_000}
    assert all(quota.source and quota.connector_type == "META" for quota in QUOTAS)
    assert len({quota.name for quota in QUOTAS}) == len(QUOTAS)


def reading(status: int, body: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        Reading("status")(HttpAnswer(status, {}, body))
    assert isinstance(caught.value, TokenRefused) == (caught.value.failure.code == "reauthorise")
    return caught.value.failure


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": 5}', b'{"error": {"code": "1"}}', b'{"error": []}', b"\xff"])
def test_any_body_is_read(body: bytes) -> None:
    assert reading(503, body).code == "provider_unavailable"
    assert reading(200, body).code in ("unexpected_status", "unreadable_answer")


def test_a_success_with_an_error_in_it_is_none() -> None:
    assert reading(200, orjson.dumps({"id": "1", **refused(190)})).code == "reauthorise"
    assert reading(400, orjson.dumps({"id": "1"})).code == "request_refused"


def test_the_message_is_shown_with_its_trace_and_without_what_is_secret() -> None:
    said = "Malformed access token EAABsecretsecretsecret\u202e access_token=canary\n"
    failure = classify("create", read(400, refused(190, 467, message=said, error_user_msg="Sign in again.")), {})
    assert "Sign in again." in failure.message
    assert "fbtrace_id Atrace" in failure.message
    for hidden in ("secret", "canary", "\n", "\u202e"):
        assert hidden not in failure.message
    assert classify("create", MetaError(400, "x"), {}).provider_code == "400"
