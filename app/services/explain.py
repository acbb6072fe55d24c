"""One request's story in sentences, from its status body (``services.status``, REST). Plain functions.

Every sentence has the instant of what it tells, where there is one. What the body does not know is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.lifecycle import TERMINAL
from app.domain.model import RequestState
from app.services.wording import amount, clock, count, enumerated, millis, moment, ordinal, period, size, span, until

Body = Mapping[str, Any]
NAMED = 3
"""Other requests, or columns, that a sentence names."""

_NEXT: Final[Mapping[str, str]] = {
    "invalid_command": "Correct what it says and ask again.",
    "invalid_request": "Ask for other columns or days: the same request would be refused again.",
    "authorisation": "See that the consent still covers this account, or connect it again with "
    "`connector connectors add`; then ask again.",
    "not_found": "Check the account at the provider, and that the authorisation may see it.",
    "quota": "Ask again later: `connector queue` shows what is left.",
    "too_large": "Ask for fewer days or columns at once.",
    "deadline": "Ask again with a later deadline, or with none.",
    "internal": "Ask again; if it fails again, tell the operators its id.",
}
"""Error class -> what to do next."""
_NEXT_WRITE: Final = {
    **_NEXT,
    "invalid_request": "Correct its target or rows and send another: the same would be refused again.",
    "not_found": "Check the target's sheet and the account at the provider, and that the authorisation may see it.",
    "too_large": "Send its rows in several writes.",
}
_RETRYABLE: Final = "The same request may well succeed later: ask again."
_LOST: Final = "A call had left, so its rows may be in the spreadsheet: look there before you send them again."
_FINAL: Final = "The same request would fail again as it stands."


@dataclass(frozen=True, slots=True)
class Sentence:
    """``at``: the instant it is about as the body has it (ISO 8601), None without one."""

    text: str
    at: str | None = None


def explain(body: Body, now_ms: int, *, org_id: int | None = None) -> list[str]:
    """The sentences of ``story``."""
    return [sentence.text for sentence in story(body, now_ms, org_id=org_id)]


def story(body: Body, now_ms: int, *, org_id: int | None = None) -> list[Sentence]:
    """What was asked, what became of it and what will. ``now_ms``: the reader's now."""
    told = [_asked(body, org_id), *_accepted(body, now_ms), *_company(body)]
    return [*told, *_ENDINGS.get(str(body["status"]), _living)(body, now_ms)]


def _asked(body: Body, org_id: int | None) -> Sentence:
    who = f"{body['connector_type']} ({body['connector_id']})"
    opening = f"{who} was asked" if org_id is None else f"Organisation {org_id} asked {who}"
    if body.get("write"):
        return Sentence(f"{opening} to {writing(body['write'])}, at {body.get('priority')} priority.")
    opening += " for"
    days = "" if body.get("date_range") is None else f", {period(body['date_range'])}"
    return Sentence(f"{opening} {body['report_type']}{days}: {_manner(body)}.")


def writing(write: Body) -> str:
    """``append 3 rows at Leads!A1``."""
    return f"{write['mode']} {count(write['rows'], 'row')} at {write['target']}"


def _manner(body: Body) -> str:
    parts = [_columns(body), f"at {body.get('priority')} priority"]
    labels = body.get("labels") or {}
    if labels:
        parts.append("labelled " + enumerated([f"{name}={value}" for name, value in labels.items()]))
    return ", ".join(parts)


def _columns(body: Body) -> str:
    named = body.get("fields") or ()
    if not named:
        return "all standard columns"
    return f"{count(len(named), 'column')} ({', '.join(named)})" if len(named) <= NAMED else count(len(named), "column")


def _accepted(body: Body, now: int) -> Iterator[Sentence]:
    at = millis(body.get("accepted_at"))
    if at is None:
        yield Sentence("The command is on its way: it is published, and nothing is decided yet.")
        return
    text = f"It was accepted at {moment(at, now)}."
    yield Sentence(text, body["accepted_at"])
    deadline = millis(body.get("deadline"))
    if deadline is not None and body["status"] not in TERMINAL:
        yield Sentence(f"It fails unless it is done by {moment(deadline, now)}.", body["deadline"])


def _company(body: Body) -> Iterator[Sentence]:
    others = body.get("batched_with") or ()
    if not others:
        return
    names = list(others[:NAMED])
    if len(others) > NAMED:
        names.append(f"{amount(len(others) - NAMED)} more")
    verb = "was fetched together" if body["status"] in TERMINAL else "shares its fetch"
    yield Sentence(f"It {verb} with {count(len(others), 'other request')}: {enumerated(names)}.")


def _living(body: Body, now: int) -> Iterator[Sentence]:
    started = millis(body.get("started_at"))
    if started is not None:
        what = "It" if body.get("write") else "Its first fetch"
        yield Sentence(f"{what} began at {moment(started, now)}.", body["started_at"])
    yield from _tries(body)
    if body.get("waiting"):
        yield Sentence(f"{_subject(body)} {reason(body['waiting'], now)}.", body["waiting"].get("until"))
    elif body["status"] == RequestState.RUNNING:
        yield Sentence(f"Calls are being made right now ({body.get('progress') or 0} % done).")
    elif body.get("queue_position"):
        yield Sentence("Nothing but its turn keeps it waiting.")
    yield from _place(body, now)
    yield from _uncertain(body)


def _subject(body: Body) -> str:
    return "Now" if body["waiting"].get("reason") == "provider_running" else "It waits:"


def _tries(body: Body) -> Iterator[Sentence]:
    tries = body.get("attempts") or 0
    if tries:
        yield Sentence(f"{count(tries, 'attempt')} {'has' if tries == 1 else 'have'} been made so far.")


def _place(body: Body, now: int) -> Iterator[Sentence]:
    position, wait_s = body.get("queue_position"), body.get("estimated_wait_seconds")
    parts = []
    if position:
        parts.append(f"is {ordinal(position)} in the queue of {body['connector_type']}")
    if wait_s:
        parts.append(f"should start in about {span(wait_s)} (at {clock(now + int(wait_s * 1000), now)})")
    if parts:
        yield Sentence(f"It {enumerated(parts)}.")


def _uncertain(body: Body) -> Iterator[Sentence]:
    """REST says ``as_of`` null when the planner did not answer; without the field nobody was asked."""
    if "as_of" in body and body["as_of"] is None and body.get("accepted_at"):
        yield Sentence("The planner does not answer just now: place, wait and reason are as they were written last.")


def reason(waiting: Body, now: int) -> str:
    """Why it waits and until when, as the rest of a sentence: ``the quota x is used up until ...``."""
    kind, end = str(waiting.get("reason")), millis(waiting.get("until"))
    told = _REASONS.get(kind)
    return f"{kind.replace('_', ' ')}{until(end, now)}" if told is None else told(waiting, end, now)


def _quota(waiting: Body, end: int | None, now: int) -> str:
    bucket = waiting.get("bucket")
    return f"{'its quota' if bucket is None else f'the quota {bucket}'} is used up{until(end, now)}"


def _circuit(_waiting: Body, end: int | None, now: int) -> str:
    return f"calls for this account are stopped after failures in a row{until(end, now)}"


def _concurrency(_waiting: Body, _end: int | None, _now: int) -> str:
    return "as many fetches as may be are under way, of this account or of all"


def _share(_waiting: Body, end: int | None, now: int) -> str:
    return f"the organisation has used its share, and others go first{until(end, now)}"


def _backing_off(_waiting: Body, end: int | None, now: int) -> str:
    return f"backing off after a failure{until(end, now)}"


def _authorisation(waiting: Body, _end: int | None, _now: int) -> str:
    link = waiting.get("reconnect_url")
    return "somebody has to connect the account again" + (f" at {link}" if link else "")


def _provider(waiting: Body, end: int | None, now: int) -> str:
    percent = waiting.get("percent")
    done = "" if percent is None else f" ({percent} % done)"
    again = "" if end is None or end <= now else f" and is asked again at {moment(end, now)}"
    return f"the provider is making the report{done}{again}"


def _earlier(_waiting: Body, end: int | None, now: int) -> str:
    return f"an earlier write to the same spreadsheet may still land{until(end, now)}" if end else _BEHIND


_BEHIND: Final = "an earlier write to the same spreadsheet has not ended"


def _overlapping(_waiting: Body, _end: int | None, _now: int) -> str:
    return "a fetch of overlapping days is under way"


_REASONS: Final[Mapping[str, Callable[[Body, int | None, int], str]]] = {
    "quota": _quota,
    "circuit_open": _circuit,
    "concurrency": _concurrency,
    "organisation_share": _share,
    "backing_off": _backing_off,
    "authorisation": _authorisation,
    "provider_running": _provider,
    "overlapping_fetch": _overlapping,
    "earlier_write": _earlier,
}


def _ended(body: Body, now: int, how: str) -> tuple[str, str | None]:
    """``It <how> at 12:00:31, 28 s after it was accepted`` and the instant."""
    accepted, ended = millis(body.get("accepted_at")), millis(body.get("completed_at"))
    if ended is None:
        return f"It {how}", None
    after = "" if accepted is None else f", {span((ended - accepted) / 1000)} after it was accepted"
    return f"It {how} at {clock(ended, now)}{after}", body["completed_at"]


def _completed(body: Body, now: int) -> Iterator[Sentence]:
    text, at = _ended(body, now, "was completed")
    yield Sentence(f"{text}.", at)
    result = body.get("result") or {}
    if "rows_written" in result:
        yield from _spent(body)
        yield Sentence(f"It wrote {count(result['rows_written'], 'row')} at {result['target']}.")
        return
    if result.get("stale"):
        yield Sentence(_stale(result, now), result.get("as_of"))
    else:
        yield from _held(body, now) if _reused(body) else _spent(body)
    if "records_fetched" in result:
        yield from _files(result)


def _stale(result: Body, now: int) -> str:
    read_at = millis(result.get("as_of"))
    read = "" if read_at is None else f", the oldest read at {moment(read_at, now)}"
    why = "Calls for its account were stopped after failures in a row"
    return f"{why}: it was served from what was held{read}, which may be stale."


def _reused(body: Body) -> bool:
    return not body.get("attempts") and not body.get("cost")


def _held(body: Body, now: int) -> Iterator[Sentence]:
    as_of, accepted = (body.get("result") or {}).get("as_of"), millis(body.get("accepted_at"))
    read_at = millis(as_of)
    if read_at is None:
        yield Sentence("No call was made for it (0 calls).")
    elif accepted is None or read_at <= accepted:
        yield Sentence(f"All its days were held already, the oldest read at {moment(read_at, now)}: 0 calls.", as_of)
    else:
        yield Sentence(f"Its days were read for other requests at {moment(read_at, now)}: 0 calls of its own.", as_of)


def _spent(body: Body) -> Iterator[Sentence]:
    parts = [f"took {count(body.get('attempts') or 0, 'attempt')}"]
    if body.get("cost") is not None:
        parts.append(_cost(body))
    if body.get("execution_time_ms"):
        end = "last answer" if body.get("write") else "finished file"
        parts.append(f"needed {span(body['execution_time_ms'] / 1000)} from the first call to the {end}")
    yield Sentence(f"It {enumerated(parts)}.")


def _cost(body: Body) -> str:
    others = len(body.get("batched_with") or ())
    share = f" (its share among {count(others + 1, 'request')})" if others else ""
    return f"cost {price(body)}{share}"


def price(body: Body) -> str:
    """``3 calls``, or whatever the cost is counted in."""
    unit = str(body.get("cost_unit") or "calls")
    return count(body["cost"], "call") if unit == "calls" else f"{amount(body['cost'])} {unit}"


def _files(result: Body) -> Iterator[Sentence]:
    files = result.get("files") or ()
    version = result.get("dataset_version")
    where = f"in {count(len(files), 'file')} ({size(result.get('size_bytes') or 0)})" if files else "and needs no file"
    of = "" if version is None else f", version {version} of the data set"
    yield Sentence(f"It got {count(result['records_fetched'], 'row')} {where}{of}.")
    for file in files:
        yield Sentence(f"{file['uri']} holds {_holding(file)}.")


def _holding(file: Body) -> str:
    rows = count(file["rows"], "row")
    if not file.get("from"):
        return rows
    return f"{rows} of {period({'start': file['from'], 'end': file['to']})}"


def _failed(body: Body, now: int) -> Iterator[Sentence]:
    text, at = _ended(body, now, "failed")
    tries = body.get("attempts") or 0
    after = f", after {count(tries, 'attempt')}" if tries else ""
    yield Sentence(f"{text}{after}: {failure(body.get('error') or {})}.", at)
    if body.get("cost"):
        yield Sentence(f"It {_cost(body)}.")
    error, write = body.get("error") or {}, body.get("write") or {}
    # Nobody knows whether the last try arrived: a new request has another stamp, and would append the rows twice.
    lost = error.get("retryable") and write.get("sent")
    yield Sentence(_LOST if lost else next_step(error, write=bool(write)))


def failure(error: Body) -> str:
    """``the message (code)``, with the provider's own code where there is one."""
    provider = f"; the provider says {error['provider_code']}" if error.get("provider_code") else ""
    message = str(error.get("message") or "no reason is given").rstrip(".")
    return f"{message} ({error.get('code') or 'unknown'}{provider})"


def next_step(error: Body, *, write: bool = False) -> str:
    """What to do after this error."""
    known = (_NEXT_WRITE if write else _NEXT).get(str(error.get("class")))
    if error.get("retryable"):
        return known if known is not None and error.get("class") == "quota" else _RETRYABLE
    return known or _FINAL


def _cancelled(body: Body, now: int) -> Iterator[Sentence]:
    text, at = _ended(body, now, "was cancelled")
    if body.get("cost"):
        spent = f"; until then it {_cost(body)}"
    elif body.get("started_at"):
        spent = "; the calls of its fetch are paid for by those it was shared with"
    else:
        spent = " and cost no call"
    yield Sentence(f"{text}{spent}.", at)


_ENDINGS: Final[Mapping[str, Callable[[Body, int], Iterator[Sentence]]]] = {
    RequestState.COMPLETED: _completed,
    RequestState.FAILED: _failed,
    RequestState.CANCELLED: _cancelled,
}
