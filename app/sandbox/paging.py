"""Pages as Google lists them: ``pageSize``, an opaque ``pageToken``, ``nextPageToken`` only when there is more."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any


def page(items: Sequence[Any], name: str, query: Mapping[str, str], most: int, usual: int) -> dict[str, Any]:
    """One page under ``name``, which is absent when empty. ValueError for a bad size or token."""
    size = int(query.get("pageSize") or usual)
    if not 1 <= size <= most:
        raise ValueError(f"pageSize must be between 1 and {most}")
    start = _position(query.get("pageToken", ""))
    shown = list(items[start : start + size])
    answer: dict[str, Any] = {name: shown} if shown else {}
    if start + size < len(items):
        answer["nextPageToken"] = base64.urlsafe_b64encode(f"at:{start + size}".encode()).decode()
    return answer


def _position(token: str) -> int:
    if not token:
        return 0
    try:
        prefix, _, position = base64.urlsafe_b64decode(token).decode().partition(":")
        if prefix != "at":
            raise ValueError
        return int(position)
    except (binascii.Error, ValueError):
        raise ValueError("pageToken is not one of ours") from None
