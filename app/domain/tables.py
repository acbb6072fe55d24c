"""Tables: what a connector holds that has no days (Google Sheets). Their fields are ranges, not columns.

A table is planned as a data set of one day, that on which it was asked for, and each set of ranges is a data set of
its own. From that all else follows: requests are merged, attached and answered from what is held only where their
ranges are equal, whatever their order, and what was read for one day answers nobody on the next.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.domain import identity
from app.domain.coverage import Freshness
from app.domain.messages import Accept
from app.domain.model import ConnectorType


def is_table(connector_type: str) -> bool:
    """Whether what connectors of this type read has no days."""
    return connector_type == ConnectorType.SHEETS


def data_set_key(connector_id: str, connector_type: str, report_type: str, asked: Iterable[str]) -> str:
    """Key of the data set that holds ``asked``: the columns beyond the standard ones, of a table its ranges."""
    key = f"{connector_id}|{report_type}"
    if not is_table(connector_type):
        return key
    # No range holds a line break (``commands``), so that no two sets of ranges are one text.
    return f"{key}|{identity.uuid5('table', chr(10).join(sorted(set(asked)))).hex}"


def is_table_key(key: str) -> bool:
    """Whether a data set's key is that of a table."""
    return key.count("|") == 2


def max_age_ms(accept: Accept, fresh: Freshness) -> int | None:
    """How old what is held may be. Anybody may change any cell at any time, so that a table is open for as long as it
    is held, also when it was read after the midnight that followed its command. None: as its days' states say."""
    if accept.max_age_s is not None:
        return accept.max_age_s * 1000
    return fresh.open_ms if is_table(accept.connector.connector_type) else None
