"""Whether an execution may start now, and where it waits if not. Everything that starts an attempt goes through here."""

from __future__ import annotations

from horologe.raft import lines, time_limits
from horologe.raft.model import ExecutionState
from horologe.raft.records import Execution, JobState
from horologe.raft.state import State


def start_or_queue(
    state: State, number: int, execution: Execution, job_state: JobState, session: tuple[int, int] | None
) -> None:
    """Gives the execution to a session (session, worker) if nothing speaks against it; else it waits.

    It is DEAD if its time for another attempt is over. The caller stores it.
    """
    if session is not None and not time_limits.may_begin(state, number, execution, job_state, state.now_ms):
        time_limits.give_up(state, number, execution, time_limits.WINDOW_IS_OVER)
        return
    rule = None if session is None else state.rules.of_lane(execution.queue)
    if rule is not None and not rule.starts(state.now_ms):
        session = None
    blocker = 0 if session is None else _without_room(state, execution, job_state)
    if session is not None and not blocker:
        state.start_attempt(number, execution, session[0], session[1], job_state)
        time_limits.begin(state, number, execution, job_state)
        return
    if execution.state != ExecutionState.QUEUED:
        state.move(number, execution, ExecutionState.QUEUED)
    if blocker and blocker != execution.line:
        lines.line_up(state, number, execution, blocker)


def line_up_if_blocked(state: State, number: int, execution: Execution, job_state: JobState) -> None:
    """Takes an execution that has no room out of the way of others, before it is given a session. The caller stores it."""
    blocker = 0 if execution.line else _without_room(state, execution, job_state)
    if blocker:
        lines.line_up(state, number, execution, blocker)


def _without_room(state: State, execution: Execution, job_state: JobState) -> int:
    """The first of its limits that has no room; 0 if there is none."""
    return next(
        (limit for limit in state.permits.limits(execution, job_state) if not state.permits.room(limit)),
        0,
    )
