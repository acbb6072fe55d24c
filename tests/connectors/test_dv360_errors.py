"""What DV360's refusals tell beside their row: delays, messages, bodies of any kind."""

from __future__ import annotations

import pytest

from app.connectors.dv360.errors import classify
from app.domain.errors import Throttle
from tests.connectors.examples.dv360 import envelope

RPC = "type.googleapis.com/google.rpc"


def test_delay_comes_from_the_body_before_the_header() -> None:
    body = envelope("RESOURCE_EXHAUSTED", details=[{"@type": f"{RPC}.RetryInfo", "retryDelay": "17.5s"}])
    failure = classify("run", 429, {"retry-after": "3"}, body)
    assert failure.retry_after_s == 17.5
    assert failure.throttle == Throttle(None, 17.5)
    assert classify("run", 429, {"retry-after": "3"}, envelope()).retry_after_s == 3.0
    assert classify("run", 429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, envelope()).retry_after_s is None


def test_message_names_the_fields_and_hides_what_must_not_be_shown() -> None:
    violations = [{"field": "query.params", "description": "unknown\u202e metric\n"}]
    details = [{"@type": f"{RPC}.BadRequest", "fieldViolations": violations}]
    body = envelope("INVALID_ARGUMENT", "Bearer ya29.secret access_token=abc", details=details)
    failure = classify("create", 400, {}, body)
    assert "query.params: unknown" in failure.message
    assert failure.provider_code == "INVALID_ARGUMENT"
    for hidden in ("secret", "abc", "\n", "\u202e"):
        assert hidden not in failure.message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[1]", b'{"error":"x"}', b'{"error":{"details":[1,{"metadata":2}]}}', b"\xff"]
)
def test_any_body_is_read(body: bytes) -> None:
    assert classify("status", 500, {}, body).code == "provider_unavailable"
