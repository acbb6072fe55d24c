"""The command line: exit codes, errors that say what to type next, nothing secret printed."""

from __future__ import annotations

import errno
import json
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.rest.auth import build_verifier
from app.cli.environment import environment, read_env, use_stack, write_env
from app.cli.failures import CommandFailed, judged
from app.cli.issuer import DevelopmentIssuer
from app.cli.run import _interruptible
from app.clock import SystemClock
from app.domain.errors import Fault
from app.domain.model import ConnectorFacts
from app.services.connectors import BadConnector
from app.storage.postgres.connectors import UnknownOrganization
from app.testing.rest_world import REQUEST, facts
from tests.unit.conftest import Run


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["cancel"], ["token"], ["token", "--org", "x"], ["up", "--port", "-1"]]
)
def test_wrong_usage_is_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


def test_bad_settings_are_78_with_every_fault_and_no_value(run: Run) -> None:
    code, out, err = run(
        "config",
        "show",
        CONNECTOR__QUEUE__MAX_CONCURENT="3",
        CONNECTOR__HTTP__PORT="hunter2",
        CONNECTOR__VAULT__KEYS="k",
    )
    assert (code, out) == (78, "")
    assert "CONNECTOR__QUEUE__MAX_CONCURRENT" in err
    assert "CONNECTOR__HTTP__PORT" in err
    assert "hunter2" not in err


def test_settings_are_shown_with_their_source_and_without_secrets(run: Run) -> None:
    dsn = "postgresql://someone:hunter2@db:5432/x"
    code, out, _ = run("config", "show", "--json", CONNECTOR__POSTGRES__DSN=dsn)
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert "hunter2" not in out
    assert rows["CONNECTOR__POSTGRES__DSN"]["source"].startswith("environment")
    assert run("config", "show")[1].startswith("name")


def test_a_broker_that_is_away_is_3_and_said_once(run: Run) -> None:
    code, out, err = run("topics", "check", CONNECTOR__KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (code, out) == (3, "")
    assert err == "error: the broker does not answer\nnext:  connector up\n"


@pytest.mark.parametrize("command", [["migrate"], ["status", REQUEST], ["connectors", "list", "--org", "1"]])
def test_a_database_that_is_away_is_3(run: Run, command: list[str]) -> None:
    code, _, err = run("--stack", "absent", *command, CONNECTOR__POSTGRES__DSN="postgresql://u:hunter2@127.0.0.1:1/x")
    assert code == 3
    assert "hunter2" not in err


async def accepted(org_id: int, token: str, jwks_file: Path) -> bool:
    verifier = build_verifier(SystemClock(), jwks_url=None, jwks_file=jwks_file, issuer=None, audience=None)
    principal = await verifier.verify(token)
    return principal.org_id == org_id and principal.scopes == {"fetch", "connectors:read"}


async def test_tokens_of_the_development_issuer_are_accepted(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "stack" / "auth"
    DevelopmentIssuer(folder).prepare()
    code, first, _ = run("--stack", "stack", "token", "--org", "7")
    _, second, _ = run("--stack", "stack", "token", "--org", "7", "--json")
    assert code == 0
    assert await accepted(7, first.strip(), folder / "jwks.json")
    assert await accepted(7, json.loads(second)["token"], folder / "jwks.json")
    assert stat.S_IMODE((folder / "signing-key.json").stat().st_mode) == 0o600
    assert '"d"' not in (folder / "jwks.json").read_text()


def test_without_a_stack_there_is_no_issuer_and_none_is_made(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--stack", "absent", "token", "--org", "7")
    assert (code, out) == (3, "")
    assert "next:  connector up" in err
    assert not (tmp_path / "absent").exists()


def test_an_unknown_scope_is_2(run: Run) -> None:
    assert run("token", "--org", "1", "--scope", "everything")[0] == 2


def test_production_gets_no_development_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Production:
        production = True

    monkeypatch.setattr("app.cli.token.load_settings", Production)
    code, out, err = run("token", "--org", "1")
    assert (code, out) == (1, "")
    assert "production" in err


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"refresh_token": "1//hunter2"', "x" * 70_000])
def test_a_credentials_file_that_is_none_is_not_quoted(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "grant.json"
    path.write_text(content)
    add = ["connectors", "add", "--org", "1", "--type", "DV360", "--account", "1", "--credentials"]
    code, out, err = run(*add, str(path))
    assert (code, out) == (1, "")
    assert "hunter2" not in err
    assert run(*add, "absent.json")[0] == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadConnector([Fault("invalid_credentials", "/credentials/api_key", "must be text")]), 2),
        (UnknownOrganization("there is no organisation 1"), 4),
        (None, 0),
    ],
)
def test_adding_a_connector_says_what_came_of_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, code: int
) -> None:
    asked: list[Any] = []

    async def add(*arguments: object, **_: object) -> ConnectorFacts:
        asked.extend(arguments)
        if error is not None:
            raise error
        return facts()

    @asynccontextmanager
    async def connecting(_: object) -> AsyncIterator[object]:
        yield add

    monkeypatch.setattr("app.connecting.connecting", connecting)
    path = tmp_path / "grant.json"
    path.write_text('{"refresh_token": "1//hunter2"}')
    arguments = ["--org", "1", "--type", "dv360", "--account", "1001", "--credentials", str(path)]
    ended, out, err = run("connectors", "add", *arguments)
    assert ended == code
    assert asked == [1, "DV360", "1001", {"refresh_token": "1//hunter2"}]
    assert "hunter2" not in out + err
    assert (facts().connector_id in out) == (code == 0)
    assert "note:" not in err


def test_a_manager_is_handed_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def add(*arguments: object) -> ConnectorFacts:
        asked.extend(arguments)
        return replace(facts(), connector_type="GOOGLE_ADS", manager_id="9876543210")

    monkeypatch.setattr("app.cli.connectors._add", add)
    path = tmp_path / "grant.json"
    path.write_text("{}")
    arguments = ["--org", "1", "--type", "google_ads", "--account", "123-456-7890", "--credentials", str(path)]
    code, out, err = run("connectors", "add", *arguments, "--manager", "987-654-3210")
    assert (code, err) == (0, "")
    assert (asked[3], asked[-1]["manager_id"]) == ("123-456-7890", "987-654-3210")
    assert "9876543210" in out


def test_a_type_without_an_adapter_may_be_connected_and_its_owner_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add(*_: object) -> ConnectorFacts:
        return replace(facts(), connector_type="SHEETS")

    monkeypatch.setattr("app.cli.connectors._add", add)
    monkeypatch.setattr("app.connectors.registry.connectors_of", lambda _: {"DV360": None})
    path = tmp_path / "grant.json"
    path.write_text("{}")
    arguments = ["--org", "1", "--type", "sheets", "--account", "1", "--credentials", str(path)]
    code, _, err = run("connectors", "add", *arguments)
    assert code == 0
    assert err.startswith("note:  fetches of SHEETS are refused until its adapter is built; built: DV360")


def test_a_stack_stands_in_where_the_environment_names_no_servers(tmp_path: Path) -> None:
    dsn = "postgresql://u:p=q@h/x"
    write_env(tmp_path / "connector.env", {"CONNECTOR__POSTGRES__DSN": dsn, "CONNECTOR__HTTP__PORT": "1"})
    assert stat.S_IMODE((tmp_path / "connector.env").stat().st_mode) == 0o600
    use_stack(tmp_path)
    assert environment({"CONNECTOR__HTTP__PORT": "2"}) == {
        "CONNECTOR__POSTGRES__DSN": dsn,
        "CONNECTOR__HTTP__PORT": "2",
    }
    own = {"CONNECTOR__POSTGRES__DSN": "postgresql://other/x"}
    assert environment(own) == own
    assert environment({"CONNECTOR__PROFILE": "production"}) == {"CONNECTOR__PROFILE": "production"}
    use_stack(tmp_path / "none")
    assert environment({}) == read_env(tmp_path / "none" / "connector.env") == {}


@pytest.mark.parametrize(
    ("name", "code", "advice"),
    [
        ("TopicMismatch", 3, "connector topics apply"),
        ("UndefinedTableError", 3, "connector migrate"),
        ("StackError", 3, "make down"),
        ("KafkaConnectionError", 3, "connector up"),
        ("StoreUnavailable", 3, "connector up"),
        ("SettingsError", 78, "correct these, then: connector config show"),
    ],
)
def test_known_errors_name_the_next_step(name: str, code: int, advice: str) -> None:
    base = ConnectionError if name == "StoreUnavailable" else Exception
    told = judged(type(name, (base,), {})("why"))
    assert (told.code, told.advice) == (code, advice)


def test_a_signal_ends_up_once_even_where_python_drops_the_exception() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _interruptible() as checkpoint:
        checkpoint()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            checkpoint()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_file_that_cannot_be_opened_is_named_and_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        tmp_path.open("w")
    told = judged(raised.value)
    assert (str(told), told.code) == (f"{tmp_path}: Is a directory", 2)
    assert judged(FileNotFoundError(2, "of a socket")).advice == "connector up"
    assert "CONNECTOR__HTTP__PORT" in judged(OSError(errno.EADDRINUSE, "taken")).advice


def test_unforeseen_errors_show_their_type_alone() -> None:
    told = judged(RuntimeError("password hunter2"))
    assert (str(told), told.code) == ("unexpected RuntimeError", 1)
    assert judged(CommandFailed("x", code=4)).code == 4
