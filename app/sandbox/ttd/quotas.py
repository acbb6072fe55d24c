"""What the provider counts: each endpoint for itself and GraphQL apart, per API user. It publishes no numbers: these
are our own."""

from __future__ import annotations

from app.sandbox.quotas import QuotaRule

ENDPOINTS = ("templates", "schedules", "executions", "views", "partners", "advertisers", "graphql")

TTD_QUOTAS: tuple[QuotaRule, ...] = (
    *(QuotaRule(f"ttd_{name}", f"ttd_{name}", "user", 100, 60.0) for name in ENDPOINTS),
    QuotaRule("ttd_authentication", "ttd_authentication", "application", None, 60.0),
)
"""Logins are limited as well, nobody says how: they are only counted until a limit is set."""
