"""Every word of Google Ads' error table; delays, messages, bodies of any kind."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.connectors.google_ads.errors import ROWS, classify, refused_within
from app.connectors.google_ads.quotas import OPERATIONS_PER_DAY
from app.domain.errors import Throttle
from tests.connectors.ads import ads_error
from tests.connectors.examples.google_ads import said

# family, enum -> code, for every word of the table
WORDS: tuple[tuple[str, str, str], ...] = (
    ("quotaError", "RESOURCE_EXHAUSTED", "daily_quota"),
    ("quotaError", "EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION", "daily_quota"),
    ("quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", "rate_limited"),
    ("quotaError", "EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION", "rate_limited"),
    ("quotaError", "ACCESS_PROHIBITED", "no_access"),
    ("authenticationError", "OAUTH_TOKEN_REVOKED", "reauthorise"),
    ("authenticationError", "OAUTH_TOKEN_DISABLED", "reauthorise"),
    ("authenticationError", "NOT_ADS_USER", "reauthorise"),
    ("authenticationError", "GOOGLE_ACCOUNT_DELETED", "reauthorise"),
    ("authenticationError", "TWO_STEP_VERIFICATION_NOT_ENROLLED", "reauthorise"),
    ("authenticationError", "ADVANCED_PROTECTION_NOT_ENROLLED", "reauthorise"),
    ("authenticationError", "OAUTH_TOKEN_EXPIRED", "token_rejected"),
    ("authenticationError", "OAUTH_TOKEN_INVALID", "token_rejected"),
    ("authenticationError", "CUSTOMER_NOT_FOUND", "account_not_found"),
    ("authorizationError", "CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION", "project_not_approved"),
    ("authorizationError", "DEVELOPER_TOKEN_NOT_APPROVED", "project_not_approved"),
    ("authorizationError", "DEVELOPER_TOKEN_PROHIBITED", "project_not_approved"),
    ("authorizationError", "PROJECT_DISABLED", "project_not_approved"),
    ("authorizationError", "USER_PERMISSION_DENIED", "no_access"),
    ("authorizationError", "CUSTOMER_NOT_ENABLED", "no_access"),
    ("requestError", "INVALID_CUSTOMER_ID", "invalid_account"),
    ("headerError", "INVALID_LOGIN_CUSTOMER_ID", "invalid_account"),
    ("queryError", "REQUESTED_METRICS_FOR_MANAGER", "manager_account"),
    ("dateRangeError", "REQUESTED_DATE_GRANULARITY_NOT_SUPPORTED", "date_out_of_range"),
    ("dateRangeError", "INVALID_DATE", "date_out_of_range"),
    ("internalError", "INTERNAL_ERROR", "provider_unavailable"),
    ("internalError", "TRANSIENT_ERROR", "provider_unavailable"),
    ("internalError", "DEADLINE_EXCEEDED", "provider_unavailable"),
)


def test_every_word_has_its_case() -> None:
    named = {reason for row in ROWS for reason in row.reasons if "." in reason}
    assert named == {f"{family}.{enum}" for family, enum, _ in WORDS}


@pytest.mark.parametrize(("family", "enum", "code"), WORDS)
def test_word(family: str, enum: str, code: str) -> None:
    """A word decides whatever the status beside it, also where it ends a stream that began with 200."""
    for status in (400, 401, 403, 429, 500):
        assert refused_within(ads_error(status, family, enum)).failure.code == code


def test_the_day_is_closed_for_as_long_as_it_says() -> None:
    body = said(429, "quotaError", "RESOURCE_EXHAUSTED", rateScope="DEVELOPER", retryDelay="40591s")
    failure = classify("search_stream", 429, {}, body)
    assert failure.throttle == Throttle(OPERATIONS_PER_DAY, 40_591.0)
    assert failure.retry_after_s == 40_591.0
    assert failure.provider_code == "quotaError.RESOURCE_EXHAUSTED"


def test_a_short_throttle_names_no_quota() -> None:
    body = said(429, "quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", retryDelay="30.5s")
    assert classify("search_stream", 429, {}, body).throttle == Throttle(None, 30.5)


def test_what_one_account_used_up_stops_no_other() -> None:
    body = said(
        429, "quotaError", "EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION", rateScope="ACCOUNT", retryDelay="9s"
    )
    failure = classify("search_stream", 429, {}, body)
    assert (failure.throttle, failure.retryable, failure.retry_after_s) == (None, True, 9.0)


def test_several_errors_in_one_failure() -> None:
    error = ads_error(429, "quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", "Soon.", retryDelay="5s")
    later = ads_error(429, "quotaError", "RESOURCE_EXHAUSTED", "Tomorrow.", retryDelay="500s")
    error["error"]["details"][0]["errors"] += later["error"]["details"][0]["errors"]
    failure = classify("search_stream", 429, {}, orjson.dumps(error))
    assert failure.throttle == Throttle(OPERATIONS_PER_DAY, 500.0)
    assert failure.message == "Refused.; Soon.; Tomorrow."


def test_message_hides_what_must_not_be_shown() -> None:
    body = orjson.dumps(ads_error(400, "queryError", "BAD\u202e", "Bearer ya29.secret\n access_token=abc"))
    failure = classify("search_stream", 400, {}, body)
    for hidden in ("secret", "abc", "\n", "\u202e"):
        assert hidden not in failure.message + str(failure.provider_code)


@pytest.mark.parametrize("error", [None, 5, "x", {}, {"code": 200}, {"code": "503"}, {"code": 10**9}])
def test_a_stream_that_ends_in_any_error_fails(error: Any) -> None:
    assert refused_within({"error": error}).failure.code == "provider_unavailable"


@pytest.mark.parametrize(
    "details",
    [[1], {"a": 1}, [{"errors": 1}], [{"errors": [1]}], [{"errors": [{"errorCode": 1, "message": 2}]}],
     [{"errors": [{"details": {"quotaErrorDetails": [1]}}]}],
     [{"errors": [{"details": {"quotaErrorDetails": {"rateScope": 1, "retryDelay": 2}}}]}]],
)  # fmt: skip
def test_any_body_is_read(details: Any) -> None:
    body = orjson.dumps({"error": {"details": details}})
    assert classify("search_stream", 500, {}, body).code == "provider_unavailable"
