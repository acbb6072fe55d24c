"""Which inbox partition is whose is written in every topic there is: it may only be added to."""

from __future__ import annotations

from app.domain.model import INBOX_PARTITION, PARTITIONS, UNTYPED_PARTITION, ConnectorType
from app.streams.ownership import PLANNED

GIVEN = {"DV360": 0, "TTD": 1, "META": 2, "GOOGLE_ADS": 3, "SHEETS": 4, "CSV_HTTPS": 6}


def test_no_type_moves_and_none_shares() -> None:
    assert dict(INBOX_PARTITION) == GIVEN
    assert set(INBOX_PARTITION) == set(ConnectorType)
    used = [*INBOX_PARTITION.values(), UNTYPED_PARTITION]
    assert len(set(used)) == len(used)
    assert all(0 <= partition < PARTITIONS for partition in used)
    assert set(used) == PLANNED
