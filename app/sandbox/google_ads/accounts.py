"""Which accounts there are, and by which way one may ask for them. A customer id has ten digits; the first decides:

0   no account
9   a manager: no campaigns, its clients are the accounts 4 and 5 with the same other nine digits
5   an account that is reached through its manager alone: ``login-customer-id`` must name it
4   an account that is reached directly and through its manager
1, 2, 3, 6, 7, 8   an account that is reached directly, by every user
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.sandbox.figures import market_of

MANAGER_ID = 9_876_543_210
"""The manager in the list of accessible customers."""
FIRST_CUSTOMER = 1_234_567_890
"""The others in that list are numbered from here."""

_CUSTOMER_ID = re.compile(r"[0-9]{10}")
_REST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Customer:
    """An account: ``currency`` ISO 4217, ``time_zone`` IANA name; its days are days of that zone."""

    customer_id: int
    name: str
    currency: str
    time_zone: str
    manager: bool


def parse_id(text: str) -> int | None:
    """The number of a customer id as the API wants it, None for any other text: dashes are not allowed."""
    return int(text) if _CUSTOMER_ID.fullmatch(text) else None


def exists(customer_id: int) -> bool:
    """Whether there is such an account."""
    return customer_id >= _REST


def is_manager(customer_id: int) -> bool:
    """Whether it only keeps other accounts."""
    return customer_id // _REST == 9


def customer(seed: int, customer_id: int) -> Customer:
    """The account of that id; currency and zone follow from it."""
    currency, zone = market_of(seed, customer_id)
    manager = is_manager(customer_id)
    return Customer(customer_id, f"{'Manager' if manager else 'Customer'} {customer_id}", currency, zone, manager)


def clients(manager_id: int) -> tuple[int, ...]:
    """The accounts that a manager keeps."""
    rest = manager_id % _REST
    return (4 * _REST + rest, 5 * _REST + rest)


def reaches(login_id: int, customer_id: int) -> bool:
    """Whether somebody who logs in as ``login_id`` may ask for the account."""
    if login_id == customer_id:
        return customer_id // _REST != 5
    return is_manager(login_id) and customer_id in clients(login_id)


def accessible(count: int) -> list[int]:
    """What ``listAccessibleCustomers`` shows: the manager and ``count`` accounts that are reached directly."""
    return [MANAGER_ID, *range(FIRST_CUSTOMER, FIRST_CUSTOMER + count)]
