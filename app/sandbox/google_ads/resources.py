"""The resources of an answer: their values by field name, and their JSON, in which an int64 is a string."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.sandbox.figures import campaign_name
from app.sandbox.google_ads.accounts import Customer
from app.sandbox.google_ads.catalogue import FIELDS, in_json
from app.sandbox.google_ads.figures import campaign_id, campaign_status

Values = Mapping[str, Any]
"""Field name -> its value: int, str, bool."""


def customer_values(account: Customer) -> Values:
    """The customer that is asked."""
    return {f"customer.{name}": value for name, value in _account(account).items()} | {
        "customer.resource_name": f"customers/{account.customer_id}"
    }


def client_values(asked: Customer, client: Customer, level: int) -> Values:
    """An account as the one that is asked sees it; level 0 is that one itself."""
    named = {f"customer_client.{name}": value for name, value in _account(client).items()}
    return named | {
        "customer_client.resource_name": f"customers/{asked.customer_id}/customerClients/{client.customer_id}",
        "customer_client.client_customer": f"customers/{client.customer_id}",
        "customer_client.level": level,
        "customer_client.hidden": False,
        "customer_client.test_account": False,
        "customer_client.status": "ENABLED",
    }


def _account(account: Customer) -> dict[str, Any]:
    return {
        "id": account.customer_id,
        "descriptive_name": account.name,
        "currency_code": account.currency,
        "time_zone": account.time_zone,
        "manager": account.manager,
    }


def campaign_values(customer_id: int, index: int) -> Values:
    """A customer's campaign number ``index``."""
    number = campaign_id(customer_id, index)
    return {
        "campaign.resource_name": f"customers/{customer_id}/campaigns/{number}",
        "campaign.id": number,
        "campaign.name": campaign_name(index),
        "campaign.status": campaign_status(index),
    }


def writer(select: tuple[str, ...], resource: str) -> Callable[[Values], str]:
    """A function from values to ``"campaign":{...}`` with the selected fields of a resource; a resource always has its
    name, asked for or not."""
    names = dict.fromkeys([f"{resource}.resource_name", *(one for one in select if FIELDS[one].resource == resource)])
    shape = [(one, in_json(one.partition(".")[2]), FIELDS[one].kind == "number") for one in names]
    opening = f'"{in_json(resource)}":'

    def write(values: Values) -> str:
        shown = {name: str(values[one]) if number else values[one] for one, name, number in shape}
        return opening + orjson.dumps(shown).decode()

    return write
