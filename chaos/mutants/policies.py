"""Mutants of the policies: overlap, limits, and the order of a workflow."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
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
from horologe.raft import executions, starting, workflows
from horologe.raft.dependencies import downstream_of
from horologe.raft.overlap import Admission
from horologe.raft.tallies import Fate, Tally

ONE_WORKER = WorldOptions(workers=1)
RAN_BESIDE = "C10 RAN_BESIDE"
LIMIT_EXCEEDED = "C10 LIMIT_EXCEEDED"
RUN_OUT_OF_ORDER = "C11 RUN_OUT_OF_ORDER"
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


SLOW = Course("a job takes longer than its period", a_job_takes_longer_than_its_period, ONE_WORKER)
SHARED = Course("two jobs share a limit", two_jobs_share_a_limit, ONE_WORKER)
CHAIN = Course("a workflow of two", a_workflow_of_two, ONE_WORKER)
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
)
