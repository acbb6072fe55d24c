"""What an example of an error table is: a refusal as the provider writes it, and the failure that it must become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GOOGLE_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""The ``status`` that Google's envelope carries beside an HTTP status, by google/rpc/code.proto."""


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    """A ``google.rpc.ErrorInfo`` of the domain that google/api/error_reason.proto describes."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    return info | ({"metadata": metadata} if metadata else {})


@dataclass(frozen=True, slots=True)
class Case:
    """``code`` and ``quota`` are those of the failure that ``status`` and ``body``, answered to ``call``, must become:
    said here apart from the table. ``lost``: the report is, whatever the row says."""

    code: str
    call: str
    status: int
    body: bytes = b""
    quota: str | None = None
    content_type: str = "application/json"
    lost: bool = False


def by_status(call: str, *, bad_request: str = "invalid_report", bodies: Sequence[bytes] = ()) -> tuple[Case, ...]:
    """A status each that nothing but the end of a table decides; ``bodies`` for the first of them."""
    statuses = (
        (401, "token_rejected"),
        (403, "no_access"),
        (404, "not_found"),
        (400, bad_request),
        (408, "read_timeout"),
        (409, "request_refused"),
        (503, "provider_unavailable"),
        (302, "redirect_refused"),
        (204, "unexpected_status"),
    )
    told = [*bodies, *[b""] * (len(statuses) - len(bodies))]
    return tuple(
        Case(code, call, status, body, content_type="text/html" if body.startswith(b"<") else "application/json")
        for (status, code), body in zip(statuses, told, strict=True)
    )
