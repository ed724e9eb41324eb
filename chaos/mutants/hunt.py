"""The hunt: runs each mutant in its world, seed after seed, until an invariant falls; and the same world without the mutant.

No clock decides about anything in here, so the same program finds the same things with the same seeds.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest.mock import patch

from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim import seeds
from horologe.chaos.sim.nemesis import Nemesis
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.seeds import SeedOptions
from horologe.chaos.sim.workload import Workload
from horologe.raft.core import CoreSettings, Protections

DICE_SECONDS = 25.0
"""Of faults, in each world of dice; a calm comes on top."""


@dataclass(frozen=True)
class Run:
    """One world from its beginning to its end.

    Attributes:
        fell: The invariant that fell; empty if all held.
        story: What was seen.
        simulated_seconds: How long the world existed, on its own clock.
    """

    fell: str
    story: str
    simulated_seconds: float


@dataclass(frozen=True)
class Dice:
    """What dice made of a mutant: after how many seeds which invariant fell; an empty one: none did."""

    seeds: int
    fell: str


@dataclass(frozen=True)
class Finding:
    """What became of one mutant.

    Attributes:
        seeds: How many were tried.
        run: The last run: the one that found it, if it was found.
        control: The same world without the mutant; None if the mutant was not found.
        wall_seconds: How long all of its runs took, the control left out.
        dice: What dice made of it; None if they were not asked.
    """

    mutant: Mutant
    seeds: int
    run: Run
    control: Run | None
    simulated_seconds: float
    wall_seconds: float
    dice: Dice | None = None

    @property
    def is_found(self) -> bool:
        """Whether what was expected fell, and holds in the healthy program."""
        return self.run.fell in self.mutant.falls and self.control is not None and not self.control.fell

    def to_record(self) -> dict[str, Any]:
        """For -o json."""
        return {
            "mutant": self.mutant.name,
            "off": self.mutant.off,
            "course": self.mutant.course.name,
            "found": self.is_found,
            "seeds": self.seeds,
            "simulated_seconds": round(self.simulated_seconds, 1),
            "wall_seconds": round(self.wall_seconds, 2),
            "fell": self.run.fell,
            "story": self.run.story,
            "control": "not run" if self.control is None else self.control.story or "sound",
            "dice": None if self.dice is None else {"seeds": self.dice.seeds, "fell": self.dice.fell},
        }


@dataclass
class Hunt:
    """Looks for mutants. Controls are run once per course and seed.

    Attributes:
        dice_seeds: For how many seeds dice hunt each mutant too.
    """

    dice_seeds: int = 0
    _controls: dict[tuple[str, int], Run] = field(default_factory=dict)
    _dice_controls: dict[int, Run] = field(default_factory=dict)

    def all(self, mutants: Iterable[Mutant], tell: Callable[[Finding], None]) -> list[Finding]:
        """Hunts all of them, and tells of each at once."""
        findings = []
        for mutant in mutants:
            findings.append(self.one(mutant))
            tell(findings[-1])
        return findings

    def one(self, mutant: Mutant) -> Finding:
        """Hunts one mutant, from seed 1 on."""
        began = time.monotonic()
        simulated_seconds = 0.0
        for seed in range(1, mutant.course.seeds + 1):
            run = run_course(mutant.course, seed, mutant)
            simulated_seconds += run.simulated_seconds
            if run.fell:
                break
        wall_seconds = time.monotonic() - began
        control = self._control(mutant.course, seed) if run.fell else None
        return Finding(mutant, seed, run, control, simulated_seconds, wall_seconds, self._dice(mutant))

    def _dice(self, mutant: Mutant) -> Dice | None:
        """Any invariant counts here, if it holds in the healthy program."""
        for seed in range(1, self.dice_seeds + 1):
            run = run_dice(seed, mutant)
            if run.fell and seed not in self._dice_controls:
                self._dice_controls[seed] = run_dice(seed)
            if run.fell and not self._dice_controls[seed].fell:
                return Dice(seed, run.fell)
        return Dice(self.dice_seeds, "") if self.dice_seeds else None

    def _control(self, course: Course, seed: int) -> Run:
        key = (course.name, seed)
        if key not in self._controls:
            self._controls[key] = run_course(course, seed)
        return self._controls[key]


def run_course(course: Course, seed: int, mutant: Mutant | None = None) -> Run:
    """One world of a story, with the mutant in it, or healthy."""
    switches = mutant.switches if mutant is not None else ()
    with patch("horologe.node.node.CoreSettings", partial(CoreSettings, **course.core)):
        return run_in(Ground(seed, course.world_options(switches)), course.drive, mutant)


def run_in(ground: Ground, drive: Callable[[Ground], None], mutant: Mutant | None) -> Run:
    """Leads a world to its end."""
    with ExitStack() as stack:
        # What nodes say while they break is not for the reader of a table.
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        stack.enter_context(ground)
        if mutant is not None:
            stack.enter_context(mutant.patch(ground))
        try:
            drive(ground)
            if ground.problems:
                raise ground.problems[0]
        except InvariantBrokenError as broken:
            # The first one: what falls after it is its consequence.
            first = ground.problems[0] if ground.problems else broken
            return Run(first.invariant, str(first), ground.timeline.now)
        return Run("", "", ground.timeline.now)


def run_dice(seed: int, mutant: Mutant | None = None) -> Run:
    """One world of dice, as `horologe chaos sim` makes it under this seed, with the mutant in it, or healthy."""
    switches = mutant.switches if mutant is not None else ()
    options = SeedOptions(DICE_SECONDS, protections=replace(Protections(), **dict.fromkeys(switches, False)))
    dice = random.Random(f"horologe {seed}")
    world_options = seeds._world_options(dice, options)
    ground = Ground(dice.getrandbits(64), world_options)
    # The nemesis gives nodes many reasons to stop.
    ground.stops_expected = (Exception,)

    def live(ground: Ground) -> None:
        workload = Workload(ground, random.Random(dice.getrandbits(64)))
        nemesis = Nemesis(ground, random.Random(dice.getrandbits(64)), options.off)
        seeds._live(ground, workload, nemesis, dice, options)

    return run_in(ground, live, mutant)
