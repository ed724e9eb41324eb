"""Jobs that match a filter, by name, a page at a time.

Labels, owners, queues and pauses have an index in the order of names (raft/facets.py); all else is looked for along the names.
A page looks at a bounded number of jobs, so one that matches little may be short and still have a next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from horologe.node import errors, views
from horologe.node.job_filter import FOREVER, JobFilter, Range, check_text, is_of, read_range
from horologe.node.names import WILDCARD, JobPattern, read_namespace
from horologe.raft.facets import DEFAULT_QUEUE, Facet, job_of, label_text, prefix_of
from horologe.raft.pauses import Pauses
from horologe.raft.records import U64
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2, job_service_pb2

WORK_PER_PAGE = 1_000
"""Jobs read for one page: each takes some ten microseconds."""
_NAME_WORK = 0.02
"""Looking at a name alone: a page looks past 50,000 of them."""
_STATE_WORK = 0.3
"""Looking at a job's packed state alone."""
_State = job_pb2.Job


@dataclass(frozen=True, slots=True)
class JobQuery:
    """What is asked of a job in a list."""

    jobs: JobFilter
    name_contains: str = ""
    state: int = 0
    queue: str = ""
    created: Range = FOREVER
    due: Range = FOREVER

    @classmethod
    def of(cls, request: job_service_pb2.ListJobsRequest) -> JobQuery:
        """Raises an ApiError."""
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        if request.state not in _State.State.values():
            raise errors.invalid_field("state", f"{request.state} is not a known state")
        check_text(request, "queue")
        check_text(request, "name_contains")
        return cls(
            JobFilter.of(JobPattern(namespace, WILDCARD), request),
            request.name_contains,
            request.state,
            request.queue,
            read_range(request, "created"),
            read_range(request, "due"),
        )


class JobSearch:
    """One page, in one read transaction."""

    def __init__(self, tables: Tables, wanted: JobQuery) -> None:
        self._tables = tables
        self._wanted = wanted
        self._work_left: float = WORK_PER_PAGE

    def page(self, size: int, start: bytes | None) -> tuple[list[job_pb2.Job], bytes | None]:
        """At most `size` jobs from a key on, and the key that the next page begins with; None at the end."""
        found: list[job_pb2.Job] = []
        for key, job in self._candidates(start):
            if len(found) >= size or self._work_left <= 0:
                return found, key
            view = self._match(job)
            if view is not None:
                found.append(view)
        return found, None

    def _candidates(self, start: bytes | None) -> Iterator[tuple[bytes, int]]:
        """Rows that name a job: their keys are its name, or end with it and its number. Where the work ends may be any."""
        jobs = self._wanted.jobs
        space = "namespaces/" if jobs.pattern.namespace == WILDCARD else f"namespaces/{jobs.pattern.namespace}/jobs/"
        name = space if jobs.pattern.namespace == WILDCARD else space + jobs.name_prefix
        facet = self._facet(start)
        prefix = name.encode() if facet is None else prefix_of(*facet, name)
        contained, tail = self._wanted.name_contains.encode(), None if facet is None else -1 - U64.size
        for found, value in (self._tables.job_name if facet is None else self._tables.facet).scan(start or prefix):
            key = bytes(found)
            if not key.startswith(prefix):
                return
            # Most names are looked at for this alone, so it comes before all else.
            if contained and (contained not in key or contained not in key[:tail].rpartition(b"/")[2]):
                self._work_left -= _NAME_WORK
                if self._work_left > 0:
                    continue
            yield key, int(U64.unpack(value)[0]) if facet is None else job_of(key)

    def _facet(self, start: bytes | None) -> tuple[Facet, str] | None:
        """The index that names the fewest jobs, as far as that can be guessed."""
        wanted = self._wanted
        if wanted.jobs.labels:
            return Facet.LABEL, label_text(*wanted.jobs.labels[0])
        if wanted.jobs.owner:
            return Facet.OWNER, wanted.jobs.owner
        if wanted.queue not in ("", DEFAULT_QUEUE):
            return Facet.QUEUE, wanted.queue
        # While a namespace or the cluster is paused, jobs are that have not been paused themselves.
        # A list that has begun goes on as it has.
        if wanted.state != _State.STATE_PAUSED:
            return None
        is_listed = start[0] == Facet.PAUSED if start else not Pauses.load(self._tables).by_namespace
        return (Facet.PAUSED, "") if is_listed else None

    def _match(self, job: int) -> job_pb2.Job | None:
        wanted = self._wanted
        if wanted.state or wanted.due != FOREVER:
            self._work_left -= _STATE_WORK
            state = views.read_job_state(self._tables, job)
            due_ms = 0 if state is None else state.next_due_ms
            if wanted.due != FOREVER and not (due_ms and wanted.due[0] <= due_ms < wanted.due[1]):
                return None
            if wanted.state == _State.STATE_FINISHED and due_ms:
                return None
        self._work_left -= 1
        record = views.read_job(self._tables, job)
        if record is None or not wanted.jobs.matches(record.job) or not is_of(record, wanted.created):
            return None
        if wanted.queue and (record.job.queue or DEFAULT_QUEUE) != wanted.queue:
            return None
        if (
            wanted.state
            and views.job_view_state(self._tables, record, views.read_job_state(self._tables, job)) != wanted.state
        ):
            return None
        return views.job_view(self._tables, record)
