"""Random faults from seeds: whatever happens, the cluster keeps its promises and comes together again when the faults end.

A seed that fails here fails every time: `run_storm(SEED, MEMBERS, Storm(...))` shows it again.
"""

from __future__ import annotations

import pytest
from faults import Storm, run_storm
from world import Duties, InvariantViolationError

from horologe.raft.core import Protections

# What the engine does by itself with replies.
ENGINE_REPLIES = {"resets_in_order": False, "resets_clamped": False, "next_index_kept": False}


@pytest.mark.parametrize("seed", range(12))
def test_three_members_in_a_storm(seed: int) -> None:
    world = run_storm(seed, "abc", Storm())
    assert world.acknowledged


@pytest.mark.parametrize("seed", range(6))
def test_five_members_in_a_storm(seed: int) -> None:
    run_storm(seed, "abcde", Storm())


@pytest.mark.parametrize("seed", range(6))
def test_repeated_messages_in_a_storm(seed: int) -> None:
    run_storm(seed, "abc", Storm(repeat=0.02))


@pytest.mark.parametrize("seed", range(10))
def test_compaction_and_snapshots_in_a_storm(seed: int) -> None:
    run_storm(seed, "abc", Storm(compact=True, crash=0.02))


def test_snapshots_are_installed_in_the_storms_with_compaction() -> None:
    installed = sum(run_storm(seed, "abc", Storm(compact=True, crash=0.02)).snapshots_installed for seed in range(4))
    assert installed > 0


def violating_seeds(seeds: range, names: str, protections: Protections, duties: Duties | None = None) -> list[int]:
    found = []
    for seed in seeds:
        try:
            run_storm(seed, names, Storm(), protections, duties)
        except InvariantViolationError:
            found.append(seed)
    return found


def test_keeping_the_matching_tail_is_decisive() -> None:
    """Of what the engine does with replies nothing breaks a promise as long as followers keep what matches."""
    assert violating_seeds(range(8), "abc", Protections(**ENGINE_REPLIES)) == []
    assert violating_seeds(range(8), "abc", Protections(keep_matching_tail=False, **ENGINE_REPLIES)) != []


def test_without_guards_the_states_diverge_or_acknowledged_commands_are_lost() -> None:
    engine = Protections(keep_matching_tail=False, journal_guarded=False, reset_hint_at_commit=False, **ENGINE_REPLIES)
    assert violating_seeds(range(8), "abc", engine) != []


def test_releasing_messages_before_the_commit_breaks_promises() -> None:
    assert violating_seeds(range(8), "abc", Protections(), Duties(commit_before_release=False)) != []


@pytest.mark.parametrize("seed", range(20))
def test_members_come_and_go_in_a_storm(seed: int) -> None:
    world = run_storm(seed, "abc", Storm(change=0.1, compact=seed % 2 == 1, seconds=15.0))
    assert world.acknowledged


def test_the_storms_with_changes_do_change_the_members() -> None:
    worlds = [run_storm(seed, "abc", Storm(change=0.1, seconds=15.0)) for seed in range(4)]
    assert all(world.members() != ["a", "b", "c"] for world in worlds)
