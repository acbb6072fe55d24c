"""Short visits to PostgreSQL from commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.config import Settings
    from app.storage.postgres.database import Database


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """A pool for one command, closed behind it."""
    from app.storage.postgres.database import Database

    opened = Database(settings.postgres)
    try:
        yield opened
    finally:
        await opened.close()
