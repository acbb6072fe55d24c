"""The fields that GAQL knows here, with their types, and which resources they can be selected from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "double", "text", "enum", "flag", "day"]
"""``number`` is an int64: a string in JSON. ``double`` is a number there, ``day`` a string YYYY-MM-DD."""

STATUSES = ("ENABLED", "PAUSED", "REMOVED")
RESOURCES: Mapping[str, tuple[str, ...]] = {
    "campaign": ("campaign", "customer"),
    "customer": ("customer",),
    "customer_client": ("customer_client", "customer"),
}
"""FROM -> the resources whose fields may be selected."""

MEASURED = frozenset({"campaign", "customer"})
"""The resources that have metrics and segments."""

METRICS = ("metrics.impressions", "metrics.clicks", "metrics.conversions", "metrics.cost_micros")
"""In the order of ``figures.Metrics``."""


@dataclass(frozen=True, slots=True)
class Field:
    """``constants`` of an enum."""

    name: str
    kind: Kind
    constants: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        """``campaign`` of ``campaign.id``."""
        return self.name.partition(".")[0]


_ACCOUNT: Mapping[str, Kind] = {
    "resource_name": "text",
    "id": "number",
    "descriptive_name": "text",
    "currency_code": "text",
    "time_zone": "text",
    "manager": "flag",
}
_FIELDS = (
    Field("campaign.resource_name", "text"),
    Field("campaign.id", "number"),
    Field("campaign.name", "text"),
    Field("campaign.status", "enum", STATUSES),
    *(Field(f"customer.{name}", kind) for name, kind in _ACCOUNT.items()),
    *(Field(f"customer_client.{name}", kind) for name, kind in _ACCOUNT.items()),
    Field("customer_client.client_customer", "text"),
    Field("customer_client.level", "number"),
    Field("customer_client.hidden", "flag"),
    Field("customer_client.test_account", "flag"),
    Field("customer_client.status", "enum", ("ENABLED", "CANCELED", "SUSPENDED", "CLOSED")),
    Field("segments.date", "day"),
    *(Field(name, "double" if name == "metrics.conversions" else "number") for name in METRICS),
)
FIELDS: Mapping[str, Field] = {field.name: field for field in _FIELDS}


def in_json(name: str) -> str:
    """A name as JSON writes it: ``metrics.cost_micros`` is ``metrics.costMicros``."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)
