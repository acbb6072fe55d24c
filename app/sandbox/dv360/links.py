"""Signed links to finished reports: they say until when they hold, and prove it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode


def sign_link(storage_url: str, seed: int, query_id: int, report_id: int, expires_at: int) -> str:
    """The download URL of a report, good until ``expires_at`` (unix seconds)."""
    return signed_url(storage_url, seed, link_path(query_id, report_id), expires_at)


def signed_url(storage_url: str, seed: int, path: str, expires_at: int) -> str:
    """The URL of any path of the storage, good until ``expires_at`` (unix seconds)."""
    parameters = {
        "GoogleAccessId": "sandbox",
        "Expires": str(expires_at),
        "Signature": _signature(seed, path, expires_at),
    }
    return f"{storage_url}{path}?{urlencode(parameters)}"


def link_path(query_id: int, report_id: int) -> str:
    """Where the storage origin keeps a report's file."""
    return f"/sandbox-reports/{query_id}/report-{report_id}.csv"


def link_fault(seed: int, path: str, query: Mapping[str, str], now: float) -> tuple[int, str] | None:
    """(status, storage error code) when the link is not good, else None."""
    expires = query.get("Expires", "")
    if not expires.isdigit() or not hmac.compare_digest(
        _signature(seed, path, int(expires)).encode(), query.get("Signature", "").encode()
    ):
        return 403, "SignatureDoesNotMatch"
    return (400, "ExpiredToken") if now >= int(expires) else None


def _signature(seed: int, path: str, expires_at: int) -> str:
    key = hashlib.sha256(f"sandbox links {seed}".encode()).digest()
    return hmac.new(key, f"{path}\n{expires_at}".encode(), hashlib.sha256).hexdigest()
