"""Random histories: real plans among stale ones, cancels, reconnections and clocks that disagree; after each entry every
invariant holds, and the log applied again, over dicts or over LMDB, makes the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from support import commands, invariants
from support.driver import START_MS, Driver
from support.random_notifications import RandomNotifications
from support.tables import dict_tables, dump

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.node.slots import Slots
from horologe.raft import plain
from horologe.raft.commands import GIVE_UP, NO_RETRY, Outcome
from horologe.raft.lines import lines_of
from horologe.raft.machine import StateMachine
from horologe.raft.model import Catchup, Counters, ExecutionState, LeaseLoss, Overlap
from horologe.raft.permits import LIMIT_USE, LimitKind, Permits, limit_of
from horologe.raft.records import U64
from horologe.raft.store import Store
from horologe.raft.tables import Tables

SECOND, MINUTE = 1_000, 60_000
SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=3_600.0)

OF_THE_CLUSTER = {"plan", "complete", "bootstrap", "prune", "note_notices", "note_deliveries", "note_quorum"}
"""Kinds of commands that nobody asks for."""

A, B, C = (f"namespaces/default/jobs/{id_}" for id_ in "abc")
names = st.sampled_from([A, B, C])
numbers = st.integers(0, 12)
periods = st.sampled_from([0, 5 * SECOND, 10 * SECOND, MINUTE])
fields = st.fixed_dictionaries(
    {
        "every_ms": periods,
        "overlap": st.sampled_from(Overlap),
        "catchup": st.sampled_from(Catchup),
        "catchup_window_ms": st.sampled_from([SECOND, MINUTE, 10 * MINUTE]),
        "on_lease_loss": st.sampled_from(LeaseLoss),
        "max_attempts": st.integers(1, 3),
        "timeout_ms": st.sampled_from([SECOND, MINUTE]),
        "queue": st.sampled_from(["q1", "q2"]),
        "owner": st.sampled_from(["", "ann"]),
        "labels": st.sampled_from([{}, {"team": "data"}, {"team": "web", "tier": "1"}]),
        "priority": st.integers(0, 9),
        "apply_set": st.sampled_from(["", "", "shop"]),
        "queue_max": st.integers(1, 3),
        "retry_window_ms": st.sampled_from([0, 0, 5 * SECOND, MINUTE]),
        "execution_timeout_ms": st.sampled_from([0, 0, 3 * SECOND, MINUTE]),
        "do_not_retry_on": st.sampled_from([(), ("lost",), ("timeout", "exit:3")]),
        "max_running": st.sampled_from([0, 0, 1, 2]),
        "worker_labels": st.sampled_from([{}, {}, {"gpu": "1"}]),
        "limits": st.sampled_from([[], [], ["l1"], ["l2"], ["l1", "l2"]]),
    }
)


class RandomHistory(RandomNotifications):
    """One log, one leader that plans (and sometimes repeats itself), callers and workers that do whatever they like."""

    clocks_agree = True
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.old_plans: list[log_pb2.Command] = []
        self.old_requests: list[log_pb2.Command] = []
        self.old_outcomes: list[bytes] = []
        self.running: dict[int, int] = {}

    @property
    def seconds(self) -> float:
        return (self.driver.now_ms - START_MS) / 1000

    @initialize()
    def begin(self) -> None:
        self.apply(commands.bootstrap("cluster"))
        self.apply(commands.set_limit("l1", 1), commands.set_secret("s1"))
        self.apply(commands.set_notification("n1", "FAILED", "MISSED", "RECOVERED", signing_secret="s1"))
        # Left to chance, most histories would never have a job and a worker at the same time.
        for name, every_ms in ((A, 5 * SECOND), (B, 0)):
            made = commands.job(name, every_ms=every_ms, overlap=Overlap.ALLOW, queue="q1", retry_window_ms=MINUTE)
            self.apply(commands.put(commands.CREATE, commands.draft(made, self.next_ms(every_ms, 0))))
        self.apply(commands.connect("w1", queues=["q1", "q2"], slot_count=5))
        self.planner.lead(self.driver.tables, self.seconds, self.driver.now_ms)

    def apply(self, *some: log_pb2.Command) -> None:
        if self.driver.index % 2:
            # Half of what callers ask for has a name to it, and is in the audit chain, whatever becomes of it.
            for command in some:
                if command.WhichOneof("kind") not in OF_THE_CLUSTER:
                    command.actor.principal = "ann"
        self.driver.apply(*some)
        self.planner.observe(self.driver.effects)

    def next_ms(self, every_ms: int, lag_ms: int) -> int:
        proposed_at_ms = self.driver.now_ms - (0 if self.clocks_agree else lag_ms)
        return (proposed_at_ms // every_ms + 1) * every_ms if every_ms else 0

    # Callers

    @rule(
        mode=st.sampled_from([commands.CREATE, commands.UPDATE, commands.APPLY, commands.APPLY]),
        some=st.lists(st.tuples(names, fields, st.integers(0, 20 * SECOND), st.booleans()), min_size=1, max_size=2),
        secrets=st.sampled_from([[], [], ["s1"], ["s2"], ["s1", "s2"]]),
        expected=st.sampled_from([0, 0, 0, 2]),
        deletions=st.lists(st.tuples(names, st.sampled_from([0, 0, 2])), max_size=2),
    )
    def put(
        self,
        mode: log_pb2.PutJobs.Mode.ValueType,
        some: list[tuple[str, dict, int, bool]],
        secrets: list[str],
        expected: int,
        deletions: list[tuple[str, int]],
    ) -> None:
        drafts = [
            commands.draft(
                commands.job(name, **wanted),
                self.next_ms(wanted["every_ms"], lag_ms),
                expected,
                paused=paused,
                secrets=secrets,
            )
            for name, wanted, lag_ms, paused in some
        ]
        self.apply(commands.put(mode, *drafts, deletions=deletions))

    @rule(name=st.sampled_from(["s1", "s2"]))
    def set_secret(self, name: str) -> None:
        self.apply(commands.set_secret(name))

    @rule(name=st.sampled_from(["s1", "s2"]))
    def delete_secret(self, name: str) -> None:
        self.apply(commands.delete_secret(name))

    @rule(name=st.sampled_from(["l1", "l2"]), max_running=st.integers(1, 3))
    def set_limit(self, name: str, max_running: int) -> None:
        self.apply(commands.set_limit(name, max_running))

    @rule(name=st.sampled_from(["l1", "l2"]))
    def delete_limit(self, name: str) -> None:
        self.apply(commands.delete_limit(name))

    @rule(max_running=st.sampled_from([0, 1, 3]))
    def limit_the_namespace(self, max_running: int) -> None:
        self.apply(commands.set_namespace("default", max_running))

    @rule(jobs=st.sampled_from([0, 2]), rate=st.sampled_from([(0, 0, 0), (1, 5 * SECOND, 1), (3, SECOND, 2)]))
    def set_quotas(self, jobs: int, rate: tuple[int, int, int]) -> None:
        self.apply(commands.set_quotas("default", jobs, rate))

    @rule(name=st.sampled_from(["q1", "q2"]), paused=st.booleans())
    def pause_a_queue(self, name: str, paused: bool) -> None:
        self.apply(commands.pause_queue(name, paused=paused))

    @rule(
        name=st.sampled_from(["q1", "q2"]),
        rate=st.sampled_from([None, (0, 0, 0), (1, 5 * SECOND, 1), (3, SECOND, 2)]),
        aging_ms=st.sampled_from([None, 0, SECOND, MINUTE]),
    )
    def set_a_queue(self, name: str, rate: tuple[int, int, int] | None, aging_ms: int | None) -> None:
        self.apply(commands.set_queue(name, rate, aging_ms))

    @rule(name=names, cancel_running=st.booleans())
    def delete(self, name: str, cancel_running: bool) -> None:
        self.apply(commands.delete(name, cancel_running=cancel_running))

    @rule(name=names)
    def pause(self, name: str) -> None:
        self.apply(commands.pause(name))

    @rule(name=names)
    def resume(self, name: str) -> None:
        job = self.driver.tables.job_name.get(name.encode())
        if job is None:
            return
        number = int.from_bytes(job, "big")
        record, every_ms = self.driver.job(number), self.driver.job_state(number).every_ms
        next_ms = self.next_ms(every_ms, 0)
        count = -((record.pause_time_ms - next_ms) // every_ms) if every_ms and record.pause_time_ms else 0
        self.apply(
            commands.resume(
                name,
                next_ms,
                skipped_count=count,
                skipped_last_ms=next_ms - every_ms if count else 0,
                expected_revision=record.revision,
            )
        )

    @rule(name=names, force=st.booleans())
    def run_by_hand(self, name: str, force: bool) -> None:
        self.apply(commands.run(name, force=force))

    @rule(command=st.sampled_from([log_pb2.Command(barrier={}), log_pb2.Command(checkpoint={})]))
    def change_nothing(self, command: log_pb2.Command) -> None:
        self.apply(command)

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        self.apply(commands.cancel(number, "enough"))

    @rule(name=names, request=st.integers(1, 4))
    def run_once(self, name: str, request: int) -> None:
        self.apply(commands.requested(commands.run(name), b"%d" % request, name.encode()))

    @rule(number=numbers)
    def redrive_one(self, number: int) -> None:
        self.apply(commands.redrive(number))

    @rule(said=st.sampled_from([Outcome.FAILED, Outcome.TIMED_OUT]))
    def all_die(self, said: Outcome) -> None:
        self.complete(said, NO_RETRY, 12)
        self.the_leader_looks_for_news(writes_down=True)

    @rule()
    def redrive_the_dead(self) -> None:
        self.apply(*map(commands.redrive, self.driver.dead_letters()))

    @rule(number=numbers)
    def purge_one(self, number: int) -> None:
        self.apply(commands.purge(number))

    @rule(
        job=st.integers(0, 3), rate=st.sampled_from([0.0, 0.1, 10.0]), some=st.lists(numbers, max_size=3, unique=True)
    )
    def redrive_some(self, job: int, rate: float, some: list[int]) -> None:
        self.apply(commands.redrive_all(job=job, rate=rate, executions=some))

    @rule(job=st.integers(0, 3))
    def purge_some(self, job: int) -> None:
        self.apply(commands.purge_all(job=job))

    @rule(
        job=st.integers(0, 3),
        back_ms=st.integers(0, 10 * MINUTE),
        only=st.sampled_from(log_pb2.Backfill.Only.values()),
        backwards=st.booleans(),
        max_running=st.integers(0, 3),
    )
    def backfill(self, job: int, back_ms: int, only: Any, backwards: bool, max_running: int) -> None:
        now_ms = self.driver.now_ms
        self.apply(commands.backfill(job, now_ms - back_ms, now_ms, only, backwards=backwards, max_running=max_running))

    @rule(operation=st.integers(0, 4))
    def cancel_operation(self, operation: int) -> None:
        self.apply(commands.cancel_operation(operation, "enough"))

    # Workers

    @rule(
        worker=st.sampled_from(["w1", "w2"]),
        incarnation=st.sampled_from(["a", "b"]),
        queues=st.lists(st.sampled_from(["q1", "q2"]), min_size=1, max_size=2),
        slot_count=st.integers(1, 3),
        labels=st.sampled_from([{}, {"gpu": "1"}]),
    )
    def connect(
        self, worker: str, incarnation: str, queues: list[str], slot_count: int, labels: dict[str, str]
    ) -> None:
        fields = {"incarnation": incarnation, "queues": queues, "slot_count": slot_count, "labels": labels}
        self.apply(commands.connect(worker, **fields))  # type: ignore[arg-type]

    @rule(session=st.integers(1, 6), clean=st.booleans())
    def close(self, session: int, clean: bool) -> None:
        self.apply(commands.close(session, clean=clean))

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def drain(self, worker: str) -> None:
        self.apply(commands.drain(worker))

    @rule(said=st.sampled_from(Outcome), delay_ms=st.sampled_from([0, 1, 8_000, NO_RETRY, GIVE_UP]), count=numbers)
    def complete(self, said: Outcome, delay_ms: int, count: int) -> None:
        outcomes = [
            commands.outcome(number, execution.token, execution.attempt, said, retry_delay_ms=delay_ms)
            for number, execution in invariants.read_executions(self.driver.tables).items()
            if execution.state == ExecutionState.RUNNING
        ][:count]
        self.old_outcomes += outcomes
        detail = log_pb2.OutcomeDetail(position=0, error=said.name.lower())
        self.apply(commands.complete(*outcomes, details=[detail]))

    @rule(position=st.integers(0, 30))
    def complete_again(self, position: int) -> None:
        self.apply(commands.complete(*self.old_outcomes[position : position + 3]))

    # The leader

    @rule(
        passed_ms=st.one_of(
            st.integers(0, 3 * SECOND),
            st.integers(4 * SECOND, 30 * SECOND),
            st.integers(MINUTE, 20 * MINUTE),
        ),
        plans=st.integers(0, 4),
    )
    def time_passes(self, passed_ms: int, plans: int) -> None:
        self.driver.now_ms += passed_ms
        for _ in range(plans):
            plan = self.planner.plan(self.driver.tables, self.seconds, self.driver.now_ms)
            if plan is None:
                return
            kind = "plan" if isinstance(plan, log_pb2.Plan) else "prune"
            command = log_pb2.Command(**{kind: plan})
            self.old_plans.append(command)
            self.apply(command)

    @rule(position=st.integers(0, 20))
    def a_plan_of_an_earlier_leader_arrives(self, position: int) -> None:
        if position < len(self.old_plans):
            self.apply(self.old_plans[position])

    @rule()
    def another_node_leads(self) -> None:
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.planner.lead(self.driver.tables, self.seconds, self.driver.now_ms)

    @rule(sessions=st.lists(st.integers(1, 6), max_size=3))
    def heartbeats(self, sessions: list[int]) -> None:
        renewed, gone = self.planner.renew(sessions, self.driver.tables, self.seconds)
        last = Counters.load(self.driver.tables).last_session
        assert sorted(renewed + gone) == sorted(session for session in sessions if session <= last)

    @rule(session=st.integers(1, 6), number=numbers, token=st.integers(1, 60))
    def a_plan_that_no_planner_would_make(self, session: int, number: int, token: int) -> None:
        limit = limit_of(LimitKind(session % 4 + 1), number)
        self.apply(
            commands.plan(
                expired=[session],
                timeouts=[(number, token)],
                assigns=[(number, session)] * 2,
                calls=[(limit, session % 2 + 1, 2)],
            )
        )

    @invariant()
    def the_state_holds_together(self) -> None:
        invariants.check(self.driver.tables, clocks_agree=self.clocks_agree)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        """What runs beyond a limit ran before the limit was lowered, or came with a job that got the limit."""
        uses = {U64.unpack(key)[0]: LIMIT_USE.unpack(value) for key, value in self.driver.tables.limit_use.scan()}
        kinds = {command.WhichOneof("kind") for command in self.driver.entries[-1][1].commands}
        for limit, (max_running, running) in uses.items():
            allowed = max(max_running, self.running.get(limit, 0))
            assert not max_running or running <= allowed or "put_jobs" in kinds, f"{running} under {limit}"
        self.running = {limit: running for limit, (_, running) in uses.items()}

    def nobody_is_forgotten(self) -> None:
        """When a new leader has nothing left to do, nobody waits for a limit that has room, where there is a free slot."""
        self.another_node_leads()
        while (plan := self.planner.plan(self.driver.tables, self.seconds, self.driver.now_ms)) is not None:
            self.apply(log_pb2.Command(**{"plan" if isinstance(plan, log_pb2.Plan) else "prune": plan}))
        slots = Slots(SETTINGS.lease_term_seconds)
        slots.rebuild(self.driver.tables, self.seconds)
        permits = Permits(self.driver.tables, self.driver.now_ms)
        for limit, lane in lines_of(self.driver.tables.limit_line):
            assert not permits.room(limit) or not slots.has_free(lane), f"somebody waits in line {limit, lane}"

    def teardown(self) -> None:
        self.nobody_is_forgotten()
        expected = dump(self.driver.tables)
        # Without the plain case in one piece (plain.py), and as by a node that has decoded nothing yet (recent.py).
        copy = dict_tables()
        with (
            patch.object(plain.PlainStarts, "fire", lambda *arguments: False),
            patch.object(plain.PlainStarts, "assign", lambda *arguments: False),
            patch.object(plain, "complete", lambda *arguments: False),
        ):
            _replay(self.driver, copy, remembers=False)
        assert dump(copy) == expected
        try:
            _replay(self.driver, self.store.tables)
            assert dump(self.store.tables) == expected
        finally:
            self.store.abort()


class DisagreeingClocks(RandomHistory):
    """The proposers of changes are behind the leader by up to 20 s."""

    clocks_agree = False


def _replay(driver: Driver, tables: Tables, *, remembers: bool = True) -> None:
    for index, entry in driver.entries:
        if not remembers:
            tables.recent.clear()
        StateMachine().apply(tables, index, log_pb2.Entry.FromString(entry.SerializeToString()))


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One LMDB folder for all histories; what they write is never committed."""
    RandomHistory.store = Store(tmp_path_factory.mktemp("histories") / "data", "n1", bytes_max=1 << 26)
    yield
    RandomHistory.store.close()


TestRandomHistory = RandomHistory.TestCase
TestRandomHistory.settings = settings(max_examples=60, stateful_step_count=40)
TestDisagreeingClocks = DisagreeingClocks.TestCase
TestDisagreeingClocks.settings = settings(max_examples=60, stateful_step_count=40)
