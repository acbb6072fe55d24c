"""A measured figure, and the statistics of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of spec section 12. ``measured`` None: it cannot be measured yet."""

    figure: str
    measured: Any
    target: str
    ok: bool
    detail: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The one JSON line a figure ends with."""
        names = ("figure", "measured", "target", "ok", "detail")
        return orjson.dumps({name: getattr(self, name) for name in names}).decode()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed. Raises ``ValueError`` for none."""
    if not values:
        raise ValueError("no values were measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Count, median, p90, p99 and the largest, rounded."""
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {"n": len(values)} | {name: round(quantile(values, share), digits) for name, share in shares.items()}
