"""`horologe bench`: tiny runs, for what the report says and that nothing is left behind. No figure of time is asserted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from horologe.chaos import bench_history, bench_pages
from horologe.chaos.bench_core import costs_of_firing, flatness
from horologe.chaos.bench_evidence import (
    Distribution,
    Evidence,
    Recorder,
    Start,
    account,
    account_by_minute,
    read_starts,
    starts_per_second,
)
from horologe.chaos.bench_fleet import BenchError
from horologe.chaos.bench_missed import measure as measure_missed
from horologe.chaos.bench_pages_fill import filled_cluster
from horologe.chaos.bench_profiles import Steady
from horologe.client.client import Client
from horologe.v1.execution_service_pb2 import LedgerRow

FIGURES = {
    "profile", "parameters", "versions", "machine", "start_delay_ms", "executions", "throughput_per_second",
    "entries_per_execution", "missed", "duplicated", "lost_details", "cpu_seconds", "cpu_cores_per_node",
    "worker_cpu_seconds", "rss_bytes", "leader",
}  # fmt: skip
HOROLOGE = (sys.executable, "-c", "from horologe.client.cli.main import main; main()")


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    """The report of a run on a cluster of one node. Nothing may be left in the folder."""
    command = [*HOROLOGE, "bench", *arguments, "--nodes", "1", "--dir", str(folder), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == []
    report: dict[str, Any] = json.loads(done.stdout)
    assert report.keys() >= FIGURES
    assert (report["missed"], report["duplicated"], report["lost_details"]) == (0, 0, [])
    assert report["is_sound"] and report["leader"] == "n1"
    assert report["rss_bytes"].keys() == report["cpu_seconds"].keys() == {"n1"}
    return report


def test_steady_runs_every_due_time_once(tmp_path: Path) -> None:
    report = bench(tmp_path, "steady", "--rate", "20", "--seconds", "2", "--interval", "1s", "--warm-up", "1")
    assert report["executions"] == 40
    assert report["parameters"]["jobs"] == 20
    assert report["start_delay_ms"].keys() == {"p50", "p99", "p99_9", "max"}
    assert report["ledger_agrees"] and report["ledger"]["completed"] >= 40


def test_burst_runs_every_job_once_and_measures_creations_beside_it(tmp_path: Path) -> None:
    report = bench(tmp_path, "burst", "--count", "30")
    assert report["executions"] == report["ledger"]["completed"] == 30
    assert report["drained_seconds"] is not None
    assert report["calls"] >= 1 and report["call_ms"]["max"] > 0


@pytest.mark.parametrize("batch", [1, 5])
def test_submit_counts_what_was_acknowledged(tmp_path: Path, batch: int) -> None:
    options = ("--in-flight", "4", "--batch", str(batch), "--warm-up", "0.2", "--seconds", "0.5")
    report = bench(tmp_path, "submit", *options)
    assert report["calls"] >= 1 and report["failed_calls"] == 0
    assert report["start_delay_ms"] is None


def test_idle_measures_what_waiting_costs_and_how_fast_a_killed_node_serves_again(tmp_path: Path) -> None:
    kept = tmp_path.with_suffix(".json")
    options = ("--jobs", "600", "--warm-up", "0", "--seconds", "1", "--restarts", "1", "--save", str(kept))
    report = bench(tmp_path, "idle", *options)
    assert report["rss_bytes"]["n1"] > 0 and report["data_bytes"]["n1"] > 0
    assert report["executions"] == 0
    (seconds,) = report["restart_seconds"]
    assert seconds > 0
    assert report["reference"]["rounds_per_cpu_second"] > 0 and report["reference"]["fsync_ms"] > 0
    assert json.loads(kept.read_text()) == report


def test_workers_that_only_stay_are_measured_beside_plain_streams(tmp_path: Path) -> None:
    options = ("--streams", "6", "--slots", "60", "--seconds", "2", "--lease-term", "7s", "--no-failover")
    report = bench(tmp_path, "workers", *options)
    assert report["parameters"]["slots"] == 60
    more = report["more"]
    assert more["streams_broken_while_held"] == 0
    assert more["heartbeats"] >= 1 and more["heartbeat_seconds"] == 1.4
    assert more.keys() >= {"node_kib_per_stream", "bare_server_kib_per_stream", "bare_client_kib_per_stream"}


def test_a_secure_cluster_is_measured_like_any_other(tmp_path: Path) -> None:
    options = ("--rate", "20", "--interval", "1s", "--warm-up", "0", "--seconds", "2", "--secure")
    report = bench(tmp_path, "steady", *options)
    assert report["parameters"]["secure"]
    assert report["executions"] >= 20


def test_an_interrupted_run_stops_its_processes_and_removes_its_folder(tmp_path: Path) -> None:
    command = [*HOROLOGE, "bench", "steady", "--nodes", "1", "--rate", "10", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        parent = psutil.Process(run.pid)
        # A node and a worker: the run is under way.
        while run.poll() is None and len(children := parent.children()) < 2:
            with suppress(subprocess.TimeoutExpired):
                run.wait(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 130, said
        assert "interrupted" in said
    assert not [child for child in children if child.is_running()]
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    command = [*HOROLOGE, "bench", "submit", "--pid", "1", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--pid belongs to --address" in done.stderr


def test_missing_double_and_foreign_starts_are_counted() -> None:
    def start(execution: int, job: int, due_ms: int) -> Start:
        return Start(execution, 1, job, due_ms, due_ms * 1000 + 5_000)

    starts = [start(1, 0, 100), start(2, 0, 200), start(2, 0, 200), start(3, 1, 155), start(4, 0, 900)]
    found = account(starts, [(0, 100), (0, 200), (1, 150)], 100, 300)
    assert (found.executions, found.missed, found.duplicated) == (3, 1, 2)
    assert [detail["kind"] for detail in found.details] == ["duplicated", "missed", "not in the schedule"]
    assert found.start_delay == Distribution(5.0, 5.0, 5.0, 5.0)


def test_a_long_run_is_accounted_for_minute_by_minute() -> None:
    def due_times(from_ms: int, until_ms: int) -> list[tuple[int, int]]:
        return [(0, due_ms) for due_ms in range(0, 180_000, 30_000) if from_ms <= due_ms < until_ms]

    ran = [Start(due_ms, 1, 0, due_ms, due_ms * 1000 + delay) for due_ms, delay in due_times_with_delays()]
    evidence = Evidence([*ran, ran[0], Start(7, 1, 3, 500_000, 500_000_000)])
    assert evidence.execution_count() == 5
    whole, minutes = account_by_minute(evidence, due_times, 30_000, 180_000)
    assert (whole.executions, whole.missed, whole.duplicated) == (4, 1, 1)
    assert whole.start_delay == Distribution(9.0, 60.0, 60.0, 60.0)
    assert [minute and minute.max for minute in minutes] == [9.0, 60.0, 12.0]


def due_times_with_delays() -> list[tuple[int, int]]:
    """(milliseconds, microseconds); nothing ran at 120 s."""
    return [(30_000, 5_000), (60_000, 9_000), (90_000, 60_000), (150_000, 12_000)]


def test_percentiles_are_of_all_values() -> None:
    assert Distribution.of([]) is None
    assert Distribution.of(range(1, 1001)) == Distribution(500, 990, 999, 1000)


def test_evidence_survives_the_way_over_the_disk(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.add((7, 1, 3, 1_000, 1_002_500))
    recorder.write(tmp_path / "evidence")
    (start,) = read_starts(tmp_path / "evidence")
    assert start == Start(7, 1, 3, 1_000, 1_002_500)
    assert start.delay_ms == 2.5


def test_due_times_of_a_steady_run_are_spread_and_complete() -> None:
    profile = Steady(jobs=4, period_ms=1_000, seconds=1, warm_up_seconds=0)
    phases_ms = [profile.phase_ms(number) for number in range(4)]
    assert list(profile.due_times(phases_ms, 10_000, 11_000)) == [(0, 10_000), (1, 10_250), (2, 10_500), (3, 10_750)]
    assert list(profile.due_times(phases_ms, 10_251, 11_251)) == [(0, 11_000), (1, 11_250), (2, 10_500), (3, 10_750)]


def test_the_core_alone(tmp_path: Path) -> None:
    few, many = costs_of_firing(tmp_path, [50, 100], rate=50, fires=100, note=lambda text: None)
    assert (few.jobs, many.jobs) == (50, 100)
    assert few.fires >= 100 and many.fires >= 100
    assert flatness([few, few]) == 0


@pytest.mark.parametrize(("policy", "rows"), [("latest", 2), ("earliest", 2), ("all", 101), ("skip", 2)])
def test_what_was_missed_is_settled_in_few_entries(tmp_path: Path, policy: str, rows: int) -> None:
    settling = measure_missed(tmp_path / "state", policy, missed=1_200)
    assert settling.ledger_rows == rows
    assert 1 < settling.steps < 20


def test_dropping_history(tmp_path: Path) -> None:
    nothing, too_many, too_old = bench_history.run(tmp_path, jobs=50, executions=2_000, say=lambda text: None)
    assert (nothing.dropped, too_many.dropped) == (0, 198), "two are dead letters"
    # All but the dead letters, which become history first.
    assert too_old.executions - too_old.dropped == 2
    assert too_old.to_record()["steps"] == 4


def test_pages_of_a_node_with_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_pages, "VISITS", 2)
    monkeypatch.setattr(bench_pages, "PAINTS", 1)
    monkeypatch.setattr(bench_pages, "PAINTED", ("/jobs",))
    monkeypatch.setattr(bench_pages, "IDLE_SECONDS", 0.1)
    report = bench_pages.run(tmp_path / "kept", jobs=200, executions=400, streams=60, say=lambda text: None)
    assert {page.path: page.status for page in report.pages} == dict.fromkeys(bench_pages.PAGES, 200)
    assert max(page.bytes for page in report.pages) < bench_pages.BYTES_MAX
    assert report.first_paint_ms["/jobs"] > 0
    assert report.streaming_cores >= 0

    # What was filled is used again, and only for what it was filled for.
    cluster = filled_cluster(tmp_path / "kept", 200, 400, lambda text: None)
    cluster.start()
    try:
        with Client(context_file=cluster.context_file) as client:
            status = client.cluster_status()
            assert (status.job_count, status.fired_count) == (200, 400)
            assert {row.outcome for row in client.list_ledger("space-3/job-0000123")} == {LedgerRow.OUTCOME_RAN}
    finally:
        cluster.stop()
    with pytest.raises(BenchError, match="filled with 200 400"):
        filled_cluster(tmp_path / "kept", 300, 400, lambda text: None)


def test_readers_of_the_dashboard_are_there_while_it_is_measured(tmp_path: Path) -> None:
    options = ("--rate", "10", "--interval", "1s", "--warm-up", "0", "--seconds", "2", "--readers", "2")
    report = bench(tmp_path, "steady", *options)
    assert report["calls"] >= 2 and report["failed_calls"] == 0
    assert report["parameters"]["readers"] == 2


def test_starts_are_counted_by_whole_seconds() -> None:
    starts = [
        Start(number, 1, 1, 0, at_us) for number, at_us in enumerate([10_000_000, 10_999_999, 11_500_000, 13_000_000])
    ]
    assert starts_per_second(starts, 10, 13) == (0, 1.0, 2)
    assert starts_per_second(starts, 10, 10) is None
