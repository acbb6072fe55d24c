"""What a sandbox may be told when it starts, and the environment that points a worker at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from app.sandbox.dv360.state import Duration, Fixed, Quirks
from app.sandbox.quotas import GOOGLE_QUOTAS, META_QUOTAS, QuotaRule
from app.sandbox.sheets.quotas import SHEETS_QUOTAS
from app.sandbox.ttd.quotas import TTD_QUOTAS

_CSV_QUOTAS = (QuotaRule("csv_files", "csv_files", "application", 60, 60.0),)
QUOTAS: tuple[QuotaRule, ...] = (*GOOGLE_QUOTAS, *TTD_QUOTAS, *META_QUOTAS, *SHEETS_QUOTAS, *_CSV_QUOTAS)
"""What all providers count."""

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
NAIVE_CLIENT_ID = "sandbox-naive"
NAIVE_CLIENT_SECRET = "sandbox-naive-secret"
"""Another Cloud project: the same consents and the same limits, counted apart. For comparisons."""


def _default_clients() -> Mapping[str, str]:
    return {CLIENT_ID: CLIENT_SECRET, NAIVE_CLIENT_ID: NAIVE_CLIENT_SECRET}


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """``port`` 0 picks a free one. ``report_duration`` how long reports take; ``campaigns`` per advertiser and
    customer, below a million; ``advertisers``, and customers without a manager, in lists; ``expires_in`` seconds of an
    access token, ``meta_expires_in`` of Meta's long-lived one; ``link_seconds`` of a download link; ``latency_s`` added
    to every call; ``retention_months`` how far back a report may reach; ``dialect`` 429 or 403, how DV360 answers at a
    full quota; ``enforce`` False counts quotas without refusing; ``clients`` application id -> secret."""

    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    storage_port: int = 0
    report_duration: Duration = field(default_factory=lambda: Fixed(1.5))
    campaigns: int = 5
    advertisers: int = 3
    expires_in: int = 3_599
    meta_expires_in: int = 5_183_944
    link_seconds: float = 900.0
    latency_s: float = 0.0
    retention_months: int = 24
    quotas: tuple[QuotaRule, ...] = QUOTAS
    dialect: str = "429"
    enforce: bool = True
    quirks: Quirks = field(default_factory=Quirks)
    log: Path | None = None
    clients: Mapping[str, str] = field(default_factory=_default_clients, repr=False)


def provider_env(
    api_url: str, storage_url: str, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
) -> dict[str, str]:
    """The environment that makes a worker take this sandbox for the providers and their token endpoints."""
    dv360, google = "CONNECTOR__PROVIDERS__DV360__", "CONNECTOR__PROVIDERS__GOOGLE__"
    google_ads, sheets = "CONNECTOR__PROVIDERS__GOOGLE_ADS__", "CONNECTOR__PROVIDERS__SHEETS__"
    ttd, meta = "CONNECTOR__PROVIDERS__TTD__", "CONNECTOR__PROVIDERS__META__"
    csv_https = "CONNECTOR__PROVIDERS__CSV_HTTPS__"
    return {
        f"{dv360}REPORTS_URL": f"{api_url}/doubleclickbidmanager/v2/",
        f"{dv360}API_URL": f"{api_url}/displayvideo/v4/",
        f"{dv360}DOWNLOAD_HOSTS": urlsplit(storage_url).netloc,
        f"{dv360}ALLOW_PRIVATE_HOSTS": "true",
        f"{google_ads}API_URL": f"{api_url}/googleads/v26/",
        f"{google_ads}ALLOW_PRIVATE_HOSTS": "true",
        f"{sheets}API_URL": f"{api_url}/sheets/v4/spreadsheets/",
        f"{sheets}ALLOW_PRIVATE_HOSTS": "true",
        f"{ttd}API_URL": f"{api_url}/ttd/v3/",
        f"{ttd}GRAPHQL_URL": f"{api_url}/ttd/graphql",
        f"{ttd}DOWNLOAD_HOSTS": urlsplit(storage_url).netloc,
        f"{ttd}ALLOW_PRIVATE_HOSTS": "true",
        f"{csv_https}API_URL": f"{api_url}/csv/",
        f"{csv_https}ALLOW_PRIVATE_HOSTS": "true",
        f"{meta}API_URL": f"{api_url}/graph/v26.0/",
        f"{meta}ALLOW_PRIVATE_HOSTS": "true",
        f"{meta}TOKEN_URL": f"{api_url}/graph/v26.0/oauth/access_token",
        f"{meta}AUTH_URL": f"{api_url}/graph/v26.0/dialog/oauth",
        f"{meta}CLIENT_ID": client_id,
        f"{meta}CLIENT_SECRET": client_secret,
        f"{google}TOKEN_URL": f"{api_url}/oauth2/token",
        f"{google}AUTH_URL": f"{api_url}/oauth2/auth",
        f"{google}REVOKE_URL": f"{api_url}/oauth2/revoke",
        f"{google}CLIENT_ID": client_id,
        f"{google}CLIENT_SECRET": client_secret,
    }
