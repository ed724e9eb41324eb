"""`horologe chaos run` in short: one fault of each family, judged by all criteria, with the reports that it writes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from horologe.chaos import picture, report
from horologe.chaos.faults import chosen
from horologe.chaos.network import open_network
from horologe.chaos.run import Plan, run


@pytest.mark.timeout(400)
async def test_a_short_run_of_all_families_is_sound(tmp_path: Path) -> None:
    kinds = chosen("kill-all,partition-halves,fsync-slow,clock-jump,stop-worker,delay")
    plan = Plan(minutes=0.5, faults=kinds, pause_seconds=0.5, seed=random.SystemRandom().randrange(1 << 31))
    with open_network() as network:
        result = await run(tmp_path, plan, network, print)
    text = report.summary(result)
    print(text)
    assert result.is_sound, text
    assert len(result.nemesis.strikes) >= 2
    assert result.verdict.due > 1_500 and result.reached["proven starts"] > 20
    assert result.reached["operations ok"] > 50
    assert picture.draw(result, as_page=False).startswith("<svg")
