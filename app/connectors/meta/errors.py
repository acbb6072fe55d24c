"""Meta's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``create``, ``status``, ``page``, ``sync`` (insights without a run) and ``accounts``; ``run`` is the
reason that a failed run gives. A refusal is ``{"error": {"message", "type", "code", "error_subcode", "is_transient",
"error_user_title", "error_user_msg", "fbtrace_id"}}``. Its code says what is wrong, while the status is 400 for most,
may be another and even 200: rows with codes come first and take any status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from app.connectors import error_table
from app.connectors.error_table import ANY, Refusal, by_status, failure_of
from app.connectors.failures import TokenRefused, bad_response, shown, truncated
from app.connectors.meta import headers as told
from app.connectors.meta.quotas import ACCOUNT_SCORE, APPLICATION, INSIGHTS_PER_HOUR, USER
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.ports import HttpAnswer

_ERRORS = "developers.facebook.com/docs/graph-api/guides/error-handling"
_INSIGHTS = "developers.facebook.com/docs/marketing-api/insights/error-codes"
_REFERENCE = "developers.facebook.com/docs/marketing-api/error-reference"
_LIMITS = "developers.facebook.com/docs/marketing-api/overview/rate-limiting"
_BEST = "developers.facebook.com/docs/marketing-api/insights/best-practices"
_RUN = "facebook-business adobjects/adreportrun.py: error_code, error_subcode, error_message"
_HTTP = "RFC 9110; the status decides where there is no code"

_USE_CASE = "ads_insights"


@dataclass(frozen=True, slots=True)
class MetaError(Refusal):
    """A refusal in plain terms. ``code`` None: the body names none, and only ``http`` is left."""

    code: int | None = None
    subcode: int | None = None
    transient: bool = False

    @property
    def provider_code(self) -> str:
        """Code and subcode, else the status."""
        if self.code is None:
            return str(self.http)
        return str(self.code) if self.subcode is None else f"{self.code}/{self.subcode}"


@dataclass(frozen=True, slots=True)
class Row(error_table.Row):
    """A row that may look at Meta's codes: ``codes`` inclusive ranges of codes, ``subcodes`` any of these, ``text`` a
    part of the message in small letters, ``transient`` the refusal's own word (each empty: whatever). ``until`` is the
    header that says how long a throttle lasts: ``regain`` or ``score``."""

    codes: tuple[tuple[int, int], ...] = ()
    subcodes: tuple[int, ...] = ()
    text: str = ""
    transient: bool = False
    until: str = ""

    def matches(self, error: MetaError, call: str) -> bool:
        return (
            self.fits(error.http, call)
            and (not self.codes or any(low <= (error.code or 0) <= high for low, high in self.codes))
            and (not self.subcodes or error.subcode in self.subcodes)
            and self.text in error.message.lower()
            and (error.transient or not self.transient)
        )

    def words(self) -> tuple[str, ...]:
        """Codes and ranges of codes, each with its subcodes if only those are meant."""
        spans = [f"{low}" if low == high else f"{low} to {high}" for low, high in self.codes] or ["any"]
        if self.subcodes:
            return tuple(f"{span}/{subcode}" for span in spans for subcode in self.subcodes)
        return tuple(spans) if self.codes else ()

    def body(self) -> str:
        """Its message or its flag."""
        said = f"the message holds “{self.text}”" if self.text else ""
        return "`is_transient` is true" if self.transient else said


def _is(*codes: int) -> tuple[tuple[int, int], ...]:
    return tuple((code, code) for code in codes)


# Codes of pages, audiences and other products come with throttles of theirs. None of our calls spends from those; if
# one comes all the same, it is the account's.
ROWS: tuple[Row, ...] = (
    Row(ANY, ErrorClass.AUTHORISATION, "reauthorise",
        f"{_ERRORS}: 463 expired, 460 password, 458 app removed, 467 invalid", codes=_is(190, 102)),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the application; of insights 1504022, 1504039",
        codes=_is(4), retryable=True, throttle=True, quota=APPLICATION),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: ads_insights of the account", codes=_is(80_000),
        retryable=True, throttle=True, quota=INSIGHTS_PER_HOUR, until="regain"),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the account's score, 2446079", codes=_is(17),
        subcodes=(2_446_079,), retryable=True, throttle=True, quota=ACCOUNT_SCORE, until="score"),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the account, 1487742", codes=_is(613),
        retryable=True, throttle=True, quota=ACCOUNT_SCORE, until="score"),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the user", codes=_is(17, 32),
        retryable=True, throttle=True, quota=USER),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: other business use cases", codes=((80_001, 80_014),),
        retryable=True, throttle=True, quota=INSIGHTS_PER_HOUR, until="regain"),
    Row(ANY, ErrorClass.AUTHORISATION, "no_access", f"{_ERRORS}: permission", codes=(*_is(3, 10), (200, 299))),
    Row(ANY, ErrorClass.AUTHORISATION, "no_access", f"{_ERRORS}: permission", codes=_is(100),
        text="(#100) missing permissions"),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "too_much_data", f"{_BEST}, {_INSIGHTS}: timeouts of too large a question",
        codes=_is(100, 2), subcodes=(1_504_018, 1_504_038), retryable=True),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "too_much_data", f"{_BEST}: ask for less", text="reduce the amount of data",
        retryable=True),
    # Neither call has parameters but the run's id and a cursor of its own, so nothing else can be wrong with it. What
    # Meta says of a run that is gone is not documented; this is assumed.
    Row(ANY, ErrorClass.NOT_FOUND, "report_lost", f"{_REFERENCE}: invalid parameter", codes=_is(100),
        calls=("status", "page"), retryable=True, remote_lost=True),
    Row(ANY, ErrorClass.INVALID_REQUEST, "invalid_report", f"{_INSIGHTS}: fields, or before 37 months", codes=_is(100)),
    Row(ANY, ErrorClass.INVALID_REQUEST, "invalid_report", f"{_INSIGHTS}: invalid breakdowns, invalid custom metrics",
        codes=_is(2), subcodes=(1_504_041, 1_504_042)),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_ERRORS}: temporary", codes=_is(1, 2, 960),
        retryable=True, system=True),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_REFERENCE}: an unknown error, with code 1",
        subcodes=(99,), retryable=True, system=True),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_ERRORS}: is_transient", transient=True,
        retryable=True, system=True),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "report_failed", _RUN, calls=("run",), retryable=True),
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _HTTP, retryable=True, throttle=True),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _HTTP, calls=("status", "page"),
        retryable=True, remote_lost=True),
    *by_status(Row, _HTTP, bad_request="request_refused"),
)  # fmt: skip


class Reading:
    """Looks at the answer to ``call`` while its permit is out (``Calls.request``'s ``check``): ``content`` is its
    object. Raises ``ProviderError``, and ``TokenRefused`` where another token may help."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.content: dict[str, Any] = {}

    def __call__(self, answer: HttpAnswer) -> None:
        found = _object(answer.body)
        if answer.status != 200 or (found is not None and "error" in found):
            failure = classify(self.call, read(answer.status, found), answer.headers)
            raise TokenRefused(failure) if failure.code == "reauthorise" else ProviderError(failure)
        if found is None:
            if answer.body.lstrip().startswith(b"{"):
                raise truncated(f"the answer to {self.call} ended early, or is no JSON after its beginning")
            raise bad_response("unreadable_answer", f"the answer to {self.call} is not the JSON it should be")
        self.content = found


def run_failure(content: Mapping[str, Any]) -> ProviderError:
    """Why a run failed, if it says so. The run is of no more use, whatever it was."""
    error = MetaError(
        200,
        _message(content.get("error_message"), content.get("error_user_msg"))
        or "the provider could not make the report",
        code=_whole(content.get("error_code")),
        subcode=_whole(content.get("error_subcode")),
    )
    return ProviderError(classify("run", error, {}, lost=True))


def read(status: int, content: Mapping[str, Any] | None) -> MetaError:
    """Reads a refusal; a body that is none leaves only the status."""
    error = (content or {}).get("error")
    if not isinstance(error, dict):
        return MetaError(status, f"HTTP {status}")
    said = _message(error.get("message"), error.get("error_user_msg")) or f"HTTP {status}"
    trace = error.get("fbtrace_id")
    return MetaError(
        status,
        f"{said} (fbtrace_id {shown(trace, 40)})" if isinstance(trace, str) else said,
        code=_whole(error.get("code")),
        subcode=_whole(error.get("error_subcode")),
        transient=error.get("is_transient") is True,
    )


def classify(call: str, error: MetaError, headers: Mapping[str, str], *, lost: bool = False) -> Failure:
    """A refusal of ``call`` and its answer's headers (lower case) -> what the planner is told."""
    row = next(row for row in ROWS if row.matches(error, call))
    return failure_of(row, replace(error, retry_after_s=_until_s(row, error, headers)), lost=lost)


def _until_s(row: Row, error: MetaError, headers: Mapping[str, str]) -> float | None:
    if row.until == "regain":
        return told.regain_s(headers, case=_USE_CASE if error.code == 80_000 else None)
    return told.score_reset_s(headers) if row.until == "score" else None


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _message(*parts: Any) -> str:
    return shown("; ".join(part for part in parts if isinstance(part, str) and part))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
