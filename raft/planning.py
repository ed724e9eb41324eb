"""What a replica that leads asks of whoever decides what is due (node/planner.py); a replica that follows asks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from horologe.log.v1 import log_pb2
from horologe.raft.model import Effects
from horologe.raft.tables import Tables


class Planner(Protocol):
    """The leader's duties, done inside the step. Everything it knows, it can rebuild from the state."""

    def lead(self, tables: Tables, now: float, wall_ms: int) -> None:
        """This node leads from now on, and the state holds everything that was committed before."""

    def follow(self) -> None:
        """This node no longer leads."""

    def observe(self, effects: Effects) -> None:
        """An entry was applied while this node leads."""

    def plan(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Plan | log_pb2.Prune | None:
        """What is due. Called only when the plan before was applied."""

    def prune(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Prune | None:
        """What to drop beside a plan, if that cannot wait until nothing is due."""

    def renew(self, sessions: Sequence[int], tables: Tables, now: float) -> tuple[list[int], list[int]]:
        """Heartbeats of sessions have come: which are renewed, and which no longer exist."""

    def next_wakeup_ms(self, tables: Tables, wall_ms: int) -> int | None:
        """When `plan` has something to do next."""
