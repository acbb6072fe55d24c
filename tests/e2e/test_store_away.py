"""The result store is away while reports are ready: nothing fails, nothing is bought twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.scenarios import SANDBOX
from tests.e2e.watching import watching
from tests.e2e.world import World, world


async def test_reports_wait_for_a_store_that_is_away(stack: Stack, tmp_path: Path) -> None:
    async with world(stack.env(), tmp_path, sandbox=SANDBOX, settings={}, connectors=4) as made:
        await made.start("w1")
        results = Path(urlsplit(made.env["CONNECTOR__STORAGE__URL"]).path)
        aside = _take_away(results)
        bodies = [traffic.own_days(made.accounts[n], n) for n in range(4)]
        async with watching(made.bootstrap, made.prefix) as ends:
            records = [traffic.encoded(body, avro=False) for body in bodies]
            await traffic.produce(made.bootstrap, made.prefix, records)
            await _all_waiting(made, len(bodies))
            assert not ends.seen
            _bring_back(results, aside)
            await ends.all_of({body["request_id"] for body in bodies}, stall_s=60)
        report = await made.check()
        assert report.problems == []
        assert report.figures["  data_fetched"] == len(bodies)
        assert len((await made.ask_sandbox("reports"))["reports"]) == len(bodies), "each was bought once"


def _take_away(results: Path) -> Path:
    results.mkdir(parents=True, exist_ok=True)
    aside = results.rename(results.with_name("aside"))
    results.write_text("no folder", encoding="utf-8")
    return aside


def _bring_back(results: Path, aside: Path) -> None:
    results.unlink()
    aside.rename(results)


async def _all_waiting(made: World, count: int) -> None:
    """Each report is bought, and each step has met the store that is away: it is asked before anything is called."""
    async with asyncio.timeout(60):
        while True:
            if made.lives["w1"].logs[-1].read_text(encoding="utf-8").count("results_unavailable") >= count:
                return
            await asyncio.sleep(0.5)
