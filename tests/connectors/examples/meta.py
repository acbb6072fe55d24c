"""An answer for each row of Meta's error table. The call ``run`` is a run that failed: its status says so with 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.connectors.meta import errors
from app.connectors.meta.errors import MetaError
from app.domain.errors import Failure, ProviderError
from tests.connectors.examples.case import Case, by_status
from tests.connectors.meta import ACCOUNT, RUN, refused

LESS = "Please reduce the amount of data you're asking for, then retry your request"
ACCOUNT_QUOTA, SCORE, APPLICATION, USER = "insights_per_hour", "account_score", "application_calls", "user_calls"
FAILED_RUN = {
    "id": RUN,
    "account_id": ACCOUNT,
    "async_status": "Job Failed",
    "error_code": -2,
    "error_subcode": 2_490_547,
}


def read(status: int, headers: Mapping[str, str], body: bytes) -> MetaError:
    del headers
    return errors.read(status, errors._object(body))


def classify(call: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What the adapter makes of it, a run that failed by its own door."""
    if call != "run":
        return errors.classify(call, read(status, headers, body), headers)
    error = errors.run_failure(orjson.loads(body))
    assert isinstance(error, ProviderError)
    return error.failure


def _coded(code: str, call: str, status: int, *codes: int, quota: str | None = None, **more: Any) -> Case:
    return Case(code, call, status, orjson.dumps(refused(*codes, **more)), quota)


CASES: tuple[Case, ...] = (
    _coded("reauthorise", "status", 400, 190, 463),
    _coded("rate_limited", "create", 400, 4, 1504022, quota=APPLICATION, is_transient=True),
    _coded("rate_limited", "page", 400, 80000, 2446079, quota=ACCOUNT_QUOTA),
    _coded("rate_limited", "create", 400, 17, 2446079, quota=SCORE),
    _coded("rate_limited", "create", 400, 613, 1487742, quota=SCORE),
    _coded("rate_limited", "create", 400, 17, quota=USER),
    _coded("rate_limited", "create", 400, 80004, quota=ACCOUNT_QUOTA),
    _coded("no_access", "create", 403, 200),
    _coded("no_access", "create", 400, 100, message="(#100) Missing permissions"),
    _coded("too_much_data", "create", 400, 2, 1504038),
    _coded("too_much_data", "page", 500, 1, message=LESS),
    _coded("too_much_data", "sync", 400, 100, 1504018),
    _coded("report_lost", "status", 400, 100, 33),
    _coded("invalid_report", "create", 400, 100, message="(#100) x is not valid for fields param"),
    _coded("invalid_report", "create", 400, 2, 1504041),
    _coded("invalid_report", "page", 400, 2, 1504042),
    _coded("provider_unavailable", "create", 500, 2),
    _coded("provider_unavailable", "create", 400, 7, 99),
    _coded("provider_unavailable", "create", 400, 7, is_transient=True),
    Case("report_failed", "run", 200, orjson.dumps(FAILED_RUN), lost=True),
    Case("rate_limited", "create", 429),
    Case("report_lost", "page", 404),
    *by_status("create", bad_request="request_refused"),
    _coded("request_refused", "create", 400, 368),
    _coded("unexpected_status", "create", 200, 368),
)
