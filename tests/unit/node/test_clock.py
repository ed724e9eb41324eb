"""The clocks of a node: the machine's, unless a fault test steers the wall clock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from horologe.node.clock import CLOCK_FILE_SECONDS, SteeredClock, SystemClock, process_clock


def test_the_clock_is_steered_only_where_a_file_is_named(tmp_path: Path) -> None:
    assert type(process_clock({})) is SystemClock
    assert type(process_clock({"HOROLOGE_CLOCK_FILE": ""})) is SystemClock
    assert type(process_clock({"HOROLOGE_CLOCK_FILE": str(tmp_path / "clock")})) is SteeredClock


def test_a_steered_clock_is_wrong_by_what_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000_000)
    monkeypatch.setattr(time, "clock_gettime", lambda _: now)
    file = tmp_path / "clock"
    clock = SteeredClock(file)
    assert clock.wall_ms() == 5_000, "no file yet"
    file.write_text("-3000\n")
    assert clock.wall_ms() == 5_000, "looked at a moment ago"
    now += 2 * CLOCK_FILE_SECONDS
    assert clock.wall_ms() == 2_000
    file.write_text("half a num")
    now += 2 * CLOCK_FILE_SECONDS
    assert clock.wall_ms() == 5_000
    assert clock.monotonic() == now, "durations are never wrong"
