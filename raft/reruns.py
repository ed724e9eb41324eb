"""Running parts of a run again: what did not end well, or one node and all that are after it.

The nodes get new executions under the same root; what ended well and is not asked for keeps its execution and its result.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import owners
from horologe.raft.dead_letters import purge_one
from horologe.raft.dependencies import NODES_MAX, downstream_of
from horologe.raft.model import FINAL_STATES, Code, ExecutionState, JobFlag, Result
from horologe.raft.records import PAIR
from horologe.raft.state import State
from horologe.raft.tallies import BAD_STATES, Fate
from horologe.raft.workflows import Run, is_workflow, revive


def rerun(state: State, command: log_pb2.RerunExecution) -> Result:
    """Answers (root, nodes that are decided anew)."""
    number = command.execution
    execution = state.execution(number)
    if execution is None:
        return Result(Code.EXECUTION_NOT_FOUND, text=str(number))
    if not execution.root:
        return Result(Code.NOT_IN_A_RUN, text=str(number))
    root = state.execution(execution.root)
    if root is None:
        return Result(Code.EXECUTION_NOT_FOUND, text=str(execution.root))
    run = Run.open(state, execution.root)
    if run.unfinished or root.state not in FINAL_STATES:
        return Result(Code.RUN_UNFINISHED, text=str(run.root))
    is_one = number != run.root
    chosen = [job for job in (_all_after(state, execution.job) if is_one else _not_well(run)) if _is_there(state, job)]
    if not chosen:
        return Result(Code.NOTHING_TO_RERUN, text=str(run.root))
    refusal = _missing_right(state, execution.job) if is_one else ""
    if refusal:
        return Result(Code.PERMISSION_DENIED, text=refusal)
    for job in chosen:
        # What is run again that way is not driven again as well.
        purge_one(state, (run.node(job) or (0, 0))[0])
        state.tables.run.delete(PAIR.pack(run.root, job))
    run.bad = sum(ended in BAD_STATES for _, _, ended in run.nodes())
    run.is_cancelled = False
    if is_workflow(state, root):
        revive(state, run.root, root)
    if is_one:
        # It was asked for by name, however those before it ended.
        run.decide(execution.job, Fate.START)
    for job in chosen:
        run.decide(job)
    run.finish()
    return Result(Code.OK, (run.root, len(chosen)))


def _missing_right(state: State, job: int) -> str:
    """Why the job that was asked for by name would not run; the others are skipped for that, each by itself."""
    job_state = state.job_state(job)
    return "" if job_state is None else owners.missing_right(state, job, job_state)


def _not_well(run: Run) -> list[int]:
    """The nodes that did not end well, or did not run."""
    return [job for job, _, ended in run.nodes() if ended != ExecutionState.COMPLETED]


def _all_after(state: State, job: int) -> list[int]:
    """The job, and all that are after it, directly or not."""
    line = [job]
    found = {job}
    for one in line:
        for below in downstream_of(state.tables, one):
            if below not in found and len(found) <= NODES_MAX:
                found.add(below)
                line.append(below)
    return line


def _is_there(state: State, job: int) -> bool:
    job_state = state.job_state(job)
    return job_state is not None and not job_state.flags & JobFlag.DELETED
