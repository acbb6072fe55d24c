"""The same GET over kept-alive connections as fast as the server answers, with as little work here as can be."""

from __future__ import annotations

import asyncio
import re
import time

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Unexpected(Exception):
    """The server answered something other than 200, or nothing."""


async def rate(port: int, path: str, token: str, *, connections: int = 8, seconds: float = 2.0) -> float:
    """Answers per second. Raises ``Unexpected``."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    began = time.perf_counter()
    counts = await asyncio.gather(*(_one(port, head, began + seconds) for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)


async def _one(port: int, head: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    try:
        while time.perf_counter() < until:
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(answer)
            if b" 200 " not in answer[:16] or length is None:
                raise Unexpected(answer[:200])
            await reader.readexactly(int(length.group(1)))
            count += 1
    finally:
        writer.close()
    return count
