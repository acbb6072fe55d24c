"""The service's settings: environment over file over defaults, judged as a whole, frozen.

``Settings.load`` is the only reader of the environment. Names, defaults and meanings: docs/reference/settings.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app import config_sections as sections
from app.config_reading import Reading, nested, paths, read, variable
from app.domain.model import Quota

_DEVELOPMENT_SECRETS: Final = frozenset({"sandbox-secret", sections.DEVELOPMENT_VAULT_KEYS})
_MUST_BE_SET: Final = (
    "kafka.bootstrap_servers", "postgres.dsn", "redis.url", "storage.url", "vault.keys", "auth.issuer", "auth.audience",
)  # fmt: skip
"""What has no sensible default in production."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_WIDEST: Final = ("application", "account", "user")
_NO_DATA: Final = frozenset({"entities", "write", "downloads"})
"""Charges that calls for data do not spend."""


class SettingsError(Exception):
    """The settings cannot be used. ``faults``: one line each, naming the variable and never its value."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Settings(BaseSettings):
    """All settings, frozen. Made by ``load``; ``source`` tells where each came from."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, enable_decoding=False)

    config: Path | None = None
    profile: Literal["development", "production"] = "development"
    kafka: sections.Kafka = sections.Kafka()
    postgres: sections.Postgres = sections.Postgres()
    redis: sections.Redis = sections.Redis()
    storage: sections.Storage = sections.Storage()
    http: sections.Http = sections.Http()
    grpc: sections.Grpc = sections.Grpc()
    auth: sections.Auth = sections.Auth()
    vault: sections.Vault = sections.Vault()
    providers: sections.Providers = sections.Providers()
    queue: sections.Queue = sections.Queue()
    rate_limit: sections.RateLimits = sections.RateLimits()
    circuit_breaker: sections.CircuitBreaker = sections.CircuitBreaker()
    streams: sections.Streams = sections.Streams()
    reuse: sections.Reuse = sections.Reuse()
    retry: sections.Retry = sections.Retry()
    call: sections.Call = sections.Call()
    cost_per_call: sections.CostPerCall = sections.CostPerCall()
    worker: sections.Worker = sections.Worker()
    log: sections.Log = sections.Log()

    _sources: dict[str, str] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what ``load`` hands over: making an instance reads no environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, file: Path | None = None) -> Settings:
        """Reads environment (``os.environ`` unless given) and file (``CONNECTOR__CONFIG`` unless given).

        Raises ``SettingsError`` with every fault at once.
        """
        environ = os.environ if environ is None else environ
        named = environ.get(variable("config"))
        reading = read(cls, environ, file or (Path(named) if named else None))
        settings, bad = _validated(reading)
        faults = [*reading.faults, *_rules(settings, reading, bad)]
        if faults:
            raise SettingsError(faults)
        settings.note_sources(reading.sources)
        return settings

    @property
    def production(self) -> bool:
        return self.profile == "production"

    def note_sources(self, sources: Mapping[str, str]) -> None:
        """For ``load``: where the settings came from, by path."""
        self._sources.update(sources)

    def source(self, path: str) -> str:
        """Where a setting came from: ``environment <variable>``, ``file <path>`` or ``default``."""
        return self._sources.get(path, "default")


def _validated(reading: Reading) -> tuple[Settings, set[str]]:
    """The settings, with defaults for the values that are faulty; their paths, and their faults in ``reading``."""
    values = {"auth.create_organizations": reading.values.get("profile") != "production", **reading.values}
    bad: set[str] = set()
    while True:
        try:
            return Settings(**nested({path: value for path, value in values.items() if path not in bad})), bad
        except ValidationError as error:
            bad |= _note_faults(error, values, reading)


def _note_faults(error: ValidationError, values: Mapping[str, Any], reading: Reading) -> set[str]:
    noted: set[str] = set()
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        parts = [str(part) for part in fault["loc"]]
        path = next(p for end in range(len(parts), 0, -1) if (p := ".".join(parts[:end])) in values)
        if path not in noted:
            reading.faults.append(_line(path, reading, fault["msg"].removeprefix("Value error, ")))
        noted.add(path)
    return noted


def _line(path: str, reading: Reading, message: str) -> str:
    source = reading.sources.get(path, "")
    place = f" (connector.{path} in {source.removeprefix('file ')})" if source.startswith("file ") else ""
    return f"{variable(path)}{place}: {message[:1].lower()}{message[1:]}"


def _rules(settings: Settings, reading: Reading, bad: set[str]) -> Iterator[str]:
    """Faults that more than one setting makes, and those of the production profile."""
    found = _together(settings)
    if settings.production:
        found |= _production(settings) | {
            p: "must be set in production" for p in _MUST_BE_SET if p not in reading.values
        }
    for path, message in found.items():
        if path not in bad:
            yield _line(path, reading, message)


def _together(settings: Settings) -> dict[str, str]:
    streams, kafka, found = settings.streams, settings.kafka, dict[str, str]()
    if streams.lease_s < 2 * streams.heartbeat_s:
        found["streams.lease_s"] = f"must be at least twice {variable('streams.heartbeat_s')}"
    if settings.retry.cap_s < settings.retry.base_s:
        found["retry.cap_s"] = f"must not be below {variable('retry.base_s')}"
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_username:
            found["kafka.sasl_username"] = f"must be set for {variable('kafka.security_protocol')}"
        if not kafka.sasl_password.get_secret_value():
            found["kafka.sasl_password"] = f"must be set for {variable('kafka.security_protocol')}"
    if kafka.event_format == "confluent" and kafka.registry_url is None:
        found["kafka.registry_url"] = f"must be set for {variable('kafka.event_format')}"
    return found


def _production(settings: Settings) -> dict[str, str]:
    """Path -> why production may not start (spec: no development secrets, TLS to Kafka, a password to Redis)."""
    found: dict[str, str] = {}
    if "SSL" not in settings.kafka.security_protocol:
        found["kafka.security_protocol"] = "must be SSL or SASL_SSL in production"
    if not urlsplit(settings.redis.url.get_secret_value()).password:
        found["redis.url"] = "must hold a password in production"
    if settings.auth.jwks_url is None and settings.auth.jwks_file is None:
        found["auth.jwks_url"] = f"must be set in production, or {variable('auth.jwks_file')}"
    for path in paths(Settings):
        value = _value(settings, path)
        if isinstance(value, SecretStr) and value.get_secret_value() in _DEVELOPMENT_SECRETS:
            found[path] = "must not be a development secret in production"
    return found


def _value(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """(name of the variable, value with secrets masked, source) of every setting, in order."""
    return [(variable(path), _shown(_value(settings, path)), settings.source(path)) for path in paths(Settings)]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _without_secrets(value.get_secret_value())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(_shown, value)) if isinstance(value, tuple) else str(value)


def _without_secrets(text: str) -> str:
    """Server, port and path of an address; of any other secret only that it is set."""
    if "://" not in text:
        return "***" if text else ""
    parts = urlsplit(text)
    user = "***@" if "@" in parts.netloc else ""
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def effective_quotas(defaults: Sequence[Quota], settings: Settings) -> tuple[Quota, ...]:
    """The declared quotas of any connector types with the settings' numbers in them (spec section 5).

    ``requests_per_minute`` sets the 60 s bucket of widest scope that data calls spend, ``requests_per_hour`` the
    account's hour, ``daily_limit`` the application's day, each with its own calendar. Where a provider has no such
    bucket, one is added: a limit that somebody set is kept. ``reserve`` is that of all quotas of an hour or longer.
    """
    found: list[Quota] = []
    for connector_type in dict.fromkeys(quota.connector_type for quota in defaults):
        quotas = [quota for quota in defaults if quota.connector_type == connector_type]
        limit = settings.rate_limit.of(connector_type)
        quotas = _overridden(quotas, "requests_per_minute", limit.requests_per_minute, 60_000, _WIDEST)
        quotas = _overridden(quotas, "requests_per_hour", limit.requests_per_hour, _HOUR_MS, ("account",))
        quotas = _overridden(quotas, "daily_limit", limit.daily_limit, _DAY_MS, ("application",))
        if limit.reserve is not None:
            quotas = [replace(q, reserve=limit.reserve) if q.period_ms >= _HOUR_MS else q for q in quotas]
        found += [replace(quota, enforced=False) for quota in quotas] if limit.shadow else quotas
    return tuple(found)


def _overridden(quotas: list[Quota], key: str, limit: int | None, period_ms: int, scopes: Sequence[str]) -> list[Quota]:
    """The quotas with ``limit`` in those of ``period_ms`` and data, of the first scope that has any."""
    if limit is None:
        return quotas
    first = quotas[0]
    source = f"setting rate_limit.{first.connector_type.lower()}.{key}"
    for scope in scopes:
        meant = [q for q in quotas if q.scope == scope and q.period_ms == period_ms and q.charge not in _NO_DATA]
        if meant:
            return [replace(q, limit=limit, source=source) if q in meant else q for q in quotas]
    charges = dict.fromkeys(q.charge for q in quotas if q.charge not in _NO_DATA)
    added = [
        Quota(f"{charge} {key}", first.connector_type, charge, scopes[0], limit, period_ms, source=source)
        for charge in charges
    ]
    return [*quotas, *added]
