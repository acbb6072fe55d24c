"""Reads command records and forwards what was decided of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def register(app: Any, topic: Any, run: Callable[[Any], Awaitable[None]]) -> None:
    """Adds the agent to the app; ``run`` is the shell's body over the stream of ``topic``."""

    @app.agent(topic, name="intake")  # type: ignore[untyped-decorator]
    async def intake(stream: Any) -> None:
        await run(stream)
