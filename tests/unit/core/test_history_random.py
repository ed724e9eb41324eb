"""Random histories of dropping history, against everything that is built on executions: schedules that skip, runs of workflows,
dead letters, backfills, deleted jobs. What goes was over, and too old or too much; in the end nothing at all is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support import commands, invariants
from support.driver import START_MS, Driver
from support.tables import dict_tables, dump

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.node.retention import DEAD_LETTER_RETENTION_MS, REST_SECONDS, WALK_SECONDS, Retention
from horologe.raft.commands import GIVE_UP, NO_RETRY, Outcome
from horologe.raft.history import RECENT_MS
from horologe.raft.keeping import Kept, read_kept
from horologe.raft.machine import StateMachine
from horologe.raft.model import FINAL_STATES, ExecutionFlag, ExecutionState, Overlap
from horologe.raft.records import U64, Execution
from horologe.raft.requests import REQUEST_RETENTION_MS
from horologe.raft.store import Store

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
HISTORY_SECONDS = 3_600.0
SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=HISTORY_SECONDS)
PLAIN = ["namespaces/shop/jobs/skips", "namespaces/shop/jobs/plain", "namespaces/default/jobs/plain"]
MEMBERS = [f"namespaces/default/jobs/{name}" for name in ("a", "b", "c")]
FLOW = "namespaces/default/jobs/flow"
names = st.sampled_from([*PLAIN, FLOW, FLOW, *MEMBERS])
numbers = st.integers(0, 9)


class RandomPruning(RuleBasedStateMachine):
    """Callers, one worker, the leader's planner, and leaders that propose what they like."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.old: list[log_pb2.Command] = []

    @property
    def seconds(self) -> float:
        return (self.driver.now_ms - START_MS) / 1000

    def apply(self, *some: log_pb2.Command) -> None:
        self.driver.apply(*some)
        self.planner.observe(self.driver.effects)

    @initialize()
    def begin(self) -> None:
        self.apply(commands.bootstrap("cluster"))
        self.planner.lead(self.driver.tables, self.seconds, self.driver.now_ms)
        self.put_all()
        assert self.driver.counters.jobs == len(PLAIN) + len(MEMBERS) + 1
        self.apply(commands.run(FLOW))
        self.work([Outcome.SUCCEEDED], 0, 3, 4)

    def put_all(self) -> None:
        next_ms = (self.driver.now_ms // MINUTE + 1) * MINUTE
        drafts = [commands.draft(commands.job(PLAIN[0], overlap=Overlap.SKIP), next_ms)]
        wanted = dict.fromkeys(PLAIN[1:], ()) | {MEMBERS[0]: (), MEMBERS[1]: ("a",), MEMBERS[2]: ("a", "b")}
        drafts.append(commands.draft(commands.job(FLOW, every_ms=0, is_workflow=True, overlap=Overlap.ALLOW)))
        for name, after in wanted.items():
            fields = {"after": after, "workflow": "flow" if name in MEMBERS else "", "max_attempts": 1}
            drafts.append(commands.draft(commands.job(name, every_ms=0, overlap=Overlap.ALLOW, **fields)))  # type: ignore[arg-type]
        self.apply(commands.put(commands.APPLY, *drafts))

    @rule()
    def all_is_there_again(self) -> None:
        self.put_all()

    @rule(name=names, force=st.booleans())
    def run_by_hand(self, name: str, force: bool) -> None:
        self.apply(commands.run(name, force=force))

    @rule(name=names, cancel_running=st.booleans())
    def delete(self, name: str, cancel_running: bool) -> None:
        self.apply(commands.delete(name, cancel_running=cancel_running))

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        self.apply(commands.cancel(self.latest(number), "enough"))

    @rule(number=numbers, later_ms=st.sampled_from([0, HOUR]))
    def rerun(self, number: int, later_ms: int) -> None:
        self.driver.now_ms += later_ms
        self.apply(commands.rerun(self.latest(number)))
        self.work([Outcome.SUCCEEDED], 0, number, 2)

    @rule(number=numbers)
    def redrive(self, number: int) -> None:
        dead = self.driver.dead_letters()
        self.apply(commands.redrive(dead[number % len(dead)] if dead else number))

    @rule(number=numbers)
    def purge(self, number: int) -> None:
        dead = self.driver.dead_letters()
        self.apply(commands.purge(dead[number % len(dead)] if dead else number))

    def latest(self, number: int) -> int:
        """Counted from the latest execution."""
        return self.driver.counters.last_execution - number

    @rule(job=st.integers(1, 3), hours=st.integers(1, 3))
    def backfill(self, job: int, hours: int) -> None:
        now_ms = self.driver.now_ms
        self.apply(commands.backfill(job, now_ms - hours * HOUR, now_ms, log_pb2.Backfill.ONLY_ALL, max_running=2))

    @rule(operation=st.integers(0, 3))
    def cancel_operation(self, operation: int) -> None:
        self.apply(commands.cancel_operation(operation, "enough"))

    @rule(
        name=st.sampled_from(["shop", "default"]),
        history_ms=st.sampled_from([None, 0, HOUR, 3 * DAY]),
        count_max=st.sampled_from([None, 0, 1, 3]),
        dead_letters_ms=st.sampled_from([None, 0, 2 * HOUR]),
    )
    def keep(self, name: str, history_ms: int | None, count_max: int | None, dead_letters_ms: int | None) -> None:
        self.apply(commands.keep_history(name, history_ms, count_max, dead_letters_ms))

    @rule(
        said=st.lists(st.sampled_from([Outcome.SUCCEEDED, *Outcome]), min_size=1, max_size=4),
        delay_ms=st.sampled_from([0, NO_RETRY, GIVE_UP]),
        spared=st.integers(0, 9),
        rounds=st.integers(1, 4),
    )
    def work(self, said: list[Outcome], delay_ms: int, spared: int, rounds: int) -> None:
        """The worker comes back if it was lost, takes all that the planner gives it, and tells how some of it ended."""
        self.apply(commands.connect(slot_count=50))
        for _ in range(rounds):
            self.lead(2)
            outcomes = [
                commands.outcome(number, found.token, found.attempt, said[number % len(said)], retry_delay_ms=delay_ms)
                for number, found in self.executions().items()
                if found.state == ExecutionState.RUNNING and found.session and number % 10 != spared
            ]
            self.apply(commands.complete(*outcomes))

    # The leader

    @rule(passed_ms=st.sampled_from([MINUTE, 20 * MINUTE, HOUR, DAY, 40 * DAY]), plans=st.integers(0, 4))
    def time_passes(self, passed_ms: int, plans: int) -> None:
        self.driver.now_ms += passed_ms
        self.lead(plans)

    def lead(self, plans: int) -> None:
        for _ in range(plans):
            plan = self.planner.plan(self.driver.tables, self.seconds, self.driver.now_ms)
            if plan is None:
                return
            if isinstance(plan, log_pb2.Plan):
                self.apply(log_pb2.Command(plan=plan))
            else:
                self.prune(log_pb2.Command(prune=plan))

    @rule(position=st.integers(0, 20))
    def a_proposal_of_an_earlier_leader_arrives(self, position: int) -> None:
        if position < len(self.old):
            self.prune(self.old[position])

    @rule(age_ms=st.sampled_from([0, MINUTE, DAY]), some=st.lists(st.integers(0, 30), max_size=20))
    def a_leader_proposes_what_it_likes(self, age_ms: int, some: list[int]) -> None:
        rows = list(invariants.read_ledger(self.driver.tables))
        chosen = [rows[number] for number in some if number < len(rows)]
        everything = {"dead_letters": some, "jobs": some, "operations": some}
        executions = [self.latest(number) for number in some if self.latest(number) > 0]
        self.prune(commands.prune(self.driver.now_ms - age_ms, executions, chosen, **everything))  # type: ignore[arg-type]

    def prune(self, command: log_pb2.Command) -> None:
        """What goes was over, of no dead letter, and older than its namespace says, or one of too many that are not recent."""
        self.old.append(command)
        before = self.executions()
        keeps = {found.namespace: read_kept(self.driver.tables, found.namespace) for found in before.values()}
        self.apply(command)
        after = self.executions()
        gone = {number: found for number, found in before.items() if number not in after}
        for found in gone.values():
            assert found.state in FINAL_STATES and not found.flags & ExecutionFlag.DEAD_LETTER, found
            kept = keeps[found.namespace]
            before_ms = self.driver.now_ms - kept.history_ms if kept.history_ms else command.prune.before_ms
            is_recent = found.end_ms >= self.driver.now_ms - RECENT_MS
            assert found.end_ms < before_ms or (0 < kept.count_max < kept.executions and not is_recent), found
        roots = {found.root for found in gone.values() if found.root}
        assert not any(root in after for root in roots), "a node is gone, and its root is there"

    def executions(self) -> dict[int, Execution]:
        return invariants.read_executions(self.driver.tables)

    @invariant()
    def the_state_holds_together(self) -> None:
        self.driver.check()

    def teardown(self) -> None:
        if not self.driver.entries:
            return
        self.everything_ends()
        self.nothing_is_left()
        expected = dump(self.driver.tables)
        copy = dict_tables()
        _replay(self.driver, copy)
        assert dump(copy) == expected
        try:
            _replay(self.driver, self.store.tables)
            assert dump(self.store.tables) == expected
        finally:
            self.store.abort()

    def everything_ends(self) -> None:
        for name in (*reversed(MEMBERS), FLOW, *PLAIN):
            self.apply(commands.delete(name, cancel_running=True))
        for operation in range(1, self.driver.counters.last_operation + 1):
            self.apply(commands.cancel_operation(operation))
        for number in list(self.executions()):
            self.apply(commands.cancel(number))
        for session in range(1, self.driver.counters.last_session + 1):
            self.apply(commands.close(session))
        open_ = [found for found in self.executions().values() if found.state not in FINAL_STATES]
        assert not open_, f"something does not end: {open_}"

    def nothing_is_left(self) -> None:
        """A year later, when the leader has walked over all of it some times."""
        self.driver.now_ms += 365 * DAY
        retention, seconds = Retention(HISTORY_SECONDS), 0.0
        for _ in range(40):
            seconds += REST_SECONDS + WALK_SECONDS
            made = retention.plan(self.driver.tables, seconds, self.driver.now_ms)
            if made is not None:
                self.driver.do(log_pb2.Command(prune=made))
        self.driver.check()
        assert 365 * DAY > DEAD_LETTER_RETENTION_MS > REQUEST_RETENTION_MS
        tables = self.driver.tables
        for name in ("execution", "detail", "ledger", "run", "dead", "over", "idle", "operation", "job", "job_state"):
            assert list(getattr(tables, name).scan()) == [], name
        for name in ("job_name", "version", "block", "by_state", "facet", "beside", "held", "job_limit", "apply_set"):
            assert list(getattr(tables, name).scan()) == [], name
        assert all(
            (Kept.unpack(value).executions, Kept.unpack(value).idle) == (0, 0) for _, value in tables.kept.scan()
        )
        assert {U64.unpack(key)[0] for key, _ in tables.limit_use.scan()} == set()


def _replay(driver: Driver, tables: object) -> None:
    for index, entry in driver.entries:
        StateMachine().apply(tables, index, log_pb2.Entry.FromString(entry.SerializeToString()))  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One LMDB folder for all histories; what they write is never committed."""
    RandomPruning.store = Store(tmp_path_factory.mktemp("prunings") / "data", "n1", bytes_max=1 << 26)
    yield
    RandomPruning.store.close()


TestRandomPruning = RandomPruning.TestCase
TestRandomPruning.settings = settings(max_examples=100, stateful_step_count=40)
