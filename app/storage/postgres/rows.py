"""Between the text ids and milliseconds of the domain and the UUIDs and timestamps of PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from app.domain.identity import normalise, text_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def uuid_of(prefix: str, text: str) -> uuid.UUID | None:
    """The UUID of an id in either of its forms; None for other text."""
    plain = normalise(prefix, text)
    return None if plain is None else uuid.UUID(plain.removeprefix(f"{prefix}_"))


def uuid_text(prefix: str, text: str) -> str | None:
    """Like ``uuid_of``, as the digits that asyncpg takes for a UUID as well, at a third of the cost."""
    plain = normalise(prefix, text)
    return None if plain is None else plain[len(prefix) + 1 :]


def text_of(prefix: str, value: uuid.UUID | None) -> str:
    """The text form; empty for none."""
    return "" if value is None else text_id(prefix, value)


def moment(ms: int | None) -> datetime | None:
    """Milliseconds since the epoch -> aware UTC, exactly."""
    return None if ms is None else _EPOCH + ms * _MS


def millis(value: datetime | None) -> int | None:
    """Aware time -> whole milliseconds since the epoch."""
    return None if value is None else (value - _EPOCH) // _MS
