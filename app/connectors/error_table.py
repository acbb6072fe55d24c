"""Error tables as data: what all of them have in common. A table is read from the top, the first row that matches a
refusal decides, and the last row matches everything.

What else a row may look at is its provider's affair, so each kind of row says so itself: ``matches`` for the machine,
``words`` and ``body`` for the page that is drawn from the tables (docs/reference/errors.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from app.domain.errors import ErrorClass, Failure, Throttle

ANY = (0, 999)
"""Every status."""

HTTP = "RFC 9110"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success, in plain terms. ``http`` its status, ``message`` fit to be shown, ``retry_after_s``
    its own delay."""

    http: int
    message: str
    retry_after_s: float | None = None

    @property
    def provider_code(self) -> str:
        """The provider's own word for it: the status, if it has no other."""
        return str(self.http)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an error table: which refusals it matches, and the failure they become.

    ``http`` is an inclusive range; ``calls`` the adapter's own names of its calls (empty: all). ``throttle`` marks *not
    now*; ``quota`` is the quota it closes (None: it names none). ``source`` says where it is written.
    """

    http: tuple[int, int]
    error_class: ErrorClass
    code: str
    source: str
    calls: tuple[str, ...] = ()
    retryable: bool = False
    system: bool = False
    remote_lost: bool = False
    throttle: bool = False
    quota: str | None = None

    def fits(self, http: int, call: str) -> bool:
        """Whether the status and the call are its own; other conditions are ``matches``."""
        return self.http[0] <= http <= self.http[1] and (not self.calls or call in self.calls)

    def words(self) -> tuple[str, ...]:
        """The provider's own words, any of which it wants; empty: whatever."""
        return ()

    def body(self) -> str:
        """What else it wants of the answer; empty: whatever."""
        return ""


@dataclass(frozen=True, slots=True)
class PlainRow(Row):
    """A row of a provider that has no words of its own: the status says all."""

    def matches(self, refusal: Refusal, call: str) -> bool:
        return self.fits(refusal.http, call)


R = TypeVar("R", bound=Row)


def by_status(row: type[R], guide: str, *, bad_request: str = "invalid_report", bad_source: str = "") -> tuple[R, ...]:
    """The end of a table, where a status is all there is to go by. ``guide`` is where the provider speaks of statuses,
    ``bad_source`` where of a 400; ``bad_request`` the code of one."""
    said, access, broke = ErrorClass.PROVIDER_RESPONSE, ErrorClass.AUTHORISATION, ErrorClass.PROVIDER_SYSTEM
    invalid, nothing = ErrorClass.INVALID_REQUEST, "no other status is documented"
    return (
        row((401, 401), access, "token_rejected", guide),
        row((403, 403), access, "no_access", guide),
        row((404, 404), ErrorClass.NOT_FOUND, "not_found", guide),
        row((408, 408), broke, "read_timeout", HTTP, retryable=True, system=True),
        row((400, 400), invalid, bad_request, bad_source or guide),
        row((402, 499), invalid, "request_refused", HTTP),
        row((500, 599), broke, "provider_unavailable", guide, retryable=True, system=True),
        row((300, 399), said, "redirect_refused", "redirects are never followed"),
        row(ANY, said, "unexpected_status", nothing, retryable=True),
    )


def failure_of(row: Row, refusal: Refusal, *, lost: bool = False) -> Failure:
    """What the planner is told of a refusal that ``row`` decided. ``lost``: the report is gone, whatever the row
    says."""
    wait_s = refusal.retry_after_s
    return Failure(
        error_class=row.error_class,
        code=row.code,
        message=refusal.message,
        retryable=row.retryable,
        provider_code=refusal.provider_code,
        retry_after_s=wait_s,
        throttle=Throttle(row.quota, wait_s) if row.throttle else None,
        system=row.system,
        remote_lost=row.remote_lost or lost,
    )


def header_delay_s(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` in seconds; None if there is none, or it is a date. Names are in lower case."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() and text.isascii() and len(text) <= 6 else None
