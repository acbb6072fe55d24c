"""The sections of the settings: types, defaults and what a single value may be.

Spans are seconds (``_s``, ``batch_window``, ``recovery_timeout``). Meanings: docs/reference/settings.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from app.config_reading import duration, listed

DEVELOPMENT_VAULT_KEYS: Final = (
    "development:" + base64.b64encode(hashlib.sha256(b"connector-service development vault").digest()).decode()
)
"""The key ring where none is set, outside production: anybody can read it here, so it protects nothing."""

CRASH_POINTS: Final = (
    "consumed", "in_inbox", "merged", "transaction_sent", "committed", "permit_granted", "lease_given", "token_read",
    "request_sent", "response_begun", "object_spooled", "object_written", "outcome_sent", "offset_committed",
)  # fmt: skip
"""Where a worker can be told to end, each named after what has just happened (``app.streams.crash``)."""

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password")
    return value


def _address(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def _storage_url(value: str) -> str:
    if value.split(":", 1)[0] not in ("file", "s3", "gs", "az", "memory") or ":" not in value:
        raise ValueError("must begin with file:, s3:, gs:, az: or memory:")
    return value


def parse_keys(text: str) -> tuple[tuple[str, bytes], ...]:
    """Key ring text -> (id, 32 bytes) pairs, newest first. Raises ``ValueError`` that quotes no part of the text."""
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), 1):
        name, _, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not _KEY_ID.fullmatch(name) or len(key) != 32 or name in keys:
            raise ValueError(f"entry {number} must be id:base64 of 32 bytes, each id once")
        keys[name] = key
    return tuple(keys.items())


def _key_ring(value: SecretStr) -> SecretStr:
    parse_keys(value.get_secret_value())
    return value


def parse_crash_at(text: str) -> tuple[str, int]:
    """``name`` or ``name:3`` -> (crash point, passing). Raises ``ValueError`` that quotes no part of the text."""
    name, colon, count = text.partition(":")
    if name not in CRASH_POINTS or (colon and not re.fullmatch("[1-9][0-9]{0,8}", count)):
        raise ValueError(f"must be name or name:passing, with a name of {', '.join(CRASH_POINTS)}")
    return name, int(count or 1)


def _crash_at(value: str) -> str:
    parse_crash_at(value)
    return value


Seconds = Annotated[float, BeforeValidator(duration), Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Url = Annotated[str, AfterValidator(_web_address)]
Listed = Annotated[tuple[str, ...], BeforeValidator(listed)]
NO_SECRET: Final = SecretStr("")


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Kafka(Section):
    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr = NO_SECRET
    ssl_ca_file: Path | None = None
    registry_url: Url | None = None
    event_format: Literal["avro", "confluent", "json"] = "avro"
    replication_factor: Count = 1


class Postgres(Section):
    dsn: Annotated[SecretStr, _address("postgresql", "postgres")] = SecretStr("postgresql://127.0.0.1:5432/connector")
    pool_size: Count = 10
    connect_timeout_s: Seconds = 5.0
    acquire_timeout_s: Seconds = 5.0
    command_timeout_s: Seconds = 10.0


class Redis(Section):
    url: Annotated[SecretStr, _address("redis", "rediss")] = SecretStr("redis://127.0.0.1:6379/0")
    timeout_s: Seconds = 1.0


class Storage(Section):
    url: Annotated[str, AfterValidator(_storage_url)] = "file:build/results"
    retention_days: Count = 90


class Http(Section):
    host: str = "0.0.0.0"  # noqa: S104 - a container serves its own interface
    port: Port = 8003
    advertised_url: Url | None = None


class Grpc(Section):
    port: Port = 9003


class Auth(Section):
    jwks_url: Url | None = None
    jwks_file: Path | None = None
    issuer: str | None = None
    audience: str | None = None
    callback_urls: Listed = ()
    create_organizations: bool = True


class Vault(Section):
    keys: Annotated[SecretStr, AfterValidator(_key_ring)] = SecretStr(DEVELOPMENT_VAULT_KEYS)

    def ring(self) -> tuple[tuple[str, bytes], ...]:
        """(key id, 32 bytes) pairs, newest first."""
        return parse_keys(self.keys.get_secret_value())


class OAuthProvider(Section):
    auth_url: Url | None = None
    token_url: Url | None = None
    revoke_url: Url | None = None
    client_id: str = ""
    client_secret: SecretStr = NO_SECRET


class GoogleOAuth(OAuthProvider):
    auth_url: Url | None = "https://accounts.google.com/o/oauth2/v2/auth"
    token_url: Url | None = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    revoke_url: Url | None = "https://oauth2.googleapis.com/revoke"


class Provider(Section):
    api_url: Url
    download_hosts: Listed = ()
    allow_private_hosts: bool = False


PollSchedule = Annotated[tuple[Seconds, ...], BeforeValidator(listed), Field(min_length=1)]
_LADDER_S: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


class Dv360(Provider):
    api_url: Url = "https://displayvideo.googleapis.com/v4/"
    reports_url: Url = "https://doubleclickbidmanager.googleapis.com/v2/"
    download_hosts: Listed = ("storage.googleapis.com",)
    poll_schedule_s: PollSchedule = _LADDER_S


class Ttd(Provider):
    api_url: Url = "https://api.thetradedesk.com/v3/"
    graphql_url: Url = "https://api.thetradedesk.com/graphql"
    form: Literal["myreports", "graphql"] = "myreports"
    view_hosts: Listed = ()
    template_prefix: str = Field("connector", pattern=r"^[ -~]{1,80}$")
    poll_schedule_s: PollSchedule = _LADDER_S


class Meta(Provider, OAuthProvider):
    api_url: Url = "https://graph.facebook.com/v26.0/"
    auth_url: Url | None = "https://www.facebook.com/v26.0/dialog/oauth"
    token_url: Url | None = "https://graph.facebook.com/v26.0/oauth/access_token"  # noqa: S105 - an address
    access_tier: Literal["limited", "full"] = "limited"
    page_size: Annotated[int, Field(ge=25, le=5_000)] = 500
    sync_days: Annotated[int, Field(ge=0, le=31)] = 3
    conversion_actions: Annotated[Listed, Field(min_length=1)] = ("purchase",)
    poll_schedule_s: Annotated[tuple[Seconds, ...], BeforeValidator(listed), Field(min_length=1)] = (
        5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0,
    )  # fmt: skip


class GoogleAds(Provider):
    api_url: Url = "https://googleads.googleapis.com/v26/"
    developer_token: SecretStr = NO_SECRET


class Sheets(Provider):
    api_url: Url = "https://sheets.googleapis.com/v4/spreadsheets/"


class CsvHttps(Provider):
    api_url: Url = ""


class Providers(Section):
    google: GoogleOAuth = GoogleOAuth()
    dv360: Dv360 = Dv360()
    ttd: Ttd = Ttd()
    meta: Meta = Meta()
    google_ads: GoogleAds = GoogleAds()
    sheets: Sheets = Sheets()
    csv_https: CsvHttps = CsvHttps()

    def of(self, connector_type: str) -> Provider:
        """The addresses of a connector type as it is written on the wire."""
        found: Provider = getattr(self, connector_type.lower())
        return found


class Queue(Section):
    max_concurrent: Count = 10
    batch_window: Annotated[Seconds, Field(ge=1)] = 300.0
    max_live_requests: Count = 100_000
    aging: Seconds = 900.0
    floor_share: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    premium_weight: Annotated[int, Field(ge=1, le=100)] = 2
    backfill_slice_days: Count = 31


Share = Annotated[Decimal, Field(ge=0, le=Decimal("0.9"), decimal_places=4, allow_inf_nan=False)]
"""Of a limit that is kept for a few; never all of it."""


class RateLimit(Section):
    requests_per_minute: Count | None = None
    requests_per_hour: Count | None = None
    daily_limit: Count | None = None
    reserve: Share | None = None
    max_remote_jobs: Count = 100
    shadow: bool = False


class RateLimits(Section):
    dv360: RateLimit = RateLimit()
    ttd: RateLimit = RateLimit()
    meta: RateLimit = RateLimit()
    google_ads: RateLimit = RateLimit()
    sheets: RateLimit = RateLimit()
    csv_https: RateLimit = RateLimit()

    def of(self, connector_type: str) -> RateLimit:
        """The limits of a connector type as it is written on the wire."""
        found: RateLimit = getattr(self, connector_type.lower())
        return found


class CircuitBreaker(Section):
    failure_threshold: Count = 5
    recovery_timeout: Seconds = 30.0
    success_threshold: Count = 2


class Streams(Section):
    group: str = Field("connector-service", min_length=1)
    topic_prefix: str = Field("connector.", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    session_timeout_s: Seconds = 15.0
    heartbeat_s: Seconds = 3.0
    lease_s: Seconds = 15.0
    permit_valid_s: Seconds = 10.0
    tick_s: Seconds = 1.0
    closed_mark_s: Seconds = 3600.0
    crash_at: Annotated[str, AfterValidator(_crash_at)] | None = None


class Reuse(Section):
    open_s: Seconds = 900.0
    settling_s: Seconds = 21_600.0


class Retry(Section):
    max_attempts: Count = 3
    base_s: Seconds = 5.0
    cap_s: Seconds = 300.0


class Call(Section):
    timeout_s: Seconds = 120.0
    stream_timeout_s: Seconds = 300.0
    token_timeout_s: Seconds = 25.0


Price = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=4, allow_inf_nan=False)]
"""Of one call. Costs are told in four decimals; what is finer could not be split without a rest."""


class CostPerCall(Section):
    unit: str = Field("calls", min_length=1)
    dv360: Price = Decimal(1)
    ttd: Price = Decimal(1)
    meta: Price = Decimal(1)
    google_ads: Price = Decimal(1)
    sheets: Price = Decimal(1)
    csv_https: Price = Decimal(1)

    def of(self, connector_type: str) -> Decimal:
        """The cost of one call of a connector type as it is written on the wire."""
        found: Decimal = getattr(self, connector_type.lower())
        return found


class Worker(Section):
    max_steps: Count = 20


class Log(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "json", "text"] = "auto"
