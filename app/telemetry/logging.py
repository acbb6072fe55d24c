"""Logs: one line per record on one stream, JSON when nobody watches, and no secret in either form.

Everything goes through the standard library's root logger, so that records of Faust and aiokafka have the same shape.
The redaction processor is the second line of defence: secrets are kept out of log calls in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TextIO

import orjson
import structlog

MASK = "***"
_SECRET_NAME = re.compile(
    r"(authori[sz]ation|cookie|credential|password|passwd|secret|api_?key|private_?key|refresh_?token|access_?token|id_?token"
    r"|bearer|client_secret|code_verifier|dsn)$|^token$",
    re.IGNORECASE,
)
_SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), MASK),
    (re.compile(r"\bya29\.[A-Za-z0-9._-]+"), MASK),
    (re.compile(r"\bEAA[A-Za-z0-9._-]{8,}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])1//[A-Za-z0-9_-]{6,}"), MASK),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@"), rf"\1:{MASK}@"),
    (
        re.compile(
            r"(?i)((?:access_token|refresh_token|exchange_token|client_secret|api_?key|password|code|signature|x-goog-signature|sig)"
            r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+"
        ),
        rf"\1{MASK}",
    ),
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
Event = MutableMapping[str, Any]


def redact(value: Any, *, name: str = "") -> Any:
    """The value with everything masked that is, by its name or its form, a secret; containers are walked."""
    if name and _SECRET_NAME.search(name) and value is not None:
        return MASK
    if isinstance(value, str):
        return _redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(inner, name=str(key)) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [redact(inner) for inner in value]
    return value


def _redact_text(text: str) -> str:
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _redaction(_logger: Any, _method: str, event: Event) -> Event:
    for name in list(event):
        if not name.startswith("_"):  # structlog's own record and processor hints
            event[name] = redact(event[name], name=name)
    return event


def _one_line(_logger: Any, _method: str, event: Event) -> Event:
    """For people: control and direction characters are shown, so that no text can start a line of its own."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            event[name] = _CONTROL.sub(lambda found: ascii(found.group())[1:-1], value)
    return event


def _json(_logger: Any, _method: str, event: Event) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]


def _formatter(json: bool) -> logging.Formatter:
    shape = [_json] if json else [_one_line, structlog.dev.ConsoleRenderer(colors=False)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[_redaction, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shape],
    )


def configure(level: str = "INFO", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Sends all records of this process to ``stream`` (standard output), JSON unless it is a terminal. Can be
    repeated."""
    target = stream or sys.stdout
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(not target.isatty() if json is None else json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("faust", "mode", "aiokafka", "kafka"):
        chatty = logging.getLogger(name)
        chatty.handlers[:], chatty.propagate = [], True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: ``log.info("fetch_started", request_id=..., attempt=1)``: a fixed action, then facts."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
