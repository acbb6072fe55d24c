"""What The Trade Desk's refusals become, said apart from the table; delays, messages, bodies of any kind."""

from __future__ import annotations

import orjson
import pytest

from app.connectors.ttd.errors import classify
from app.domain.errors import ErrorClass, Throttle
from tests.connectors.examples.ttd import INVALID

GATEWAY = b'{"message":"Unauthorized"}'

# What each refusal must become (providers' page, what a wrong classification costs), said apart from the table:
# (call, status): class, code, retryable, system, throttle, remote_lost
MEANT: dict[tuple[str, int], tuple[ErrorClass, str, bool, bool, bool, bool]] = {
    ("schedule", 429): (ErrorClass.QUOTA, "rate_limited", True, False, True, False),
    ("template", 401): (ErrorClass.AUTHORISATION, "token_rejected", False, False, False, False),
    ("schedule", 403): (ErrorClass.AUTHORISATION, "no_access", False, False, False, False),
    ("advertisers", 403): (ErrorClass.AUTHORISATION, "no_access", False, False, False, False),
    ("executions", 403): (ErrorClass.NOT_FOUND, "report_lost", True, False, False, True),
    ("view", 403): (ErrorClass.NOT_FOUND, "report_lost", True, False, False, True),
    ("view", 401): (ErrorClass.AUTHORISATION, "token_rejected", False, False, False, False),
    ("view", 404): (ErrorClass.NOT_FOUND, "report_lost", True, False, False, True),
    ("signed", 404): (ErrorClass.NOT_FOUND, "report_lost", True, False, False, True),
    ("signed", 400): (ErrorClass.PROVIDER_RESPONSE, "download_link_expired", True, False, False, False),
    ("signed", 403): (ErrorClass.PROVIDER_RESPONSE, "download_link_expired", True, False, False, False),
    ("executions", 404): (ErrorClass.NOT_FOUND, "not_found", False, False, False, False),
    ("schedule", 400): (ErrorClass.INVALID_REQUEST, "invalid_report", False, False, False, False),
    ("schedule", 409): (ErrorClass.INVALID_REQUEST, "request_refused", False, False, False, False),
    ("schedule", 410): (ErrorClass.INVALID_REQUEST, "interface_retired", False, False, False, False),
    ("executions", 500): (ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", True, True, False, False),
    ("executions", 503): (ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", True, True, False, False),
    ("view", 408): (ErrorClass.PROVIDER_SYSTEM, "read_timeout", True, True, False, False),
}


@pytest.mark.parametrize(("call", "status"), MEANT)
def test_what_a_refusal_becomes(call: str, status: int) -> None:
    found = classify(call, status, {}, b"")
    told = (found.error_class, found.code, found.retryable, found.system, bool(found.throttle), found.remote_lost)
    assert told == MEANT[call, status]


def test_the_delay_is_the_providers() -> None:
    failure = classify("schedule", 429, {"retry-after": "17"}, b"")
    assert (failure.retry_after_s, failure.throttle) == (17.0, Throttle(None, 17.0))
    away = classify("schedule", 503, {"retry-after": "9"}, b"")
    assert (away.retry_after_s, away.throttle, away.system) == (9.0, None, True)
    for odd in ("Wed, 21 Oct 2026 07:28:00 GMT", "-1", "9999999", "٣", ""):
        assert classify("schedule", 429, {"retry-after": odd}, b"").retry_after_s is None


def test_message_names_the_properties_and_hides_what_must_not_be_shown() -> None:
    assert classify("schedule", 400, {}, INVALID).message == "No.; TimeZone: bad, worse"
    assert classify("view", 401, {}, GATEWAY).message == "Unauthorized"
    body = orjson.dumps({"Message": "TTD-Auth: canary1 access_token=canary2\u202e\nmore"})
    message = classify("schedule", 400, {}, body).message
    for hidden in ("canary", "\n", "\u202e"):
        assert hidden not in message


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[1]", b'{"Message":1}', b'{"ErrorDetails":[1,{"Reasons":2}]}', b'{"ErrorDetails":3}', b"\xff"],
)
def test_any_body_is_read(body: bytes) -> None:
    assert classify("executions", 500, {}, body).code == "provider_unavailable"


def graphql(*errors: object) -> bytes:
    return orjson.dumps({"errors": list(errors), "data": None})


def error(code: object, message: object = "Said so.") -> dict[str, object]:
    return {"message": message, "extensions": {"code": code}}


def test_of_several_codes_the_worst_decides_and_all_are_told() -> None:
    failure = classify("graphql", 200, {}, graphql(error("SERVICE_UNAVAILABLE", "Away."), error("NOT_FOUND", "None.")))
    assert (failure.code, failure.provider_code, failure.message) == (
        "not_found",
        "SERVICE_UNAVAILABLE",
        "Away.; None.",
    )
    told = classify("graphql", 200, {}, graphql(*[error("NOT_FOUND", str(at)) for at in range(50)])).message
    assert told == "0; 1; 2; 3; 4"


def test_a_code_decides_at_any_status_and_the_gateways_delay_counts() -> None:
    assert classify("graphql", 400, {}, graphql(error("VALIDATION_FAILURE"))).code == "invalid_report"
    full = classify("graphql", 200, {"retry-after": "7"}, graphql(error("RESOURCE_LIMIT_EXCEEDED")))
    assert full.throttle == Throttle(None, 7.0)
    assert classify("graphql", 401, {}, GATEWAY).code == "token_rejected"


@pytest.mark.parametrize(
    "errors", [[], [1], [{}], [{"extensions": 1}], [error(5)], [error(None, None)], [error("X", {"a": 1})]]
)
def test_errors_of_any_form_are_read(errors: list[object]) -> None:
    failure = classify("graphql", 200, {}, graphql(*errors))
    assert (failure.code, failure.retryable, failure.system) == ("unexpected_status", True, False)
    assert failure.message
