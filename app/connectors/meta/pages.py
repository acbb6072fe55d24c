"""A list that comes in pages, each asked for with the cursor of the one before.

``{"data": [...], "paging": {"cursors": {"before", "after"}, "next": "https://..."}}``: there are more pages as long as
there is a ``next``. That link is never called and never logged, because the token stands in it; the next call is our
own URL with ``cursors.after``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from app.connectors.failures import bad_response, interrupted
from app.connectors.meta.errors import Reading
from app.domain.errors import PermitDenied, ProviderError
from app.ports import Calls

MOST_PAGES = 20_000
LEAST_ROWS = 25
"""A page is not asked for with a smaller limit, however often the provider wants to give less."""

_CURSOR = re.compile(r"[\x21-\x7e]{1,4096}")
_SMALLER = ("too_much_data", "response_too_large")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a list is: ``url`` without a query, ``params`` of every page, ``limit`` rows of a page, ``call`` its name
    in the error table. ``most_calls``: so many an account has at once, so that a list that needs more is not begun
    again without end. ``least``: a page is not asked for with a smaller limit. ``data``: the first page is the call
    that the figures are of (R7)."""

    url: str
    charge: str
    call: str
    limit: int
    params: Mapping[str, str]
    most_calls: int
    least: int = LEAST_ROWS
    data: bool = False


async def pages(calls: Calls, source: Source) -> AsyncGenerator[list[Any], None]:
    """The rows of each page. Raises ``ProviderError`` for a list that is not provably whole.

    A page that the provider finds too large is asked for again, and those after it, with half the limit; that a cursor
    is good for any limit is assumed.
    """
    limit, after, made = source.limit, "", 0
    seen: set[str] = set()
    while made < MOST_PAGES:
        try:
            made += 1
            content = await _page(calls, source, limit, after)
        except PermitDenied as denied:
            raise interrupted(denied, made, source.most_calls) from None
        except ProviderError as error:
            if error.failure.code not in _SMALLER or limit <= source.least:
                raise
            limit = max(limit // 2, source.least)
            continue
        rows = _rows(content)
        following = _following(content, bool(rows))
        yield rows
        if following is None:
            return
        if following in seen:
            raise bad_response("unreadable_answer", "the pages come round to one that was there before")
        seen.add(following)
        after = following
    raise bad_response("unreadable_answer", "the list does not end", retryable=False)


async def _page(calls: Calls, source: Source, limit: int, after: str) -> dict[str, Any]:
    params = {**source.params, "limit": str(limit)} | ({"after": after} if after else {})
    reading = Reading(source.call)
    data = source.data and not after
    await calls.request("GET", source.url, charge=source.charge, data=data, params=params, check=reading)
    return reading.content


def _rows(content: Mapping[str, Any]) -> list[Any]:
    rows = content.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise bad_response("unreadable_answer", "a page's data is not the list it should be")
    return rows


def _following(content: Mapping[str, Any], any_rows: bool) -> str | None:
    """The cursor of the next page, None after the last one. Also the last one has cursors, if it has rows: without
    them nothing says that it is the last."""
    paging = content.get("paging", {})
    cursors = paging.get("cursors", {}) if isinstance(paging, dict) else None
    after = cursors.get("after") if isinstance(cursors, dict) else None
    if not isinstance(paging, dict) or not isinstance(cursors, dict):
        raise bad_response("unreadable_answer", "a page's paging is not the object it should be")
    if after is None and not any_rows and "next" not in paging:
        return None
    if not isinstance(after, str) or not _CURSOR.fullmatch(after):
        raise bad_response("unreadable_answer", "a page has no cursor")
    return after if paging.get("next") else None
