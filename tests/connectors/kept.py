"""``ports.Kept`` in memory, as Redis is: shared by workers, and lost when a test says so."""

from __future__ import annotations


class Memory:
    """Keeps everything until it is told otherwise. ``away``: it keeps and finds nothing."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.lifetimes: list[float] = []
        self.away = False

    async def get(self, key: str) -> bytes | None:
        return None if self.away else self.values.get(key)

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        if self.away:
            return False
        self.values[key] = value
        self.lifetimes.append(ttl_s)
        return True

    async def drop(self, key: str) -> bool:
        if self.away:
            return False
        self.values.pop(key, None)
        return True
