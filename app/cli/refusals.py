"""What REST's refusals (docs/reference/problems.md) mean for somebody at a terminal: a text, an exit code, and the next
command to type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.cli.caller import TOKEN, Caller
from app.cli.failures import FAILED, NOT_FOUND, NOT_READY, USAGE, CommandFailed
from app.cli.output import printable

_CODES: Mapping[int, int] = {400: USAGE, 404: NOT_FOUND, 422: USAGE, 429: NOT_READY, 501: USAGE, 503: NOT_READY}
_NEXT: Mapping[str, str] = {
    "priority_not_allowed": "the same with --priority normal",
    "connector_not_ready": "connector connectors list",
    "request_in_progress": "the same again in a moment",
    "idempotency_mismatch": "the same with another --idempotency-key",
    "queue_full": "connector queue",
    "broker_unavailable": "the same again: what was taken after all is not fetched twice",
    "view_unavailable": "the same again in a moment",
    "keys_unavailable": "the same again in a moment",
    "internal": "the same again; if it stays, tell the operators the time",
}
_DETAIL_SAYS_ALL = ("already_ended", "already_running", "insufficient_scope")


def refusal(status: int, body: Mapping[str, Any], path: str, caller: Caller) -> CommandFailed:
    """The failure for a problem+json answer to a call of ``path`` (below the connectors)."""
    slug = str(body.get("type", "")).rpartition("/")[2]
    return CommandFailed(
        _text(status, slug, body, path, caller), advice=_advice(slug, path, caller), code=_CODES.get(status, FAILED)
    )


def _text(status: int, slug: str, body: Mapping[str, Any], path: str, caller: Caller) -> str:
    title = printable(str(body.get("title") or f"the service answered HTTP {status}"))
    detail = printable(str(body.get("detail") or ""))
    faults = body.get("errors") or ()
    if slug == "not_found":
        return _missing(path, caller)
    if slug == "unauthenticated":
        whose = TOKEN if caller.given else "the token of the local stack's issuer"
        return f"{whose} is not accepted: it is no token, expired, or of another issuer"
    if slug in _DETAIL_SAYS_ALL and detail:
        return detail
    if faults:
        return "\n".join([f"{_lower(title)}:", *(_fault(fault) for fault in faults)])
    return f"{_lower(title)}: {detail}" if detail else _lower(title)


def _fault(fault: Mapping[str, Any]) -> str:
    pointer, detail = fault.get("pointer"), printable(str(fault.get("detail")))
    return f"  {printable(str(pointer))}: {detail}" if pointer else f"  {detail}"


def _missing(path: str, caller: Caller) -> str:
    of = "" if caller.org_id is None else f" of organisation {caller.org_id}"
    if path.startswith("/requests/"):
        return f"there is no request {path.rpartition('/')[2]}{of}"
    if _commands(path):
        return f"there is no such connector{of}"
    return f"there is nothing at {path or '/'}: is this the service, and is it of this version?"


def _advice(slug: str, path: str, caller: Caller) -> str:
    if slug == "not_found":
        return "connector connectors list" if _commands(path) else "check the id, or name the organisation with --org"
    if slug == "already_running":
        return f"connector watch {path.rpartition('/')[2]}"
    if slug == "already_ended":
        return f"connector status {path.rpartition('/')[2]}"
    if slug == "unauthenticated":
        return f"export {TOKEN}=<a new one>" if caller.given else f"connector up, or export {TOKEN}=..."
    if slug == "insufficient_scope":
        return f"export {TOKEN}=<one with that scope>"
    if slug in _NEXT:
        return _NEXT[slug]
    return f"connector {path.rpartition('/')[2]} --help" if _commands(path) else ""


def _commands(path: str) -> bool:
    """Whether a command is given there."""
    return path == "/fetch" or path.endswith("/write")


def _lower(title: str) -> str:
    """A title as the beginning of ``error: ...``; names and abbreviations keep their capitals."""
    return title[:1].lower() + title[1:] if title[1:2].islower() or title[1:2] == " " else title
