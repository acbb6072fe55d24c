"""Pages of an organisation's requests: what is stored and what this worker holds, the newer of each.

What is held is newer, what is stored reaches further back. Either side answers with its newest few; where one has more,
nothing is known of what lies beyond its last, so a page goes no further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain.messages import RequestView
from app.ports import PageKey, RequestViews, Wanted

ROUNDS = 5
"""How often a page is filled up when stored requests have moved on to a state that was not asked for. It may then be
shorter than asked, and goes on where it ends."""


@dataclass(frozen=True, slots=True)
class Page:
    """Requests, newest first. ``after``: where the next page begins; None: there is none."""

    views: Sequence[RequestView]
    after: PageKey | None


def key(view: RequestView) -> PageKey:
    """A request's place in the order of pages."""
    return view.accepted_at, view.request_id


async def page(views: RequestViews, wanted: Wanted, before: PageKey | None, limit: int) -> Page:
    """At most ``limit`` requests before a place. Raises ``ViewUnavailable``."""
    found: list[RequestView] = []
    # One more than asked: whether there is a next page.
    size, reached = limit + 1, before
    for _ in range(ROUNDS):
        stored, held = await views.page(wanted, reached, size), views.newest(wanted, reached, size)
        part, reached = merge(stored, held, views.held, wanted.status, size)
        found += part
        if len(found) > limit:
            return Page(found[:limit], key(found[limit - 1]))
        if reached is None:
            return Page(found, None)
    return Page(found, reached)


def merge(
    stored: Sequence[RequestView],
    held: Sequence[RequestView],
    now: Callable[[str], RequestView | None],
    status: str | None,
    size: int,
) -> tuple[list[RequestView], PageKey | None]:
    """Both sides as one, newest first, and where it ends (None: nothing lies beyond).

    ``now`` gives a request as it is held, whatever its state. A side with ``size`` requests may have more.
    """
    ends = [key(side[-1]) for side in (stored, held) if len(side) >= size]
    end = max(ends, default=None)
    newest = {view.request_id: view for view in held}
    newest |= {view.request_id: _newer(view, now(view.request_id)) for view in stored}
    kept = [
        view
        for view in newest.values()
        if (status is None or view.state == status) and (end is None or key(view) >= end)
    ]
    return sorted(kept, key=key, reverse=True), end


def _newer(view: RequestView, held: RequestView | None) -> RequestView:
    return view if held is None or held.revision < view.revision else held
