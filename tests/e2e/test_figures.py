"""How figures are judged: right at the target, void without samples, silent about what cannot be measured."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from tests.bench import figures, handover, idle, latency, reading
from tests.bench import report_bodies as bodies
from tests.bench.measured import Measured, quantile, spread


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.01, 0.5, 0.99, 1.0)] == [1.0, 2.0, 3.0, 3.0]
    assert quantile(range(1, 201), 0.99) == 198
    assert spread([2.0, 1.0]) == {"n": 2, "p50": 1.0, "p90": 2.0, "p99": 2.0, "max": 2.0}
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_f8_is_the_quotient_of_the_p99s_and_void_when_a_call_is_missing() -> None:
    assert latency.judge([30.0], [2.0], asked=1).ok
    assert not latency.judge([30.1], [2.0], asked=1).ok
    assert not latency.judge([3.0], [2.0], asked=2).ok
    assert latency.judge([31.0], [2.0], asked=1).measured == 15.5


def test_f8_measures_from_the_record_to_the_first_call_of_its_batch() -> None:
    calls = [
        {"route": "reports.status", "title": "conn_1 report", "days": "a/a", "arrived_at": 1.01},
        {"route": "reports.create", "title": "conn_1 report", "days": "a/a", "arrived_at": 1.050},
        {"route": "reports.run", "title": "conn_1 report", "days": "a/a", "arrived_at": 1.060},
        {"route": "reports.run", "title": "conn_1 report", "days": "b/b", "arrived_at": 1.1},
        {"route": "reports.run", "title": "conn_1 report", "days": "b/b", "arrived_at": 9.0},
        {"route": "reports.run", "title": "conn_2 report", "days": "a/a", "arrived_at": 1.0},
    ]
    fetches: dict[str | None, tuple[str, str]] = {
        "req_1": ("conn_1 report", "a/a"),
        "req_2": ("conn_1 report", "b/b"),
        "req_3": ("conn_1 report", "c/c"),
    }
    times = latency._times({"req_1": 1_000, "req_2": 900, "req_3": 800}, fetches, calls)
    assert times == pytest.approx([200.0, 50.0])


def test_f11_needs_both_ratios_and_both_memories() -> None:
    rates = {"csv": {"ours": [5.0, 6.0, 9.0], "plain": [8.0, 10.0, 12.0]}, "json": {"ours": [5.0], "plain": [10.0]}}
    peaks = {"csv": [0, 32 * 2**20], "json": [7, 7]}
    good = reading.judge(rates, peaks)
    assert good.ok
    assert good.measured == {"csv_ratio": 0.6, "csv_more_mib": 32.0, "json_ratio": 0.5, "json_more_mib": 0.0}
    for form, slower in (("csv", 5.9), ("json", 4.9)):
        assert not reading.judge(rates | {form: {"ours": [slower], "plain": [10.0]}}, peaks).ok
    for form in peaks:
        assert not reading.judge(rates, peaks | {form: [0, 32 * 2**20 + 1]}).ok


@pytest.mark.parametrize("form", reading.FORMS)
def test_f11_measures_a_whole_report(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ROUNDS", {form: 1})
    body = bodies.body_of(reading.FORMS[form], tmp_path / "body", 2 * bodies.DAYS)
    bodies.write(body)
    found = reading.rates(body)
    assert {name: len(rates) for name, rates in found.items()} == {"ours": 1, "plain": 1}
    assert 10 * 2**20 < reading.peak(body) < 4 * 2**30
    fewer = bodies.body_of(reading.FORMS[form], tmp_path / "body", bodies.DAYS)
    with pytest.raises(ValueError, match="800 rows were stored"):
        reading.rates(fewer)


def test_f13_needs_both_halves() -> None:
    assert idle.judge(3.0, 150.0, 200.0, 60).ok
    assert not idle.judge(3.1, 100.0, 200.0, 60).ok
    assert not idle.judge(1.0, 150.1, 200.0, 60).ok


def test_f13_reads_a_process_as_the_kernel_tells_it() -> None:
    before = idle.cpu_seconds(os.getpid())
    assert sum(range(4_000_000)) > 0
    assert idle.cpu_seconds(os.getpid()) > before
    assert 10 < idle.resident_mb(os.getpid()) < 4_000


def test_f14_takes_medians_and_is_void_without_samples() -> None:
    good = handover.judge([20.4, 1.0, 99.0], [20.0], [0.4])
    assert good.ok
    assert good.measured == {"first_permit_s": 20.4, "first_call_s": 20.0}
    assert not handover.judge([20.5], [20.0], [0.4]).ok
    assert not handover.judge([1.0], [20.1], [0.4]).ok
    assert not handover.judge([], [1.0], [0.4]).ok
    assert not handover.judge([1.0], [], [0.4]).ok


def test_f14_finds_the_calls_that_a_kill_cut_off_and_their_heirs() -> None:
    def call(days: str | None, arrived_at: float, status: int) -> dict[str, object]:
        return {"title": "conn_1 r", "days": days, "arrived_at": arrived_at, "took_s": 1.0, "status": status}

    calls = [
        call("a/a", 9.5, 0), call("a/a", 21.0, 200), call("a/a", 30.0, 200), call(None, 9.5, 0),
        call("b/b", 9.5, 200), call("b/b", 12.0, 200), call("c/c", 5.0, 0),
    ]  # fmt: skip
    assert handover.heirs_calls(calls, 10.0) == [11.0]
    assert handover.first_after([1.0, 2.0], 2.0) == float("inf")


def test_f14_reads_recoveries_from_a_log(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text('text\n{"event":"planner_took_over","seconds":0.25}\n{"event":"other","seconds":9}\n')
    assert handover.recovery_seconds(log) == [0.25]


def test_every_figure_is_measured_or_said_not_to_be() -> None:
    known = {*figures.MEASURES, *figures.LATER}
    assert known == {f"F{number}" for number in range(1, 16)}
    assert not figures.MEASURES.keys() & figures.LATER.keys()
    said = orjson.loads(figures.not_yet("F6").line())
    assert (said["measured"], said["ok"]) == (None, False)
    assert "not yet" in figures.table([figures.not_yet("F6"), Measured("F8", 3.1, "<= 15 x", ok=True)])
