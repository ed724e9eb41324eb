"""One scenario in the simulated world: a small cluster, what a scenario does to it, and what it looks at.

A `Story` is a world (see horologe.chaos.sim.world) with one caller. It ends with a peaceful while in which everything must
settle, and with what must hold in every scenario: equal states, a ledger without contradictions, and evidence in order.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.sim.clients import SimSdk
from horologe.chaos.sim.clocks import START_MS
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc import Message
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.chaos.sim.world import World, WorldOptions
from horologe.client import jobs
from horologe.client.errors import HorologeError
from horologe.client.lease import Lease
from horologe.log.v1 import log_pb2
from horologe.node.node import Node
from horologe.raft.model import AttemptState, Counters, ExecutionState, LedgerOutcome, Reason, Result
from horologe.raft.records import U64, WORKER_VALUE, Execution, JobState
from horologe.raft.step import Inbox
from horologe.v1 import worker_service_pb2
from horologe.v1.job_pb2 import Job, Schedule
from support import invariants

Ask = Callable[[SimSdk, str], Awaitable[Any]]
"""Calls the SDK with a request id."""


@dataclass(slots=True)
class Call:
    """A call to the cluster, and what became of it."""

    what: str
    answer: Any = None
    error: HorologeError | None = None
    is_over: bool = False


WORKER_STREAM = "/horologe.v1.WorkerService/Connect"
_CHECKSUM_AND_TYPE_BYTES = 5
"""Of a log entry, before the entry itself (see horologe.raft.journal)."""


class Story(World):
    """See the top of this file."""

    def __init__(
        self, *, nodes: int = 3, workers: int = 1, slots: int = 10, seed: int = 1, **node_options: Any
    ) -> None:
        options = WorldOptions(nodes=nodes, workers=workers, slots=slots, node_options=node_options, keep_story=True)
        super().__init__(seed, options)
        self.caller = self.add_client("c1")
        self.skew_ms = 2 * options.wall_error_ms_max
        """How far the clocks that count are from each other and from the true time at most."""
        self.overlap_is_allowed = False
        """Whether an attempt may still act after the next one has begun: only where a process stood still."""

    def begin(self) -> None:
        """Starts everything, and waits until there is a leader and all workers have been welcomed."""
        self.start()
        self.run_until(
            lambda: self.is_converged() and all(map(self.is_welcome, self.workers)), what="a working cluster"
        )

    def settle(self, seconds: float = 60.0) -> None:
        """The end: faults are over; what was left ends, and all nodes agree. For worlds whose jobs do not go on for ever."""
        self.run_until(self.has_settled, seconds, what="the end of all executions")
        self.check()

    def check(self) -> None:
        """What must hold of every scenario."""
        self.compare_states()
        for name in self.up():
            store = self.nodes[name].store
            assert store is not None
            with store.read() as tables:
                invariants.check(tables)
        check_evidence(self.marks, self.skew_ms)
        assert self.overlap_is_allowed or not self.overlaps()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("\n".join(self.story[-150:]))
        super().__exit__(kind, error, trace)

    # Calls

    def begin_to(self, what: str, ask: Ask) -> Call:
        """Makes a call and does not wait for its end."""
        call = Call(what)

        async def make(_: Any) -> None:
            try:
                call.answer = await ask(self.caller.sdk, request_id)
            except HorologeError as error:
                call.error = error
            call.is_over = True

        request_id = self.caller.new_request_id()
        self.caller.run(make)
        return call

    def attempt(self, what: str, ask: Ask) -> Call:
        """Makes a call and waits for its end, whatever that is."""
        call = self.begin_to(what, ask)
        self.run_until(lambda: call.is_over, what=f"the end of the call to {what}")
        return call

    def ask(self, what: str, ask: Ask) -> Any:
        """Makes a call that has to go well, and answers its answer."""
        call = self.attempt(what, ask)
        assert call.error is None, f"{what}: {call.error}"
        return call.answer

    def ask_node(self, node: str, what: str, ask: Callable[[SimSdk], Awaitable[Any]]) -> Any:
        """Makes a call to this node and no other; answers its answer, or raises its error."""
        sdk = self.sdk_of(node)
        call = self.attempt(what, lambda _, id_: ask(sdk))
        if call.error is not None:
            raise call.error
        return call.answer

    def sdk_of(self, node: str) -> SimSdk:
        """The caller's way to this node and no other."""
        return SimSdk(self, self.caller.process, [f"{node}:7400"], random.Random(self.random.getrandbits(64)))

    def propose(self, node: str, command: log_pb2.Command) -> Result:
        """Gives a node a command for the log, past all that checks what callers say; answers what the log made of it."""
        process, context = self.process_of(node), self.node_of(node).context
        found: list[Result] = []

        async def propose() -> None:
            found.append(await context.proposals.propose(command, 5.0))

        process.start(propose())
        self.run_until(lambda: bool(found), what="the result of the command")
        return found[0]

    def create(self, name: str, schedule: Schedule | None = None, *, seconds: float = 0.0, **options: Any) -> Job:
        """Creates a job whose handler takes `seconds`; without a schedule it runs on request."""
        made = job(name, schedule, seconds=seconds, **options)
        created: Job = self.ask(f"create {name}", lambda sdk, id_: sdk.create_job(made, request_id=id_))
        return created

    def run_job(self, name: str) -> int:
        """Runs a job by hand; answers the execution's number."""
        made = self.ask(f"run {name}", lambda sdk, id_: sdk.run_job(name, request_id=id_))
        return int(made.name.rpartition("/")[2])

    def begin_to_run(self, name: str) -> Call:
        """Asks for a run of a job, and does not wait for the answer."""
        return self.begin_to(f"run {name}", lambda sdk, id_: sdk.run_job(name, request_id=id_))

    def cancel(self, number: int) -> Call:
        return self.attempt(f"cancel {number}", lambda sdk, id_: sdk.cancel_execution(number, request_id=id_))

    def slow_down(self, seconds: float) -> None:
        """Every message between two nodes takes so much longer from now on, until `heal`."""
        for one in self.nodes:
            for other in self.others(one):
                self.network.slow_down(one, other, seconds)

    # The way between a worker and its node

    def swallow(self, kind: str, times: int = 1) -> list[Message]:
        """The next messages of this kind from nodes to workers are lost, although the stream stays; answers those that were."""
        lost: list[Message] = []

        def look(message: Message) -> int:
            if len(lost) < times and kind_to_worker(message) == kind:
                lost.append(message)
                return 0
            return 1

        self.rpc.intruder = look
        return lost

    def swallow_report(self) -> list[Message]:
        """From now on what workers report of their attempts is lost on the way; answers what was."""
        lost: list[Message] = []

        def look(message: Message) -> int:
            if message.path != WORKER_STREAM or message.target[0] == "w":
                return 1
            if worker_service_pb2.ConnectRequest.FromString(message.data).WhichOneof("kind") != "results":
                return 1
            lost.append(message)
            return 0

        self.rpc.intruder = look
        return lost

    def repeat(self, kind: str) -> None:
        """From now on messages of this kind from nodes to workers come twice."""
        self.rpc.intruder = lambda message: 2 if kind_to_worker(message) == kind else 1

    # Who is who

    def the_leader(self) -> str:
        """The leader's name; there has to be one."""
        name = self.leader()
        assert name is not None, "there is no leader"
        return name

    def others(self, *names: str) -> list[str]:
        """The nodes beside these."""
        return [name for name in self.nodes if name not in names]

    def up(self) -> list[str]:
        """The nodes that run."""
        return [name for name, node in self.nodes.items() if node.is_up and node.status is not None]

    def gateway(self, worker: str) -> str:
        """The node that a worker is connected to, or was at last."""
        session = self.session(worker)
        return session.open.gateway if session is not None else ""

    def is_welcome(self, worker: str) -> bool:
        """Whether a worker's session is open."""
        session = self.session(worker)
        return session is not None and not session.closed

    def is_idle(self, worker: str) -> bool:
        """Whether a worker has nothing that runs, and nothing that the cluster has not acknowledged."""
        found = self.workers[worker].worker
        return found is not None and found._session is not None and found._session._table.idle.is_set()

    def process_of(self, node: str) -> Process:
        """The process of a node's life at the moment."""
        process = self.nodes[node].process
        assert process is not None
        return process

    def node_of(self, name: str) -> Node:
        """A node's life at the moment."""
        node = self.nodes[name].node
        assert node is not None
        return node

    def lease(self, worker: str) -> Lease:
        """The lease as the worker sees it."""
        found = self.workers[worker].worker
        assert found is not None
        return found.lease

    def holder_first(self, number: int = 1) -> list[str]:
        """All workers, the one that has an execution first."""
        session = self.execution(number).session
        return sorted(self.workers, key=lambda name: self.session_number(name) != session)

    def session_number(self, worker: str) -> int:
        session = self.session(worker)
        return session.id if session is not None else 0

    def committed(self, node: str) -> int:
        """Up to which index a node knows the log to be committed."""
        status = self.nodes[node].status
        return status.commit_index if status is not None else -1

    def lead(self, name: str) -> None:
        """Makes a node the leader, in good order."""
        for _ in range(10):
            # As people do: a hand-over that comes to nothing (its target is just not there) is asked for again.
            if self.leader() == name and self.is_converged():
                return
            leader = self.the_leader()
            context = self.node_of(leader).context
            self.process_of(leader).deliver(lambda context=context: context.submit(Inbox(transfer_to=name)))
            self.run(1.0)
        raise AssertionError(f"{name} does not come to lead")

    def lead_at_gateway(self, worker: str = "w1") -> str:
        """Makes the node to which a worker is connected the leader."""
        self.lead(self.gateway(worker))
        return self.the_leader()

    # What the state says, on the node that has applied most

    def freshest(self) -> str:
        return max(self.up(), key=lambda name: self.revision(name))

    def revision(self, name: str) -> int:
        status = self.nodes[name].status
        return -1 if status is None else status.revision

    def look(self, read: Callable[[Any], Any], node: str = "") -> Any:
        """Reads the state of a node; by default of the one that has applied most."""
        up = self.up()
        if not node and not up:
            return None
        store = self.nodes[node or self.freshest()].store
        assert store is not None
        with store.read() as tables:
            return read(tables)

    def counters(self, node: str = "") -> Counters:
        found: Counters = self.look(Counters.load, node)
        return found

    def session(self, worker: str) -> log_pb2.SessionRecord | None:
        alias = self.workers[worker].alias

        def read(tables: Any) -> log_pb2.SessionRecord | None:
            value = tables.worker.get(alias.encode())
            raw = tables.session.get(U64.pack(WORKER_VALUE.unpack(value)[1])) if value is not None else None
            return log_pb2.SessionRecord.FromString(bytes(raw)) if raw is not None else None

        found: log_pb2.SessionRecord | None = self.look(read)
        return found

    def executions(self, node: str = "") -> dict[int, Execution]:
        found: dict[int, Execution] = self.look(invariants.read_executions, node)
        return found

    def execution(self, number: int = 1) -> Execution:
        return self.executions()[number]

    def state(self, number: int = 1) -> str:
        found = self.executions().get(number)
        return ExecutionState(found.state).name if found is not None else ""

    def attempts(self, number: int = 1) -> list[tuple[int, str]]:
        """Token and state of each attempt, oldest first."""
        execution = self.execution(number)
        raw = self.look(lambda tables: tables.detail.get(U64.pack(number)))
        past = log_pb2.ExecutionRecord.FromString(bytes(raw or b"")).attempts
        found = [(one.token, AttemptState(one.state).name) for one in past]
        if execution.token and execution.token not in [token for token, _ in found]:
            found.append((execution.token, AttemptState(execution.attempt_state).name))
        return found

    def has_settled(self) -> bool:
        """Whether all nodes agree and nothing runs, waits or is unacknowledged."""
        final = ("COMPLETED", "FAILED", "CANCELLED", "DEAD")
        return self.is_converged() and all(
            ExecutionState(one.state).name in final for one in self.executions().values()
        )

    def ledger(self) -> list[tuple[int, str, str, int]]:
        """Due time (from the beginning of the world), outcome, reason and count of each row, in the order of due times."""
        rows = self.look(invariants.read_ledger)
        return sorted(
            (key[1] - START_MS, LedgerOutcome(row.outcome).name, Reason(row.reason).text, row.count)
            for key, row in rows.items()
        )

    def next_due(self, job: int = 1) -> dict[str, int]:
        """What each node has for a job's next due time, from the beginning of the world."""
        return {
            name: JobState.unpack(self.look(lambda tables: tables.job_state.get(U64.pack(job)), name)).next_due_ms
            - START_MS
            for name in self.up()
        }

    def check_no_gaps(self, period_ms: int) -> None:
        """Each due time of the only job, which comes at a fixed period, is accounted for once."""
        rows = self.ledger()
        for (before_ms, *_), (due_ms, outcome, reason, count) in itertools.pairwise(rows):
            assert due_ms - before_ms == count * period_ms, (
                f"{due_ms} {outcome} {reason}: {count} rows after {before_ms}"
            )

    def snapshots_fetched(self, node: str) -> int:
        """How often a node has begun to fetch another one's state."""
        return sum(f" {node} " in line and "fetching a snapshot" in line for line in self.story)

    def uncommitted(self, name: str) -> list[str]:
        """The kinds of commands on a node's disk that it does not know to be committed."""
        node = self.nodes[name]
        if node.store is None or node.status is None:
            return []
        entries = [
            log_pb2.Entry.FromString(raw[_CHECKSUM_AND_TYPE_BYTES:])
            for index, _, raw in node.store.log_get_all()
            if index > node.status.commit_index and len(raw) > _CHECKSUM_AND_TYPE_BYTES
        ]
        return [str(command.WhichOneof("kind")) for entry in entries for command in entry.commands]

    # What handlers saw

    def starts(self, number: int = 0) -> list[Mark]:
        """Starts, of one execution or of all."""
        return [mark for mark in self.marks if mark.kind == Kind.STARTED and number in (0, mark.execution)]

    def ends(self, number: int = 0) -> list[Mark]:
        """Good ends, of one execution or of all."""
        return [mark for mark in self.marks if mark.kind == Kind.ENDED and number in (0, mark.execution)]

    def overlaps(self) -> list[Mark]:
        """What attempts still did after a newer one of their execution had started."""
        found: list[Mark] = []
        newest: dict[int, int] = defaultdict(int)
        for mark in self.marks:
            if mark.token < newest[mark.execution]:
                found.append(mark)
            newest[mark.execution] = max(newest[mark.execution], mark.token)
        return found

    def now_ms(self) -> int:
        """From the beginning of the world, as due times are given here."""
        return int(self.timeline.now * 1000)

    def seconds_of(self, mark: Mark) -> float:
        """When it happened, on the world's true clock."""
        return mark.monotonic_ns / 1e9


def job(name: str, schedule: Schedule | None = None, *, seconds: float = 0.0, **options: Any) -> Job:
    """A job whose handler takes `seconds`, as SimWorker understands it; without a schedule it runs on request."""
    options.setdefault("retry", jobs.retry(max_attempts=5, base="1s", jitter="none"))
    return jobs.job(name, schedule or jobs.manual(), jobs.python(HANDLER, payload(seconds)), **options)


def kind_to_worker(message: Message) -> str:
    """What a node says to a worker with this message; empty if it is another message."""
    if message.path != WORKER_STREAM or message.target[0] != "w":
        return ""
    return worker_service_pb2.ConnectResponse.FromString(message.data).WhichOneof("kind") or ""


def check_evidence(marks: list[Mark], skew_ms: int) -> None:
    """No token starts code twice, and nothing starts before its time.

    `skew_ms`: how far the clocks of the nodes are from the true time at most.
    """
    tokens: set[tuple[int, int]] = set()
    for mark in marks:
        if mark.kind == Kind.STARTED:
            assert (mark.execution, mark.token) not in tokens, f"started twice: {mark}"
            tokens.add((mark.execution, mark.token))
            assert mark.delay_ms >= -skew_ms, f"started before its time: {mark}"
