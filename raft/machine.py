"""The one door into the replicated state: `StateMachine.apply`.

Pure and deterministic: no clock, randomness, IO or threads, and no library with data of its own. Whatever can differ
between two machines is computed by the proposer and travels in the command. A command that finds the world changed does
nothing and says so; only a broken invariant raises, and then nothing of the entry is kept and the process stops.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import (
    audit,
    authority,
    calendars,
    cancellation,
    cluster_version,
    dead_letters,
    deadlines,
    jobs,
    limits,
    lines,
    namespaces,
    notices,
    notifications,
    operations,
    pauses,
    principals,
    queues,
    reruns,
    secrets,
    sessions,
    settling,
    time_limits,
    wheel,
)
from horologe.raft import executions as executions_
from horologe.raft.access import EVERYWHERE, Verb, is_secure
from horologe.raft.cluster_version import THIS_PROGRAM
from horologe.raft.history import prune
from horologe.raft.malformed import fault_of
from horologe.raft.model import CLUSTER_ID_KEY, Code, Counters, Effects, Result
from horologe.raft.requests import first_answer, remember
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables

FIRST_CLUSTER_ID_KEY = b"first_cluster_id"
"""Missing until the cluster gets another identity."""
NUMBER_GAP = 1_000_000_000
"""So many numbers at least are left out by a recovery: what the lost members gave away must not be given again."""
SPREAD_PER_ENTRY_MAX = 5_000
"""Timers that one entry moves from higher levels of the wheel to lower ones."""


class StateMachine:
    """Applies log entries to the tables of a transaction. Holds nothing itself."""

    program = THIS_PROGRAM
    """What it can apply. Another one in simulations of upgrades."""

    def apply(self, tables: Tables, index: int, entry: log_pb2.Entry) -> tuple[list[Result], Effects]:
        """Applies all commands of the entry at `index` (the Raft index) and answers a result for each, and the effects.

        Never raises for a domain reason, nor for a command whose form is broken, which is refused as MALFORMED. Raises
        InvariantError if the state contradicts itself, or if the entry holds a command that this program does not know: a
        replica never skips an entry.
        """
        state = State(tables, index, entry.time_ms)
        results = [self._apply(state, command) for command in entry.commands]
        state.save()
        return results, state.effects

    def _apply(self, state: State, command: log_pb2.Command) -> Result:
        fault = fault_of(command)
        if fault:
            return audit.note(state, command, Result(Code.MALFORMED, text=fault))
        if command.change_membership.configuration.cluster_id:
            _begin_anew(state, command.change_membership.configuration.cluster_id)
        refusal = authority.fault_of_caller(state, command)
        answer = first_answer(state, command) if command.request_id else None
        if answer is not None and refusal:
            return audit.note(state, command, Result(Code.PERMISSION_DENIED, text=refusal))
        if answer is not None:
            # A repetition was recorded the first time.
            return audit.note(state, command, answer) if answer.code is Code.REQUEST_ID_REUSED else answer
        refusal = refusal or authority.missing_right(state, command)
        if refusal:
            # Remembered like any answer: who was told that nothing happens must not find it done by a late copy.
            result = audit.note(state, command, Result(Code.PERMISSION_DENIED, text=refusal))
        else:
            before = audit.stand_before(state, command)
            result = self._dispatch(state, command)
            settling.settle(state)
            audit.note(state, command, result, before)
        if command.request_id:
            remember(state, command, result)
        return result

    def _dispatch(self, state: State, command: log_pb2.Command) -> Result:
        match command.WhichOneof("kind"):
            case "plan":
                return _plan(state, command.plan)
            case "complete":
                return executions_.complete(state, command.complete)
            case "put_jobs":
                return jobs.put_jobs(state, command.put_jobs, _principal(state, command))
            case "delete_job":
                return jobs.delete_job(state, command.delete_job)
            case "pause_job":
                return jobs.pause_job(state, command.pause_job)
            case "run_job":
                return jobs.run_job(state, command.run_job)
            case "set_calendar":
                return calendars.set_calendar(state, command.set_calendar)
            case "delete_calendar":
                return calendars.delete_calendar(state, command.delete_calendar)
            case "pause_scope":
                return pauses.pause_scope(state, command.pause_scope)
            case "cancel_execution":
                return cancellation.cancel(state, command.cancel_execution)
            case "open_session":
                return sessions.open_session(state, command.open_session)
            case "close_session":
                return sessions.close_session(state, command.close_session)
            case "drain_worker":
                return sessions.drain_worker(state, command.drain_worker)
            case "rerun_execution":
                return reruns.rerun(state, command.rerun_execution)
            case "prune":
                return prune(state, command.prune)
            case "bootstrap":
                return _bootstrap(state, command.bootstrap, self.program)
            case "raise_version":
                return cluster_version.raise_version(state, command.raise_version, self.program)
            case "hold_version":
                return cluster_version.hold_version(state, command.hold_version)
            case "change_membership":
                return _change_membership(command)
            case "set_limit":
                return limits.set_limit(state, command.set_limit)
            case "delete_limit":
                return limits.delete_limit(state, command.delete_limit)
            case "set_queue":
                return queues.set_queue(state, command.set_queue)
            case "pause_queue":
                return queues.pause_queue(state, command.pause_queue)
            case "set_namespace":
                return namespaces.set_namespace(state, command.set_namespace)
            case "barrier":
                return Result(Code.OK, (state.index,))
            case "checkpoint":
                state.effects.checkpoint = True
                return Result(Code.OK, (state.index,))
            case "redrive_dead_letter":
                return dead_letters.redrive(state, command.redrive_dead_letter)
            case "purge_dead_letter":
                return dead_letters.purge(state, command.purge_dead_letter)
            case "start_operation":
                return operations.start(state, command.start_operation, _principal(state, command))
            case "cancel_operation":
                return operations.cancel(state, command.cancel_operation)
            case _:
                return _dispatch_notifications(state, command)


def _dispatch_notifications(state: State, command: log_pb2.Command) -> Result:
    match command.WhichOneof("kind"):
        case "set_notification":
            return notifications.set_notification(state, command.set_notification)
        case "delete_notification":
            return notifications.delete_notification(state, command.delete_notification)
        case "note_notices":
            return notices.note_notices(state, command.note_notices)
        case "note_deliveries":
            return notices.note_deliveries(state, command.note_deliveries)
        case "note_quorum":
            return notices.note_quorum(state, command.note_quorum)
        case _:
            return _dispatch_security(state, command)


def _dispatch_security(state: State, command: log_pb2.Command) -> Result:
    match command.WhichOneof("kind"):
        case "begin_security":
            return principals.begin_security(state, command.begin_security)
        case "put_token":
            return principals.put_token(state, command.put_token)
        case "revoke_token":
            return principals.revoke_token(state, command.revoke_token)
        case "note_token_uses":
            return principals.note_token_uses(state, command.note_token_uses)
        case "set_grant":
            return principals.set_grant(state, command.set_grant)
        case "delete_grant":
            return principals.delete_grant(state, command.delete_grant)
        case "set_principal":
            return principals.set_principal(state, command.set_principal)
        case "set_secret":
            return secrets.set_secret(state, command.set_secret)
        case "delete_secret":
            return secrets.delete_secret(state, command.delete_secret)
        case "note_denied":
            return audit.note_denied(state, command.note_denied)
        case unknown:
            raise InvariantError(
                f"entry {state.index} holds a command of kind {unknown!r} that this program does not know: "
                "a newer program wrote it; upgrade this node"
            )


def cluster_id_of(tables: Tables) -> str:
    """Empty before the first entry."""
    raw = tables.meta.get(CLUSTER_ID_KEY)
    return "" if raw is None else bytes(raw).decode()


def first_cluster_id_of(tables: Tables) -> str:
    """The identity that the cluster was born with. Idempotency keys begin with it: it outlives a recovery."""
    raw = tables.meta.get(FIRST_CLUSTER_ID_KEY)
    return cluster_id_of(tables) if raw is None else bytes(raw).decode()


def counters_of(tables: Tables) -> Counters:
    return Counters.load(tables)


def _plan(state: State, plan: log_pb2.Plan) -> Result:
    """What the leader's planner found due, in the order in which it matters: leases first, then work."""
    if plan.expired_sessions:
        sessions.expire_sessions(state, plan.expired_sessions)
    if plan.timeouts:
        executions_.time_out(state, plan.timeouts)
    if plan.execution_timeouts:
        time_limits.end_executions(state, plan.execution_timeouts)
    if plan.advance_to_ms:
        # A leader whose clock is behind the cursor must still get done what it found, or it would ask again and again.
        cursor_ms = max(plan.advance_to_ms, state.counters.cursor_ms)
        if wheel.advance(state.tables.timer, cursor_ms, SPREAD_PER_ENTRY_MAX):
            state.counters.cursor_ms = cursor_ms
    if plan.deadlines:
        deadlines.pass_deadlines(state, plan.deadlines)
    if plan.rearms:
        calendars.rearm(state, plan.rearms)
    if plan.unparks:
        pauses.unpark(state, plan.unparks)
    # What ended here must not hold up what is fired below.
    settling.settle(state)
    open_sessions = executions_.OpenSessions(state)
    if plan.assigns:
        executions_.assign(state, plan.assigns, open_sessions)
    if plan.retries:
        executions_.retry(state, plan.retries, open_sessions)
    if plan.fires:
        executions_.fire(state, plan.fires, open_sessions)
    if plan.calls:
        lines.call(state, plan.calls)
    if plan.cancellations:
        cancellation.go_on(state, plan.cancellations)
    for piece in plan.operation_steps:
        operations.step(state, piece)
    return Result(Code.OK)


def _change_membership(command: log_pb2.Command) -> Result:
    """The members are the Raft core's business; here only the one who asked gets an answer."""
    change = command.change_membership
    code = Code(change.refusal)
    if code is Code.PERMISSION_DENIED:
        return Result(code, text=authority.lacks(command.actor.principal, Verb.CLUSTER_WRITE, EVERYWHERE))
    return Result(code, text="" if code is Code.OK else change.promote or change.remove or change.put.name)


def _principal(state: State, command: log_pb2.Command) -> str:
    """Who has asked, in a cluster where that means something."""
    return command.actor.principal if is_secure(state.tables) else ""


def after_gap(number: int) -> int:
    """A round number that the lost members have not come to."""
    return (number // NUMBER_GAP + 2) * NUMBER_GAP


def _begin_anew(state: State, cluster_id: str) -> None:
    """The cluster was recovered without its majority (recovery.py): it is another one now, and goes on from here.

    All later configurations carry the same identity; only the first one changes anything.
    """
    known = cluster_id_of(state.tables)
    if cluster_id == known:
        return
    if state.tables.meta.get(FIRST_CLUSTER_ID_KEY) is None:
        state.tables.meta.put(FIRST_CLUSTER_ID_KEY, known.encode())
    state.tables.meta.put(CLUSTER_ID_KEY, cluster_id.encode())
    state.counters.last_execution = after_gap(state.counters.last_execution)
    state.counters.last_session = after_gap(state.counters.last_session)


def _bootstrap(state: State, command: log_pb2.Bootstrap, program: cluster_version.Program) -> Result:
    """The first one wins; a cluster's identity never changes."""
    known = cluster_id_of(state.tables)
    if not known:
        state.tables.meta.put(CLUSTER_ID_KEY, command.cluster_id.encode())
        cluster_version.begin(state, command.version, program)
        return Result(Code.OK)
    return Result(Code.OK if known == command.cluster_id else Code.WRONG_CLUSTER, text=known)
