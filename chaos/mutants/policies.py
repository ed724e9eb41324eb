"""Mutants of the policies: overlap, limits, deadlines, pauses, backfills, and the order of a workflow."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.checker_bounds import Bound, check_bounds
from horologe.chaos.evidence import Kind
from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.chaos.sim.world import WorldOptions
from horologe.client import jobs
from horologe.node import operations_planner
from horologe.raft import backfills, deadlines, executions, overlap, starting, workflows
from horologe.raft.dependencies import downstream_of
from horologe.raft.overlap import Admission
from horologe.raft.pauses import Pauses
from horologe.raft.tallies import Fate, Tally

ONE_WORKER = WorldOptions(workers=1)
RAN_BESIDE = "C10 RAN_BESIDE"
LIMIT_EXCEEDED = "C10 LIMIT_EXCEEDED"
RUN_OUT_OF_ORDER = "C11 RUN_OUT_OF_ORDER"
RAN_WHILE_PAUSED = "C5 RAN_WHILE_PAUSED"
STARTED_TOO_LATE = "nothing starts after its deadline"
OUT_OF_LINE = "who waits in line keeps its place"
FILLED_TWICE = "a backfill runs only what is missing"
PERIOD = timedelta(seconds=1)


# --- worlds -----------------------------------------------------------------------------------------------------------


def a_job_takes_longer_than_its_period(ground: Ground) -> None:
    """Due times come while the execution before still runs."""
    ground.begin()
    ground.job("slow-1", jobs.every(PERIOD), 1.5)
    ground.run(8.0)
    _judge(ground, Bound("overlap=skip", frozenset({1}), 1, Rule.RAN_BESIDE))


def two_jobs_share_a_limit(ground: Ground) -> None:
    """Two jobs that are due every second, and a limit of one for both."""
    ground.begin()
    ground.ask(lambda sdk: sdk.set_limit("one", 1))
    for number in (1, 2):
        ground.job(f"limited-{number}", jobs.every(PERIOD), 0.8, overlap="allow", limits=["one"])
    ground.run(8.0)
    _judge(ground, Bound("the limit", frozenset({1, 2}), 1, Rule.LIMIT_EXCEEDED))


def a_workflow_of_two(ground: Ground) -> None:
    """One job after another one that takes its time."""
    ground.begin()
    made = [
        jobs.job("flow", jobs.manual(), jobs.workflow()),
        jobs.job("first-1", jobs.manual(), jobs.python(HANDLER, payload(2.0)), workflow="flow"),
        jobs.job("second-2", jobs.after("first-1"), jobs.python(HANDLER, payload(0.1)), workflow="flow"),
    ]
    ground.ask(lambda sdk: sdk.apply_jobs(made))
    ground.run_job("flow")
    ground.run(5.0)
    order = [(mark.job, Kind(mark.kind)) for mark in ground.marks]
    if order != [(1, Kind.STARTED), (1, Kind.ENDED), (2, Kind.STARTED), (2, Kind.ENDED)]:
        raise InvariantBrokenError(RUN_OUT_OF_ORDER, f"{order}")


def a_job_waits_longer_than_its_deadline(ground: Ground) -> None:
    """Only one may run at a time, and each takes longer than the others may wait."""
    ground.begin()
    ground.job("late-1", jobs.every(PERIOD), 3.0, overlap="allow", max_running=1, deadline="1500ms")
    ground.run(10.0)
    for mark in ground.marks:
        if mark.kind == Kind.STARTED and mark.delay_ms > 2_000.0:
            raise InvariantBrokenError(STARTED_TOO_LATE, f"{mark} started {mark.delay_ms:.0f} ms after its due time")


def executions_wait_in_line(ground: Ground) -> None:
    """Three executions are asked for while one runs, and wait for it."""
    ground.begin()
    ground.job("queued-1", jobs.manual(), 1.0, overlap="queue_all")
    for _ in range(4):
        ground.ask(lambda sdk: sdk.run_job("queued-1"))
    ground.run(8.0)
    order = [mark.execution for mark in ground.marks if mark.kind == Kind.STARTED]
    if order != sorted(order):
        raise InvariantBrokenError(OUT_OF_LINE, f"the executions started in the order {order}")


def the_cluster_is_paused(ground: Ground) -> None:
    """Due times come while nobody may fire them."""
    ground.begin()
    ground.job("paused-1", jobs.every(PERIOD), 0.1)
    ground.run(3.0)
    ground.ask(lambda sdk: sdk.pause_scope())
    ground.run(1.0)
    before = len(ground.marks)
    ground.run(4.0)
    if len(ground.marks) > before:
        raise InvariantBrokenError(RAN_WHILE_PAUSED, f"{ground.marks[before]}, and the cluster is paused")


def a_backfill_over_what_has_run(ground: Ground) -> None:
    """A backfill asks for what is missing, and nothing is."""
    ground.begin()
    ground.job("filled-1", jobs.every(PERIOD), 0.1)
    ground.run(4.0)
    ended = [mark.due_ms for mark in ground.marks if mark.kind == Kind.ENDED]
    first, last = (datetime.fromtimestamp(due_ms / 1000, UTC) for due_ms in (ended[0], ended[-1]))
    ground.ask(lambda sdk: sdk.backfill_job("filled-1", first, last, only="missing"))
    ground.run(3.0)
    starts = [mark.due_ms for mark in ground.marks if mark.kind == Kind.STARTED]
    twice = sorted({due_ms for due_ms in starts if starts.count(due_ms) > 1})
    if twice:
        raise InvariantBrokenError(FILLED_TWICE, f"due times {twice} had run, and ran again")


def _judge(ground: Ground, bound: Bound) -> None:
    verdict = Verdict()
    check_bounds(verdict, ground.marks, [bound])
    if verdict.violations:
        raise InvariantBrokenError(f"{bound.rule.criterion} {bound.rule.name}", verdict.summary())


# --- mutants ----------------------------------------------------------------------------------------------------------


def admit_everything(ground: Ground) -> AbstractContextManager[object]:
    """A due time makes an execution that may run, whatever else of its job runs."""
    del ground
    return patch.object(executions, "admit", lambda *arguments: Admission.RUN)


def find_room_everywhere(ground: Ground) -> AbstractContextManager[object]:
    """An attempt starts, however many of its limits run."""
    del ground
    return patch.object(starting, "_without_room", lambda *arguments: 0)


def ask_no_upstream(ground: Ground) -> AbstractContextManager[object]:
    """A node of a run starts as soon as one that it is after has started or ended; here, with its workflow."""
    del ground
    stack = ExitStack()
    stack.enter_context(patch.object(Tally, "fate", lambda tally: Fate.START))
    decide_all_after = workflows.Run.decide_all_after

    def decide_everything_after(run: workflows.Run, job: int, ended: int) -> None:
        decide_all_after(run, job, ended)
        for below in list(downstream_of(run.state.tables, job)):
            decide_all_after(run, below, ended)

    stack.enter_context(patch.object(workflows.Run, "decide_all_after", decide_everything_after))
    return stack


def let_deadlines_pass(ground: Ground) -> AbstractContextManager[object]:
    """Whatever has not started in time starts later."""
    del ground
    return patch.object(deadlines, "pass_deadlines", lambda *arguments: None)


def release_the_last(ground: Ground) -> AbstractContextManager[object]:
    """Of those that are held, the one that came last goes on first."""
    del ground
    held_of = overlap.held_of
    return patch.object(overlap, "held_of", lambda state, job, count_max: held_of(state, job, 1 << 30)[::-1])


def see_no_pause(ground: Ground) -> AbstractContextManager[object]:
    """Neither the planner nor the state asks whether a namespace or the cluster is paused."""
    del ground
    return patch.object(Pauses, "in_force", lambda pauses, namespace: None)


def want_everything(ground: Ground) -> AbstractContextManager[object]:
    """Neither the planner nor the state asks the ledger."""
    del ground
    stack = ExitStack()
    for module in (backfills, operations_planner):
        stack.enter_context(patch.object(module, "is_wanted", lambda *arguments: True))
    return stack


SLOW = Course("a job takes longer than its period", a_job_takes_longer_than_its_period, ONE_WORKER)
SHARED = Course("two jobs share a limit", two_jobs_share_a_limit, ONE_WORKER)
CHAIN = Course("a workflow of two", a_workflow_of_two, ONE_WORKER)
IN_LINE = Course("executions wait in line", executions_wait_in_line, ONE_WORKER)
WAITING = Course("a job waits longer than its deadline", a_job_waits_longer_than_its_deadline, ONE_WORKER)
PAUSED = Course("the cluster is paused", the_cluster_is_paused, ONE_WORKER)
FILLED = Course("a backfill over what has run", a_backfill_over_what_has_run, ONE_WORKER)
MUTANTS = (
    Mutant(
        "overlap_decided",
        "A due time makes an execution that may run, whatever else of its job runs",
        SLOW,
        (RAN_BESIDE,),
        patch=admit_everything,
    ),
    Mutant(
        "limits_asked",
        "An attempt starts, however many of its limits run already",
        SHARED,
        (LIMIT_EXCEEDED,),
        patch=find_room_everywhere,
    ),
    Mutant(
        "conditions_asked",
        "A node of a workflow starts with its run, whatever it is after",
        CHAIN,
        (RUN_OUT_OF_ORDER,),
        patch=ask_no_upstream,
    ),
    Mutant(
        "held_in_order",
        "Of the executions that wait for others of their job, the last goes on first",
        IN_LINE,
        (OUT_OF_LINE,),
        patch=release_the_last,
    ),
    Mutant(
        "deadlines_kept",
        "What has not started by its deadline starts later",
        WAITING,
        (STARTED_TOO_LATE,),
        patch=let_deadlines_pass,
    ),
    Mutant(
        "pauses_asked",
        "A due time fires although its namespace or the cluster is paused",
        PAUSED,
        (RAN_WHILE_PAUSED,),
        patch=see_no_pause,
    ),
    Mutant(
        "backfills_ask_the_ledger",
        "A backfill runs every due time of its range, whatever has run",
        FILLED,
        (FILLED_TWICE,),
        patch=want_everything,
    ),
)
