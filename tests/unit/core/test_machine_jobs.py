"""Commands on jobs: entries in, results and state out."""

from __future__ import annotations

import pytest
from support.commands import (
    APPLY,
    CREATE,
    apply,
    connect,
    create,
    delete,
    draft,
    fire,
    job,
    pause,
    plan,
    put,
    resume,
    run,
    set_quotas,
    update,
)
from support.driver import START_MS, Driver
from support.tables import dict_tables

from horologe.log.v1 import log_pb2
from horologe.raft.commands import MissedFate
from horologe.raft.model import Code, Counters, Overlap, Result
from horologe.v1 import job_service_pb2

Applied = job_service_pb2.ApplyJobsResponse
CREATED, UPDATED, UNCHANGED = Applied.OUTCOME_CREATED, Applied.OUTCOME_UPDATED, Applied.OUTCOME_UNCHANGED
MINUTE = 60_000
DUE = START_MS + MINUTE


# Put


def test_a_quota_counts_what_the_same_entry_has_made_and_deleted(machine: Driver) -> None:
    commands = [
        set_quotas("default", 2, (0, 0, 0)),
        put(CREATE, draft(job("a")), draft(job("b"))),
        create("c"),
        delete("a"),
        create("c"),
        create("a"),
    ]
    codes = [result.code for result in machine.apply(*commands)]
    assert codes == [Code.OK, Code.OK, Code.QUOTA_EXCEEDED, Code.OK, Code.OK, Code.QUOTA_EXCEEDED]
    raw = machine.tables.namespace.get(b"default")
    assert raw is not None
    assert log_pb2.NamespaceRecord.FromString(raw) == log_pb2.NamespaceRecord(id=1, job_count_max=2, job_count=2)


def test_create(machine: Driver) -> None:
    assert machine.do(create("tick", DUE, description="ticks")) == Result(Code.OK, (1, CREATED))
    record = machine.job()
    assert (record.id, record.revision, record.create_time_ms, record.job.uid) == (1, 1, START_MS, "uid-tick")
    assert record.job.description == "ticks"
    state = machine.job_state()
    assert (state.revision, state.next_due_ms, state.every_ms, state.unfinished) == (1, DUE, MINUTE, 0)
    assert machine.effects.jobs_changed == [1]


def test_a_job_that_is_run_by_hand_has_no_timer(machine: Driver) -> None:
    machine.do(create("by-hand", every_ms=0))
    assert machine.job_state().next_due_ms == 0
    assert list(machine.tables.timer.scan()) == []


def test_a_job_may_begin_paused(machine: Driver) -> None:
    command = create("tick", DUE)
    command.put_jobs.jobs[0].paused, command.put_jobs.jobs[0].pause_reason = True, "not yet"
    machine.do(command)
    record = machine.job()
    assert (record.paused, record.pause_reason, record.pause_time_ms) == (True, "not yet", DUE)
    assert machine.job_state().next_due_ms == 0
    machine.now_ms = DUE + 1
    assert machine.do(resume("tick", DUE + MINUTE, skipped_count=1, skipped_last_ms=DUE)).code is Code.OK
    assert machine.job_state().next_due_ms == DUE + MINUTE
    machine.do(update("tick", DUE + MINUTE, description="changed"))
    assert not machine.job().paused


def test_create_refuses_a_name_that_is_taken(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    assert machine.do(create("tick", DUE)) == Result(Code.JOB_EXISTS, text="tick")
    assert machine.counters.jobs == 1


def test_update_refuses_a_name_that_is_free(machine: Driver) -> None:
    assert machine.do(update("tick")) == Result(Code.JOB_NOT_FOUND, text="tick")


def test_apply_creates_updates_or_leaves(machine: Driver) -> None:
    assert machine.do(apply("tick", DUE)) == Result(Code.OK, (1, CREATED))
    assert machine.do(apply("tick", DUE)) == Result(Code.OK, (1, UNCHANGED))
    assert machine.job().revision == 1
    assert machine.do(apply("tick", DUE, description="new")) == Result(Code.OK, (1, UPDATED))
    assert machine.job().revision == 3
    assert machine.job().job.uid == "uid-tick"


def test_a_batch_is_all_or_none(machine: Driver) -> None:
    machine.do(create("two", DUE))
    batch = put(CREATE, draft(job("one"), DUE), draft(job("two"), DUE), draft(job("three"), DUE))
    assert machine.do(batch) == Result(Code.JOB_EXISTS, text="two")
    assert machine.counters.jobs == 1
    batch = put(APPLY, draft(job("one"), DUE), draft(job("two"), DUE), draft(job("three"), DUE))
    assert machine.do(batch) == Result(Code.OK, (2, CREATED, 1, UNCHANGED, 3, CREATED))


@pytest.mark.parametrize("mode", [CREATE, APPLY])
def test_a_batch_names_each_job_once(machine: Driver, mode: log_pb2.PutJobs.Mode.ValueType) -> None:
    batch = put(mode, draft(job("one"), DUE), draft(job("one"), DUE + 1))
    assert machine.do(batch) == Result(Code.JOB_EXISTS, text="one")
    assert machine.counters.jobs == 0


def test_a_stale_revision_is_refused(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE, description="mine", expected_revision=1))
    assert machine.do(update("tick", DUE, description="yours", expected_revision=1)) == Result(
        Code.ETAG_MISMATCH, text="tick"
    )
    assert machine.do(delete("tick", expected_revision=1)) == Result(Code.ETAG_MISMATCH, text="tick")
    assert machine.do(pause("tick", expected_revision=1)) == Result(Code.ETAG_MISMATCH, text="tick")
    assert machine.do(apply("other", DUE, expected_revision=1)) == Result(Code.ETAG_MISMATCH, text="other")
    assert machine.job().job.description == "mine"


def test_an_update_of_other_fields_keeps_the_due_time(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE + 7, timeout_ms=1_000, priority=9))
    state = machine.job_state()
    assert (state.next_due_ms, state.timeout_ms, state.priority) == (DUE, 1_000, 9)


def test_an_update_of_the_schedule_moves_the_due_time(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE + MINUTE, every_ms=2 * MINUTE))
    assert machine.job_state().next_due_ms == DUE + MINUTE
    assert machine.ledger() == []


def test_an_update_accounts_for_a_due_time_that_had_come(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE + 2 * MINUTE, every_ms=3 * MINUTE), after_ms=MINUTE + 5)
    assert machine.ledger() == [(MINUTE, MINUTE, 1, "MISSED", "schedule_changed", 0)]


def test_an_update_keeps_a_due_time_that_had_come_and_that_the_new_schedule_names_too(machine: Driver) -> None:
    """The proposer looked at its clock just before the due time, the entry came just after it."""
    machine.do(create("tick", DUE))
    machine.do(update("tick", DUE, every_ms=MINUTE // 2), after_ms=MINUTE + 5)
    assert machine.ledger() == []
    machine.do(plan(fires=[fire(1, 2, DUE, DUE + MINUTE // 2)]))
    assert machine.ledger() == [(MINUTE, MINUTE, 1, "RAN", "", 1)]


def test_a_due_time_that_ran_does_not_run_again_under_a_new_schedule(machine: Driver) -> None:
    """The proposer's clock was behind the leader's: the due time it computed had been fired already."""
    machine.do(create("tick", DUE, overlap=Overlap.ALLOW))
    machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE)]), after_ms=MINUTE)
    machine.do(update("tick", DUE, every_ms=MINUTE // 2, overlap=Overlap.ALLOW))
    machine.do(plan(fires=[fire(1, 3, DUE, DUE + MINUTE // 2)]))
    assert machine.ledger() == [(MINUTE, MINUTE, 1, "RAN", "", 1)]
    assert machine.job_state().next_due_ms == DUE + MINUTE // 2


# Delete


def test_delete_frees_the_name_and_keeps_the_history(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(run("tick"))
    assert machine.do(delete("tick")) == Result(Code.OK, (1,))
    assert machine.job().deleted
    assert machine.state(1) == "QUEUED"
    assert machine.do(delete("tick")) == Result(Code.JOB_NOT_FOUND, text="tick")
    assert machine.do(create("tick", DUE)) == Result(Code.OK, (2, CREATED))


def test_delete_accounts_for_a_due_time_that_had_come(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(delete("tick"), after_ms=MINUTE)
    assert machine.ledger() == [(MINUTE, MINUTE, 1, "MISSED", "job_deleted", 0)]


def test_delete_cancels_what_is_unfinished_when_asked(machine: Driver) -> None:
    machine.do(create("tick", DUE, overlap=Overlap.ALLOW))
    machine.do(connect())
    machine.apply(run("tick"), run("tick"))
    machine.do(plan(assigns=[(1, 1)]))
    machine.do(delete("tick", cancel_running=True))
    assert (machine.state(1), machine.state(2)) == ("RUNNING", "CANCELLED")
    assert machine.effects.cancelled == [(1, 1, 1, 4)]
    assert machine.detail(2).reason == "job deleted"


def test_delete_cancels_a_caught_up_execution_once(machine: Driver) -> None:
    """Its ledger row and that of the due times coalesced into it both name it."""
    machine.do(create("tick", DUE, overlap=Overlap.ALLOW))
    machine.do(run("tick"))
    missed = (DUE, DUE + MINUTE, 2, MissedFate.COALESCED)
    machine.do(plan(fires=[fire(1, 1, DUE + 2 * MINUTE, DUE + 3 * MINUTE, missed=missed)]), after_ms=3 * MINUTE)
    machine.do(delete("tick", cancel_running=True))
    assert (machine.state(1), machine.state(2)) == ("CANCELLED", "CANCELLED")


# Pause and resume


def test_pause_and_resume_account_for_what_the_pause_swallowed(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    assert machine.do(pause("tick", reason="holiday")) == Result(Code.OK, (1,))
    assert (machine.job().paused, machine.job().pause_reason, machine.job().pause_time_ms) == (True, "holiday", DUE)
    resumed = resume("tick", DUE + 3 * MINUTE, skipped_count=3, skipped_last_ms=DUE + 2 * MINUTE, expected_revision=2)
    assert machine.do(resumed, after_ms=3 * MINUTE + 5) == Result(Code.OK, (1,))
    assert machine.ledger() == [(MINUTE, 3 * MINUTE, 3, "SKIPPED", "paused", 0)]
    assert (machine.job().paused, machine.job().pause_reason, machine.job().pause_time_ms) == (False, "", 0)
    assert machine.job_state().next_due_ms == DUE + 3 * MINUTE


def test_what_a_pause_swallowed_is_over_for_every_clock(machine: Driver) -> None:
    """The node that resumes may be ahead of the leader, whose clock the entry carries."""
    machine.do(create("tick", DUE))
    machine.do(pause("tick"))
    ahead_ms = DUE + 2 * MINUTE
    assert machine.now_ms < ahead_ms
    machine.do(resume("tick", DUE + 3 * MINUTE, skipped_count=3, skipped_last_ms=ahead_ms))
    assert machine.counters.log_time_ms == ahead_ms
    assert machine.job().update_time_ms == ahead_ms


def test_a_pause_that_swallowed_nothing_leaves_no_row(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(pause("tick"))
    machine.do(resume("tick", DUE))
    assert machine.ledger() == []
    assert machine.job_state().next_due_ms == DUE


def test_pause_and_resume_refuse_what_is_so_already(machine: Driver) -> None:
    assert machine.do(pause("tick")) == Result(Code.JOB_NOT_FOUND, text="tick")
    machine.do(create("tick", DUE))
    assert machine.do(resume("tick", DUE)) == Result(Code.JOB_NOT_PAUSED, text="tick")
    machine.do(pause("tick"))
    assert machine.do(pause("tick")) == Result(Code.JOB_PAUSED, text="tick")
    assert machine.do(resume("tick", DUE, expected_revision=2)) == Result(Code.ETAG_MISMATCH, text="tick")


def test_a_plan_from_before_the_pause_does_nothing(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(pause("tick"), after_ms=MINUTE)
    assert machine.do(plan(fires=[fire(1, 1, DUE, DUE + MINUTE)])) == Result(Code.OK)
    assert machine.ledger() == []


def test_an_update_does_not_wake_a_paused_job(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(pause("tick"))
    machine.do(update("tick", DUE, every_ms=2 * MINUTE))
    assert machine.job_state().next_due_ms == 0
    assert machine.job().paused


# Run by hand


def test_run(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    assert machine.do(run("tick", payload="now")) == Result(Code.OK, (1,))
    assert machine.ledger() == [(0, 0, 1, "RAN", "", 1)]
    assert machine.detail().payload.string_value == "now"
    assert machine.effects.queued == [1]


def test_run_obeys_the_overlap_policy_unless_forced(machine: Driver) -> None:
    assert machine.do(run("tick")) == Result(Code.JOB_NOT_FOUND, text="tick")
    machine.do(create("tick", DUE))
    machine.do(run("tick"))
    assert machine.do(run("tick")) == Result(Code.OVERLAP, text="tick")
    assert machine.do(run("tick", force=True)) == Result(Code.OK, (2,))
    assert machine.ledger() == [(0, 0, 1, "RAN", "", 1), (0, 0, 1, "RAN", "", 2)]


def test_a_paused_job_can_be_run_by_hand(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(pause("tick"))
    assert machine.do(run("tick")) == Result(Code.OK, (1,))


def test_what_a_pause_swallowed_of_a_schedule_that_came_during_it_begins_with_the_change(machine: Driver) -> None:
    machine.do(create("tick", every_ms=0))
    machine.do(pause())
    machine.do(update("tick", START_MS + 60_000), after_ms=30_000)
    machine.do(resume(skipped_count=2, skipped_last_ms=START_MS + 120_000), after_ms=100_000)
    assert machine.ledger() == [(60_000, 120_000, 2, "SKIPPED", "paused", 0)]


def test_revision_and_time_can_be_had_alone() -> None:
    tables = dict_tables()
    assert Counters.load_time(tables) == (0, 0)
    tables.meta.put(Counters.KEY, Counters(revision=7, log_time_ms=START_MS, cursor_ms=5).pack())
    assert Counters.load_time(tables) == (7, START_MS)
