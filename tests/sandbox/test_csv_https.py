"""The sandbox's CSV server over plain HTTP."""

from __future__ import annotations

import csv
import io
from datetime import date

import aiohttp
import pytest

from app.sandbox.fixture import running_sandbox

DAYS = "start=2026-11-01&end=2026-11-02"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"shop-7/campaign_performance.csv?{DAYS}", 200),
        (f"shop-7/other.csv?{DAYS}", 404),
        ("shop-7/campaign_performance.csv?start=2026-11-01", 400),
        ("shop-7", 404),
    ],
)
async def test_what_it_answers(path: str, status: int) -> None:
    async with running_sandbox() as sandbox, aiohttp.ClientSession() as session:
        for token in (sandbox.csv_token("ana"), "other"):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{sandbox.api_url}/csv/{path}", headers=headers) as answer:
                routed = path != "shop-7"
                assert answer.status == (401 if routed and token == "other" else status)


async def test_a_file_is_what_is_true_and_the_account_is_the_sum_of_its_campaigns() -> None:
    async with running_sandbox() as sandbox, aiohttp.ClientSession() as session:
        sums = {}
        for report in ("campaign_performance", "account_performance"):
            url = f"{sandbox.api_url}/csv/shop-7/{report}.csv?{DAYS}"
            headers = {"Authorization": f"Bearer {sandbox.csv_token('ana')}"}
            async with session.get(url, headers=headers) as answer:
                rows = list(csv.DictReader(io.StringIO(await answer.text())))
            known = sandbox.csv_truth("shop-7", report, date(2026, 11, 1), date(2026, 11, 2))
            assert [(row["date"], row["id"], row["name"]) for row in rows] == [
                (one.day.isoformat(), one.id, one.name) for one in known
            ]
            assert [int(row["clicks"]) for row in rows] == [one.clicks for one in known]
            sums[report] = sum(one.cost for one in known)
        assert len(set(sums.values())) == 1
