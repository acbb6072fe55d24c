"""Apache Kafka's jars: resolved once by Maven from ``kafka/pom.xml`` into a cache outside the tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.local.processes import ProcessError, Processes, Program

POM: Final = Path(__file__).with_name("kafka") / "pom.xml"
_LIMIT_S: Final = 600.0
_TRIES: Final = 2


class JarsMissing(Exception):
    """Maven could not resolve the jars; the text holds the end of what it said."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this pom's jars belong: ``$CONNECTOR_CACHE`` or ``~/.cache/connector-service``, one folder per pom."""
    root = environment.get("CONNECTOR_CACHE")
    base = Path(root).expanduser() if root else Path.home() / ".cache" / "connector-service"
    return base / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"


def cached(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder with all the jars, None when they are not resolved yet."""
    folder = cache_folder(environment)
    return folder if folder.is_dir() else None


def resolve(
    report: Callable[[str], None], processes: Processes, log: Path, environment: Mapping[str, str] = os.environ
) -> Path:
    """Folder with the jars, asking Maven when the cache lacks them. Several processes may do so at once.

    Raises:
        JarsMissing: Maven is absent or failed, for instance without network.
    """
    folder = cached(environment)
    if folder is not None:
        return folder
    folder = cache_folder(environment)
    report("kafka: Maven resolves the jars of Apache Kafka (44 MB, only this once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
        jars = Path(scratch) / "libs"
        _copy_dependencies(jars, processes, log, environment)
        _publish(jars, folder)
    return folder


def _copy_dependencies(target: Path, processes: Processes, log: Path, environment: Mapping[str, str]) -> None:
    maven = shutil.which("mvn", path=environment.get("PATH"))
    if maven is None:
        raise JarsMissing("no Maven found")
    argv = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={target}"]
    # A dropped connection is common enough on a first download to deserve a second try.
    for attempt in range(1, _TRIES + 1):
        try:
            processes.run(Program("maven", argv, log, target.parent, environment), _LIMIT_S)
        except ProcessError as error:
            if attempt == _TRIES:
                raise JarsMissing(str(error)) from error
        else:
            break
    if not any(target.glob("kafka_*.jar")):
        raise JarsMissing("Maven succeeded without Apache Kafka's jars")


def _publish(jars: Path, folder: Path) -> None:
    """Renames the finished folder into place, so that no one ever sees half of it; the first one to finish wins."""
    try:
        jars.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
