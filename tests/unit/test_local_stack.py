"""The decisions of the local stack, and that the files beside it name the same versions, settings and variables."""

from __future__ import annotations

import socket
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Settings
from app.sandbox.settings import CLIENT_ID, CLIENT_SECRET, provider_env
from deploy.local import StackError, containers, kafka_jars, machine, record
from deploy.local.backends import Given, wait_ready
from deploy.local.choice import (
    ENVIRONMENT_NAMES,
    KAFKA_VERSION,
    NOIDA_VERSION,
    SERVICES,
    Choice,
    Facts,
    Service,
    broker_name,
    choose,
    java_major,
)
from deploy.local.databases import with_database
from deploy.local.probes import NotReady
from deploy.local.servers import BROKER_SETTINGS, Place, base_environment, kafka_settings
from deploy.local.stack import Endpoints, Stack

ROOT = Path(__file__).resolve().parents[2]
ABLE = Facts(java_major=17, maven=True)


@pytest.mark.parametrize("service", SERVICES)
def test_an_address_in_the_environment_comes_before_everything(service: Service) -> None:
    facts = Facts(given={service: "there:1"}, engine_answers=True, java_major=17, maven=True)
    assert choose(service, facts).kind == "given"
    assert choose(service, facts).address == "there:1"


def test_an_address_given_for_one_service_does_not_move_the_others() -> None:
    facts = Facts(given={"redis": "redis://there"}, java_major=21, maven=True)
    assert [choose(name, facts).kind for name in SERVICES] == ["local", "local", "given"]


def test_an_empty_address_is_none() -> None:
    assert choose("kafka", Facts(given={"kafka": " "}, java_major=17, maven=True)).kind == "local"


@pytest.mark.parametrize("service", SERVICES)
def test_an_engine_comes_before_local_programs(service: Service) -> None:
    assert choose(service, Facts(engine_answers=True, java_major=17, maven=True)).kind == "container"


@pytest.mark.parametrize(
    ("facts", "kind", "why"),
    [
        (ABLE, "local", ""),
        (Facts(java_major=21, jars_cached=True), "local", ""),
        (Facts(java_major=17), "fallback", "no Maven found"),
        (Facts(java_major=11, maven=True), "fallback", "Java 11 found, Apache Kafka needs 17"),
        (Facts(maven=True, jars_cached=True), "fallback", "no Java found"),
    ],
)
def test_apache_kafka_runs_where_java_and_its_jars_can_be_had(facts: Facts, kind: str, why: str) -> None:
    choice = choose("kafka", facts)
    assert choice.kind == kind
    assert why in choice.why
    assert bool(choice.why) == (kind == "fallback")


def test_java_is_nothing_to_the_other_servers() -> None:
    assert [choose(name, Facts()).kind for name in SERVICES] == ["fallback", "local", "local"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (Choice("local"), f"Apache Kafka {KAFKA_VERSION} (local)"),
        (Choice("container", "an engine"), "Apache Kafka (testcontainers)"),
        (Choice("given", "", "broker:9092"), "given: broker:9092"),
        (Choice("fallback", "no Java found"), f"noida-db {NOIDA_VERSION} (not Apache Kafka: no Java found)"),
    ],
)
def test_the_broker_is_called_what_it_is(choice: Choice, name: str) -> None:
    assert broker_name(choice) == name


@pytest.mark.parametrize(
    ("banner", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_java_says_its_version_in_two_ways(banner: str, major: int | None) -> None:
    assert java_major(banner) == major


@pytest.fixture
def silent_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A socket that takes calls and never answers, as a hanging engine does."""
    path = tmp_path_factory.mktemp("engine") / "d.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield f"unix://{path}"


def test_an_engine_that_takes_calls_and_stays_silent_is_none(silent_engine: str) -> None:
    assert not machine.engine_answers({"DOCKER_HOST": silent_engine}, limit_s=0.2)


def test_a_client_program_without_an_engine_is_none(tmp_path: Path) -> None:
    assert not machine.engine_answers({"DOCKER_HOST": f"unix://{tmp_path}/absent.sock"})


def test_an_engine_on_another_machine_is_not_used() -> None:
    assert not machine.engine_answers({"DOCKER_HOST": "tcp://192.0.2.1:2375"})


def test_a_machine_without_java_and_maven_is_seen_as_such(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "CONNECTOR_CACHE": str(tmp_path)}
    assert machine.look(SERVICES, environment, engine=False) == Facts()


def test_given_addresses_are_read_and_nothing_else_is_looked_for() -> None:
    environment = {name: f"address of {service}" for service, name in ENVIRONMENT_NAMES.items()}
    facts = machine.look(SERVICES, environment)
    assert facts == Facts(given={service: f"address of {service}" for service in SERVICES})


def test_jars_of_another_pom_or_half_a_folder_do_not_count(tmp_path: Path) -> None:
    environment = {"CONNECTOR_CACHE": str(tmp_path)}
    folder = kafka_jars.cache_folder(environment)
    (tmp_path / f"{folder.name}.abc").mkdir()
    assert kafka_jars.cached(environment) is None
    folder.mkdir()
    assert kafka_jars.cached(environment) == folder


def test_a_wished_port_is_kept_while_free_and_never_doubled() -> None:
    port = machine.free_port()
    assert machine.free_port(port) == port
    assert machine.free_port(port, but=port) != port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert machine.free_port(port) != port


def test_servers_do_not_inherit_the_service_settings() -> None:
    assert base_environment({"PATH": "/bin", "CONNECTOR__VAULT__KEYS": "secret"}) == {"PATH": "/bin"}


def test_a_dsn_moves_to_another_database() -> None:
    assert with_database("postgresql://u:p@h:5/one?x=1", "two") == "postgresql://u:p@h:5/two?x=1"


def test_addresses_do_not_show_the_password() -> None:
    assert "secret" not in repr(Endpoints("k:1", "postgresql://u:secret@h/d", "redis://:secret@h"))


def test_a_server_given_from_outside_is_not_touched() -> None:
    backend = Given("kafka", "there:9092")
    for act in (backend.kill, backend.restart, backend.pause, backend.resume):
        with pytest.raises(StackError, match="given from outside"):
            act()


def test_an_unknown_service_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="mongo"):
        Stack.start(tmp_path / "new", ("kafka", "mongo"))
    assert not (tmp_path / "new").exists()


def test_waiting_ends_with_the_servers_own_reason_and_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("disk full\n")

    def probe(_address: str) -> None:
        raise NotReady("no coordinator yet")

    with pytest.raises(StackError, match=r"(?s)no coordinator yet.*disk full"):
        wait_ready("kafka", probe, "there:1", log=log, limit_s=0.0)


def test_a_record_of_a_process_that_is_gone_is_not_running(tmp_path: Path) -> None:
    record.write(tmp_path, record.Record(supervisor=1, started_at=1.0, broker="x", environment={"A": "b"}))
    entry = record.read(tmp_path)
    assert entry.environment == {"A": "b"}
    assert not record.running(entry)
    assert (tmp_path / "stack.json").stat().st_mode & 0o077 == 0


def test_a_broken_record_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    assert record.read(tmp_path) == record.Record()


def test_the_broker_creates_no_topic_by_itself_and_expires_members_fast(tmp_path: Path) -> None:
    lines = kafka_settings(Place(tmp_path, tmp_path / "log", 20001, 20002)).splitlines()
    assert "auto.create.topics.enable=false" in lines
    assert "group.min.session.timeout.ms=1000" in lines
    assert "advertised.listeners=PLAINTEXT://127.0.0.1:20001" in lines


# --- the files beside the code -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services: dict[str, Any] = loaded["services"]
    return services


def test_compose_runs_the_images_the_tests_run(compose: dict[str, Any]) -> None:
    images = {"kafka": containers.KAFKA_IMAGE, "postgres": containers.POSTGRES_IMAGE, "redis": containers.REDIS_IMAGE}
    assert {name: compose[name]["image"] for name in SERVICES} == images


@pytest.mark.parametrize(("setting", "value"), BROKER_SETTINGS.items())
def test_compose_sets_up_the_broker_as_the_stack_does(compose: dict[str, Any], setting: str, value: object) -> None:
    assert str(compose["kafka"]["environment"][containers.image_variable(setting)]) == str(value)


@pytest.mark.parametrize("service", SERVICES)
def test_compose_and_tests_use_the_same_inner_port_and_command(compose: dict[str, Any], service: Service) -> None:
    recipe = containers.recipe(service, 1)
    assert compose[service]["ports"] == [f"127.0.0.1:{recipe.inner_port}:{recipe.inner_port}"]
    assert compose[service].get("command", "") == recipe.command
    assert "healthcheck" in compose[service]


@pytest.mark.parametrize("name", ["worker", "migrate", "topics", "sandbox"])
def test_compose_hands_the_service_the_names_it_reads(compose: dict[str, Any], name: str) -> None:
    environment = compose[name]["environment"]
    assert set(ENVIRONMENT_NAMES.values()) <= set(environment)
    assert environment[ENVIRONMENT_NAMES["postgres"]] == (
        containers.recipe("postgres", 5432).address.replace("127.0.0.1", "postgres")
    )


def test_compose_points_the_worker_at_the_sandbox(compose: dict[str, Any]) -> None:
    arguments = compose["sandbox"]["command"]
    ports = dict(zip(arguments[::2], arguments[1::2], strict=True))
    api_url, storage_url = (f"http://127.0.0.1:{ports[name]}" for name in ("--port", "--storage-port"))
    wanted = provider_env(api_url, storage_url, CLIENT_ID, CLIENT_SECRET)
    assert wanted.items() <= compose["worker"]["environment"].items()
    assert compose["worker"]["network_mode"] == "service:sandbox"


def test_only_the_documented_port_of_the_service_is_published(compose: dict[str, Any]) -> None:
    assert compose["sandbox"]["ports"] == ["127.0.0.1:8003:8003"]
    assert "ports" not in compose["worker"]
    assert compose["worker"]["environment"]["CONNECTOR__HTTP__PORT"] == "8003"


def test_maven_resolves_the_version_that_is_announced() -> None:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    found = {
        node.findtext("m:artifactId", namespaces=space): node.findtext("m:version", namespaces=space)
        for node in ET.parse(kafka_jars.POM).iterfind(".//m:dependency", space)
    }
    assert found["kafka_2.13"] == KAFKA_VERSION
    assert "slf4j-simple" in found


def test_the_stand_in_is_pinned_to_the_version_that_is_announced() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"noida-db=={NOIDA_VERSION}" in extras["local"]


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_requirements_are_pinned_with_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    entries = [entry for entry in text.replace("\\\n", "").splitlines() if entry.strip()]
    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def test_the_settings_accept_what_compose_sets(compose: dict[str, Any]) -> None:
    environment: dict[str, str] = compose["worker"]["environment"]
    settings = Settings.load(environment)
    assert settings.http.port == 8003
    assert settings.kafka.bootstrap_servers == environment[ENVIRONMENT_NAMES["kafka"]]
