"""Random small graphs, and random histories of their runs: ends of all kinds, cancels, reruns, changes in between, all at once.

After each entry every invariant holds (support/run_invariants.py); in the end, when everybody has reported, every run is over.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support import commands, invariants
from support.driver import Driver
from support.tables import dump

from horologe.log.v1 import log_pb2
from horologe.raft.commands import GIVE_UP, NO_RETRY, Outcome
from horologe.raft.machine import StateMachine
from horologe.raft.model import FINAL_STATES, Condition, ExecutionState, Overlap
from horologe.raft.records import READY_KEY
from horologe.raft.store import Store

NAMES = [f"n{number}" for number in range(7)]
"""Each may be after some that come before it here."""
numbers = st.integers(0, 40)
edges = st.lists(st.integers(0, 5), max_size=3, unique=True)
overlaps = st.sampled_from(Overlap)


class RandomRuns(RuleBasedStateMachine):
    """A workflow `flow`, and jobs that are after one another without one; members come, change and go all the time."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()

    @initialize(some=st.lists(st.tuples(edges, st.sampled_from(Condition), overlaps), min_size=5, max_size=7))
    def begin(self, some: list[tuple[list[int], Condition, Overlap]]) -> None:
        self.session = self.driver.do(commands.connect(slot_count=100)).numbers[0]
        drafts = [commands.draft(commands.job("flow", every_ms=0, is_workflow=True, overlap=Overlap.ALLOW))]
        drafts += [self.draft(position, *one) for position, one in enumerate(some)]
        self.driver.do(commands.put(commands.APPLY, *drafts))

    def draft(self, position: int, after: list[int], condition: Condition, overlap: Overlap) -> log_pb2.JobDraft:
        above = [NAMES[one] for one in after if one < position]
        fields = {"after": above, "condition": condition, "overlap": overlap, "workflow": "flow"}
        return commands.draft(commands.job(NAMES[position], every_ms=0, **fields))

    @rule(
        position=st.integers(0, 6),
        after=edges,
        condition=st.sampled_from(Condition),
        overlap=overlaps,
        workflow=st.sampled_from(["flow", "flow", "flow", ""]),
    )
    def put(self, position: int, after: list[int], condition: Condition, overlap: Overlap, workflow: str) -> None:
        """Also edges that go backwards, which make cycles, and members that leave."""
        above = [NAMES[one] for one in after]
        fields = {"after": above, "condition": condition, "overlap": overlap, "workflow": workflow}
        made = commands.job(NAMES[position], every_ms=0, **fields)
        self.driver.do(commands.put(commands.APPLY, commands.draft(made)))

    @rule(overlap=overlaps)
    def change_the_workflow(self, overlap: Overlap) -> None:
        made = commands.job("flow", every_ms=0, is_workflow=True, overlap=overlap)
        self.driver.do(commands.put(commands.APPLY, commands.draft(made)))

    @rule(name=st.sampled_from([*NAMES, "flow"]), cancel_running=st.booleans())
    def delete(self, name: str, cancel_running: bool) -> None:
        self.driver.do(commands.delete(name, cancel_running=cancel_running))

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        self.driver.do(commands.pause(name) if paused else commands.resume(name))

    @rule(name=st.sampled_from(["flow", "flow", "flow", *NAMES]), force=st.booleans())
    def run_by_hand(self, name: str, force: bool) -> None:
        self.driver.do(commands.run(name, force=force))

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        self.driver.do(commands.cancel(number, "enough"))

    @rule(number=numbers)
    def rerun(self, number: int) -> None:
        self.driver.do(commands.rerun(number))

    @rule(number=numbers)
    def redrive(self, number: int) -> None:
        self.driver.do(commands.redrive(number))

    @rule()
    def redrive_all(self) -> None:
        for number in self.driver.dead_letters():
            self.driver.do(commands.redrive(number))

    @rule(number=numbers)
    def purge(self, number: int) -> None:
        self.driver.do(commands.purge(number))

    @rule(job=st.integers(1, 8), only=st.sampled_from(log_pb2.Backfill.Only.values()), due_ms=st.integers(1, 5))
    def backfill(self, job: int, only: log_pb2.Backfill.Only.ValueType, due_ms: int) -> None:
        """Three due times, as a planner would give them."""
        begun = self.driver.do(commands.backfill(job, 1, 9, only, max_running=3))
        if begun.numbers:
            items = [due_ms, due_ms + 1, due_ms + 2]
            self.driver.do(commands.operation_step(begun.numbers[0], 0, items, exhausted=True))

    @rule(number=numbers)
    def prune(self, number: int) -> None:
        self.driver.now_ms += 1
        self.driver.do(commands.prune(self.driver.now_ms, range(number)))

    @rule(count=st.integers(1, 20))
    def start(self, count: int) -> None:
        waiting = [READY_KEY.unpack(key)[3] for key, _ in self.driver.tables.ready.scan()][:count]
        self.driver.do(commands.plan(assigns=[(number, self.session) for number in waiting]))

    @rule(
        said=st.lists(st.sampled_from(Outcome), min_size=1, max_size=6),
        delay_ms=st.sampled_from([0, NO_RETRY, GIVE_UP]),
    )
    def complete(self, said: list[Outcome], delay_ms: int) -> None:
        running = [
            (number, execution)
            for number, execution in invariants.read_executions(self.driver.tables).items()
            if execution.state == ExecutionState.RUNNING and execution.session
        ]
        outcomes = [
            commands.outcome(number, execution.token, execution.attempt, one, retry_delay_ms=delay_ms)
            for (number, execution), one in zip(running, said, strict=False)
        ]
        self.driver.do(commands.complete(*outcomes))

    @invariant()
    def the_state_holds_together(self) -> None:
        self.driver.check()

    def teardown(self) -> None:
        """Everybody reports, and then every run is over."""
        if not hasattr(self, "session"):
            return
        for _ in range(100):
            executions = invariants.read_executions(self.driver.tables).values()
            if all(execution.state in FINAL_STATES for execution in executions):
                break
            self.start(100)
            self.complete([Outcome.SUCCEEDED] * 100, GIVE_UP)
        else:
            raise AssertionError(f"something does not end: {executions}")
        self.driver.check()
        try:
            for index, entry in self.driver.entries:
                StateMachine().apply(self.store.tables, index, entry)
            assert dump(self.store.tables) == dump(self.driver.tables)
        finally:
            self.store.abort()


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One LMDB folder for all histories; what they write is never committed."""
    RandomRuns.store = Store(tmp_path_factory.mktemp("runs") / "data", "n1", bytes_max=1 << 26)
    yield
    RandomRuns.store.close()


TestRandomRuns = RandomRuns.TestCase
TestRandomRuns.settings = settings(max_examples=80, stateful_step_count=40)
