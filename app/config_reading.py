"""Reading settings: what the environment and the file say, before anything is judged.

A setting is named by its dotted path (``queue.max_concurrent``); its variable is ``CONNECTOR__QUEUE__MAX_CONCURRENT``,
its place in the file ``connector.queue.max_concurrent``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource

PREFIX = "CONNECTOR__"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}


def duration(value: object) -> object:
    """Seconds of ``500ms``, ``30s``, ``5m``, ``2h``, ``1d`` or a plain number. Raises ``ValueError`` for other text."""
    if isinstance(value, bool):
        raise ValueError("must be a duration such as 30s or 5m")
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 2h, 1d or a number of seconds")
    return float(match.group(1)) * _UNITS[match.group(2)]


def listed(value: object) -> object:
    """The parts of a comma-separated text, without empty ones; lists stay as they are."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def variable(path: str) -> str:
    """``queue.max_concurrent`` -> ``CONNECTOR__QUEUE__MAX_CONCURRENT``."""
    return PREFIX + path.upper().replace(".", "__")


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted paths of all settings of a model, in its order."""
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from paths(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def leaves(values: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything that is set; null is not. Mappings are walked unless a setting has that path."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path not in known:
            yield from leaves(value, known, f"{path}.")
        elif value is not None:
            yield path, value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Paths back to nested mappings."""
    found: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return found


class _GivenEnvironment(EnvSettingsSource):
    """The library's reading of an environment that is handed in."""

    def __init__(self, model: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(
            model, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, case_sensitive=False
        )

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items() if value}


@dataclass(slots=True)
class Reading:
    """Everything that was set (path -> value), where, and what is wrong with how it was set (one line each)."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read(model: type[BaseSettings], environ: Mapping[str, str], file: Path | None) -> Reading:
    """The file's values with the environment's over them."""
    known = tuple(paths(model))
    reading = Reading()
    if file is not None:
        _read_file(file, known, reading)
    _read_environment(model, environ, known, reading)
    return reading


def _read_environment(
    model: type[BaseSettings], environ: Mapping[str, str], known: Sequence[str], reading: Reading
) -> None:
    variables = {variable(path): path for path in known}
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    for name in sorted(ours.keys() - variables.keys()):
        reading.faults.append(f"{name}: unknown setting{_nearest(name, list(variables))}")
        del ours[name]
    for path, value in leaves(_GivenEnvironment(model, ours)(), frozenset(known)):
        reading.values[path] = value
        reading.sources[path] = f"environment {variable(path)}"


def _read_file(file: Path, known: Sequence[str], reading: Reading) -> None:
    places = [f"connector.{path}" for path in known]
    for place, value in leaves(_load(file, reading), frozenset(places)):
        path = place.removeprefix("connector.")
        if place in places:
            reading.values[path] = value
            reading.sources[path] = f"file {file}"
        else:
            reading.faults.append(f"{place} in {file}: unknown setting{_nearest(place, places)}")


def _load(file: Path, reading: Reading) -> Mapping[str, Any]:
    """The file's content. The parser's own text is dropped: it quotes the file, which may hold secrets."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        reading.faults.append(f"{variable('config')}: {file} cannot be read: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        reading.faults.append(f"{variable('config')}: {file} is not YAML{f', line {mark.line + 1}' if mark else ''}")
    else:
        if content is None or isinstance(content, Mapping):
            return content or {}
        reading.faults.append(f"{variable('config')}: {file} must hold a mapping under `connector:`")
    return {}


def _nearest(name: str, known: list[str]) -> str:
    """Also finds a name one section up or down: the last part decides when the whole does not."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not close:
        last = re.split(r"__|\.", name)[-1]
        ends = {re.split(r"__|\.", one)[-1]: one for one in reversed(known)}
        close = [ends[end] for end in difflib.get_close_matches(last, list(ends), n=1, cutoff=0.75)]
    return f", did you mean {close[0]}?" if close else ""
