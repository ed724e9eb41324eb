"""Members come and go in the middle of work: nothing is lost, nothing comes twice.

The full form, which also judges how late anything starts, is `horologe chaos members`. Here less load, and no clock.
"""

from __future__ import annotations

from pathlib import Path

from horologe.chaos import members

RATE = 200
PERIOD_SECONDS = 2


async def test_no_due_time_is_lost_or_doubled_when_members_come_and_go(tmp_path: Path) -> None:
    report = await members.run(tmp_path, RATE, PERIOD_SECONDS, say=print)
    print(report.summary())
    assert report.course.verdict.violations == {}, report.summary()
    assert report.course.acknowledged_missing == []
    assert report.is_sound, report.summary()
    assert len(report.course.done) == 5
    assert report.course.verdict.due >= RATE * 20, "too little happened to prove anything"
