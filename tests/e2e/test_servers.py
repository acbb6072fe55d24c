"""PostgreSQL, Valkey and the broker are killed under load and come back on their data: late is all that anything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import Stack
from tests.e2e import servers
from tests.e2e.scenarios import Place


@pytest.mark.timeout(300)
async def test_each_server_may_die_under_load(stack: Stack, tmp_path: Path) -> None:
    result = await servers.run(stack, Place(stack.env(), tmp_path, seed=1, say=print), commands=600)
    print(result.name, result.figures)
    print(result.summary)
    assert result.problems == []
    assert result.figures["restarts"] == 0, "no worker has to end for want of a server"
