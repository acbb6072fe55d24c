"""Meta's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``create``, ``status``, ``page`` and ``accounts``; ``run`` is the reason that a failed run gives. A
refusal is ``{"error": {"message", "type", "code", "error_subcode", "is_transient", "error_user_title",
"error_user_msg", "fbtrace_id"}}``. Its code says what is wrong, while the status is 400 for most, may be another and
even 200: rows with codes come first and take any status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.connectors.failures import TokenRefused, bad_response, shown, truncated
from app.connectors.meta import headers as told
from app.connectors.meta.quotas import ACCOUNT_SCORE, APPLICATION, INSIGHTS_PER_HOUR, USER
from app.domain.errors import ErrorClass, Failure, ProviderError, Throttle
from app.ports import HttpAnswer

_ERRORS = "developers.facebook.com/docs/graph-api/guides/error-handling"
_INSIGHTS = "developers.facebook.com/docs/marketing-api/insights/error-codes"
_LIMITS = "developers.facebook.com/docs/marketing-api/overview/rate-limiting"
_BEST = "developers.facebook.com/docs/marketing-api/insights/best-practices"
_RUN = "facebook-business adobjects/adreportrun.py: error_code, error_subcode, error_message"
_HTTP = "RFC 9110; the status decides where there is no code"

_ANY = (0, 999)
_USE_CASE = "ads_insights"


@dataclass(frozen=True, slots=True)
class MetaError:
    """A refusal in plain terms. ``code`` None: the body names none, and only ``http`` is left."""

    http: int
    message: str
    code: int | None = None
    subcode: int | None = None
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: which refusals it matches, and the failure they become.

    ``http`` is an inclusive range; ``codes`` inclusive ranges of codes, ``subcodes`` any of these, ``text`` a part of
    the message in small letters, ``transient`` the refusal's own word (each empty: whatever); ``calls`` as named above.
    ``throttle`` marks *not now*; ``quota`` is the quota it closes (None: it names none) and ``until`` the header that
    says how long: ``regain`` or ``score``. ``source`` says where it is written.
    """

    error_class: ErrorClass
    code: str
    source: str
    codes: tuple[tuple[int, int], ...] = ()
    subcodes: tuple[int, ...] = ()
    text: str = ""
    transient: bool = False
    http: tuple[int, int] = _ANY
    calls: tuple[str, ...] = ()
    retryable: bool = False
    system: bool = False
    remote_lost: bool = False
    throttle: bool = False
    quota: str | None = None
    until: str = ""

    def matches(self, error: MetaError, call: str) -> bool:
        return (
            self.http[0] <= error.http <= self.http[1]
            and (not self.codes or any(low <= (error.code or 0) <= high for low, high in self.codes))
            and (not self.subcodes or error.subcode in self.subcodes)
            and self.text in error.message.lower()
            and (error.transient or not self.transient)
            and (not self.calls or call in self.calls)
        )


def _is(*codes: int) -> tuple[tuple[int, int], ...]:
    return tuple((code, code) for code in codes)


# Codes of pages, audiences and other products come with throttles of theirs. None of our calls spends from those; if
# one comes all the same, it is the account's.
ROWS: tuple[Row, ...] = (
    Row(ErrorClass.AUTHORISATION, "reauthorise", f"{_ERRORS}: 463 expired, 460 password, 458 app removed, 467 invalid",
        codes=_is(190, 102)),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the application; of insights 1504022, 1504039", codes=_is(4),
        retryable=True, throttle=True, quota=APPLICATION),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: ads_insights of the account", codes=_is(80_000),
        retryable=True, throttle=True, quota=INSIGHTS_PER_HOUR, until="regain"),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the account's score, 2446079", codes=_is(17),
        subcodes=(2_446_079,), retryable=True, throttle=True, quota=ACCOUNT_SCORE, until="score"),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the account, 1487742", codes=_is(613),
        retryable=True, throttle=True, quota=ACCOUNT_SCORE, until="score"),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: the user", codes=_is(17, 32),
        retryable=True, throttle=True, quota=USER),
    Row(ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: other business use cases", codes=((80_001, 80_014),),
        retryable=True, throttle=True, quota=INSIGHTS_PER_HOUR, until="regain"),
    Row(ErrorClass.AUTHORISATION, "no_access", f"{_ERRORS}: permission", codes=(*_is(3, 10), (200, 299))),
    Row(ErrorClass.AUTHORISATION, "no_access", f"{_ERRORS}: permission", codes=_is(100),
        text="(#100) missing permissions"),
    Row(ErrorClass.PROVIDER_SYSTEM, "too_much_data", f"{_BEST}, {_INSIGHTS}: timeouts of too large a question",
        codes=_is(100, 2), subcodes=(1_504_018, 1_504_038), retryable=True),
    Row(ErrorClass.PROVIDER_SYSTEM, "too_much_data", f"{_BEST}: ask for less", text="reduce the amount of data",
        retryable=True),
    # Neither call has parameters but the run's id and a cursor of its own, so nothing else can be wrong with it. What
    # Meta says of a run that is gone is not documented; this is assumed.
    Row(ErrorClass.NOT_FOUND, "report_lost", f"{_ERRORS}: invalid parameter", codes=_is(100),
        calls=("status", "page"), retryable=True, remote_lost=True),
    Row(ErrorClass.INVALID_REQUEST, "invalid_report", f"{_INSIGHTS}: fields, or before 37 months", codes=_is(100)),
    Row(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_ERRORS}: temporary", codes=_is(1, 2, 960),
        retryable=True, system=True),
    Row(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_INSIGHTS}: intermittent", subcodes=(99,),
        retryable=True, system=True),
    Row(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", f"{_ERRORS}: is_transient", transient=True,
        retryable=True, system=True),
    Row(ErrorClass.PROVIDER_SYSTEM, "report_failed", _RUN, calls=("run",), retryable=True),
    Row(ErrorClass.QUOTA, "rate_limited", _HTTP, http=(429, 429), retryable=True, throttle=True),
    Row(ErrorClass.AUTHORISATION, "token_rejected", _HTTP, http=(401, 401)),
    Row(ErrorClass.AUTHORISATION, "no_access", _HTTP, http=(403, 403)),
    Row(ErrorClass.NOT_FOUND, "report_lost", _HTTP, http=(404, 404), calls=("status", "page"),
        retryable=True, remote_lost=True),
    Row(ErrorClass.NOT_FOUND, "not_found", _HTTP, http=(404, 404)),
    Row(ErrorClass.PROVIDER_SYSTEM, "read_timeout", _HTTP, http=(408, 408), retryable=True, system=True),
    Row(ErrorClass.INVALID_REQUEST, "request_refused", _HTTP, http=(400, 499)),
    Row(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", _HTTP, http=(500, 599), retryable=True, system=True),
    Row(ErrorClass.PROVIDER_RESPONSE, "redirect_refused", "redirects are never followed", http=(300, 399)),
    Row(ErrorClass.PROVIDER_RESPONSE, "unexpected_status", "no other is documented", retryable=True),
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
        _whole(content.get("error_code")),
        _whole(content.get("error_subcode")),
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
        _whole(error.get("code")),
        _whole(error.get("error_subcode")),
        error.get("is_transient") is True,
    )


def classify(call: str, error: MetaError, headers: Mapping[str, str], *, lost: bool = False) -> Failure:
    """A refusal of ``call`` and its answer's headers (lower case) -> what the planner is told."""
    row = next(row for row in ROWS if row.matches(error, call))
    until_s = _until_s(row, error, headers)
    return Failure(
        error_class=row.error_class,
        code=row.code,
        message=error.message,
        retryable=row.retryable,
        provider_code=_provider_code(error),
        retry_after_s=until_s,
        throttle=Throttle(row.quota, until_s) if row.throttle else None,
        system=row.system,
        remote_lost=row.remote_lost or lost,
    )


def _until_s(row: Row, error: MetaError, headers: Mapping[str, str]) -> float | None:
    if row.until == "regain":
        return told.regain_s(headers, case=_USE_CASE if error.code == 80_000 else None)
    return told.score_reset_s(headers) if row.until == "score" else None


def _provider_code(error: MetaError) -> str:
    if error.code is None:
        return str(error.http)
    return str(error.code) if error.subcode is None else f"{error.code}/{error.subcode}"


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
