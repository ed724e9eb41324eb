"""A leader's planner with a state machine to plan for, in simulated time."""

from __future__ import annotations

import random

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from support.driver import START_MS, Driver

TERM = 10.0
SETTINGS = PlannerSettings(lease_term_seconds=TERM, clock_drift=0.01, history_retention_seconds=3_600.0)


class Leader:
    """A planner and the machine that it plans for; time is the machine's."""

    def __init__(self, machine: Driver) -> None:
        self.machine = machine
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.planner.lead(machine.tables, self.now, machine.now_ms)

    @property
    def now(self) -> float:
        return (self.machine.now_ms - START_MS) / 1000

    def do(self, *commands: log_pb2.Command, after_ms: int = 0) -> None:
        self.machine.now_ms += after_ms
        self.machine.apply(*commands)
        self.planner.observe(self.machine.effects)

    def plan(self, after_ms: int = 0) -> log_pb2.Plan | log_pb2.Prune | None:
        self.machine.now_ms += after_ms
        return self.planner.plan(self.machine.tables, self.now, self.machine.now_ms)

    def act(self, after_ms: int = 0) -> log_pb2.Plan:
        """Plans and applies it."""
        made = self.plan(after_ms)
        assert isinstance(made, log_pb2.Plan), made
        self.do(log_pb2.Command(plan=made))
        return made
