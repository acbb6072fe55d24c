"""Runs offered fetch steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def register(app: Any, topic: Any, run: Callable[[Any], Awaitable[None]]) -> None:
    """Adds the agent to the app; ``run`` is the shell's body over the stream of ``topic``."""

    @app.agent(topic, name="fetcher")  # type: ignore[untyped-decorator]
    async def fetcher(stream: Any) -> None:
        await run(stream)
