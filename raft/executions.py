"""Commands on executions: fire, assign, retry, complete, time out, lose. How they are cancelled is in cancellation.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from horologe.log.v1 import log_pb2
from horologe.raft import dead_letters, deadlines, failures, owners, plain, time_limits, wheel
from horologe.raft.commands import (
    ASSIGN,
    FIRE,
    GIVE_UP,
    OUTCOME,
    PARK_ONLY,
    RETRY,
    TIMEOUT,
    CompletionStatus,
    MissedFate,
    Outcome,
    OutcomeFlag,
)
from horologe.raft.creation import new_execution
from horologe.raft.model import (
    AttemptState,
    Code,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    LeaseLoss,
    LedgerOutcome,
    Reason,
    Result,
    TimerKind,
    Trigger,
)
from horologe.raft.overlap import REFUSALS, Admission, admit
from horologe.raft.pauses import Pauses, park
from horologe.raft.records import PAIR, U64, Execution, JobState, LedgerEntry
from horologe.raft.starting import line_up_if_blocked, start_or_queue
from horologe.raft.state import InvariantError, State

_MISSED_ROWS: dict[int, tuple[LedgerOutcome, Reason]] = {
    MissedFate.COALESCED: (LedgerOutcome.COALESCED, Reason.CATCHUP_LATEST),
    MissedFate.MISSED_CATCHUP_SKIP: (LedgerOutcome.MISSED, Reason.CATCHUP_SKIP),
    MissedFate.MISSED_CATCHUP_WINDOW: (LedgerOutcome.MISSED, Reason.CATCHUP_WINDOW),
    MissedFate.COALESCED_EARLIEST: (LedgerOutcome.COALESCED, Reason.CATCHUP_EARLIEST),
    MissedFate.MISSED_CATCHUP_MAX: (LedgerOutcome.MISSED, Reason.CATCHUP_MAX),
}
_MISSED_OTHERWISE = (LedgerOutcome.MISSED, Reason.NONE)
"""For a fate that this program does not know: the due times are accounted for all the same."""
_ATTEMPT_STATES: dict[int, AttemptState] = {
    Outcome.SUCCEEDED: AttemptState.SUCCEEDED,
    Outcome.FAILED: AttemptState.FAILED,
    Outcome.TIMED_OUT: AttemptState.TIMED_OUT,
    Outcome.CANCELLED: AttemptState.CANCELLED,
}


@dataclass(slots=True)
class OpenSessions:
    """Sessions that may get work in this entry, looked up once each: session -> worker number, or None."""

    state: State
    known: dict[int, int | None] = field(default_factory=dict)

    def worker_of(self, session: int) -> int | None:
        if session == 0:
            return None
        if session not in self.known:
            self.known[session] = self._look_up(session)
        return self.known[session]

    def _look_up(self, session: int) -> int | None:
        raw = self.state.tables.session.get(U64.pack(session))
        if raw is None:
            return None
        record = log_pb2.SessionRecord.FromString(bytes(raw))
        return None if record.closed or record.draining else record.worker_number


def fire(state: State, records: bytes, sessions: OpenSessions) -> None:
    """Turns due times into executions. A record whose job has moved on since it was written does nothing.

    A due time that is accounted for already does not run again: after a change of the schedule the proposer, whose clock
    may be behind, can have named one that had just been fired. While its namespace or the cluster is paused, the job is parked.
    """
    pauses = Pauses.load(state.tables)
    fire_plainly = plain.PlainStarts(state).fire
    for record in FIRE.iter_unpack(records):
        (
            job,
            revision,
            due_ms,
            next_ms,
            next_fire_ms,
            session,
            missed_first_ms,
            missed_last_ms,
            missed_count,
            fate,
            run,
        ) = record
        if run == 1 and not missed_count and not pauses.by_namespace:
            worker = sessions.worker_of(session)
            lease = None if worker is None else (session, worker)
            if fire_plainly(job, revision, due_ms, next_ms, next_fire_ms, lease):
                continue
        job_state = state.job_state(job)
        pending_ms = min(missed_first_ms if missed_count else due_ms, due_ms if run else missed_first_ms)
        if job_state is None or job_state.revision != revision or job_state.next_due_ms != pending_ms:
            continue
        if pauses.in_force(job_state.namespace) is not None:
            park(state, job, job_state)
            state.put_job_state(job, job_state)
            continue
        if run == PARK_ONLY:
            continue
        planned_ms = job_state.next_fire_ms if due_ms == job_state.next_due_ms else due_ms
        number = _fire_one(state, job, job_state, (due_ms, planned_ms), session, sessions) if run else 0
        if missed_count:
            outcome, reason = _MISSED_ROWS.get(fate, _MISSED_OTHERWISE)
            into = number if outcome == LedgerOutcome.COALESCED else 0
            row = LedgerEntry(outcome, reason, into, missed_first_ms, missed_count)
            state.put_not_run(job, job_state, missed_last_ms, row)
        # Last, because the execution that was just made may be the last one.
        state.arm_fire(job, job_state, next_ms, next_fire_ms)
        state.arm_after_end(job, job_state)
        state.put_job_state(job, job_state)


def _fire_one(
    state: State, job: int, job_state: JobState, due: tuple[int, int], session: int, sessions: OpenSessions
) -> int:
    """`due`: the due time, and when it was to fire. Answers the execution, or 0."""
    due_ms, planned_ms = due
    if state.is_accounted(job, due_ms):
        return 0
    if deadlines.is_too_late(state, job_state, due_ms):
        state.put_not_run(job, job_state, due_ms, LedgerEntry(LedgerOutcome.SKIPPED, Reason.DEADLINE, 0, due_ms, 1))
        return 0
    if not owners.may_run(state, job, job_state):
        row = LedgerEntry(LedgerOutcome.SKIPPED, Reason.NOT_PERMITTED, 0, due_ms, 1)
        state.put_not_run(job, job_state, due_ms, row)
        return 0
    admission = admit(state, job, job_state)
    if admission in REFUSALS:
        reason, _ = REFUSALS[admission]
        state.put_not_run(job, job_state, due_ms, LedgerEntry(LedgerOutcome.SKIPPED, reason, 0, due_ms, 1))
        return 0
    worker = sessions.worker_of(session)
    number, execution = new_execution(
        state,
        job,
        job_state,
        due_ms,
        Trigger.SCHEDULE,
        None if worker is None else (session, worker),
        planned_ms=planned_ms,
        held=admission is Admission.HOLD,
    )
    job_state.scheduled += 1
    state.put_execution(number, execution)
    state.put_ledger(job, due_ms, LedgerEntry(LedgerOutcome.RAN, Reason.NONE, number, due_ms, 1))
    return number


def assign(state: State, records: bytes, sessions: OpenSessions) -> None:
    """Gives queued executions to sessions. One that is no longer queued stays as it is; one that may not start yet waits.

    Without a session: to the line of the limit that has no room for it.
    """
    assign_plainly = plain.PlainStarts(state).assign
    for number, session in ASSIGN.iter_unpack(records):
        execution = state.execution(number)
        worker = sessions.worker_of(session)
        if execution is None or execution.state != ExecutionState.QUEUED:
            continue
        if worker is not None and assign_plainly(number, execution, (session, worker)):
            continue
        if worker is not None:
            start_or_queue(state, number, execution, _job_state(state, execution), (session, worker))
        elif not session:
            line_up_if_blocked(state, number, execution, _job_state(state, execution))
        state.put_execution(number, execution)


def retry(state: State, records: bytes, sessions: OpenSessions) -> None:
    """Ends a backoff."""
    for number, next_attempt_ms, session in RETRY.iter_unpack(records):
        execution = state.execution(number)
        if (
            execution is None
            or execution.state != ExecutionState.SCHEDULED
            or execution.flags & ExecutionFlag.HELD
            or execution.next_attempt_ms != next_attempt_ms
        ):
            continue
        wheel.disarm(state.tables.timer, next_attempt_ms, TimerKind.RETRY, number)
        execution.next_attempt_ms = 0
        worker = sessions.worker_of(session)
        found = None if worker is None else (session, worker)
        start_or_queue(state, number, execution, _job_state(state, execution), found)
        state.put_execution(number, execution)


def complete(state: State, command: log_pb2.Complete) -> Result:
    """Records how attempts ended. Answers a CompletionStatus for each outcome, in their order.

    An outcome counts only under the execution's current token. The same outcome again is answered RECORDED, so that a
    worker may repeat itself; any other (the lease ran out, or the cluster timed the attempt out) is refused and counted.
    """
    details = {detail.position: detail for detail in command.details}
    statuses: list[int] = []
    for position, record in enumerate(OUTCOME.iter_unpack(command.outcomes)):
        statuses.append(_complete_one(state, record, details.get(position)))
    return Result(Code.OK, tuple(statuses))


def _complete_one(
    state: State,
    record: tuple[int, int, int, int, int, int, int, int, int],
    detail: log_pb2.OutcomeDetail | None,
) -> CompletionStatus:
    if detail is None and plain.complete(state, record):
        return CompletionStatus.RECORDED
    number, token, attempt, outcome, flags, exit_code, start_delay_ms, _duration_ms, retry_delay_ms = record
    # An outcome that this program does not know is no success: nothing that a worker says may stop a replica.
    attempt_state = _ATTEMPT_STATES.get(outcome, AttemptState.FAILED)
    execution = state.execution(number)
    # Without a token it has not been given to anybody: a workflow runs like that.
    is_current = execution is not None and execution.token == token > 0 and execution.attempt == attempt
    if execution is not None and is_current:
        attempt_state = _as_told(execution, attempt_state)
    if execution is None or not is_current or execution.state != ExecutionState.RUNNING:
        if execution is not None and (
            execution.attempt_state == attempt_state
            if is_current
            else _was_recorded(state, number, execution, token, attempt, attempt_state)
        ):
            return CompletionStatus.RECORDED
        state.counters.refused_tokens += 1
        return CompletionStatus.LEASE_LOST
    started_ms = min(execution.assign_ms + start_delay_ms, state.now_ms)
    if not execution.start_ms:
        execution.start_ms = started_ms
    if flags & OutcomeFlag.HAS_EXIT_CODE:
        execution.exit_code = exit_code
        execution.flags |= ExecutionFlag.HAS_EXIT_CODE
    state.end_attempt(number, execution, attempt_state)
    if detail is not None or attempt_state != AttemptState.SUCCEEDED or execution.flags & ExecutionFlag.HAS_DETAIL:
        _remember_attempt(state, number, execution, started_ms, detail)
    _after_attempt(state, number, execution, attempt_state, retry_delay_ms)
    state.put_execution(number, execution)
    return CompletionStatus.RECORDED


def _as_told(execution: Execution, said: AttemptState) -> AttemptState:
    """The worker calls it cancelled, or failed, when it was told to end because the execution's time was over."""
    was_told = execution.flags & ExecutionFlag.TIME_IS_UP and not execution.flags & ExecutionFlag.CANCEL_REQUESTED
    return AttemptState.TIMED_OUT if was_told and said != AttemptState.SUCCEEDED else said


def _was_recorded(
    state: State, number: int, execution: Execution, token: int, attempt: int, attempt_state: AttemptState
) -> bool:
    """Whether an earlier attempt ended like this under this token."""
    if not execution.flags & ExecutionFlag.HAS_DETAIL:
        return False
    return any(
        past.token == token and past.number == attempt and past.state == attempt_state
        for past in state.detail(number, execution).attempts
    )


def _after_attempt(
    state: State, number: int, execution: Execution, attempt_state: AttemptState, retry_delay_ms: int
) -> None:
    if attempt_state == AttemptState.SUCCEEDED:
        to = ExecutionState.COMPLETED
    elif attempt_state == AttemptState.CANCELLED or execution.flags & ExecutionFlag.CANCEL_REQUESTED:
        to = ExecutionState.CANCELLED
    elif execution.flags & ExecutionFlag.TIME_IS_UP:
        to = ExecutionState.DEAD
    elif retry_delay_ms == GIVE_UP:
        to = ExecutionState.FAILED
    elif retry_delay_ms < 0 or not _may_try_again(state, number, execution, retry_delay_ms):
        to = ExecutionState.DEAD
    elif retry_delay_ms == 0:
        to = ExecutionState.QUEUED
    else:
        to = ExecutionState.SCHEDULED
        execution.next_attempt_ms = state.now_ms + retry_delay_ms
        state.arm(execution.next_attempt_ms, TimerKind.RETRY, number)
    state.move(number, execution, to)


def _may_try_again(state: State, number: int, execution: Execution, retry_delay_ms: int) -> bool:
    """Whether attempts are left, and the next one begins within the retry window; if it does not, the reason says so."""
    job_state = state.job_state(execution.job)
    if job_state is None or job_state.flags & JobFlag.DELETED:
        return False
    if execution.attempt - execution.attempt_base >= job_state.max_attempts:
        return False
    if time_limits.may_begin(state, number, execution, job_state, state.now_ms + retry_delay_ms):
        return True
    detail = state.detail(number, execution)
    detail.reason = f"{time_limits.WINDOW_IS_OVER}: {detail.reason}".removesuffix(": ")
    state.put_detail(number, execution, detail)
    return False


def time_out(state: State, records: bytes) -> None:
    """Ends attempts whose worker is alive but says nothing although their timeout has passed."""
    for number, token, retry_delay_ms in TIMEOUT.iter_unpack(records):
        execution = state.execution(number)
        if execution is None or execution.token != token or execution.state != ExecutionState.RUNNING:
            continue
        state.effects.cancelled.append((execution.session, number, execution.attempt, execution.token))
        state.end_attempt(number, execution, AttemptState.TIMED_OUT)
        detail = log_pb2.OutcomeDetail(
            error="the worker did not report by the end of the timeout",
            error_kind=failures.TIMEOUT,
            fingerprint=dead_letters.TIMEOUT_FINGERPRINT,
        )
        _remember_attempt(state, number, execution, 0, detail)
        _after_attempt(state, number, execution, AttemptState.TIMED_OUT, retry_delay_ms)
        state.put_execution(number, execution)


def lose_attempts(state: State, session: int, count_max: int) -> int:
    """Gives up at most `count_max` attempts of a session whose lease ran out. Answers how many there were.

    Nobody can know how far they came; the job's policy decides whether they run again.
    """
    numbers = running_of(state, session, count_max)
    for number in numbers:
        execution = _running(state, number, session)
        job_state = state.job_state(execution.job)
        again = job_state is not None and job_state.on_lease_loss != LeaseLoss.FAIL
        state.end_attempt(number, execution, AttemptState.LOST)
        detail = log_pb2.OutcomeDetail(
            error="the worker was lost: its lease ran out",
            error_kind=failures.LOST,
            fingerprint=dead_letters.LOST_FINGERPRINT,
        )
        _remember_attempt(state, number, execution, 0, detail)
        _after_attempt(state, number, execution, AttemptState.LOST, 0 if again else GIVE_UP)
        state.put_execution(number, execution)
    return len(numbers)


def requeue_attempts(state: State, session: int) -> None:
    """Takes back what a worker that left in good order had not begun; the attempt's number is given out again."""
    for number in running_of(state, session, 1 << 30):
        execution = _running(state, number, session)
        state.end_attempt(number, execution, AttemptState.NONE)
        _take_back_retry(state, execution)
        execution.attempt -= 1
        time_limits.take_back(state, number, execution)
        if execution.flags & ExecutionFlag.CANCEL_REQUESTED:
            state.move(number, execution, ExecutionState.CANCELLED)
        elif execution.flags & ExecutionFlag.TIME_IS_UP:
            time_limits.give_up(state, number, execution, time_limits.TIME_IS_UP)
        else:
            state.move(number, execution, ExecutionState.QUEUED)
            deadlines.take_back(state, number, execution)
        state.put_execution(number, execution)


def _take_back_retry(state: State, execution: Execution) -> None:
    job_state = state.job_state(execution.job)
    if job_state is not None and execution.attempt > 1:
        job_state.retries -= 1
        state.put_job_state(execution.job, job_state)


def running_of(state: State, session: int, count_max: int) -> list[int]:
    numbers: list[int] = []
    for key, _ in state.tables.running.scan(PAIR.pack(session, 0)):
        owner, number = PAIR.unpack(key)
        if owner != session or len(numbers) >= count_max:
            break
        numbers.append(number)
    return numbers


def _running(state: State, number: int, session: int) -> Execution:
    execution = state.execution(number)
    if execution is None or execution.state != ExecutionState.RUNNING or execution.session != session:
        raise InvariantError(f"execution {number} is listed as running on session {session}, but is not: {execution}")
    return execution


def _remember_attempt(
    state: State, number: int, execution: Execution, start_ms: int, said: log_pb2.OutcomeDetail | None
) -> None:
    """Writes the attempt down, before its execution moves on. `start_ms` is 0 when nobody can know it."""
    detail = state.detail(number, execution)
    attempt = detail.attempts.add(
        number=execution.attempt,
        state=execution.attempt_state,
        worker=state.worker_name(execution.worker),
        token=execution.token,
        assign_time_ms=execution.assign_ms,
        start_time_ms=start_ms,
        end_time_ms=state.now_ms,
    )
    if said is not None:
        attempt.detail.CopyFrom(said)
        attempt.detail.ClearField("position")
        if said.HasField("result"):
            detail.result.CopyFrom(said.result)
            attempt.detail.ClearField("result")
    if execution.attempt_state == AttemptState.SUCCEEDED:
        detail.reason = ""
    elif execution.flags & ExecutionFlag.CANCEL_REQUESTED:
        pass  # the reason is the one of whoever asked
    elif execution.flags & ExecutionFlag.TIME_IS_UP:
        detail.reason = time_limits.TIME_IS_UP
        attempt.detail.error_kind = failures.TIMEOUT
    else:
        detail.reason = "" if said is None else said.error
    if execution.flags & ExecutionFlag.HAS_EXIT_CODE:
        attempt.detail.exit_code = execution.exit_code
    state.put_detail(number, execution, detail)


def _job_state(state: State, execution: Execution) -> JobState:
    job_state = state.job_state(execution.job)
    if job_state is None:
        raise InvariantError(f"job {execution.job} is gone although it has executions")
    return job_state
