"""Reads this machine: what is installed, what answers, which ports are free."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.local import kafka_jars
from deploy.local.choice import ENVIRONMENT_NAMES, Facts, Service, java_major

#: Kernels hand out ports from 32768 (Linux) or 49152 for outgoing calls. A server port from that range can be taken
#: by a client's own socket while the server is away - even by one that connects to itself - so ours lie below.
_PORTS = range(20_000, 32_000)
_ENGINE_LIMIT_S = 2.0


def look(services: Iterable[Service], environment: Mapping[str, str] = os.environ, *, engine: bool = True) -> Facts:
    """Gathers the facts for ``choose``; asks the engine, Java and Maven only when a service needs them.

    ``engine=False`` leaves a Docker engine out of account.
    """
    given = {name: environment[variable] for name, variable in ENVIRONMENT_NAMES.items() if environment.get(variable)}
    missing = [name for name in services if name not in given]
    if not missing or (engine and engine_answers(environment)):
        return Facts(given=given, engine_answers=bool(missing))
    if "kafka" not in missing:
        return Facts(given=given)
    java = java_program(environment)
    return Facts(
        given=given,
        java_major=java_version(java) if java else None,
        maven=shutil.which("mvn", path=environment.get("PATH")) is not None,
        jars_cached=kafka_jars.cached(environment) is not None,
    )


def engine_answers(environment: Mapping[str, str] = os.environ, limit_s: float = _ENGINE_LIMIT_S) -> bool:
    """True when a Docker engine of this machine answers a ping within ``limit_s``; a client program proves nothing."""
    host = environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    # An engine elsewhere would publish its ports elsewhere.
    if not host.startswith("unix://") or not Path(host.removeprefix("unix://")).exists():
        return False
    try:
        import docker
    except ImportError:
        return False
    try:
        client = docker.DockerClient(base_url=host, timeout=limit_s)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - a refused, silent or broken engine all mean the same here: there is none
        return False


def java_program(environment: Mapping[str, str] = os.environ) -> str | None:
    """Path of the ``java`` launcher: the one under JAVA_HOME, else the one on PATH."""
    home = environment.get("JAVA_HOME")
    if home and (launcher := Path(home) / "bin" / "java").is_file():
        return str(launcher)
    return shutil.which("java", path=environment.get("PATH"))


def java_version(java: str) -> int | None:
    """Major version of a launcher, None when it does not say one within ten seconds."""
    try:
        asked = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return java_major(asked.stderr + asked.stdout)


def free_port(wish: int | None = None, *, but: int | None = None) -> int:
    """A TCP port on 127.0.0.1 that nothing listens on, never ``but``; ``wish`` is kept when it is free.

    Raises:
        OSError: no free port was found.
    """
    tries = ([] if wish is None else [wish]) + random.sample(_PORTS, 200)
    for port in tries:
        if port != but and _bindable(port):
            return port
    raise OSError("no free TCP port between 20000 and 32000")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
