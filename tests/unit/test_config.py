"""Settings: where they come from, what is refused, and how that is said."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.bootstrap import rules_of
from app.config import Settings, SettingsError, describe
from app.config_reading import duration, paths, variable
from app.connectors.registry import connectors_of
from app.domain.breaker import BreakerPolicy

KEY = base64.b64encode(b"k" * 32).decode()
PRODUCTION = {
    "CONNECTOR__PROFILE": "production",
    "CONNECTOR__KAFKA__BOOTSTRAP_SERVERS": "broker:9093",
    "CONNECTOR__KAFKA__SECURITY_PROTOCOL": "SSL",
    "CONNECTOR__POSTGRES__DSN": "postgresql://service:canary-dsn@db/connector",
    "CONNECTOR__REDIS__URL": "rediss://:canary-redis@cache:6379/0",
    "CONNECTOR__STORAGE__URL": "s3://results",
    "CONNECTOR__VAULT__KEYS": f"k1:{KEY}",
    "CONNECTOR__AUTH__JWKS_URL": "https://id.example/keys",
    "CONNECTOR__AUTH__ISSUER": "https://id.example",
    "CONNECTOR__AUTH__AUDIENCE": "connector",
}
SEED = """
connector:
  queue:
    max_concurrent: 10
    batch_window: 5m
  rate_limit:
    dv360:
      requests_per_minute: 50
      daily_limit: 10000
    ttd:
      requests_per_minute: 100
  circuit_breaker:
    failure_threshold: 5
    recovery_timeout: 30s
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "connector.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def faults(environ: dict[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, file=file)
    return caught.value.faults


def test_defaults_need_nothing() -> None:
    settings = Settings.load({})
    assert (settings.queue.max_concurrent, settings.queue.batch_window) == (10, 300.0)
    assert settings.streams.topic_prefix == "connector."
    assert list(settings.providers.dv360.poll_schedule_s) == [5, 10, 20, 40, 80, 160, 300]
    assert settings.cost_per_call.of("GOOGLE_ADS") == Decimal(1)
    assert settings.auth.create_organizations is True


def test_the_process_environment_is_read_only_by_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR__QUEUE__MAX_CONCURRENT", "3")
    monkeypatch.setenv("QUEUE", "nonsense")
    assert Settings.load().queue.max_concurrent == 3
    assert Settings.load({}).queue.max_concurrent == 10


def test_the_seeds_file_is_understood(tmp_path: Path) -> None:
    settings = Settings.load({}, file=written(tmp_path, SEED))
    assert settings.queue.batch_window == 300.0
    assert settings.rate_limit.of("DV360").daily_limit == 10_000
    assert settings.circuit_breaker.recovery_timeout == 30.0


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    file = written(tmp_path, SEED)
    environ = {"CONNECTOR__CONFIG": str(file), "CONNECTOR__QUEUE__BATCH_WINDOW": "30s"}
    settings = Settings.load(environ)
    assert (settings.queue.batch_window, settings.rate_limit.ttd.requests_per_minute) == (30.0, 100)
    assert settings.source("queue.batch_window") == "environment CONNECTOR__QUEUE__BATCH_WINDOW"
    assert settings.source("rate_limit.ttd.requests_per_minute") == f"file {file}"
    assert settings.source("retry.max_attempts") == "default"


def test_every_setting_can_be_given_by_its_variable() -> None:
    special = {"profile": "development", "config": "", "vault.keys": f"k:{KEY}", "storage.url": "memory:"}
    for path in paths(Settings):
        current = {name: value for name, value, _ in describe(Settings.load({}))}[variable(path)]
        text = special.get(path, current)
        if path.endswith(("dsn", "redis.url")):
            text = "postgresql://h/d" if path.endswith("dsn") else "redis://h/0"
        environ = {variable(path): text}
        assert Settings.load(environ).source(path) == (f"environment {variable(path)}" if text else "default")


def test_an_empty_variable_is_not_set() -> None:
    assert Settings.load({"CONNECTOR__HTTP__PORT": ""}).http.port == 8003


def test_lists_are_comma_separated() -> None:
    settings = Settings.load(
        {
            "CONNECTOR__AUTH__CALLBACK_URLS": "https://a.example/cb, https://b.example/cb",
            "CONNECTOR__PROVIDERS__DV360__POLL_SCHEDULE_S": "0.5,1s,2",
        }
    )
    assert settings.auth.callback_urls == ("https://a.example/cb", "https://b.example/cb")
    assert settings.providers.dv360.poll_schedule_s == (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("2h", 7200.0), ("1d", 86400.0), ("1.5", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["5 minutes", "5M", "-5s", "s", "1e3", "٣s", "5m30s"])
def test_misspelt_durations_are_refused(text: str) -> None:
    (fault,) = faults({"CONNECTOR__QUEUE__BATCH_WINDOW": text})
    assert fault.startswith("CONNECTOR__QUEUE__BATCH_WINDOW: must be a duration")
    assert text not in fault or text == "s"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONNECTOR__QUEUE__BATCH_WINDOW", "999ms"),
        ("CONNECTOR__QUEUE__MAX_CONCURRENT", "0"),
        ("CONNECTOR__QUEUE__MAX_CONCURRENT", "-1"),
        ("CONNECTOR__RATE_LIMIT__DV360__DAILY_LIMIT", "0"),
        ("CONNECTOR__RETRY__BASE_S", "inf"),
        ("CONNECTOR__HTTP__PORT", "70000"),
        ("CONNECTOR__KAFKA__EVENT_FORMAT", "xml"),
        ("CONNECTOR__PROFILE", "staging"),
        ("CONNECTOR__STORAGE__URL", "ftp://x"),
        ("CONNECTOR__POSTGRES__DSN", "mysql://user:canary@x/y"),
        ("CONNECTOR__REDIS__URL", "canary"),
        ("CONNECTOR__HTTP__ADVERTISED_URL", "https://user:canary@host"),
        ("CONNECTOR__COST_PER_CALL__DV360", "-0.1"),
        ("CONNECTOR__COST_PER_CALL__DV360", "1e-7"),
        ("CONNECTOR__COST_PER_CALL__DV360", "0.00001"),
        ("CONNECTOR__COST_PER_CALL__DV360", "1E+7"),
        ("CONNECTOR__COST_PER_CALL__DV360", "inf"),
        ("CONNECTOR__COST_PER_CALL__DV360", "nan"),
        ("CONNECTOR__STREAMS__CRASH_AT", "canary"),
        ("CONNECTOR__STREAMS__CRASH_AT", "committed:canary"),
        ("CONNECTOR__STREAMS__CRASH_AT", "committed:"),
        ("CONNECTOR__STREAMS__CRASH_AT", "committed:0"),
        ("CONNECTOR__VAULT__KEYS", "k1:Y2FuYXJ5"),
        ("CONNECTOR__VAULT__KEYS", f"k1:{KEY},k1:{KEY}"),
        ("CONNECTOR__VAULT__KEYS", f"k 1:{KEY}"),
        ("CONNECTOR__VAULT__KEYS", "canary"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_never_shown(name: str, value: str) -> None:
    (fault,) = faults({name: value})
    assert fault.startswith(f"{name}: ")
    assert "canary" not in fault
    assert KEY not in fault
    assert "Y2FuYXJ5" not in fault


@pytest.mark.parametrize(("given", "told"), [("1E+2", "100"), ("1e-4", "0.0001"), ("0.25", "0.25"), ("0", "0")])
def test_a_price_reaches_the_planner_in_plain_digits(given: str, told: str) -> None:
    settings = Settings.load({"CONNECTOR__COST_PER_CALL__DV360": given})
    assert rules_of(settings, connectors_of(settings)).connectors["DV360"].cost_per_call == told


def test_the_breakers_settings_reach_the_planner() -> None:
    names = {"FAILURE_THRESHOLD": "3", "RECOVERY_TIMEOUT": "1m", "SUCCESS_THRESHOLD": "4"}
    settings = Settings.load({f"CONNECTOR__CIRCUIT_BREAKER__{name}": value for name, value in names.items()})
    rules = rules_of(settings, connectors_of(settings))
    assert rules.breaker == BreakerPolicy(3, 60_000, 4)
    assert rules.stream_timeout_ms >= rules.call_timeout_ms


def test_every_fault_is_told_in_one_go(tmp_path: Path) -> None:
    file = written(tmp_path, "connector:\n  queue: {max_concurent: 1, batch_window: soon}\nother: 1\n")
    found = faults(
        {
            "CONNECTOR__QUEUE__MAX_CONCURRENT": "0",
            "CONNECTOR__RETRY__MAX_ATEMPTS": "canary-value",
            "CONNECTOR__STREAMS__CRASH_AT": "canary",
            "CONNECTOR__STREAMS__LEASE_S": "1",
            "CONNECTOR__KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "CONNECTOR__KAFKA__EVENT_FORMAT": "confluent",
        },
        file,
    )
    starts = sorted(fault.split(":")[0].split(" ")[0] for fault in found)
    assert starts == [
        "CONNECTOR__KAFKA__REGISTRY_URL",
        "CONNECTOR__KAFKA__SASL_PASSWORD",
        "CONNECTOR__KAFKA__SASL_USERNAME",
        "CONNECTOR__QUEUE__BATCH_WINDOW",
        "CONNECTOR__QUEUE__MAX_CONCURRENT",
        "CONNECTOR__RETRY__MAX_ATEMPTS",
        "CONNECTOR__STREAMS__CRASH_AT",
        "CONNECTOR__STREAMS__LEASE_S",
        "connector.queue.max_concurent",
        "other",
    ]
    assert all("\n" not in fault and "canary" not in fault for fault in found)
    assert str(file) in next(fault for fault in found if "BATCH_WINDOW" in fault)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CONNECTOR__QUEUE__MAX_CONCURENT", "CONNECTOR__QUEUE__MAX_CONCURRENT"),
        ("CONNECTOR__BATCH_WINDOW", "CONNECTOR__QUEUE__BATCH_WINDOW"),
        ("CONNECTOR__POSTGRESS__DSN", "CONNECTOR__POSTGRES__DSN"),
        ("CONNECTOR__RATE_LIMIT__DV36O__DAILY_LIMIT", "CONNECTOR__RATE_LIMIT__DV360__DAILY_LIMIT"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    assert faults({name: "1"}) == (f"{name}: unknown setting, did you mean {nearest}?",)


def test_a_section_is_no_setting() -> None:
    (fault,) = faults({"CONNECTOR__QUEUE": '{"max_concurrent": 1}'})
    assert fault.startswith("CONNECTOR__QUEUE: unknown setting")


@pytest.mark.parametrize(
    "text", ["connector: [canary", "- a\n- b\n", "\tcanary: 1", "connector: !!python/name:os.system x"]
)
def test_a_file_that_is_none_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    (fault,) = faults({}, written(tmp_path, text))
    assert fault.startswith("CONNECTOR__CONFIG: ")
    assert "canary" not in fault


def test_a_missing_file_is_refused() -> None:
    (fault,) = faults({"CONNECTOR__CONFIG": "nowhere.yaml"})
    assert fault == "CONNECTOR__CONFIG: nowhere.yaml cannot be read: No such file or directory"


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert Settings.load({}, file=written(tmp_path, "")).queue.max_concurrent == 10


def test_production_starts_with_everything_in_place() -> None:
    settings = Settings.load(PRODUCTION)
    assert settings.production
    assert settings.auth.create_organizations is False
    assert settings.vault.ring() == (("k1", b"k" * 32),)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CONNECTOR__KAFKA__SECURITY_PROTOCOL", "PLAINTEXT", "must be SSL or SASL_SSL in production"),
        ("CONNECTOR__KAFKA__SECURITY_PROTOCOL", "", "must be SSL or SASL_SSL in production"),
        ("CONNECTOR__REDIS__URL", "redis://cache:6379/0", "must hold a password in production"),
        ("CONNECTOR__VAULT__KEYS", "", "must be set in production"),
        ("CONNECTOR__POSTGRES__DSN", "", "must be set in production"),
        ("CONNECTOR__AUTH__ISSUER", "", "must be set in production"),
        ("CONNECTOR__AUTH__AUDIENCE", "", "must be set in production"),
        ("CONNECTOR__AUTH__JWKS_URL", "", "must be set in production, or CONNECTOR__AUTH__JWKS_FILE"),
        (
            "CONNECTOR__PROVIDERS__GOOGLE__CLIENT_SECRET",
            "sandbox-secret",
            "must not be a development secret in production",
        ),
    ],
)
def test_production_refuses(name: str, value: str, why: str) -> None:
    assert faults({**PRODUCTION, name: value}) == (f"{name}: {why}",)


def test_nothing_shows_a_secret() -> None:
    settings = Settings.load({**PRODUCTION, "CONNECTOR__PROVIDERS__GOOGLE__CLIENT_SECRET": "canary-client"})
    shown = {name: value for name, value, _ in describe(settings)}
    assert shown["CONNECTOR__POSTGRES__DSN"] == "postgresql://***@db/connector"
    assert shown["CONNECTOR__REDIS__URL"] == "rediss://***@cache:6379/0"
    assert shown["CONNECTOR__PROVIDERS__GOOGLE__CLIENT_SECRET"] == "***"
    assert shown["CONNECTOR__KAFKA__SASL_PASSWORD"] == ""
    assert shown["CONNECTOR__QUEUE__BATCH_WINDOW"] == "300"
    for text in (repr(settings), str(settings), str(shown), str(settings.model_dump())):
        assert "canary" not in text
        assert KEY not in text


def test_settings_are_frozen() -> None:
    settings = Settings.load({})
    with pytest.raises(ValidationError):
        settings.queue.max_concurrent = 1  # type: ignore[misc]


def test_the_reference_lists_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): row[2].strip(" `") for row in rows}
    defaults = {name.removeprefix("CONNECTOR__"): value for name, value, _ in describe(Settings.load({}))}
    assert documented == defaults
