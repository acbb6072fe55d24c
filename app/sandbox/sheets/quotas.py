"""What Google Sheets counts: reads and writes apart, of the Cloud project and of each of its users."""

from __future__ import annotations

from app.sandbox.quotas import QuotaRule

READS, WRITES = "sheets_reads", "sheets_writes"

SHEETS_QUOTAS: tuple[QuotaRule, ...] = (
    QuotaRule("sheets_reads_project", READS, "application", 300, 60.0),
    QuotaRule("sheets_reads_user", READS, "user", 60, 60.0),
    QuotaRule("sheets_writes_project", WRITES, "application", 300, 60.0),
    QuotaRule("sheets_writes_user", WRITES, "user", 60, 60.0),
)
