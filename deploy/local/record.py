"""What a folder says about its stack: ports to keep, who runs it, where it answers. Kept in ``stack.json``."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

_NAME: Final = "stack.json"
_END_LIMIT_S: Final = 20.0


@dataclass(frozen=True)
class Record:
    """``supervisor`` is 0 when the stack runs without one; ``started_at`` tells its process from a later namesake."""

    supervisor: int = 0
    started_at: float = 0.0
    broker: str = ""
    ports: dict[str, list[int]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def read(folder: Path) -> Record:
    """The folder's record, an empty one when there is none or it is unreadable."""
    try:
        return Record(**json.loads((folder / _NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return Record()


def write(folder: Path, record: Record) -> None:
    """Replaces the record. Only the owner may read it: the addresses hold a password."""
    scratch = folder / f"{_NAME}.new"
    scratch.touch(mode=0o600)
    scratch.write_text(json.dumps(asdict(record), indent=1))
    scratch.replace(folder / _NAME)


def birth(pid: int) -> float:
    """When a process began, in seconds since 1970; 0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def running(record: Record) -> bool:
    """True while the supervisor of the record lives."""
    if not record.supervisor or abs(birth(record.supervisor) - record.started_at) > 1.0:
        return False
    return bool(psutil.Process(record.supervisor).status() != psutil.STATUS_ZOMBIE)


def end(record: Record) -> bool:
    """Ends a running stack from another process; False when none runs."""
    if not running(record):
        return False
    supervisor = psutil.Process(record.supervisor)
    os.kill(record.supervisor, signal.SIGTERM)
    _gone, alive = psutil.wait_procs([supervisor], timeout=_END_LIMIT_S)
    for process in alive:
        process.kill()
    return True
