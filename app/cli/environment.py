"""Where a command's settings come from: the environment, and a local stack that ``connector up`` has started.

``up`` leaves ``connector.env`` in the stack's folder. Its lines stand in for the environment where that names no
servers of its own, so that every other command finds the stack without being told. Production never reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.config import Settings

DEFAULT_STACK = Path("build/stack")
ENV_FILE = "connector.env"
_OWN = ("CONNECTOR__KAFKA__BOOTSTRAP_SERVERS", "CONNECTOR__POSTGRES__DSN", "CONNECTOR__CONFIG")
_chosen: dict[str, Path] = {}
_addresses: dict[str, str] = {}


def use_stack(folder: Path) -> None:
    """Names the stack's folder for this process."""
    _chosen["stack"] = folder


def stack_folder() -> Path:
    """The stack's folder."""
    return _chosen.get("stack", DEFAULT_STACK)


def use_url(url: str | None) -> None:
    """Names REST's address for this process; None or nothing: it is where the settings say."""
    _addresses["rest"] = url or ""


def chosen_url() -> str:
    """REST's address as it was named, or nothing."""
    return _addresses.get("rest", "")


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment to read settings from: the real one, over the stack's where the real one names no servers."""
    own = dict(os.environ if environ is None else environ)
    if any(own.get(name) for name in _OWN) or own.get("CONNECTOR__PROFILE") == "production":
        return own
    return read_env(stack_folder() / ENV_FILE) | own


def load_settings() -> Settings:
    """The settings. Raises ``SettingsError``."""
    from app.config import Settings

    return Settings.load(environment())


def read_env(path: Path) -> dict[str, str]:
    """``NAME=value`` lines; an absent file is an empty environment."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Writes ``NAME=value`` lines, readable by the owner alone: addresses may hold passwords."""
    write_private(path, "".join(f"{name}={value}\n" for name, value in sorted(values.items())))


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)
