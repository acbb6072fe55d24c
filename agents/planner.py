"""Runs the planner over its inbox; alone changes planner state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def register(app: Any, topic: Any, run: Callable[[Any], Awaitable[None]]) -> None:
    """Adds the agent to the app; ``run`` is the shell's body over the stream of ``topic``."""

    @app.agent(topic, name="planner")  # type: ignore[untyped-decorator]
    async def planner(stream: Any) -> None:
        await run(stream)
