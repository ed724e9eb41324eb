"""How a run is cut into phases, which executions a stopped worker had, and what a fault's end may say."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

from horologe.chaos.cluster import ChaosCluster, NotInTimeError
from horologe.chaos.evidence import EvidenceFile, Kind, read_folder
from horologe.chaos.faults import FAULTS
from horologe.chaos.nemesis import Fault, Freeze, Nemesis, Scene, Strike, revive
from horologe.chaos.run import frozen_executions


def _nemesis(tmp_path: Path, *kinds: type[Fault]) -> Nemesis:
    return Nemesis(Scene(ChaosCluster(tmp_path), random.Random(1), []), kinds, 1.0, print)


def test_a_run_is_quiet_struck_and_recovering(tmp_path: Path) -> None:
    nemesis = _nemesis(tmp_path)
    nemesis.strikes += [Strike("delay", "", 10, 20, 30), Strike("loss", "", 40, 50)]
    phases = [(phase.name, phase.from_ns, phase.until_ns) for phase in nemesis.phases(0, 100)]
    assert phases == [
        ("quiet", 0, 10), ("delay", 10, 20), ("recovery", 20, 30), ("quiet", 30, 40), ("loss", 40, 50), ("recovery", 50, 100),
    ]  # fmt: skip


def test_what_a_stopped_worker_had_not_ended_is_frozen(tmp_path: Path) -> None:
    with EvidenceFile(tmp_path / "w1-1.evidence") as evidence:
        for execution in (1, 2):
            evidence.add(Kind.STARTED, execution, 1, 10, 1, 0)
        evidence.add(Kind.ENDED, 1, 1, 10, 1, 0)
    first_end_ns = read_folder(tmp_path)[-1].monotonic_ns
    stopped = Freeze("w1", first_end_ns + 1, first_end_ns + 1_000)
    assert frozen_executions(tmp_path, [stopped]) == {2}
    assert frozen_executions(tmp_path, [Freeze("w2", first_end_ns + 1, first_end_ns + 1_000)]) == set()


def test_the_same_seed_chooses_the_same_faults_however_much_chance_they_use(tmp_path: Path) -> None:
    chosen: list[list[str]] = []
    for draws in (0, 7):
        nemesis = _nemesis(tmp_path / str(draws), *FAULTS)
        turns, names = nemesis._turns(), []
        for _ in range(50):
            kinds = nemesis._next(turns)
            names.append(" ".join(kind.name for kind in kinds))
            for fault in [kind(nemesis.scene) for kind in kinds]:
                [fault.chance.random() for _ in range(draws)]
        chosen.append(names)
    assert chosen[0] == chosen[1]
    assert {kind.name for kind in FAULTS} <= set(" ".join(chosen[0]).split()), "every kind has its turn"


async def test_a_node_that_two_faults_killed_is_started_once(tmp_path: Path) -> None:
    nemesis = _nemesis(tmp_path)
    started: list[str] = []

    def node(name: str, *, is_running: bool) -> SimpleNamespace:
        one = SimpleNamespace(name=name, is_running=is_running)

        def start() -> None:
            started.append(name)
            one.is_running = True

        one.start = start
        return one

    nodes = [node("n1", is_running=True), node("n2", is_running=False)]
    nemesis.scene.cluster.local.nodes = nodes  # type: ignore[assignment]
    for victims in (["n1", "n2"], ["n2", "n9"]):
        await revive(nemesis.scene, victims)
    assert started == ["n2"]


class _Stubborn(Fault):
    name = "stubborn"
    family = "process"
    seconds = (0.0, 0.0)

    async def begin(self) -> str:
        return "struck"

    async def end(self) -> None:
        self.outcome = "half done"
        raise NotInTimeError("it does not end")


async def test_a_fault_that_does_not_end_is_told_and_the_others_end(tmp_path: Path) -> None:
    nemesis = _nemesis(tmp_path, _Stubborn)
    strike = Strike("stubborn", "struck", 1)
    await nemesis._end(_Stubborn(nemesis.scene), strike)
    assert strike.line == "struck; half done"
    assert nemesis.not_recovered == ["stubborn (struck): it does not end"]
