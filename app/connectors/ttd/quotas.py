"""The Trade Desk's rules as data. Defaults; settings may override each limit.

The provider publishes no number: it counts per endpoint and API user, in a window of a minute as a rule, and may shrink
it at any time (what it then refuses closes the bucket). 100 a minute is what was agreed on until refusals teach better.
It also counts what its users do in the UI, and advises at most four calls at once per endpoint, which no quota says.
"""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

TEMPLATES = "templates"
"""Charge of looking a report template up."""
SCHEDULES = "schedules"
"""Charge of asking for a report."""
EXECUTIONS = "executions"
"""Charge of a poll."""
FILES = "files"
"""Charge of a link that leads to the API itself: it needs the token, so it is counted as any endpoint, and has a call's
time and not a download's."""
ENTITIES = "entities"
"""Charge of the lists of partners and advertisers: two endpoints under one count, which is the safe side."""
GRAPHQL = "graphql"
"""Charge of a GraphQL question, which REST's endpoints do not count."""
DOWNLOADS = "downloads"
"""Charge of a pre-signed link: the storage behind it counts nothing, but the call is fenced like any other."""

_MINUTE_MS = 60_000
LIMIT = 100
_SOURCE = "assumed: no number is published; the API's guide says per endpoint and user account, as a rule per minute"


def _per_minute(charge: str, source: str = _SOURCE) -> Quota:
    return Quota(f"{charge}_per_minute", ConnectorType.TTD, charge, "user", LIMIT, _MINUTE_MS, None, source)


QUOTAS: tuple[Quota, ...] = tuple(_per_minute(charge) for charge in (TEMPLATES, SCHEDULES, EXECUTIONS, FILES, ENTITIES))
GRAPHQL_QUOTA = _per_minute(GRAPHQL, f"{_SOURCE}; GraphQL is counted apart from REST")
"""Of those who ask in that form."""
