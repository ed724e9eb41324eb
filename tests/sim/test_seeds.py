"""Whole clusters under torment, from seeds: nothing is lost, doubled or stuck. `make sim` runs many more of them."""

from __future__ import annotations

import pytest

from horologe.chaos.sim.nemesis import FAULTS
from horologe.chaos.sim.report import CONSEQUENCES, SimReport
from horologe.chaos.sim.seeds import SeedOptions, SeedResult, run_seed
from horologe.chaos.sim.shrink import command_of


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_tormented_cluster_keeps_its_promises(seed: int) -> None:
    result = run_seed(seed, SeedOptions(seconds=10.0))
    assert result.is_sound, f"{result.text}\nagain: {command_of(result)}"
    assert result.counts["due times judged"] > 0
    assert result.counts["states compared"] > 0 or result.nodes == 1


def test_a_seed_repeats_itself() -> None:
    options = SeedOptions(seconds=5.0, nodes=3)
    assert run_seed(8, options).trace_hash == run_seed(8, options).trace_hash


def test_an_idle_run_does_not_pass() -> None:
    report = SimReport()
    idle = SeedResult(1, SeedOptions(), nodes=3, simulated_seconds=1_900.0)
    report.add(idle)
    assert not report.is_sound
    report.counts.update({f"fault: {name}": 1 for name in FAULTS} | dict.fromkeys(CONSEQUENCES, 1))
    assert report.is_sound


def test_the_command_that_repeats_a_run_is_short() -> None:
    some = frozenset(list(FAULTS)[:2])
    seed = SeedResult(7, SeedOptions(seconds=12.0, nodes=3, off=some))
    assert command_of(seed).startswith("horologe chaos sim --seed 7 --seconds 12 --nodes 3 --without ")
    seed.options = SeedOptions(off=frozenset(FAULTS) - {"ring"})
    assert command_of(seed) == "horologe chaos sim --seed 7 --seconds 60 --only ring"
    seed.options = SeedOptions(off=frozenset(FAULTS))
    assert command_of(seed) == "horologe chaos sim --seed 7 --seconds 60 --without all"
