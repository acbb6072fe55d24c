"""What an answer's headers tell of the provider's own counts, for adapters whose providers tell nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.domain.messages import Usage

ReadUsage = Callable[[Mapping[str, str]], Sequence[Usage]]
"""``ports.Connector.usage``."""


def no_usage(headers: Mapping[str, str]) -> Sequence[Usage]:
    """There are no such headers."""
    del headers
    return ()
