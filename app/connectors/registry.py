"""Every adapter there is, made from the settings. A new connector type is entered here, once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from app.config import Settings
from app.config_sections import Meta, Ttd
from app.connectors.csv_https.client import CsvHttpsConnector
from app.connectors.dv360.client import Dv360Connector
from app.connectors.error_table import Row
from app.connectors.google_ads.client import GoogleAdsConnector
from app.connectors.hosts import Hosts
from app.connectors.meta.client import MetaConnector
from app.connectors.sheets.client import SheetsConnector
from app.connectors.ttd.client import AUTH_HEADER as TTD_AUTH_HEADER
from app.connectors.ttd.client import TtdConnector
from app.domain.model import Catalogue, ConnectorType
from app.ports import Connector, Kept


def connectors_of(settings: Settings, kept: Kept | None = None) -> dict[str, Connector]:
    """Every adapter there is, by connector type. ``kept`` holds what they can do without and would rather not."""
    dv360, google_ads = settings.providers.dv360, settings.providers.google_ads
    found: list[Connector] = [
        Dv360Connector(
            reports_url=dv360.reports_url, api_url=dv360.api_url, poll_schedule_s=dv360.poll_schedule_s, kept=kept
        ),
        GoogleAdsConnector(api_url=google_ads.api_url, developer_token=google_ads.developer_token.get_secret_value()),
    ]
    found += [_ttd(settings.providers.ttd), _meta(settings.providers.meta)]
    found += [CsvHttpsConnector(api_url=settings.providers.csv_https.api_url)]
    found.append(SheetsConnector(api_url=settings.providers.sheets.api_url))
    return {connector.connector_type: connector for connector in found}


def hosts_of(settings: Settings) -> dict[str, Hosts]:
    """Where each adapter may call, by connector type."""
    dv360, google_ads, meta = settings.providers.dv360, settings.providers.google_ads, settings.providers.meta
    csv_https = settings.providers.csv_https
    sheets = settings.providers.sheets
    return {
        ConnectorType.DV360: Hosts((dv360.reports_url, dv360.api_url), dv360.download_hosts, dv360.allow_private_hosts),
        ConnectorType.GOOGLE_ADS: Hosts(
            (google_ads.api_url,), google_ads.download_hosts, google_ads.allow_private_hosts
        ),
        ConnectorType.TTD: _ttd_hosts(settings.providers.ttd),
        ConnectorType.META: Hosts((meta.api_url,), meta.download_hosts, meta.allow_private_hosts),
        ConnectorType.CSV_HTTPS: Hosts((csv_https.api_url,), csv_https.download_hosts, csv_https.allow_private_hosts),
        ConnectorType.SHEETS: Hosts((sheets.api_url,), sheets.download_hosts, sheets.allow_private_hosts),
    }


def catalogue_of(connectors: Mapping[str, Connector]) -> Catalogue:
    """Connector type -> report types, as the adapters declare them."""
    return {name: connector.reports for name, connector in connectors.items()}


def error_tables_of(connectors: Mapping[str, Connector]) -> dict[str, tuple[Row, ...]]:
    """Connector type -> its error table, which is ``ROWS`` of the ``errors.py`` beside the adapter."""
    return {name: error_module_of(connector).ROWS for name, connector in connectors.items()}


def error_module_of(connector: Connector) -> ModuleType:
    """The ``errors.py`` beside an adapter."""
    return import_module(f"{type(connector).__module__.rpartition('.')[0]}.errors")


def _meta(meta: Meta) -> Connector:
    return MetaConnector(
        api_url=meta.api_url,
        tier=meta.access_tier,
        poll_schedule_s=meta.poll_schedule_s,
        page_size=meta.page_size,
        conversion_actions=meta.conversion_actions,
        sync_days=meta.sync_days,
    )


def _ttd(ttd: Ttd) -> Connector:
    return TtdConnector(
        api_url=ttd.api_url,
        view_urls=_views(ttd),
        template_prefix=ttd.template_prefix,
        poll_schedule_s=ttd.poll_schedule_s,
        form=ttd.form,
        graphql_url=ttd.graphql_url,
    )


def _ttd_hosts(ttd: Ttd) -> Hosts:
    asked = (ttd.graphql_url,) if ttd.form == "graphql" else ()
    return Hosts((ttd.api_url, *asked, *_views(ttd)), ttd.download_hosts, ttd.allow_private_hosts, TTD_AUTH_HEADER)


def _views(ttd: Ttd) -> tuple[str, ...]:
    return tuple(f"https://{host}/" for host in ttd.view_hosts)
