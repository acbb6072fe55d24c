"""``make demo`` as a test: the whole story on real servers, its table compared with the provider's own arrival log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 170
pytestmark = pytest.mark.timeout(LIMIT_S + 10)


def play(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One performance, piped, with its temporary files in ``folder``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONNECTOR")} | {"TMPDIR": str(folder)}
    argv = [sys.executable, "-m", "app", "demo", *arguments]
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )  # fmt: skip


def counted(log: Path, application: str) -> list[dict[str, Any]]:
    """The calls of one project that a quota counts, in order of arrival."""
    calls = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    mine = [c for c in calls if c["application"] == application and c["quota_group"] in ("reports", "operations")]
    return sorted(mine, key=lambda call: int(call["sequence"]))


def test_the_table_is_what_the_provider_counted_and_nothing_is_left(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    done = play("--json", "--log", str(log), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:] + done.stdout[-2_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    ours, naive = counted(log, "sandbox-client"), counted(log, "sandbox-naive")
    assert told["provider_calls"] == len(ours)
    assert told["calls_over_quota"] == sum(c["over_quota"] for c in ours) == 0
    assert (
        told["refused_by_the_provider"] == sum(c["status"] == 429 for c in ours) == 1
    )  # the one that the story asks for
    assert told["naive_calls"] == len(naive)
    assert told["naive_calls_refused"] == sum(c["status"] == 429 for c in naive)
    assert told["naive_first_429_at_call"] == 1 + [c["status"] for c in naive].index(429)
    assert sum(c["over_quota"] for c in naive) > 0
    fetched = [c for c in ours if c["status"] == 200 and c["route"] in ("reports.run", "ads.search_stream")]
    assert told["fetches"] == told["files"] == len(fetched)
    alone = told["provider_calls_if_each_were_fetched_alone"]
    assert told["calls_saved"] == alone - len(ours) > len(ours) / 2
    assert told["answered_with_data"] == told["commands"]
    assert told["answered_without_a_call"] == 22
    assert told["organisations"] == 3
    assert told["premium_overtook"] >= 1
    assert told["pause_s"] >= 4.5
    assert told["ready_s"] <= 20
    left = [
        p.info for p in psutil.process_iter(["pid", "cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []
    assert [p.name for p in tmp_path.iterdir()] == ["calls.jsonl"]
