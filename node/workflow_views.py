"""From the state to what the API shows of workflows: their graph, their runs, and how each node stands in one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.catalog import Catalog
from horologe.raft.dependencies import after_of, downstream_of, short_name, upstream_of
from horologe.raft.model import FINAL_STATES, ExecutionState, JobFlag
from horologe.raft.records import LEDGER_KEY, PAIR, RUN_HEAD, RUN_NODE, Execution, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1 import workflow_service_pb2

ROWS_LOOKED_AT_MAX = 1_000
"""Of a ledger, for the latest run: a job may have many due times that began none."""


class WorkflowReader:
    """Reads within one transaction of its caller."""

    def __init__(self, tables: Tables, catalog: Catalog) -> None:
        self._tables = tables
        self._catalog = catalog

    def workflow(self, record: log_pb2.JobRecord, run: int) -> workflow_service_pb2.Workflow:
        """The graph of all that are after a job, with the executions of a run (its root); 0 for none."""
        layers = self._layers(record)
        view = workflow_service_pb2.Workflow(name=record.job.name)
        for job, layer in sorted(layers.items(), key=lambda each: (each[1], each[0])):
            node = self._catalog.record(self._tables, job)
            if node is None:
                continue
            shown = view.nodes.add(job=short_name(node.job.name), layer=layer)
            after = after_of(node.job)
            if after is not None:
                shown.condition = after.condition
            self._show_execution(shown, run, job)
            for above in upstream_of(self._tables, job):
                upstream = self._catalog.record(self._tables, above)
                if above in layers and upstream is not None:
                    view.edges.add(upstream=short_name(upstream.job.name), downstream=shown.job)
        return view

    def node_count(self, job: int) -> int:
        return len(list(self._all_after(job))) - 1

    def latest_run(self, job: int) -> int:
        """The root of the latest run of a job; 0 if there is none."""
        rows = islice(self.runs(job, None), ROWS_LOOKED_AT_MAX)
        return next((number for _, number, root in rows if root is not None), 0)

    def runs(self, job: int, below: bytes | None) -> Iterator[tuple[bytes, int, Execution | None]]:
        """Rows of the job's ledger, latest first, each with the run that began there; no execution if none did."""
        for key, value in self._tables.ledger.scan_down(below or LEDGER_KEY.pack(job + 1, 0, 0)):
            if LEDGER_KEY.unpack(key)[0] != job:
                return
            entry = LedgerEntry.unpack(value)
            execution = views.read_execution(self._tables, entry.execution) if entry.is_of_execution else None
            if execution is not None and execution.root != entry.execution:
                execution = None
            yield bytes(key), entry.execution, execution

    def run(self, number: int, root: Execution) -> workflow_service_pb2.Run:
        """A run by the execution that began it."""
        raw = self._tables.run.get(PAIR.pack(number, 0))
        unfinished, bad, _ = RUN_HEAD.unpack(raw) if raw is not None else (0, 0, 0)
        state = _state_of(root, unfinished, bad, is_workflow=self._is_workflow(root.job))
        name = views.execution_name(views.job_name_of(self._tables, self._catalog, root), number)
        view = workflow_service_pb2.Run(
            name=name,
            state=state.value,  # type: ignore[arg-type]
            trigger=root.trigger,  # type: ignore[arg-type]
            due_time=views.timestamp(root.due_ms),
            create_time=views.timestamp(root.create_ms),
            unfinished_count=unfinished,
            failed_count=bad,
            reason=views.read_detail(self._tables, number, root).reason,
        )
        if state in FINAL_STATES:
            view.end_time.CopyFrom(views.timestamp(self._end_ms(number, root)))
        return view

    def _show_execution(self, shown: workflow_service_pb2.WorkflowNode, run: int, job: int) -> None:
        raw = self._tables.run.get(PAIR.pack(run, job)) if run else None
        number = RUN_NODE.unpack(raw)[0] if raw is not None else 0
        root = views.read_execution(self._tables, run) if run and not number else None
        if root is not None and root.job == job:
            # The run has not come further than the execution that begins it.
            number = run
        execution = views.read_execution(self._tables, number) if number else None
        if execution is not None:
            view = views.execution_view(self._tables, self._catalog, number, execution, full=False)
            shown.execution.CopyFrom(view)

    def _end_ms(self, number: int, root: Execution) -> int:
        """A workflow's execution ends with the last of its nodes; any other ends before those after it."""
        if self._is_workflow(root.job):
            return root.end_ms
        ends = [root.end_ms]
        for key, value in self._tables.run.scan(PAIR.pack(number, 1)):
            if PAIR.unpack(key)[0] != number:
                break
            execution = views.read_execution(self._tables, RUN_NODE.unpack(value)[0])
            ends.append(execution.end_ms if execution is not None else 0)
        return max(ends)

    def _layers(self, record: log_pb2.JobRecord) -> dict[int, int]:
        """The nodes with their layers: the longest way down to each. There are no cycles."""
        jobs = dict.fromkeys(self._all_after(record.id), 0)
        waiting = {job: sum(above in jobs for above in upstream_of(self._tables, job)) for job in jobs}
        first = 0 if self._is_workflow(record.id) else 1
        line = [job for job, count in waiting.items() if not count]
        jobs[record.id] = first
        for job in line:
            for below in downstream_of(self._tables, job):
                jobs[below] = max(jobs[below], jobs[job] + 1)
                waiting[below] -= 1
                if not waiting[below]:
                    line.append(below)
        if not first:
            del jobs[record.id]
        return jobs

    def _all_after(self, job: int) -> Iterator[int]:
        """The job and all that are after it."""
        found = {job}
        line = [job]
        for one in line:
            yield one
            for below in downstream_of(self._tables, one):
                if below not in found:
                    found.add(below)
                    line.append(below)

    def _is_workflow(self, job: int) -> bool:
        state = views.read_job_state(self._tables, job)
        return state is not None and bool(state.flags & JobFlag.WORKFLOW)


def _state_of(root: Execution, unfinished: int, bad: int, *, is_workflow: bool) -> ExecutionState:
    if is_workflow or root.state not in FINAL_STATES:
        return ExecutionState(root.state)
    if unfinished:
        return ExecutionState.RUNNING
    return ExecutionState.FAILED if bad else ExecutionState.COMPLETED
