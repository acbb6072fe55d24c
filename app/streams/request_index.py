"""Which requests a worker holds of each organisation, newest first, so that a page of them costs what it shows.

A request is put in with every record of it, mostly without anything to do; sorting is left to those who ask.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.ports import PageKey, Wanted

FEW = 64
"""So many new places are put in one by one; more are sorted in together."""


@dataclass(slots=True)
class _Organisation:
    """``places`` in order, also of requests that are held no longer; ``fresh`` not sorted in yet; ``held`` how many
    requests there are."""

    places: list[PageKey] = field(default_factory=list)
    fresh: list[PageKey] = field(default_factory=list)
    held: int = 0

    def settle(self) -> None:
        if len(self.fresh) <= FEW:
            for place in self.fresh:
                insort(self.places, place)
        else:
            self.places += self.fresh
            self.places.sort()
        self.fresh.clear()


class RequestIndex:
    """Request ids by organisation, in order of (accepted, id)."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[_Organisation, str, str]] = {}
        self._organisations: dict[int, _Organisation] = {}

    def put(self, request_id: str, org_id: int, accepted_at: int, state: str, connector_id: str) -> None:
        """The request as its newest record says; organisation, instant (ms) and connector are those of its first."""
        known = self._entries.get(request_id)
        if known is not None:
            self._entries[request_id] = (known[0], sys.intern(state), known[2])
            return
        organisation = self._organisations.get(org_id)
        if organisation is None:
            organisation = self._organisations[org_id] = _Organisation()
        organisation.fresh.append((accepted_at, request_id))
        organisation.held += 1
        self._entries[request_id] = (organisation, sys.intern(state), sys.intern(connector_id))

    def drop(self, request_id: str) -> None:
        """The request is held no longer. Its place goes when half of them have gone: each costs the same."""
        entry = self._entries.pop(request_id, None)
        if entry is None:
            return
        organisation = entry[0]
        organisation.held -= 1
        if len(organisation.places) + len(organisation.fresh) > 2 * organisation.held + FEW:
            left = {place for place in (*organisation.places, *organisation.fresh) if place[1] in self._entries}
            organisation.places, organisation.fresh = sorted(left), []

    def newest(self, wanted: Wanted, before: PageKey | None) -> Iterator[str]:
        """Ids of such requests before a place, newest first. To be read at once: not while records come in."""
        organisation = self._organisations.get(wanted.org_id)
        if organisation is None:
            return
        organisation.settle()
        places, entries, last = organisation.places, self._entries, ""
        status, connector_id = wanted.status, wanted.connector_id
        end = len(places) if before is None else bisect_left(places, before)
        for at in range(end - 1, -1, -1):
            name = places[at][1]
            entry = entries.get(name)
            # One that was dropped and came back has its place twice.
            if entry is None or name == last:
                continue
            last = name
            if (status is None or entry[1] == status) and (connector_id is None or entry[2] == connector_id):
                yield name
