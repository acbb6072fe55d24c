"""Google Sheets' rules as data. Defaults; settings may override each limit.

A call is a read or a write, whatever it carries: a batch counts once.
"""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

READ = "read"
"""Charge of every call that changes nothing: metadata, values, developer metadata."""
WRITE = "write"
"""Charge of every call that changes a spreadsheet."""

READS, READS_OF_USER = "reads_per_minute", "reads_per_minute_user"
WRITES, WRITES_OF_USER = "writes_per_minute", "writes_per_minute_user"

_MINUTE_MS = 60_000
_LIMITS = "developers.google.com/workspace/sheets/api/limits"


def _quota(name: str, charge: str, scope: str, limit: int, said: str) -> Quota:
    return Quota(name, ConnectorType.SHEETS, charge, scope, limit, _MINUTE_MS, None, f"{_LIMITS}: {said}")


QUOTAS: tuple[Quota, ...] = (
    _quota(READS, READ, "application", 300, "read requests, per minute per project"),
    _quota(READS_OF_USER, READ, "user", 60, "read requests, per minute per user per project"),
    _quota(WRITES, WRITE, "application", 300, "write requests, per minute per project"),
    _quota(WRITES_OF_USER, WRITE, "user", 60, "write requests, per minute per user per project"),
)
