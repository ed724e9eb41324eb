"""The forty scenarios of what can go wrong: each is told in the simulator, most with real processes too, and its number is in the
name of its tests."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ALL = {f"{number:02}" for number in range(1, 41)}
WITH_REAL_PROCESSES = {f"{number:02}" for number in (*range(1, 13), 15, 17, 18, *range(21, 26), 29, 34, 35, 37)}


def told_in(folder: str) -> set[str]:
    """The numbers of the scenarios that a folder of tests has."""
    text = "\n".join(path.read_text() for path in (TESTS / folder).glob("test_scenarios_*.py"))
    return set(re.findall(r"^(?:async )?def test_scenario_(\d\d)_\w+\(", text, re.MULTILINE))


def test_every_scenario_is_told_in_the_simulator() -> None:
    assert told_in("sim") == ALL


def test_those_that_machines_can_show_are_told_with_real_processes_too() -> None:
    assert told_in("cluster") == WITH_REAL_PROCESSES
