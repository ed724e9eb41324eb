"""Which jobs are after which: the edges, and what must hold of them before a definition is taken.

An edge lies in two tables, `upstream` (job, job that it is after) -> condition, and `downstream` (the other way round). A member
of a workflow that is after no other member is after the workflow itself. So every job that is after others has one *origin*: its
workflow, or the one job that they are all after in the end; and an execution of the origin names the run (see workflows.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Condition, JobFlag, Result
from horologe.raft.records import PAIR, U64
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Table, Tables
from horologe.v1 import job_pb2

NODES_MAX = 1_000
"""Jobs of one workflow, or after one job: what one command starts, cancels or runs again at the most."""
NEIGHBOURS_MAX = 100
"""Jobs that one job is after, and that are after one job: what the end of one execution looks at, or starts. More sources than
that has a workflow only; its start is a command of its own kind."""
EDGES_PER_COMMAND_MAX = 10_000
"""Edges that one command writes: ten for each of a thousand jobs."""
LOOKED_AT_MAX = 20_000
"""Jobs that one command may touch through their edges: so many are looked at within some 100 ms."""
NAMES_TOLD_MAX = 10
"""Names in a refusal."""


@dataclass(slots=True)
class Wanted:
    """A job as a command wants it, as far as others depend on it."""

    name: str
    upstream: tuple[int, ...] = ()
    condition: int = Condition.ALL_SUCCEEDED
    workflow: int = 0
    """The workflow that it is to be a member of."""
    is_workflow: bool = False
    changes: bool = False
    """Whether its edges, or what it is to others, may differ from before."""


@dataclass(slots=True)
class Graph:
    """The edges as they will be when the wanted jobs are stored, and others are gone."""

    state: State
    gone: frozenset[int] = frozenset()
    wanted: dict[int, Wanted] = field(default_factory=dict)
    _new_downstream: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    _origins: dict[int, int] = field(default_factory=dict)

    def want(self, job: int, wanted: Wanted) -> None:
        self.wanted[job] = wanted
        for upstream in wanted.upstream:
            self._new_downstream[upstream].append(job)

    def upstream(self, job: int) -> tuple[int, ...]:
        wanted = self.wanted.get(job)
        return tuple(upstream_of(self.state.tables, job)) if wanted is None else wanted.upstream

    def downstream(self, job: int) -> list[int]:
        stored = [
            one for one in downstream_of(self.state.tables, job) if one not in self.wanted and one not in self.gone
        ]
        return stored + self._new_downstream.get(job, [])

    def is_workflow(self, job: int) -> bool:
        wanted = self.wanted.get(job)
        return _was_workflow(self.state, job) if wanted is None else wanted.is_workflow

    def workflow(self, job: int) -> int:
        """What the definition of a job names as its workflow; 0 for none."""
        wanted = self.wanted.get(job)
        if wanted is not None:
            return wanted.workflow
        origin = job
        while above := next(upstream_of(self.state.tables, origin), 0):
            origin = above
        return origin if origin != job and _was_workflow(self.state, origin) else 0

    def origin(self, job: int) -> int:
        """Where all paths upwards end. There must be no cycle, and no other origin."""
        way = [job]
        while way[-1] not in self._origins and (above := self.upstream(way[-1])):
            way.append(above[0])
        origin = self._origins.get(way[-1], way[-1])
        self._origins.update(dict.fromkeys(way, origin))
        return origin

    def name(self, job: int) -> str:
        """The job's name without its namespace, for people."""
        wanted = self.wanted.get(job)
        return short_name(_stored_name(self.state, job) if wanted is None else wanted.name)


def upstream_of(tables: Tables, job: int) -> Iterator[int]:
    """The jobs that a job is after, its workflow among them."""
    return _second_of(tables.upstream, job)


def downstream_of(tables: Tables, job: int) -> Iterator[int]:
    """The jobs that are after a job."""
    return _second_of(tables.downstream, job)


def short_name(name: str) -> str:
    return name.rpartition("/")[2]


def sibling(name: str, other: str) -> str:
    """The name of another job of the same namespace."""
    head, separator, _ = name.rpartition("/")
    return f"{head}{separator}{other}"


def after_of(job: job_pb2.Job) -> job_pb2.AfterSchedule | None:
    """The `after` schedule of a definition; it has at most one."""
    for each in job.schedules:
        if each.HasField("after"):
            return each.after
    return None


def plan_edges(
    state: State, drafts: Sequence[log_pb2.JobDraft], numbers: Sequence[int], gone: Sequence[int]
) -> tuple[Graph, Result]:
    """The graph with these drafts in it, and what is wrong with it: a result that is OK if nothing is.

    `numbers` are those that the jobs have, or will get; `gone` those of jobs that are deleted together with that.
    """
    by_name = {draft.job.name: number for draft, number in zip(drafts, numbers, strict=True)}
    graph = Graph(state, frozenset(gone))
    for draft, number in zip(drafts, numbers, strict=True):
        fault = _want(graph, draft.job, number, by_name)
        if fault is not None:
            return graph, fault
    for job in gone:
        left = _listed([graph.name(one) for one in graph.downstream(job)])
        if left:
            return graph, Result(Code.HAS_DEPENDANTS, text=f"{graph.name(job)}: {left}")
    edges = sum(len(wanted.upstream) for wanted in graph.wanted.values())
    if edges > EDGES_PER_COMMAND_MAX:
        text = (
            f"the jobs of one request have {edges} others that they are after; at most {EDGES_PER_COMMAND_MAX} in one"
        )
        return graph, Result(Code.WORKFLOW_TOO_LARGE, text=text)
    changed = [number for number in numbers if graph.wanted[number].changes]
    return graph, (_fault(graph, changed) if changed else None) or Result(Code.OK)


def link(state: State, job: int, wanted: Wanted) -> None:
    """Stores the edges of a job in the place of those that it had."""
    before, after = set(upstream_of(state.tables, job)), set(wanted.upstream)
    for gone in sorted(before - after):
        state.tables.upstream.delete(PAIR.pack(job, gone))
        state.tables.downstream.delete(PAIR.pack(gone, job))
        _mark(state, gone)
    for upstream in sorted(after):
        state.tables.upstream.put(PAIR.pack(job, upstream), bytes([wanted.condition]))
        state.tables.downstream.put(PAIR.pack(upstream, job), b"")
        _mark(state, upstream)


def unlink(state: State, job: int) -> None:
    """The job goes. Those that are still after it go with it, or are linked anew."""
    link(state, job, Wanted(""))


def dependants_text(state: State, job: int) -> str:
    """Who is after a job, for people; empty if nobody is."""
    names = [short_name(_stored_name(state, one)) for one in downstream_of(state.tables, job)]
    return _listed(names)


def _want(graph: Graph, job: job_pb2.Job, number: int, by_name: dict[str, int]) -> Result | None:
    state, after = graph.state, after_of(job)
    wanted = Wanted(job.name, is_workflow=job.action.HasField("workflow"))
    if job.workflow:
        wanted.workflow = _number_of(graph, sibling(job.name, job.workflow), by_name)
        if not wanted.workflow:
            return Result(Code.WORKFLOW_NOT_FOUND, text=f"{short_name(job.name)} names the workflow {job.workflow}")
        wanted.upstream = (wanted.workflow,)
    if after is not None:
        found = {name: _number_of(graph, sibling(job.name, name), by_name) for name in after.jobs}
        missing = [name for name, one in found.items() if not one]
        if missing:
            return Result(Code.UPSTREAM_NOT_FOUND, text=f"{short_name(job.name)} is after {_listed(missing)}")
        wanted.upstream = tuple(dict.fromkeys(found.values()))
        wanted.condition = after.condition or Condition.ALL_SUCCEEDED
    job_state = None if number > state.counters.last_job else state.job_state(number)
    if job_state is not None and wanted.is_workflow != bool(job_state.flags & JobFlag.WORKFLOW):
        return Result(Code.KIND_CHANGED, text=short_name(job.name))
    wanted.changes = bool(wanted.upstream or wanted.is_workflow) or (
        job_state is not None and (bool(job_state.flags & JobFlag.UPSTREAM) or any(upstream_of(state.tables, number)))
    )
    graph.want(number, wanted)
    return None


def _fault(graph: Graph, changed: Sequence[int]) -> Result | None:
    affected = _reach(graph, changed, LOOKED_AT_MAX)
    if affected is None:
        return _too_many_concerned()
    cycle = _find_cycle(graph, affected)
    if cycle:
        return Result(Code.CYCLE, text=" -> ".join(graph.name(job) for job in cycle))
    for job in affected:
        fault = _node_fault(graph, job)
        if fault is not None:
            return fault
    left = LOOKED_AT_MAX
    for origin in dict.fromkeys(graph.origin(job) for job in affected):
        whole = _reach(graph, [origin], NODES_MAX + 1)
        if whole is None:
            text = f"{graph.name(origin)} would have more than {NODES_MAX} jobs"
            return Result(Code.WORKFLOW_TOO_LARGE, text=text)
        left -= len(whole)
        if left < 0:
            return _too_many_concerned()
    return None


def _too_many_concerned() -> Result:
    return Result(Code.WORKFLOW_TOO_LARGE, text=f"the command concerns more than {LOOKED_AT_MAX} jobs; split it")


def _node_fault(graph: Graph, job: int) -> Result | None:
    """What is wrong with the place of one job, in a graph without cycles."""
    name, above = graph.name(job), graph.upstream(job)
    if graph.is_workflow(job) and above:
        return Result(Code.ORIGINS_DIFFER, text=f"{name} is a workflow, and a workflow is after nothing")
    origins = list(dict.fromkeys(graph.origin(one) for one in above))
    if len(origins) > 1:
        text = f"{name} is after jobs of different runs: of {_listed([graph.name(one) for one in origins])}"
        return Result(Code.ORIGINS_DIFFER, text=text)
    workflow, origin = graph.workflow(job), graph.origin(job)
    if workflow and not graph.is_workflow(workflow):
        return Result(Code.WORKFLOW_NOT_FOUND, text=f"{name} names the workflow {graph.name(workflow)}")
    if workflow and origin != workflow:
        text = f"{name} is in the workflow {graph.name(workflow)} and after jobs that are not"
        return Result(Code.ORIGINS_DIFFER, text=text)
    if origin != job and not workflow and graph.is_workflow(origin):
        text = f"{name} is after jobs of the workflow {graph.name(origin)} and not in it"
        return Result(Code.ORIGINS_DIFFER, text=text)
    neighbours = max(len(above), 0 if graph.is_workflow(job) else len(graph.downstream(job)))
    if neighbours > NEIGHBOURS_MAX:
        text = f"{name} would be next to {neighbours} jobs; at most {NEIGHBOURS_MAX} are directly before or after one"
        return Result(Code.WORKFLOW_TOO_LARGE, text=text)
    return None


def _reach(graph: Graph, jobs: Sequence[int], count_max: int) -> list[int] | None:
    """These jobs and all that are after them, directly or not; None if those are too many."""
    found = dict.fromkeys(jobs)
    line = list(found)
    for job in line:
        for below in graph.downstream(job):
            if below not in found:
                if len(found) >= count_max:
                    return None
                found[below] = None
                line.append(below)
    return line


def _find_cycle(graph: Graph, jobs: Sequence[int]) -> list[int]:
    """A cycle in the order in which its jobs would run, its first job once more at the end; empty if there is none."""
    done: set[int] = set()
    for start in jobs:
        way, open_ = [start], {start: iter(graph.upstream(start))}
        if start in done:
            continue
        while way:
            above = next(open_[way[-1]], None)
            if above is None:
                finished = way.pop()
                del open_[finished]
                done.add(finished)
            elif above in open_:
                cycle = way[way.index(above) :]
                return [cycle[0], *reversed(cycle)]
            elif above not in done:
                way.append(above)
                open_[above] = iter(graph.upstream(above))
    return []


def _mark(state: State, job: int) -> None:
    """Keeps the job's flag in step with its edges, so that the end of an execution need not look for them."""
    job_state = state.job_state(job)
    if job_state is None:
        raise InvariantError(f"job {job} has others after it, but no state")
    has_downstream = any(True for _ in downstream_of(state.tables, job))
    flags = job_state.flags | JobFlag.UPSTREAM if has_downstream else job_state.flags & ~JobFlag.UPSTREAM
    if flags != job_state.flags:
        job_state.flags = flags
        state.put_job_state(job, job_state)


def _was_workflow(state: State, job: int) -> bool:
    job_state = state.job_state(job)
    return job_state is not None and bool(job_state.flags & JobFlag.WORKFLOW)


def _number_of(graph: Graph, name: str, by_name: dict[str, int]) -> int:
    if name in by_name:
        return by_name[name]
    raw = graph.state.tables.job_name.get(name.encode())
    number = 0 if raw is None else int(U64.unpack(raw)[0])
    return 0 if number in graph.gone else number


def _stored_name(state: State, job: int) -> str:
    raw = state.tables.job.get(U64.pack(job))
    if raw is None:
        raise InvariantError(f"job {job} has an edge, but no record")
    return log_pb2.JobRecord.FromString(bytes(raw)).job.name


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_TOLD_MAX
    return ", ".join(names[:NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")


def _second_of(table: Table, first: int) -> Iterator[int]:
    for key, _ in table.scan(PAIR.pack(first, 0)):
        owner, second = PAIR.unpack(key)
        if owner != first:
            return
        yield second
