"""The hunt for mutants: every protection has one, and what is found is found for its own reason.

That all of them are found is what `horologe chaos mutants` says; `make mutants` runs it.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from horologe.chaos.mutants.catalogue import MUTANTS
from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.hunt import Hunt, run_course
from horologe.chaos.mutants.mutant import Course, Mutant, nothing
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.raft.core import Protections

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def test_every_switch_has_a_mutant() -> None:
    switches = {field.name for field in fields(Protections)}
    assert switches == {name for name in switches if name in BY_NAME and name in BY_NAME[name].switches}


def test_names_are_unique_and_courses_too() -> None:
    assert len(BY_NAME) == len(MUTANTS)
    courses = {id(mutant.course): mutant.course.name for mutant in MUTANTS}
    assert len(set(courses.values())) == len(courses)


def test_the_page_has_every_mutant() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mutants.md").read_text()
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == [mutant.name for mutant in MUTANTS]


def test_every_mutant_changes_something_and_says_what_must_fall() -> None:
    assert [mutant.name for mutant in MUTANTS if not mutant.falls] == []
    assert [mutant.name for mutant in MUTANTS if not mutant.switches and mutant.patch is Mutant.patch] == []


@pytest.mark.parametrize("name", ["commit_before_release", "pre_vote", "request_ids"])
def test_a_mutant_is_found_and_the_healthy_program_is_sound(name: str) -> None:
    finding = Hunt().one(BY_NAME[name])
    assert finding.is_found, finding.to_record()


def test_the_same_seed_finds_the_same() -> None:
    mutant = BY_NAME["stale_replies_dropped"]
    assert run_course(mutant.course, 1, mutant) == run_course(mutant.course, 1, mutant)


def test_a_mutant_that_changes_nothing_survives() -> None:
    finding = Hunt().one(replace(BY_NAME["request_ids"], patch=nothing))
    assert (finding.is_found, finding.seeds, finding.run.fell) == (False, 5, "")


def test_what_falls_for_another_reason_is_no_finding() -> None:
    finding = Hunt().one(replace(BY_NAME["pre_vote"], falls=("something else",)))
    assert not finding.is_found


def test_a_world_in_which_the_healthy_program_fails_proves_nothing() -> None:
    def fail(ground: Ground) -> None:
        raise InvariantBrokenError("anything", f"seed {ground.seed}")

    finding = Hunt().one(replace(BY_NAME["pre_vote"], course=Course("always fails", fail), falls=("anything",)))
    assert not finding.is_found
