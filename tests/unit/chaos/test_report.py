"""What a run is told as: the summary, the data, the picture; and how faults are chosen by name."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from horologe.chaos import picture, report
from horologe.chaos.checker import Rule
from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.faults import FAULTS, chosen
from horologe.chaos.history import Due, History, Leadership, LedgerLine, Outcome, Phase, Policy
from horologe.chaos.judge import judge
from horologe.chaos.nemesis import Nemesis, Scene, Strike
from horologe.chaos.run import Plan, Run

SECOND_NS = 1_000_000_000


def _marks(execution: int, due_ms: int, delay_ms: int) -> list[Mark]:
    at_ms = due_ms + delay_ms
    started = Mark(Kind.STARTED, execution, 1, execution, 1, due_ms, at_ms * 1_000, at_ms * 1_000_000)
    return [started, started._replace(kind=Kind.ENDED)]


def _run(tmp_path: Path, *, last_delay_ms: int = 30) -> Run:
    """A minute with a due time every second, one fault, and two leaders."""
    dues = [Due(1, second * 1_000) for second in range(60)]
    history = History(
        marks=[
            mark
            for due in dues
            for mark in _marks(due.due_ms + 1, due.due_ms, last_delay_ms if due.due_ms == 59_000 else 20)
        ],
        expected=dues,
        ledger=[LedgerLine(1, due.due_ms, "RAN", due.due_ms + 1) for due in dues],
        outcomes=[Outcome(due.due_ms + 1, "COMPLETED") for due in dues],
        phases=[Phase("quiet", 0, 20 * SECOND_NS), Phase("kill-leader", 20 * SECOND_NS, 25 * SECOND_NS)],
        leaderships=[
            Leadership(second * SECOND_NS, "n1" if second < 20 else "n2", 1 if second < 20 else 2)
            for second in range(60)
        ],
        policies={1: Policy()},
        peace=[Phase("peace", 50 * SECOND_NS, 60 * SECOND_NS)],
    )
    cluster = ChaosCluster(tmp_path, 3)
    nemesis = Nemesis(Scene(cluster, random.Random(1), ["w1"]), FAULTS, 1.0, print)
    nemesis.strikes.append(Strike("kill-leader", "SIGKILL <n1>", 20 * SECOND_NS, 25 * SECOND_NS, 26 * SECOND_NS))
    reached = {"operations ok": 5}
    verdict = judge(history, 0, 60_000)
    impossible = {"delay": "not here"}
    return Run(Plan(seed=7), verdict, history, nemesis, "a cable", impossible, "1 job", 0, 60 * SECOND_NS, reached)


def test_the_summary_says_what_held_what_struck_and_what_was_left_out(tmp_path: Path) -> None:
    text = report.summary(_run(tmp_path))
    assert text.endswith("\nsound")
    assert "C9 holds" in text and "seed 7" in text and "not possible here: delay: not here" in text
    assert any(line.split() == ["kill-leader", "1"] for line in text.splitlines())
    assert any(line.split() == ["kill-leader", "5", "20", "20", "20", "20"] for line in text.splitlines())


def test_what_is_late_in_peace_is_a_violation(tmp_path: Path) -> None:
    run = _run(tmp_path, last_delay_ms=6_000)
    assert run.verdict.violations == {Rule.LATE_IN_PEACE: 1}
    assert not run.is_sound
    text = report.summary(run)
    assert text.endswith("NOT SOUND") and "C9 VIOLATED 1 times" in text


def test_members_with_another_state_or_none_are_found(tmp_path: Path) -> None:
    history = _run(tmp_path).history
    history.digests = {"n1": "aa", "n2": "aa", "n3": "aa"}
    assert judge(history, 0, 60_000).violations == {}
    history.digests = {"n1": "aa", "n2": "bb", "n3": "", "n4": "aa"}
    assert judge(history, 0, 60_000).violations == {Rule.STATES_DIFFER: 2}


def test_the_record_is_plain_data(tmp_path: Path) -> None:
    record = json.loads(json.dumps(report.to_record(_run(tmp_path))))
    assert record["sound"] is True and record["criteria"]["C1"] == 0 and record["struck"]["kill-leader"] == 1
    assert record["strikes"][0]["recovered_seconds"] == 1.0
    assert record["delays_ms"]["quiet"]["starts"] == 20


def test_the_picture_is_whole_and_small(tmp_path: Path) -> None:
    run = _run(tmp_path)
    svg = picture.draw(run, as_page=False)
    root = ElementTree.fromstring(svg)
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["kill-leader: SIGKILL <n1>", "term 1", "term 2"]
    assert len(svg) < 60_000
    page = picture.draw(run, as_page=True)
    assert (
        page.startswith("<!doctype html>")
        and "SIGKILL &lt;n1&gt;" in page
        and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    )


def test_faults_are_chosen_by_name_by_family_or_all() -> None:
    assert chosen("all") == FAULTS
    assert [kind.name for kind in chosen("kill-leader, clock")] == ["kill-leader", "clock-jump", "clock-strobe"]
    with pytest.raises(ValueError, match="'kill-leadr' is no fault"):
        chosen("kill-leadr")
    assert len({kind.name for kind in FAULTS}) == len(FAULTS)
