"""``make demo`` as a test: the whole way once, on real servers, judged by what it prints and by its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(180)
def test_the_demo_serves_every_command_and_saves_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "demo", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["data_fetched"] == told["commands"] == 20
    assert told["calls_over_quota"] == 0
    assert 0 < told["provider_calls"] < told["provider_calls_if_each_were_fetched_alone"]
    assert told["first_data_s"] <= 20
