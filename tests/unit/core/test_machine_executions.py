"""Commands on executions: fire, assign, complete, retry, cancel, time out, lose, prune."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Value
from support.commands import (
    cancel,
    complete,
    connect,
    create,
    delete,
    drain,
    fire,
    outcome,
    pause,
    plan,
    prune,
    run,
    update,
)
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.raft import commands as records
from horologe.raft.commands import GIVE_UP, NO_RETRY, CompletionStatus, MissedFate, Outcome
from horologe.raft.model import AttemptState, Code, LeaseLoss, Overlap, Result

MINUTE = 60_000
DUE = START_MS + MINUTE
RECORDED = Result(Code.OK, (CompletionStatus.RECORDED,))
LEASE_LOST = Result(Code.OK, (CompletionStatus.LEASE_LOST,))


def running(machine: Driver, **fields: object) -> int:
    """Execution 1 of job 1 runs as attempt 1 on session 1 of w1. Answers its token."""
    machine.do(connect())
    machine.do(create("tick", DUE, **fields))
    machine.do(plan(fires=[fire(1, machine.index, DUE, DUE + MINUTE, session=1)]), after_ms=MINUTE)
    assert machine.state() == "RUNNING"
    return machine.index


# Fire


def test_a_due_time_without_a_worker_is_queued(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    assert machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE)]), after_ms=MINUTE) == Result(Code.OK)
    assert machine.state() == "QUEUED"
    assert machine.ledger() == [(MINUTE, MINUTE, 1, "RAN", "", 1)]
    assert machine.job_state().next_due_ms == DUE + MINUTE
    assert (machine.effects.queued, machine.effects.changed) == ([1], [1])


def test_a_due_time_with_a_worker_runs_at_once(machine: Driver) -> None:
    token = running(machine)
    execution = machine.execution()
    assert (execution.session, execution.attempt, execution.token, execution.assign_ms) == (1, 1, token, DUE)
    assert machine.effects.assigned == [(1, 1, 1, 1, DUE, token, 0)]


@pytest.mark.parametrize("session", [9, 2], ids=["unknown", "draining"])
def test_a_due_time_whose_session_is_gone_is_queued(machine: Driver, session: int) -> None:
    machine.do(create("tick", DUE))
    machine.apply(connect("w1"), connect("w2"), drain("w2"))
    machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE, session=session)]), after_ms=MINUTE)
    assert machine.state() == "QUEUED"


def test_a_due_time_fires_once(machine: Driver) -> None:
    machine.do(create("tick", DUE, overlap=Overlap.ALLOW))
    record = fire(1, 1, DUE, DUE + MINUTE)
    machine.do(plan(fires=[record, record]), after_ms=MINUTE)
    machine.do(plan(fires=[record]))
    assert machine.counters.fired == 1


def test_a_plan_does_nothing_for_a_job_that_changed_or_never_was(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE, priority=1))
    machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE), fire(7, 1, DUE, DUE + MINUTE)]), after_ms=MINUTE)
    machine.do(delete("tick"))
    machine.do(plan(fires=[fire(1, 2, DUE, DUE + MINUTE)]))
    assert machine.counters.fired == 0


def test_the_last_due_time_leaves_no_timer(machine: Driver) -> None:
    machine.do(create("once", DUE, once_ms=DUE))
    machine.do(plan(fires=[fire(1, 1, DUE, 0)]), after_ms=MINUTE)
    assert machine.job_state().next_due_ms == 0
    assert machine.counters.fired == 1


def test_overlap_skip_accounts_for_the_due_time(machine: Driver) -> None:
    running(machine)
    machine.do(plan(fires=[fire(1, 2, DUE + MINUTE, DUE + 2 * MINUTE, session=1)]), after_ms=MINUTE)
    assert machine.ledger()[1] == (2 * MINUTE, 2 * MINUTE, 1, "SKIPPED", "overlap", 0)
    assert machine.counters.fired == 1


def test_overlap_allow_runs_beside(machine: Driver) -> None:
    running(machine, overlap=Overlap.ALLOW)
    machine.do(plan(fires=[fire(1, 2, DUE + MINUTE, DUE + 2 * MINUTE, session=1)]), after_ms=MINUTE)
    assert (machine.state(1), machine.state(2)) == ("RUNNING", "RUNNING")
    assert machine.job_state().unfinished == 2


@pytest.mark.parametrize(
    ("fate", "outcome_name", "reason", "into"),
    [
        (MissedFate.COALESCED, "COALESCED", "catchup_latest", 1),
        (MissedFate.MISSED_CATCHUP_SKIP, "MISSED", "catchup_skip", 0),
        (MissedFate.MISSED_CATCHUP_WINDOW, "MISSED", "catchup_window", 0),
    ],
)
def test_missed_due_times_share_a_row(
    machine: Driver, fate: MissedFate, outcome_name: str, reason: str, into: int
) -> None:
    machine.do(create("tick", DUE))
    missed = (DUE, DUE + 2 * MINUTE, 3, fate)
    machine.do(
        plan(fires=[fire(1, 1, DUE + 3 * MINUTE, DUE + 4 * MINUTE, missed=missed, run=bool(into))]),
        after_ms=4 * MINUTE,
    )
    rows = [(MINUTE, 3 * MINUTE, 3, outcome_name, reason, into)]
    if into:
        rows.append((4 * MINUTE, 4 * MINUTE, 1, "RAN", "", 1))
    assert machine.ledger() == rows
    assert machine.counters.not_run == 3
    assert machine.job_state().next_due_ms == DUE + 4 * MINUTE


# Assign


def test_assign(machine: Driver) -> None:
    machine.apply(create("tick", DUE), connect(), run("tick"))
    machine.do(plan(assigns=[(1, 1)]))
    assert machine.state() == "RUNNING"
    assert machine.effects.assigned == [(1, 1, 1, 1, START_MS, 2, 0)]
    assert machine.effects.unqueued == [1]


def test_assign_does_nothing_for_what_is_not_queued_or_has_nobody(machine: Driver) -> None:
    token = running(machine, overlap=Overlap.ALLOW)
    machine.do(run("tick"))
    machine.do(plan(assigns=[(1, 1), (2, 9), (9, 1), (2, 0)]))
    assert (machine.execution(1).token, machine.state(2)) == (token, "QUEUED")


# Complete


def test_a_success(machine: Driver) -> None:
    token = running(machine)
    assert machine.do(complete(outcome(1, token, exit_code=0)), after_ms=100) == RECORDED
    execution = machine.execution()
    assert (machine.state(), execution.attempt_state) == ("COMPLETED", AttemptState.SUCCEEDED)
    assert (execution.start_ms, execution.end_ms, execution.exit_code) == (DUE + 5, DUE + 100, 0)
    assert machine.effects.freed == [(1, 1)]
    assert machine.job_state().unfinished == 0


def test_a_result_is_kept(machine: Driver) -> None:
    token = running(machine)
    detail = log_pb2.OutcomeDetail(position=0, result=Value(number_value=42), output_nodes=["n2", "n3"], output_bytes=7)
    machine.do(complete(outcome(1, token), details=[detail]))
    record = machine.detail()
    assert record.result.number_value == 42
    assert (record.attempts[0].detail.output_nodes, record.attempts[0].worker) == (["n2", "n3"], "w1")


def test_the_same_outcome_again_is_recorded(machine: Driver) -> None:
    token = running(machine)
    for _ in range(3):
        assert machine.do(complete(outcome(1, token))) == RECORDED
    assert (machine.counters.completed, machine.counters.refused_tokens) == (1, 0)


def test_the_outcome_of_an_earlier_attempt_again_is_recorded(machine: Driver) -> None:
    token = running(machine)
    failed = complete(outcome(1, token, outcome=Outcome.FAILED, retry_delay_ms=1_000))
    assert machine.do(failed) == RECORDED
    assert machine.do(failed) == RECORDED
    machine.do(plan(retries=[(1, machine.now_ms + 1_000, 1)]), after_ms=1_000)
    assert (machine.state(), machine.execution().attempt) == ("RUNNING", 2)
    assert machine.do(failed) == RECORDED
    assert machine.state() == "RUNNING"


@pytest.mark.parametrize(("number", "token", "attempt"), [(1, 99, 1), (1, None, 2), (7, None, 1)])
def test_a_wrong_token_is_refused_and_counted(machine: Driver, number: int, token: int | None, attempt: int) -> None:
    current = running(machine)
    assert machine.do(complete(outcome(number, token or current, attempt))) == LEASE_LOST
    assert (machine.state(), machine.counters.refused_tokens) == ("RUNNING", 1)


def test_outcomes_are_answered_in_their_order(machine: Driver) -> None:
    token = running(machine)
    answer = machine.do(complete(outcome(5, 5), outcome(1, token), outcome(1, token), outcome(6, 6)))
    lost, recorded = CompletionStatus.LEASE_LOST, CompletionStatus.RECORDED
    assert answer == Result(Code.OK, (lost, recorded, recorded, lost))


@pytest.mark.parametrize(
    ("said", "delay_ms", "attempts", "state"),
    [
        (Outcome.FAILED, 1_000, 3, "SCHEDULED"),
        (Outcome.FAILED, 0, 3, "QUEUED"),
        (Outcome.FAILED, 1_000, 1, "DEAD"),
        (Outcome.FAILED, NO_RETRY, 3, "DEAD"),
        (Outcome.FAILED, GIVE_UP, 3, "FAILED"),
        (Outcome.TIMED_OUT, 1_000, 3, "SCHEDULED"),
        (Outcome.TIMED_OUT, NO_RETRY, 1, "DEAD"),
        (Outcome.CANCELLED, 1_000, 3, "CANCELLED"),
        (Outcome.SUCCEEDED, 1_000, 3, "COMPLETED"),
    ],
)
def test_what_an_outcome_leads_to(machine: Driver, said: Outcome, delay_ms: int, attempts: int, state: str) -> None:
    token = running(machine, max_attempts=attempts)
    machine.do(complete(outcome(1, token, outcome=said, retry_delay_ms=delay_ms)))
    assert machine.state() == state
    assert machine.job_state().unfinished == (state in ("SCHEDULED", "QUEUED"))


@pytest.mark.parametrize("said", [0, 9, 255])
def test_an_outcome_that_nobody_knows_is_a_failure(machine: Driver, said: int) -> None:
    token = running(machine)
    record = records.OUTCOME.pack(1, token, 1, said, 0, 0, 0, 0, NO_RETRY)
    assert machine.do(complete(record, record)) == Result(Code.OK, (CompletionStatus.RECORDED,) * 2)
    assert (machine.state(), machine.detail().attempts[0].state) == ("DEAD", AttemptState.FAILED)


def test_the_reason_is_that_of_the_end(machine: Driver) -> None:
    token = running(machine, max_attempts=2)
    first = log_pb2.OutcomeDetail(error="disk full")
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED, exit_code=3), details=[first]))
    assert machine.detail().reason == "disk full"
    machine.do(plan(assigns=[(1, 1)]))
    second = log_pb2.OutcomeDetail(error="no route to host")
    machine.do(complete(outcome(1, machine.index, 2, Outcome.FAILED), details=[second]))
    record = machine.detail()
    assert (machine.state(), record.reason) == ("DEAD", "no route to host")
    assert [attempt.detail.error for attempt in record.attempts] == ["disk full", "no route to host"]
    assert record.attempts[0].detail.exit_code == 3
    assert not record.attempts[1].detail.HasField("exit_code")


def test_an_execution_that_ended_well_has_no_reason(machine: Driver) -> None:
    token = running(machine)
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED), details=[log_pb2.OutcomeDetail(error="disk full")]))
    machine.do(plan(assigns=[(1, 1)]))
    machine.do(complete(outcome(1, machine.index, 2)))
    assert (machine.state(), machine.detail().reason) == ("COMPLETED", "")


def test_a_failure_of_a_deleted_job_is_not_retried(machine: Driver) -> None:
    token = running(machine)
    machine.do(delete("tick"))
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED, retry_delay_ms=1_000)))
    assert machine.state() == "DEAD"


# Retry


def scheduled(machine: Driver) -> int:
    """Execution 1 waits for its second attempt. Answers when that is."""
    token = running(machine)
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED, retry_delay_ms=5_000)))
    assert (machine.state(), machine.execution().next_attempt_ms) == ("SCHEDULED", machine.now_ms + 5_000)
    return machine.now_ms + 5_000


@pytest.mark.parametrize(("session", "state"), [(1, "RUNNING"), (0, "QUEUED"), (9, "QUEUED")])
def test_a_backoff_ends(machine: Driver, session: int, state: str) -> None:
    at_ms = scheduled(machine)
    machine.do(plan(retries=[(1, at_ms, session), (1, at_ms, session)]), after_ms=5_000)
    assert (machine.state(), machine.execution().next_attempt_ms) == (state, 0)


def test_a_retry_that_does_not_fit_does_nothing(machine: Driver) -> None:
    at_ms = scheduled(machine)
    machine.do(plan(retries=[(1, at_ms + 1, 1), (2, at_ms, 1)]), after_ms=5_000)
    assert machine.state() == "SCHEDULED"


# Cancel


def test_cancel_refuses_what_is_not_there_or_over(machine: Driver) -> None:
    assert machine.do(cancel(1)) == Result(Code.EXECUTION_NOT_FOUND, text="1")
    assert machine.do(cancel(-1)) == Result(Code.EXECUTION_NOT_FOUND, text="-1")
    token = running(machine)
    machine.do(complete(outcome(1, token)))
    assert machine.do(cancel(1)) == Result(Code.EXECUTION_FINISHED, (1,), "COMPLETED")


def test_cancel_while_queued(machine: Driver) -> None:
    machine.apply(create("tick", DUE), run("tick"))
    assert machine.do(cancel(1, "by mistake")) == Result(Code.OK, (1,))
    assert (machine.state(), machine.detail().reason) == ("CANCELLED", "by mistake")
    machine.do(connect())
    machine.do(plan(assigns=[(1, 1)]))
    assert machine.state() == "CANCELLED"


def test_cancel_while_waiting_for_a_retry(machine: Driver) -> None:
    at_ms = scheduled(machine)
    machine.do(cancel(1))
    machine.do(plan(retries=[(1, at_ms, 1)]), after_ms=5_000)
    assert machine.state() == "CANCELLED"


@pytest.mark.parametrize(
    ("said", "state"),
    [(Outcome.CANCELLED, "CANCELLED"), (Outcome.FAILED, "CANCELLED"), (Outcome.SUCCEEDED, "COMPLETED")],
)
def test_a_completion_after_a_cancel_counts(machine: Driver, said: Outcome, state: str) -> None:
    token = running(machine)
    assert machine.do(cancel(1, "enough")) == Result(Code.OK, (1,))
    assert machine.effects.cancelled == [(1, 1, 1, token)]
    assert machine.state() == "RUNNING"
    assert machine.do(complete(outcome(1, token, outcome=said, retry_delay_ms=1_000))) == RECORDED
    assert machine.state() == state
    assert machine.do(cancel(1)) == Result(Code.EXECUTION_FINISHED, (1,), state)


def test_cancel_before_the_fire_and_after_it(machine: Driver) -> None:
    """Scenario 31: the log's order decides."""
    machine.do(create("tick", DUE))
    machine.do(connect())
    machine.do(pause("tick"), after_ms=MINUTE)
    machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE, session=1)]))
    assert machine.counters.fired == 0


def test_a_cancelled_attempt_that_is_lost_is_not_retried(machine: Driver) -> None:
    running(machine)
    machine.do(cancel(1))
    machine.do(plan(expired=[1]))
    assert machine.state() == "CANCELLED"


# Time out


def test_the_cluster_ends_an_attempt_that_stays_silent(machine: Driver) -> None:
    token = running(machine)
    machine.do(plan(timeouts=[(1, token + 1), (9, token), (1, token)]), after_ms=MINUTE)
    assert machine.state() == "SCHEDULED"
    assert machine.effects.cancelled == [(1, 1, 1, token)]
    assert machine.detail().attempts[0].state == AttemptState.TIMED_OUT


@pytest.mark.parametrize(
    ("said", "answer", "refused"), [(Outcome.SUCCEEDED, LEASE_LOST, 1), (Outcome.TIMED_OUT, RECORDED, 0)]
)
def test_a_report_after_the_cluster_timed_it_out(machine: Driver, said: Outcome, answer: Result, refused: int) -> None:
    """RECORDED is said only of what was recorded."""
    token = running(machine)
    machine.do(plan(timeouts=[(1, token)]), after_ms=MINUTE)
    assert machine.do(complete(outcome(1, token, outcome=said))) == answer
    at_ms = machine.execution().next_attempt_ms
    machine.do(plan(retries=[(1, at_ms, 1)]), after_ms=1)
    assert machine.do(complete(outcome(1, token, outcome=said))) == answer
    assert (machine.state(), machine.counters.refused_tokens) == ("RUNNING", 2 * refused)


# Lease loss


@pytest.mark.parametrize(
    ("policy", "attempts", "state"),
    [(LeaseLoss.RETRY, 3, "QUEUED"), (LeaseLoss.RETRY, 1, "DEAD"), (LeaseLoss.FAIL, 3, "FAILED")],
)
def test_the_policy_decides_over_lost_attempts(machine: Driver, policy: LeaseLoss, attempts: int, state: str) -> None:
    token = running(machine, on_lease_loss=policy, max_attempts=attempts)
    machine.do(plan(expired=[1]))
    assert machine.state() == state
    assert machine.detail().attempts[0].state == AttemptState.LOST
    assert machine.effects.freed == [(1, 1)]
    assert machine.do(complete(outcome(1, token))) == LEASE_LOST
    assert machine.counters.refused_tokens == 1


def test_a_late_result_of_a_lost_attempt_is_refused_while_the_next_one_runs(machine: Driver) -> None:
    token = running(machine)
    machine.do(connect("w2"))
    machine.do(plan(expired=[1], assigns=[(1, 2)]))
    assert (machine.execution().attempt, machine.execution().session) == (2, 2)
    assert machine.do(complete(outcome(1, token))) == LEASE_LOST
    assert machine.do(complete(outcome(1, machine.execution().token, 2))) == RECORDED


def test_when_a_lost_attempt_started_is_unknown(machine: Driver) -> None:
    token = running(machine)
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED)), after_ms=100)
    machine.do(plan(assigns=[(1, 1)]), after_ms=1_000)
    machine.do(plan(expired=[1]), after_ms=1_000)
    assert [attempt.start_time_ms for attempt in machine.detail().attempts] == [DUE + 5, 0]


# Prune


def test_prune_drops_what_ended_long_ago(machine: Driver) -> None:
    token = running(machine, overlap=Overlap.ALLOW)
    machine.do(complete(outcome(1, token, outcome=Outcome.FAILED, retry_delay_ms=GIVE_UP)))
    machine.do(run("tick"))
    machine.do(run("tick"))
    machine.do(cancel(3))
    assert machine.do(prune(machine.now_ms, [1, 2, 3])) == Result(Code.OK, (0, 0, 0, 0, 0))
    assert machine.do(prune(machine.now_ms + 1, [1])) == Result(Code.OK, (1, 0, 0, 0, 0))
    # The second has not ended; the first is gone already.
    assert machine.do(prune(machine.now_ms + 1, [1, 2, 3, 99])) == Result(Code.OK, (1, 0, 0, 0, 0))
    assert [row[-1] for row in machine.ledger()] == [2]
    assert machine.do(complete(outcome(1, token))) == LEASE_LOST


def test_prune_drops_ledger_rows_of_due_times_that_did_not_run(machine: Driver) -> None:
    running(machine, overlap=Overlap.SKIP)
    machine.do(plan(fires=[fire(1, machine.job_state().revision, DUE + MINUTE, DUE + 2 * MINUTE)]), after_ms=MINUTE)
    ran, skipped = (1, DUE, 0), (1, DUE + MINUTE, 0)
    assert [row[3] for row in machine.ledger()] == ["RAN", "SKIPPED"]
    assert machine.do(prune(DUE + MINUTE, ledger_rows=[ran, skipped])).numbers[:2] == (0, 0)
    assert machine.do(prune(DUE + MINUTE + 1, ledger_rows=[ran, skipped, (7, 7, 7)])).numbers[:2] == (0, 1)
    assert [row[3] for row in machine.ledger()] == ["RAN"]
