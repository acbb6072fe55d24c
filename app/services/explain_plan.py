"""What a dry run says, in sentences: what is held, what would be fetched, which quotas would be spent, and when the
data would be there. Plain functions over the answer of ``POST /connectors/fetch?dry_run=true``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.services.explain import reason
from app.services.wording import amount, clock, count, enumerated, millis, moment, ordinal, period, span

Body = Mapping[str, Any]


def planned(body: Body, now_ms: int) -> list[str]:
    """The plan, in the order in which a person asks. ``now_ms``: the reader's now."""
    if body["outcome"] == "queue_full":
        return [
            "It would be refused: the queue of this connector type is full. Ask again when some requests have ended."
        ]
    told = [*_days(body["days"]), *_batches(body), *_calls(body, now_ms), *_wait(body, now_ms)]
    return [*told, "Nothing was asked for and nothing was spent: this is a plan."]


def _days(days: Body) -> Iterator[str]:
    parts = []
    if days["held"]:
        parts.append(f"{amount(days['held'])} {_is(days['held'])} held already")
    if days["running"]:
        parts.append(f"{amount(days['running'])} {_is(days['running'])} being fetched by others")
    if days["to_fetch"]:
        parts.append(f"{amount(days['to_fetch'])} would be fetched")
    asked, kinds = days["asked"], [days["held"], days["running"], days["to_fetch"]]
    if asked in kinds:
        whole = "The day" if asked == 1 else f"All {amount(asked)} days"
        yield f"{whole} {parts[0].partition(' ')[2]}."
    else:
        yield f"Of {count(asked, 'day')}, {enumerated(parts)}."


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _batches(body: Body) -> Iterator[str]:
    if body["outcome"] == "reuse":
        yield "The answer would be there at once."
    if body["outcome"] == "stale":
        yield "Calls for the account are stopped: it would be served at once from what is held, which may be stale."
    for batch in body.get("batches") or ():
        shared = f", shared with {count(batch['members'], 'other request')}" if batch["members"] else ""
        kind = "A new fetch" if batch["batch_id"] is None else f"The fetch {batch['batch_id']}"
        yield f"{kind} would bring {period(batch)}{shared}."


def _calls(body: Body, now: int) -> Iterator[str]:
    calls = {kind: number for kind, number in (body.get("calls") or {}).items() if number}
    if not calls:
        yield "It would spend no call of its own."
        return
    kinds = enumerated([f"{amount(number)} of {kind}" for kind, number in calls.items()])
    yield f"It would spend at least {count(sum(calls.values()), 'call')} ({kinds})."
    for bucket in body.get("buckets") or ():
        yield _bucket(bucket, now)


def _bucket(bucket: Body, now: int) -> str:
    reset = millis(bucket.get("reset_at"))
    free = "" if reset is None or reset <= now else f"; all of it is free again at {moment(reset, now)}"
    left = f"{amount(bucket['remaining'])} of {count(bucket['limit'], 'call')}"
    return f"The quota {bucket['bucket']} has {left} left and would lose {amount(bucket['calls'])}{free}."


def _wait(body: Body, now: int) -> Iterator[str]:
    if body["outcome"] == "stale":
        return
    if body.get("waiting"):
        yield f"It would wait: {reason(body['waiting'], now)}."
    position, wait_s = body.get("queue_position"), body.get("estimated_wait_seconds")
    parts = []
    if position:
        parts.append(f"stand {ordinal(position)} in the queue")
    if wait_s:
        parts.append(f"start in about {span(wait_s)} (at {clock(now + int(wait_s * 1000), now)})")
    if parts:
        yield f"It would {enumerated(parts)}."
