"""What the integration tests share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from app.storage.postgres.migrations import migrate
from deploy.local import Stack, databases
from tests.integration.token_lab import Lab
from tests.integration.token_server import token_server


@pytest.fixture(scope="module")
def schema(stack: Stack) -> Iterator[str]:
    """One migrated database for each file that asks for it; its tests empty it, or make rows of their own."""
    dsn = databases.create(stack.endpoints.postgres, f"test_{uuid.uuid4().hex[:16]}")
    asyncio.run(migrate(dsn))
    yield dsn
    databases.drop(stack.endpoints.postgres, dsn.rsplit("/", 1)[1])


@pytest.fixture
async def lab(stack: Stack, schema: str) -> AsyncIterator[Lab]:
    async with token_server() as server, aiohttp.ClientSession(auto_decompress=False) as session:
        made = Lab(server, schema, stack.endpoints.redis, session)
        yield made
        for close in reversed(made.closers):
            await close()  # type: ignore[misc]
