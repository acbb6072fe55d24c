"""``GET /api/v1/connectors/requests``: an organisation's requests, newest first, a page at a time."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.live import REQUESTS
from api.rest.parameters import fault
from api.rest.problem import Problem
from api.rest.services import AWAY, SERVICES, json_response
from app.domain.commands import nearest, shown
from app.domain.errors import Fault
from app.domain.identity import normalise
from app.domain.model import RequestState
from app.ports import PageKey, Wanted
from app.services.listing import Page, page
from app.services.status import status_body

PATH = REQUESTS
KNOWN = ("status", "connector_id", "limit", "cursor")
DEFAULT, MOST = 20, 100
_LIMIT = re.compile(r"[0-9]{1,3}", re.ASCII)
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)
_LAST = 253_402_300_800_000
"""The end of the year 9999, ms: no request is accepted later."""


@dataclass(frozen=True, slots=True)
class _Asked:
    wanted: Wanted
    limit: int
    before: PageKey | None


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 with a page, committed states only; 422 for every fault of the parameters at once, 503 while PostgreSQL is
    away: a page with gaps would be a wrong one."""
    asked = _asked(parameters.given(request, KNOWN), principal.org_id)
    try:
        found = await page(request.app[SERVICES].views, asked.wanted, asked.before, asked.limit)
    except AWAY:
        raise Problem("view_unavailable", retry_after_s=1) from None
    return _answer(request, found)


def _answer(request: web.Request, found: Page) -> web.Response:
    cursor = None if found.after is None else encoded(found.after)
    body = {"requests": [status_body(view) for view in found.views], "next_cursor": cursor}
    if cursor is None:
        return json_response(body)
    next_url = request.rel_url.update_query(cursor=cursor)
    return json_response(body, headers={"Link": f'<{next_url}>; rel="next"'})


def _asked(given: Mapping[str, str], org_id: int) -> _Asked:
    faults: list[Fault] = []
    asked = _Asked(
        Wanted(org_id, _status(given.get("status"), faults), _connector_id(given.get("connector_id"), faults)),
        _limit(given.get("limit"), faults),
        _before(given.get("cursor"), faults),
    )
    parameters.refuse_for(faults)
    return asked


def _status(text: str | None, faults: list[Fault]) -> str | None:
    names = [state.value for state in RequestState]
    if text is not None and text not in names:
        faults.append(fault(f"status must be one of {', '.join(names)}, not {shown(text)}{nearest(text, names)}"))
    return text


def _connector_id(text: str | None, faults: list[Fault]) -> str | None:
    found = None if text is None else normalise("conn", text)
    if text is not None and found is None:
        faults.append(fault(f"connector_id must be conn_ and 32 lower-case hex digits, not {shown(text)}"))
    return found


def _limit(text: str | None, faults: list[Fault]) -> int:
    if text is None:
        return DEFAULT
    value = int(text) if _LIMIT.fullmatch(text) else 0
    if not 1 <= value <= MOST:
        faults.append(fault(f"limit must be a number from 1 to {MOST}, not {shown(text)}"))
    return value


def _before(text: str | None, faults: list[Fault]) -> PageKey | None:
    found = None if text is None else decoded(text)
    if text is not None and found is None:
        faults.append(fault("cursor must be a next_cursor of an earlier page"))
    return found


def encoded(key: PageKey) -> str:
    """A place as a cursor: 8 bytes of instant and 16 of id, which make 32 characters."""
    accepted_at, request_id = key
    raw = accepted_at.to_bytes(8, "big") + bytes.fromhex(request_id.removeprefix("req_"))
    return urlsafe_b64encode(raw).decode("ascii")


def decoded(text: str) -> PageKey | None:
    """The place a cursor names, None for other text."""
    if not _CURSOR.fullmatch(text):
        return None
    raw = urlsafe_b64decode(text)
    accepted_at = int.from_bytes(raw[:8], "big")
    return (accepted_at, f"req_{raw[8:].hex()}") if accepted_at < _LAST else None
