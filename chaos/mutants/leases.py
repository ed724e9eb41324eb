"""Mutants of leases and fencing: who may run an attempt, for how long, and whose word about it counts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from horologe.chaos.evidence import Kind
from horologe.chaos.mutants.ground import COMMITTED_FIRST, LIVENESS, Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.world import WorldOptions
from horologe.client import jobs
from horologe.client.attempts import AttemptTable
from horologe.client.worker import Worker
from horologe.log.v1 import log_pb2
from horologe.node.gateway import Gateway, Response
from horologe.node.sessions import WorkerSession
from horologe.node.slots import Slots
from horologe.raft import executions, sessions
from horologe.raft.machine import StateMachine
from horologe.raft.model import ExecutionState, Result
from horologe.raft.records import WORKER_VALUE
from horologe.raft.replica import Replica
from horologe.raft.state import State
from horologe.v1 import worker_pb2, worker_service_pb2

OVERLAP = "attempts do not overlap"
STARTED_TWICE = "C2 STARTED_TWICE"
NOT_ENDED = "C4 NOT_ENDED"
NO_WORKERS = WorldOptions(workers=0)
LONG_SECONDS = 25.0


# --- worlds -----------------------------------------------------------------------------------------------------------


def _begin(ground: Ground, seconds: float) -> int:
    """n1 leads; w1 has an attempt that takes so long, and w2 is there too. Answers the execution."""
    ground.begin("n1")
    ground.job("long", jobs.manual(), seconds, grace="1s")
    ground.add_worker("w1").start()
    execution = ground.run_job("long")
    ground.wait(lambda: bool(ground.started(execution)), "w1 has begun")
    ground.add_worker("w2").start()
    ground.run(1.0 + ground.random.random())
    return execution


def a_worker_is_cut_off(ground: Ground) -> None:
    """A worker reaches no node until long after its lease is over; its work is given to another one."""
    execution = _begin(ground, LONG_SECONDS)
    ground.reach_only("w1")
    ground.wait(lambda: len(ground.started(execution)) > 1, "w2 has taken over")
    ground.run(LONG_SECONDS)
    ground.heal()
    ground.run(5.0)
    ground.check_attempts()


def _begin_at_n2(ground: Ground, seconds: float) -> int:
    """n1 leads; w1 has an attempt that takes so long, and reaches only n2; w2 reaches the others. Answers the execution."""
    ground.begin("n1")
    ground.job("long", jobs.manual(), seconds, grace="1s")
    ground.add_worker("w1")
    ground.reach_only("w1", "n2")
    ground.workers["w1"].start()
    execution = ground.run_job("long")
    ground.wait(lambda: bool(ground.started(execution)), "w1 has begun")
    ground.add_worker("w2")
    ground.reach_only("w2", "n1", "n3")
    ground.workers["w2"].start()
    ground.run(1.0 + ground.random.random())
    return execution


def a_gateway_is_not_heard(ground: Ground) -> None:
    """A gateway hears the leader and is not heard by it; its worker reaches no other node."""
    execution = _begin_at_n2(ground, LONG_SECONDS)
    ground.network.isolate(["n2"], ["n1", "n3"], one_way=True)
    ground.wait(lambda: len(ground.started(execution)) > 1, "w2 has taken over")
    ground.run(LONG_SECONDS)
    ground.heal()
    ground.run(5.0)
    ground.check_attempts()


def a_leader_dies_while_a_worker_is_away(ground: Ground) -> None:
    """A worker is cut off for less than its lease; meanwhile the leader dies, and the next one has not heard of the worker."""
    execution = _begin(ground, LONG_SECONDS)
    ground.reach_only("w1")
    ground.crash("n1")
    ground.wait(lambda: ground.leader() in ("n2", "n3"), "a leader without n1")
    ground.run(2.0)
    ground.heal()
    ground.restart("n1")
    ground.run(LONG_SECONDS)
    ground.check_attempts()
    if len(ground.started(execution)) != 1:
        raise InvariantBrokenError("a worker that kept its lease keeps its work", f"{ground.started(execution)}")


def a_result_that_comes_too_late(ground: Ground) -> None:
    """A gateway that is cut off has a result; when it can say so, another worker has been given the same."""
    execution = _begin_at_n2(ground, 4.0)
    ground.connect_only("n1 n3", "n2")
    ground.wait(lambda: len(ground.started(execution)) > 1, "w2 has taken over")
    ground.heal()
    for _ in range(100):
        ground.run(0.1)
        _check_completion(ground, execution)
    ground.check_attempts()


def _check_completion(ground: Ground, number: int) -> None:
    """A success on record is believed only if its handler came to its end under that very token."""
    execution = ground.execution(number)
    if execution is not None and execution.state == ExecutionState.COMPLETED:
        ends = {mark.token for mark in ground.marks if mark.kind == Kind.ENDED and mark.execution == number}
        if execution.token not in ends:
            raise InvariantBrokenError(NOT_ENDED, f"{execution} is on record, but only {sorted(ends)} have ended")


def assignments_come_twice(ground: Ground) -> None:
    """Every assignment is sent twice, as by a gateway that has forgotten what it has sent."""
    send = WorkerSession.send

    def send_twice(session: WorkerSession, message: worker_service_pb2.ConnectResponse) -> None:
        send(session, message)
        if message.HasField("assignments"):
            send(session, message)

    with patch.object(WorkerSession, "send", send_twice):
        _begin(ground, 0.5)
        for _ in range(5):
            ground.run_job("long")
        ground.run(2.0)
    ground.check_attempts()


def a_worker_of_the_leader(ground: Ground) -> None:
    """A worker is connected to the leader itself, and has something to do now and then; a commit takes its time."""
    ground.begin("n1")
    ground.job("tick", jobs.every(timedelta(seconds=1)), 0.1)
    ground.add_worker("w1")
    ground.reach_only("w1", "n1")
    ground.workers["w1"].start()
    for other in ("n2", "n3"):
        ground.network.slow_down(other, "n1", 0.02)
    ground.wait(lambda: len(ground.marks) > 4, "work is done")
    ground.check_attempts()


def a_worker_is_killed_and_comes_back(ground: Ground) -> None:
    """A worker process is killed in the middle of its work, and another one begins under its name."""
    execution = _begin(ground, 5.0)
    ground.restart("w1")
    ground.run(15.0)
    ground.check_attempts()
    if len(ground.started(execution)) != 2:
        raise InvariantBrokenError("lost work is done again", f"{ground.started(execution)}")


def a_worker_is_back_before_its_lease_is_over(ground: Ground) -> None:
    """A worker stops its work because it hears nothing, and is back before the cluster has given it up."""
    execution = _begin(ground, LONG_SECONDS)
    ground.reach_only("w1")
    ground.wait(lambda: ground.marks[-1].kind == Kind.STOPPED, "w1 stops its work")
    ground.heal()
    ground.wait(lambda: len(ground.started(execution)) > 1, "lost work is done again", seconds=30.0)
    ground.run(LONG_SECONDS)
    ground.check_attempts()


# --- mutants ----------------------------------------------------------------------------------------------------------


def never_fence(ground: Ground) -> AbstractContextManager[object]:
    """A worker goes on for as long as it likes."""
    del ground
    return patch("horologe.client.lease.SELF_FENCING_SHARE", 1e6)


def acknowledge_heartbeats_alone(ground: Ground) -> AbstractContextManager[object]:
    """A gateway acknowledges heartbeats without asking the leader."""
    del ground
    heartbeat = Gateway.heartbeat

    def acknowledge(gateway: Gateway, session: WorkerSession, sequence: int) -> None:
        heartbeat(gateway, session, sequence)
        session.send(Response(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=sequence)))

    return patch.object(Gateway, "heartbeat", acknowledge)


def no_grace_for_sessions(ground: Ground) -> AbstractContextManager[object]:
    """A new leader goes by what it has heard itself, which is nothing."""
    del ground
    rebuild = Slots.rebuild

    def rebuild_unheard(slots: Slots, *arguments: Any, **options: Any) -> None:
        rebuild(slots, *arguments, **options)
        slots._heard = dict.fromkeys(slots._heard, float("-inf"))

    return patch.object(Slots, "rebuild", rebuild_unheard)


def any_token_will_do(ground: Ground) -> AbstractContextManager[object]:
    """An outcome counts whatever token it comes under."""
    del ground
    complete_one = executions._complete_one

    def complete(state: State, record: tuple[int, ...], detail: Any) -> Any:
        execution = state.execution(record[0])
        if execution is not None:
            record = (record[0], execution.token, execution.attempt, *record[3:])
        return complete_one(state, record, detail)  # type: ignore[arg-type]

    return patch.object(executions, "_complete_one", complete)


def start_whatever_comes(ground: Ground) -> AbstractContextManager[object]:
    """A worker does not remember which tokens it has seen."""
    del ground
    return patch.object(AttemptTable, "highest_token", lambda table, execution: 0)


def dispatch_from_the_proposal(ground: Ground) -> AbstractContextManager[object]:
    """A leader's gateway sends what its plan will assign as soon as the plan is proposed."""
    append = Replica._append

    def dispatch(replica: Replica, commands: list[log_pb2.Command], wall_ms: int) -> None:
        append(replica, commands, wall_ms)
        node, index = ground.nodes[replica.settings.name].node, replica._core.last_index
        if node is None or index != replica._revision + 1:
            return
        entry = log_pb2.Entry(time_ms=replica._log_time_ms, commands=commands)
        # What applying it would do, in a transaction of its own that comes to nothing.
        trial = replica.store._environment.begin(parent=replica.store._write(), write=True)
        try:
            _, effects = StateMachine().apply(replica.store._tables_of(trial), index, entry)
        finally:
            trial.abort()
        node.gateway.deliver(effects)

    return patch.object(Replica, "_append", dispatch)


def any_process_is_the_same(ground: Ground) -> AbstractContextManager[object]:
    """Whoever says hello under a worker's name is that worker, with all that it had begun."""
    del ground
    open_session = sessions.open_session

    def open_as_before(state: State, command: log_pb2.OpenSession) -> Result:
        raw = state.tables.worker.get(command.worker.encode())
        record = sessions.read_session(state, WORKER_VALUE.unpack(raw)[1]) if raw is not None else None
        if record is not None:
            command.incarnation = record.open.incarnation
        return open_session(state, command)

    return patch.object(sessions, "open_session", open_as_before)


def keep_the_incarnation(ground: Ground) -> AbstractContextManager[object]:
    """A worker that has stopped its work comes back as if nothing had happened."""
    del ground
    new_incarnation = Worker._new_incarnation

    def first_incarnation(worker: Worker) -> str:
        identity = vars(worker).get("_identity")
        return identity.incarnation if identity is not None else new_incarnation(worker)

    return patch.object(Worker, "_new_incarnation", first_incarnation)


CUT_OFF = Course("a worker is cut off", a_worker_is_cut_off, NO_WORKERS)
NOT_HEARD = Course("a gateway is not heard", a_gateway_is_not_heard, NO_WORKERS)
AWAY = Course("a leader dies while a worker is away", a_leader_dies_while_a_worker_is_away, NO_WORKERS)
TOO_LATE = Course("a result that comes too late", a_result_that_comes_too_late, NO_WORKERS)
TWICE = Course("assignments come twice", assignments_come_twice, NO_WORKERS)


OF_THE_LEADER = Course("a worker of the leader", a_worker_of_the_leader, NO_WORKERS)
KILLED = Course("a worker is killed and comes back", a_worker_is_killed_and_comes_back, NO_WORKERS)
BACK_EARLY = Course("a worker is back before its lease is over", a_worker_is_back_before_its_lease_is_over, NO_WORKERS)
MUTANTS = (
    Mutant(
        "dispatch_from_apply",
        "Work is sent to workers when it is proposed, not when it is committed and applied",
        OF_THE_LEADER,
        (COMMITTED_FIRST,),
        patch=dispatch_from_the_proposal,
    ),
    Mutant(
        "incarnations_told_apart",
        "Another process under a worker's name is taken for the one before",
        KILLED,
        (OVERLAP, STARTED_TWICE),
        patch=any_process_is_the_same,
    ),
    Mutant(
        "new_incarnation_after_fencing",
        "A worker that has killed its work for want of a lease comes back under the incarnation that had it",
        BACK_EARLY,
        (LIVENESS,),
        patch=keep_the_incarnation,
    ),
    Mutant(
        "self_fencing",
        "A worker without an acknowledged heartbeat goes on",
        CUT_OFF,
        (OVERLAP,),
        patch=never_fence,
    ),
    Mutant(
        "heartbeats_acknowledged_by_leader",
        "A gateway acknowledges heartbeats by itself",
        NOT_HEARD,
        (OVERLAP,),
        patch=acknowledge_heartbeats_alone,
    ),
    Mutant(
        "grace_of_new_leader",
        "A new leader gives up every session that it has not heard of itself",
        AWAY,
        (OVERLAP,),
        patch=no_grace_for_sessions,
    ),
    Mutant(
        "token_checked_on_completion",
        "An outcome counts under whatever token it comes",
        TOO_LATE,
        (NOT_ENDED,),
        patch=any_token_will_do,
    ),
    Mutant(
        "worker_drops_known_tokens",
        "A worker starts whatever it is sent. Gateways send nothing twice, so here they do",
        TWICE,
        (OVERLAP,),
        patch=start_whatever_comes,
    ),
)
