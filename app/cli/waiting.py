"""Runs a coroutine for a command. The event loop is loaded only then: help needs none, and it would be slower."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def wait(work: Coroutine[None, None, T]) -> T:
    """The coroutine's result."""
    import asyncio

    return asyncio.run(work)
