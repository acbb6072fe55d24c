"""The first records of partitions: sent while their worker is dead and before the group has committed any offset."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import Stack
from tests.e2e import scenarios, traffic
from tests.e2e.watching import watching
from tests.e2e.world import world

pytestmark = pytest.mark.timeout(150)


async def test_commands_for_partitions_that_nobody_has_committed_are_served_by_the_heir(
    stack: Stack, tmp_path: Path
) -> None:
    settings = {**scenarios.RAISED, **scenarios.SHORT_LEASES}
    async with world(stack.env(), tmp_path, sandbox=scenarios.SANDBOX, settings=settings, connectors=16) as made:
        await made.start("w1")
        await made.start("w2")
        made.kill("w1")
        bodies = [traffic.own_days(account, number) for number, account in enumerate(made.accounts)]
        records = [traffic.encoded(body, avro=True) for body in bodies]
        await traffic.produce(made.bootstrap, made.prefix, records)
        async with watching(made.bootstrap, made.prefix) as ends:
            await ends.all_of({body["request_id"] for body in bodies}, stall_s=30)
        assert (await made.check()).problems == []
