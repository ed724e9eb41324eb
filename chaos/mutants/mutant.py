"""What a mutant is, and what a course is: the world in which it must be found, and what happens there.

A course is a story that leads straight to the place where the protection counts; its seed decides the moments. What dice find
without a story is another question (dice.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from horologe.chaos.mutants.ground import Ground
from horologe.chaos.sim.world import WorldOptions
from horologe.raft.core import Protections

Patch = Callable[[Ground], AbstractContextManager[object]]


def nothing(ground: Ground) -> AbstractContextManager[object]:
    """The patch of a mutant that only needs a switch."""
    del ground
    return nullcontext()


@dataclass(frozen=True)
class Course:
    """A world and what happens in it.

    Attributes:
        name: For the table; unique.
        drive: Starts the world and leads it to its end. Raises InvariantBrokenError.
        options: What the world is made of.
        core: Settings of the Raft core that differ from those of a node (see CoreSettings).
        seeds: How many seeds a mutant may need.
    """

    name: str
    drive: Callable[[Ground], None]
    options: WorldOptions = field(default_factory=WorldOptions)
    core: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 5

    def world_options(self, off: tuple[str, ...]) -> WorldOptions:
        """With these protections switched off."""
        return replace(self.options, protections=replace(Protections(), **dict.fromkeys(off, False)))


@dataclass(frozen=True)
class Mutant:
    """The program without one protection.

    Attributes:
        name: What is switched off: the name of the switch, if there is one.
        off: The same in one sentence, with what else must be off because it would hide the first.
        course: Where it is found.
        falls: The invariants of which one must fall; any other one is no proof.
        switches: Fields of `Protections` that are off.
        patch: What else changes the program, while the world exists.
    """

    name: str
    off: str
    course: Course
    falls: tuple[str, ...]
    switches: tuple[str, ...] = ()
    patch: Patch = nothing
