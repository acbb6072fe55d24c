"""Every error REST can answer, named once, in the form of RFC 9457.

``type`` is the path of the problem's own page on this server, ``errors`` lists every fault of the input with a JSON
pointer (RFC 6901). docs/reference/problems.md is drawn from ``CATALOGUE``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from app.domain.errors import Fault

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of error: stable slug, HTTP status, a title for people, and what the caller can do about it."""

    slug: str
    status: int
    title: str
    advice: str


def _types(*types: ProblemType) -> Mapping[str, ProblemType]:
    return {t.slug: t for t in types}


_P = ProblemType
CATALOGUE: Mapping[str, ProblemType] = _types(
    _P("bad_request", 400, "The request is not valid HTTP", "Check the client or proxy that wrote it."),
    _P("malformed_json", 400, "The body is not acceptable JSON", "Send one JSON object, UTF-8, each key once."),
    _P(
        "unauthenticated",
        401,
        "A valid bearer token is needed",
        "Get a new token and send it as `Authorization: Bearer`.",
    ),
    _P("insufficient_scope", 403, "The token lacks a scope", "Ask for a token with the scope that `detail` names."),
    _P(
        "priority_not_allowed",
        403,
        "The priority is not allowed",
        "Use `normal`, or have the organisation's plan changed.",
    ),
    _P("not_found", 404, "There is no such thing here", "Check the id, and that the token is its organisation's."),
    _P("method_not_allowed", 405, "The method does not fit the path", "Use a method from the `Allow` header."),
    _P("request_timeout", 408, "The body did not arrive in time", "Send it again, faster."),
    _P("connector_not_ready", 409, "The connector cannot fetch now", "Connect the account again."),
    _P("request_in_progress", 409, "The same request is being decided", "Ask again after `Retry-After` seconds."),
    _P("already_running", 409, "The write is under way", "Wait for its end: its call may have left already."),
    _P("already_ended", 409, "The request has ended", "Nothing is left to cancel; `detail` says how it ended."),
    _P("body_too_large", 413, "The body is too large", "Send at most 64 kB, and 1 MB of a write."),
    _P("unsupported_media_type", 415, "The body is not JSON", "Send `Content-Type: application/json`, not compressed."),
    _P("invalid_request", 422, "The request has faults", "Correct what `errors` lists and send it again."),
    _P("unknown_field", 422, "The body has an unknown field", "Remove it, or use the name that `detail` offers."),
    _P("invalid_parameter", 422, "A parameter or header has a wrong value", "Correct what `errors` lists."),
    _P("invalid_date_range", 422, "The date range is not possible", "Use a range that `detail` allows."),
    _P("unknown_report_type", 422, "There is no such report", "Use a report type that the connector offers."),
    _P("unknown_field_name", 422, "The report has no such column", "Use a column of the report type."),
    _P("deadline_passed", 422, "The deadline is over", "Send a deadline in the future, or none."),
    _P("force_not_allowed", 422, "`force` does not fit the priority", "Use `force` with premium or normal."),
    _P(
        "idempotency_mismatch",
        422,
        "The key was used for another body",
        "Use a new `Idempotency-Key` for a new request.",
    ),
    _P("queue_full", 429, "The queue is full", "Ask again after `Retry-After` seconds; nothing was queued."),
    _P("headers_too_large", 431, "The headers are too large", "Send smaller headers."),
    _P("internal", 500, "Something broke here", "Ask again; if it stays, give the operators the time of the call."),
    _P("write_not_supported", 501, "The connector can only be read", "Write to a connector of Google Sheets."),
    _P("broker_unavailable", 503, "The broker did not answer", "Repeat it with the same `Idempotency-Key`."),
    _P("view_unavailable", 503, "Nobody can know right now", "Ask again after `Retry-After` seconds."),
    _P("keys_unavailable", 503, "Tokens cannot be checked right now", "Ask again after `Retry-After` seconds."),
)


class Problem(Exception):
    """An error to answer. ``detail`` is for this occurrence; ``errors`` the faults; ``more`` extra members."""

    def __init__(
        self,
        slug: str,
        detail: str | None = None,
        *,
        errors: Sequence[Fault] = (),
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(slug)
        self.kind = CATALOGUE[slug]
        self.status = status or self.kind.status
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        self.more = more

    def body(self) -> dict[str, Any]:
        """The members of the JSON object, absent ones left out."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.kind.slug}",
            "title": self.kind.title,
            "status": self.status,
            "detail": self.detail or self.kind.advice,
        }
        if self.errors:
            body["errors"] = [{"pointer": f.pointer, "detail": f.detail, "code": f.code} for f in self.errors]
        if self.retry_after_s is not None:
            body["retry_after"] = self.retry_after_s
        return body | self.more

    def response(self) -> web.Response:
        """The HTTP answer, ``Retry-After`` in whole seconds."""
        if self.retry_after_s is not None:
            self.headers["Retry-After"] = str(self.retry_after_s)
        return web.Response(
            body=orjson.dumps(self.body()), status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )


NOT_FOUND_CODES = frozenset({"unknown_connector"})
"""Domain codes that REST answers with the one 404, whatever else is wrong: nothing may tell foreign from unknown."""


def refusal(faults: Iterable[Fault]) -> Problem:
    """One problem for all faults of an input: the fault's own type when there is only one kind, else
    ``invalid_request``."""
    listed = tuple(faults)
    codes = {f.code for f in listed}
    if codes & NOT_FOUND_CODES:
        return Problem("not_found")
    if "write_not_supported" in codes:
        # Whatever else is wrong: correcting it would change nothing.
        listed = tuple(f for f in listed if f.code == "write_not_supported")
        codes = {"write_not_supported"}
    slug = next(iter(codes)) if len(codes) == 1 else "invalid_request"
    if slug not in CATALOGUE:
        slug = "invalid_request"
    return Problem(slug, "; ".join(f.detail for f in listed), errors=listed)


_BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    431: "headers_too_large",
}


def from_http(error: web.HTTPException) -> Problem:
    """A problem for what the framework raises (router, body limit); keeps ``Allow``. Other 4xx keep their status."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    if error.status >= 500:
        return Problem("internal")
    return Problem(_BY_STATUS.get(error.status, "bad_request"), headers=headers, status=error.status)


def markdown() -> str:
    """docs/reference/problems.md."""
    lines = [
        "# Problems",
        "",
        "Errors of REST are `application/problem+json` (RFC 9457). `type` is `/problems/<slug>` on the same server;",
        "`errors` lists every fault with a JSON pointer, a sentence and a stable code. Drawn from",
        "`api/rest/problem.py`.",
        "",
        "| slug | status | title | what to do |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{t.slug}` | {t.status} | {t.title} | {t.advice} |" for t in CATALOGUE.values()]
    return "\n".join(lines) + "\n"
