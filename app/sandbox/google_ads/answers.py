"""Answers of search and searchStream around the rows: batches in an array, or one page with a token for the next."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import orjson

from app.sandbox.google_ads.catalogue import in_json
from app.sandbox.google_ads.errors import AdsError
from app.sandbox.google_ads.plan import Plan
from app.sandbox.google_ads.rows import Rows, texts

PAGE_ROWS = 10_000
"""Rows of a page of search and of a batch of searchStream; fixed by the provider."""
ROWS_PER_BLOCK = 500
_BATCH_BLOCKS = PAGE_ROWS // ROWS_PER_BLOCK
_HELD_BACK = 20
"""Characters that a block leaves to the next one, so that a stream cut between blocks is cut inside a row."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: the number of its first row, and how many rows the pages before had."""

    number: int = 0
    sent: int = 0


def stream(plan: Plan, rows: Rows, request_id: str) -> Iterator[str]:
    """The array of batches, in blocks of up to ``ROWS_PER_BLOCK`` rows."""
    closing = f"{_members(plan, rows)},{_member('requestId', request_id)}}}"
    held = ""
    for block in _batches(islice(texts(rows), plan.limit), closing):
        whole = held + block
        held = whole[-_HELD_BACK:]
        yield whole[:-_HELD_BACK]
    yield held


def block_count(rows: Rows) -> int:
    """About how many blocks the array comes in."""
    return rows.count // ROWS_PER_BLOCK + 2


def _batches(found: Iterator[str], closing: str) -> Iterator[str]:
    for number in count():
        block = list(islice(found, ROWS_PER_BLOCK))
        if not block:
            yield f"],{closing}]" if number else f"[{{{closing}]"
            return
        if number == 0:
            opening = '[{"results":['
        else:
            opening = f'],{closing},\n{{"results":[' if number % _BATCH_BLOCKS == 0 else ","
        yield opening + ",".join(block)


def page(plan: Plan, rows: Rows, at: Position, digest: str, *, total: bool) -> str:
    """One page from a position on. ``results`` is absent when there are no rows, ``nextPageToken`` when no more come;
    ``total`` adds how many rows there are, whatever the query's limit."""
    size = PAGE_ROWS if plan.limit is None else min(PAGE_ROWS, plan.limit - at.sent)
    shown: list[str] = []
    members: list[str] = []
    for number in range(at.number, rows.count):
        if (text := rows.at(number)) is None:
            continue
        if len(shown) == size:
            if plan.limit is None or at.sent + size < plan.limit:
                members.append(_member("nextPageToken", _token(Position(number, at.sent + size), digest)))
            break
        shown.append(text)
    if shown:
        members.insert(0, f'"results":[{",".join(shown)}]')
    if total:
        members.append(_member("totalResultsCount", str(sum(1 for _ in texts(rows)))))
    return "{" + ",".join([*members, _members(plan, rows)]) + "}"


def digest_of(customer_id: int, query: str) -> str:
    """What a page token is good for: this query on this account."""
    return hashlib.sha256(f"{customer_id}\n{query}".encode()).hexdigest()[:16]


def read_token(token: str) -> tuple[Position, str] | None:
    """(position, digest) of a token of ours, else None."""
    try:
        prefix, number, sent, digest = base64.urlsafe_b64decode(token).decode().split(":")
        return (Position(int(number), int(sent)), digest) if prefix == "ads" else None
    except (binascii.Error, ValueError):
        return None


def position_of(token: str, digest: str) -> Position:
    """Where to go on; AdsError when the token is for something else."""
    if not token:
        return Position()
    found = read_token(token)
    if found is None or found[1] != digest:
        raise AdsError("requestError", "INVALID_PAGE_TOKEN", "Page token is invalid.")
    return found[0]


def _token(at: Position, digest: str) -> str:
    return base64.urlsafe_b64encode(f"ads:{at.number}:{at.sent}:{digest}".encode()).decode()


def _members(plan: Plan, rows: Rows) -> str:
    """What every answer ends with. The consumption is made up, and not 0, which JSON would leave out."""
    mask = ",".join(".".join(map(in_json, name.split("."))) for name in plan.select)
    return f"{_member('fieldMask', mask)},{_member('queryResourceConsumption', str(rows.count + 1))}"


def _member(name: str, value: str) -> str:
    return f'"{name}":{orjson.dumps(value).decode()}'
