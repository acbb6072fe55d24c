"""Connecting an account with credentials that somebody already has: a refresh token or an API key."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from app.domain.errors import Fault
from app.domain.model import ConnectorFacts, ConnectorType

PROVIDER_OF: Final[Mapping[str, str]] = {
    ConnectorType.DV360: "google",
    ConnectorType.GOOGLE_ADS: "google",
    ConnectorType.SHEETS: "google",
    ConnectorType.META: "meta",
    ConnectorType.TTD: "ttd",
    ConnectorType.CSV_HTTPS: "csv_https",
}
"""Connector type -> whose authorisation it needs."""

_KINDS: Final[Mapping[str, Sequence[str]]] = {
    "google": ("refresh_token",),
    "meta": ("refresh_token", "api_key"),
    "ttd": ("api_key", "login"),
    "csv_https": ("api_key",),
}
"""Provider -> what a credential of it may be. Of Meta a long-lived user token is a ``refresh_token``: it is exchanged
before it expires; the token of a system user is an ``api_key``: it is sent as it is."""
_PARTS: Final[Mapping[str, Sequence[str]]] = {"login": ("login", "password")}
"""Kinds of credentials whose secret has several parts; of another the part is called as the kind."""
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII)
_TYPED: Final = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
"""What somebody types to log in: spaces are allowed."""
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_NAME_LIMIT: Final = 255
_AD_ACCOUNT: Final = re.compile(r"(act_)?[0-9]{1,32}", re.ASCII)
_SPREADSHEET: Final = re.compile(
    r"https://docs\.google\.com/spreadsheets/(?:u/[0-9]/)?d/([\w-]{1,128})(?:[/?#].*)?|([\w-]{1,128})", re.ASCII
)
_CUSTOMER: Final = re.compile(r"[0-9]{3}-[0-9]{3}-[0-9]{4}|[0-9]{10}", re.ASCII)


class ConnectorStores(Protocol):
    """Where connectors and grants are kept; both in one transaction."""

    async def add(
        self,
        *,
        org_id: int,
        connector_type: str,
        account_id: str,
        provider: str,
        kind: str,
        subject: str | None,
        fingerprint: str,
        seal: Callable[[str], tuple[str, bytes]],
        scopes: Sequence[str] = (),
        time_zone: str = "UTC",
        currency: str | None = None,
        manager_id: str | None = None,
        create_organization: bool = True,
    ) -> Sequence[ConnectorFacts]:
        """The connector first, then others whose shared grant was renewed."""


class Seals(Protocol):
    """What encrypts credentials."""

    def seal_secret(self, org_id: int, grant_id: str, kind: str, secret: str) -> tuple[str, bytes]: ...

    def fingerprint(self, secret: str) -> str:
        """A short name for a secret that tells nothing of it."""


class BadConnector(ValueError):
    """What was given makes no connector: every fault at once, none of them quoting a credential."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


async def add_connector(
    org_id: int,
    connector_type: str,
    account_id: str,
    credentials: object,
    *,
    time_zone: str = "UTC",
    currency: str | None = None,
    manager_id: str | None = None,
    stores: ConnectorStores,
    vault: Seals,
    publish: Callable[[ConnectorFacts], Awaitable[None]],
    create_organization: bool = True,
) -> ConnectorFacts:
    """Stores the connector with its encrypted credentials, then publishes its row, and those of connectors that go on
    because they share the grant. For an account that is connected already, the credentials are replaced.

    ``credentials`` is what the file holds: ``{"refresh_token": ..., "subject"?: ..., "scopes"?: [...]}``; for TTD
    ``{"api_key": ..., "subject"?: ...}`` or ``{"login": ..., "password": ..., "subject"?: ...}``; for META one of the
    first two; for CSV_HTTPS an ``api_key``, its bearer token. ``subject`` names the provider's user; connectors given
    the same secret share one without it. ``manager_id`` is the Google Ads manager through which the account is reached;
    without it, directly. Ids may be given as the provider shows them (``kept_account_id``). Raises ``BadConnector``,
    and what ``stores`` and ``publish`` raise.
    """
    faults = [
        *_account_faults(org_id, connector_type, account_id, time_zone, currency),
        *_customer_faults(connector_type, account_id, manager_id),
        *_ad_account_faults(connector_type, account_id),
        *_spreadsheet_faults(connector_type, account_id),
        *_credential_faults(connector_type, credentials),
    ]
    if faults:
        raise BadConnector(faults)
    given = credentials if isinstance(credentials, Mapping) else {}
    provider = PROVIDER_OF[connector_type]
    kind = _kind_of(provider, given)
    secret = _secret_of(kind, given)
    account_id = kept_account_id(connector_type, account_id)
    if manager_id is not None:
        manager_id = kept_account_id(connector_type, manager_id)
    stored = await stores.add(
        org_id=org_id,
        connector_type=connector_type,
        account_id=account_id,
        provider=provider,
        kind=kind,
        subject=given.get("subject"),
        fingerprint=vault.fingerprint(secret),
        seal=lambda grant_id: vault.seal_secret(org_id, grant_id, kind, secret),
        scopes=tuple(given.get("scopes", ())),
        time_zone=time_zone,
        currency=currency,
        manager_id=manager_id,
        create_organization=create_organization,
    )
    for facts in stored:
        await publish(facts)
    return stored[0]


def kept_account_id(connector_type: str, account_id: str) -> str:
    """The one spelling in which an account is kept, of any in which its provider shows it; others are left as they
    are."""
    if connector_type == ConnectorType.GOOGLE_ADS:
        return account_id.replace("-", "")
    if connector_type == ConnectorType.META:
        return account_id.removeprefix("act_")
    if connector_type == ConnectorType.SHEETS and (found := _SPREADSHEET.fullmatch(account_id)):
        return found[1] or found[2]
    return account_id


def _account_faults(
    org_id: int, connector_type: str, account_id: str, time_zone: str, currency: str | None
) -> list[Fault]:
    found = []
    if not 0 < org_id < 2**31:
        found.append(Fault("invalid_org_id", "/org_id", "must be a positive number"))
    if connector_type not in PROVIDER_OF:
        names = ", ".join(PROVIDER_OF)
        found.append(Fault("unsupported_connector_type", "/connector_type", f"must be one of {names}"))
    if not _plain_name(account_id):
        found.append(Fault("invalid_account_id", "/account_id", f"must be 1 to {_NAME_LIMIT} printable characters"))
    if not _zone_exists(time_zone):
        found.append(Fault("unknown_time_zone", "/time_zone", "must be a name such as Europe/Berlin"))
    if currency is not None and not _CURRENCY.fullmatch(currency):
        found.append(Fault("invalid_currency", "/currency", "must be three capital letters such as EUR"))
    return found


def _customer_faults(connector_type: str, account_id: str, manager_id: str | None) -> list[Fault]:
    """What Google Ads' ids must be like; another type has no managers."""
    if connector_type != ConnectorType.GOOGLE_ADS:
        alone = "only a GOOGLE_ADS account is reached through a manager"
        return [] if manager_id is None else [Fault("unexpected_manager_id", "/manager_id", alone)]
    ids = {"account_id": account_id, "manager_id": manager_id}
    return [
        Fault(f"invalid_{name}", f"/{name}", "must be the ten digits of a customer id")
        for name, value in ids.items()
        if value is not None and not _CUSTOMER.fullmatch(value)
    ]


def _ad_account_faults(connector_type: str, account_id: str) -> list[Fault]:
    if connector_type != ConnectorType.META or _AD_ACCOUNT.fullmatch(account_id):
        return []
    return [Fault("invalid_account_id", "/account_id", "must be the digits of an ad account, with or without act_")]


def _spreadsheet_faults(connector_type: str, account_id: str) -> list[Fault]:
    if connector_type != ConnectorType.SHEETS or _SPREADSHEET.fullmatch(account_id):
        return []
    return [Fault("invalid_account_id", "/account_id", "must be the id of a spreadsheet, or its address in a browser")]


def _credential_faults(connector_type: str, credentials: object) -> list[Fault]:
    if not isinstance(credentials, Mapping):
        return [Fault("invalid_credentials", "/credentials", "must be an object")]
    found = []
    provider = PROVIDER_OF.get(connector_type)
    if provider is not None:
        kind = _kind_of(provider, credentials)
        parts = _PARTS.get(kind, (kind,))
        form, must = (_TYPED, "be text of one line") if kind in _PARTS else (_SECRET, "be text without spaces")
        for part in parts:
            secret = credentials.get(part)
            if not isinstance(secret, str) or not form.fullmatch(secret):
                found.append(Fault("invalid_credentials", f"/credentials/{part}", f"must {must}"))
        if set(credentials) - {*parts, "subject", "scopes"}:
            named = ", or ".join(" and ".join(_PARTS.get(one, (one,))) for one in _KINDS[provider])
            told = f"{connector_type} needs {named}, and takes subject and scopes: nothing else"
            found.append(Fault("unknown_field", "/credentials", told))
    return found + _subject_faults(credentials)


def _kind_of(provider: str, credentials: Mapping[str, Any]) -> str:
    """The kind whose parts are there; the provider's first if none is."""
    kinds = _KINDS[provider]
    return next((one for one in kinds if not {*_PARTS.get(one, (one,))}.isdisjoint(credentials)), kinds[0])


def _secret_of(kind: str, credentials: Mapping[str, Any]) -> str:
    """What is encrypted, and known by its fingerprint."""
    if kind not in _PARTS:
        return str(credentials[kind])
    return json.dumps({part: credentials[part] for part in _PARTS[kind]})


def _subject_faults(credentials: Mapping[str, Any]) -> list[Fault]:
    found = []
    subject, scopes = credentials.get("subject"), credentials.get("scopes", ())
    if subject is not None and not _plain_name(subject):
        found.append(
            Fault("invalid_subject", "/credentials/subject", f"must be 1 to {_NAME_LIMIT} printable characters")
        )
    if not isinstance(scopes, list | tuple) or not all(isinstance(s, str) and _SECRET.fullmatch(s) for s in scopes):
        found.append(Fault("invalid_scopes", "/credentials/scopes", "must be a list of texts without spaces"))
    return found


def _plain_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_LIMIT and value.isprintable() and value == value.strip()


def _zone_exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return False
    return bool(name)
