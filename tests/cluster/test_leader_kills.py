"""The leader is killed in the middle of work, again and again: nothing is lost, nothing comes twice.

The full form, which also judges how long nothing starts, is `horologe chaos kill-leader`. Here fewer kills, and no clock.
"""

from __future__ import annotations

from pathlib import Path

from horologe.chaos import kill_leader

ROUNDS = 3
RATE = 300
PERIOD_SECONDS = 2


async def test_no_due_time_is_lost_or_doubled_when_leaders_are_killed(tmp_path: Path) -> None:
    report = await kill_leader.run(tmp_path, ROUNDS, RATE, PERIOD_SECONDS, nodes=3, say=print)
    print(report.summary())
    assert report.verdict.violations == {}, report.summary()
    assert report.acknowledged_missing == []
    assert report.is_sound, report.summary()
    assert report.verdict.due >= ROUNDS * RATE, "too little happened to prove anything"
