"""What an example of an error table is: a refusal as the provider writes it, and the failure that it must become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
    return tuple(Case(code, call, status, body) for (status, code), body in zip(statuses, told, strict=True))
