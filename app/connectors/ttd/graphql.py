"""Reports of The Trade Desk asked for and answered in one call: GraphQL on demand, without template, schedule or file.

A question names no time zone, so only accounts whose days are UTC's are asked about here (``is_fit``). Its errors come
with status 200, beside data or without: whatever says ``errors`` is a refusal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import date
from typing import Any

from app.connectors.ahead import parsed_ahead
from app.connectors.failures import TokenRefused, bad_response, interrupted, truncated
from app.connectors.ttd import errors, reports
from app.connectors.ttd.quotas import GRAPHQL, LIMIT
from app.domain.errors import PermitDenied, ProviderError
from app.domain.messages import Offer
from app.ports import Calls, HttpAnswer

GRAPHQL_URL = "https://api.thetradedesk.com/graphql"

_UTC = frozenset({"UTC", "Etc/UTC"})
_REPORTING = """reporting { generalReporting(where: {date: {gte: $from, lte: $to}}) {
      nodes { dimensions { time { day } } metrics { impressions clicks conversions spend { advertiserCurrency } } }
      pageInfo { hasNextPage } } }"""
_BY_CAMPAIGN = f"""query C($id: ID!, $from: DateTime, $to: DateTime, $first: Int, $after: String) {{
  advertiser(id: $id) {{ id campaigns(first: $first, after: $after) {{
    nodes {{ id name {_REPORTING} }}
    pageInfo {{ hasNextPage endCursor }} }} }} }}"""
_BY_ACCOUNT = f"""query A($id: ID!, $from: DateTime, $to: DateTime) {{
  advertiser(id: $id) {{ id {_REPORTING} }} }}"""
_MOST_CAMPAIGNS = 1_000
"""Of a page, as the provider's own example asks for them."""
_PAGE_ROWS = 10_000
"""Rows of a page, at most, unless one campaign has more: about 1.5 MB of an answer's 4."""
_MOST_PAGES = 10_000


def is_fit(offer: Offer) -> bool:
    """Whether the answer's days would be the account's own: those of UTC."""
    return offer.connector.time_zone in _UTC


async def batches(offer: Offer, calls: Calls, url: str) -> AsyncGenerator[Any, None]:
    """Record batches, one for each page. Raises ``ProviderError`` for what is not provably whole."""
    fields = reports.columns(offer)

    def parse(owners: list[Any]) -> Any:
        # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
        from app.connectors.ttd import graphql_rows

        return graphql_rows.parse(owners, offer, fields)

    async with aclosing(parsed_ahead(_pages(offer, calls, url), parse)) as parsed:
        async for batch in parsed:
            yield batch


async def _pages(offer: Offer, calls: Calls, url: str) -> AsyncGenerator[list[Any], None]:
    """What has figures of its own, page by page: campaigns, or the one advertiser."""
    variables: dict[str, Any] = {
        "id": offer.connector.account_id,
        # Both ends are included. Whether the last is an instant or a day is not said; this is right for both.
        "from": f"{date.fromordinal(offer.start).isoformat()}T00:00:00Z",
        "to": f"{date.fromordinal(offer.end).isoformat()}T23:59:59Z",
    }
    if reports.is_by_account(offer):
        yield [await _advertiser(offer, calls, url, {"query": _BY_ACCOUNT, "variables": variables}, data=True)]
        return
    variables["first"] = max(1, min(_MOST_CAMPAIGNS, _PAGE_ROWS // (offer.end - offer.start + 1)))
    seen: set[str] = set()
    cursors: set[str] = set()
    for made in range(1, _MOST_PAGES + 1):
        try:
            # The first call's instant is that of the data set's version (R7).
            body = {"query": _BY_CAMPAIGN, "variables": variables}
            advertiser = await _advertiser(offer, calls, url, body, data=made == 1)
        except PermitDenied as denied:
            raise interrupted(denied, made, LIMIT) from None
        campaigns = _object(advertiser, "campaigns")
        yield _new(campaigns, seen)
        after = _following(_object(campaigns, "pageInfo"))
        if after is None:
            return
        if after in cursors:
            raise bad_response("unreadable_answer", "the list of campaigns goes in a circle")
        cursors.add(after)
        variables = {**variables, "after": after}
    raise bad_response("unreadable_answer", "the list of campaigns does not end", retryable=False)


async def _advertiser(
    offer: Offer, calls: Calls, url: str, body: Mapping[str, Any], *, data: bool
) -> Mapping[str, Any]:
    reading = Reading()
    await calls.request("POST", url, charge=GRAPHQL, data=data, json=body, check=reading)
    advertiser = _object(reading.content, "advertiser")
    if advertiser.get("id") != offer.connector.account_id:
        raise bad_response("wrong_account", "the answer is about another account", retryable=False)
    return advertiser


class Reading:
    """Looks at an answer while its permit is out (``Calls.request``'s ``check``): ``content`` is its ``data``, with
    numbers as the texts they were. Raises ``ProviderError``, and ``TokenRefused`` where another token may help."""

    def __init__(self) -> None:
        self.content: Mapping[str, Any] = {}

    def __call__(self, answer: HttpAnswer) -> None:
        try:
            # No figure passes through a float.
            found = json.loads(answer.body, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            found = None
        if answer.status != 200 or (isinstance(found, dict) and found.get("errors") not in (None, [])):
            failure = errors.classify("graphql", answer.status, answer.headers, answer.body)
            raise TokenRefused(failure) if failure.code == "token_rejected" else ProviderError(failure)
        if found is None and answer.body.lstrip().startswith(b"{"):
            raise truncated("the answer ended early, or is no JSON after its beginning")
        self.content = _object(found if isinstance(found, dict) else {}, "data")


def _object(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    if isinstance(found, dict):
        return found
    raise bad_response("unreadable_answer", f"the answer has no {name} where one should be")


def _new(campaigns: Mapping[str, Any], seen: set[str]) -> list[Any]:
    """The page's campaigns, none of which may have come before: pages that shifted would count its figures twice."""
    nodes = campaigns.get("nodes")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise bad_response("unreadable_answer", "the list of campaigns is not the list it should be")
    for node in nodes:
        name = node.get("id")
        if not isinstance(name, str) or not name or name in seen:
            raise bad_response("unreadable_answer", "a campaign has no id, or comes twice")
        seen.add(name)
    return nodes


def _following(info: Mapping[str, Any]) -> str | None:
    """The cursor of the next page, None after the last one, which says that it is."""
    more, after = info.get("hasNextPage"), info.get("endCursor")
    if more is False:
        return None
    if more is not True or not isinstance(after, str) or not 0 < len(after) <= 4096:
        raise bad_response("unreadable_answer", "a page does not say whether it is the last")
    return after
