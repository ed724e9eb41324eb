"""What must hold of dependencies and runs after every entry; see invariants.py."""

from __future__ import annotations

from graphlib import TopologicalSorter

from horologe.log.v1 import log_pb2
from horologe.raft.dependencies import after_of, sibling
from horologe.raft.model import FINAL_STATES, ExecutionFlag, ExecutionState, JobFlag
from horologe.raft.records import PAIR, RUN_HEAD, RUN_NODE, U64, Execution, JobState
from horologe.raft.tables import Tables
from horologe.raft.tallies import BAD_STATES, Tally, count_upstream

Executions = dict[int, Execution]
Edges = dict[int, set[int]]


def check_edges(tables: Tables) -> None:
    """Both tables have the edges that the definitions ask for, and no others; there is no cycle, and one origin for each job."""
    stored = {PAIR.unpack(key): value[0] for key, value in tables.upstream.scan()}
    assert sorted((above, job) for job, above in stored) == [PAIR.unpack(key) for key, _ in tables.downstream.scan()]
    records = {U64.unpack(key)[0]: log_pb2.JobRecord.FromString(value) for key, value in tables.job.scan()}
    numbers = {record.job.name: job for job, record in records.items() if not record.deleted}
    wanted: dict[tuple[int, int], int] = {}
    for job, record in records.items():
        if record.deleted:
            continue
        after = after_of(record.job)
        names = list(after.jobs) if after is not None else [record.job.workflow] if record.job.workflow else []
        for name in names:
            wanted[job, numbers[sibling(record.job.name, name)]] = (after.condition or 1) if after is not None else 1
    assert stored == wanted
    above: Edges = {job: set() for job in records}
    for job, one in stored:
        above[job].add(one)
    origins: dict[int, int] = {}
    for job in TopologicalSorter(above).static_order():
        found = {origins[one] for one in above[job]} or {job}
        assert len(found) == 1, f"job {job} has the origins {found}"
        origins[job] = found.pop()
    for job, origin in origins.items():
        state = JobState.unpack(tables.job_state.get(U64.pack(job)) or b"")
        assert bool(state.flags & JobFlag.UPSTREAM) == any(one == job for _, one in stored), f"job {job}"
        workflow = records[job].job.workflow
        if workflow and not records[job].deleted:
            assert origin == numbers[sibling(records[job].job.name, workflow)], f"job {job}"


def check_runs(tables: Tables, executions: Executions) -> None:
    """Each node has at most one execution that is not finished, what a run knows of them is so, and none waits for nobody."""
    heads = {PAIR.unpack(key)[0]: RUN_HEAD.unpack(value) for key, value in tables.run.scan() if not PAIR.unpack(key)[1]}
    nodes = {PAIR.unpack(key): RUN_NODE.unpack(value) for key, value in tables.run.scan() if PAIR.unpack(key)[1]}
    waiting = {PAIR.unpack(key): Tally.unpack(value) for key, value in tables.tally.scan()}
    for (root, job), tally in waiting.items():
        assert (root, job) not in nodes and heads[root][0], f"run {root}, job {job} waits, and need not"
        revision = JobState.unpack(tables.job_state.get(U64.pack(job)) or b"").revision
        assert tally.revision != revision or tally == count_upstream(tables, root, job, revision), (
            f"run {root}, job {job}"
        )
    for (root, job), (number, ended) in nodes.items():
        execution, story = executions[number], f"run {root}, job {job}, execution {number}"
        assert execution.root == root and execution.job == job, story
        if number != root or not _is_workflow(tables, job):
            assert ended == (execution.state if execution.state in FINAL_STATES else 0), story
    for number, execution in executions.items():
        story = f"execution {number}: {execution}"
        if execution.flags & ExecutionFlag.HAS_UPSTREAM:
            assert execution.root, story
        if execution.root and execution.state not in FINAL_STATES:
            is_node = number != execution.root or not _is_workflow(tables, execution.job)
            if number != execution.root:
                assert nodes[execution.root, execution.job] == (number, 0), story
            elif is_node:
                is_open = number not in heads or nodes.get((number, execution.job)) == (number, 0)
                assert is_open, f"{story} has not ended, and those after it are decided"
    for root, (unfinished, bad, tallies) in heads.items():
        mine = {job: node for (run, job), node in nodes.items() if run == root}
        story = f"run {root}: {unfinished} unfinished, {bad} bad, {mine}"
        assert unfinished == sum(not ended for _, ended in mine.values()), story
        assert tallies == sum(run == root for run, _ in waiting), f"{story}, {tallies} tallies, {waiting}"
        assert bad == sum(ended in BAD_STATES for _, ended in mine.values()), story
        if _is_workflow(tables, executions[root].job):
            _check_workflow(executions[root], unfinished, bad, story)


def _check_workflow(root: Execution, unfinished: int, bad: int, story: str) -> None:
    """The root's state follows from its nodes."""
    assert (root.state == ExecutionState.RUNNING) == (unfinished > 0), story
    if not unfinished:
        cancelled = bool(root.flags & ExecutionFlag.CANCEL_REQUESTED)
        wanted = ExecutionState.FAILED if bad else ExecutionState.COMPLETED
        assert root.state == (ExecutionState.CANCELLED if cancelled else wanted), story


def _is_workflow(tables: Tables, job: int) -> bool:
    return bool(JobState.unpack(tables.job_state.get(U64.pack(job)) or b"").flags & JobFlag.WORKFLOW)
