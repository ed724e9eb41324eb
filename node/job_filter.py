"""What is asked of a job in a list, a search or a watch: its namespace, name, labels, owner and schedule.

Here belongs the question, read from a request and checked, and the few jobs that can answer it, where an index names them. How
executions are searched is in `execution_search`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from horologe.log.v1 import log_pb2
from horologe.node import errors, schedule
from horologe.node.names import WILDCARD, JobPattern
from horologe.raft.facets import Facet, job_of, label_text, prefix_of
from horologe.raft.records import U64
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2

TEXT_LENGTH_MAX = 200
"""Of what is looked for."""
NAMESPACES_MAX = 100
"""In so many, each is looked at for names that begin alike; one look takes some microseconds."""
Range = tuple[int, int]
FOREVER: Range = (0, (1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """A question about a job. Empty parts ask nothing."""

    pattern: JobPattern
    name_prefix: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    schedule: str = ""

    @classmethod
    def of(cls, pattern: JobPattern, request: Any) -> JobFilter:
        """From a request that has these fields. Raises an ApiError."""
        for field in ("name_prefix", "owner", "schedule"):
            check_text(request, field)
        labels = tuple(sorted(request.labels.items()))
        return cls(pattern, request.name_prefix, labels, request.owner, request.schedule.casefold())

    @property
    def asks_of_definition(self) -> bool:
        """Whether more than the namespace is asked for."""
        asked = self.name_prefix or self.labels or self.owner or self.schedule
        return bool(asked) or self.pattern.job != WILDCARD

    def matches(self, job: job_pb2.Job) -> bool:
        """Whether a stored definition is one of those."""
        return (
            self.pattern.matches(job.name)
            and job.name.rpartition("/")[2].startswith(self.name_prefix)
            and all(job.labels.get(key) == value for key, value in self.labels)
            and (not self.owner or job.owner == self.owner)
            and (not self.schedule or any(self.schedule in text_of(each) for each in job.schedules))
        )

    def few(self, tables: Tables, count_max: int) -> frozenset[int] | None:
        """All jobs that may match, those that are deleted included; None if no index names them, or they are too many."""
        sources = self._sources(tables)
        if not sources:
            return None
        numbers: set[int] = set()
        for source in sources:
            numbers.update(islice(source, count_max + 1))
        return frozenset(numbers) if len(numbers) <= count_max else None

    def _sources(self, tables: Tables) -> list[Iterator[int]]:
        space = "" if self.pattern.namespace == WILDCARD else f"namespaces/{self.pattern.namespace}/jobs/"
        found = (Facet.LABEL, label_text(*self.labels[0])) if self.labels else (Facet.OWNER, self.owner)
        if found[1]:
            name = space and space + self.name_prefix
            return [_listed(tables, prefix_of(*found, name, deleted=deleted)) for deleted in (False, True)]
        if not self.name_prefix:
            return []
        spaces = [space] if space else [f"namespaces/{key.decode()}/jobs/" for key, _ in tables.namespace.scan()]
        names = [each + self.name_prefix for each in spaces[:NAMESPACES_MAX]]
        deleted = [_listed(tables, prefix_of(Facet.NAME, "", name, deleted=True)) for name in names]
        return [*(_named(tables, name) for name in names), *deleted] if len(names) == len(spaces) else []


def check_text(request: Any, field: str) -> None:
    """Refuses a text that nothing can match."""
    length = len(getattr(request, field))
    if length > TEXT_LENGTH_MAX:
        raise errors.invalid_field(field, f"{length} characters are too many; at most {TEXT_LENGTH_MAX}")


def read_range(request: Any, name: str) -> Range:
    """The instants in `{name}_from` and `{name}_before`, in milliseconds; what is absent bounds nothing."""
    return read_bound(request, f"{name}_from", FOREVER[0]), read_bound(request, f"{name}_before", FOREVER[1])


def read_bound(request: Any, field: str, default_ms: int) -> int:
    """The instant in a field, in milliseconds. Raises an ApiError if it is none."""
    if not request.HasField(field):
        return default_ms
    try:
        return max(0, int(getattr(request, field).ToMilliseconds()))
    except ValueError as error:
        raise errors.invalid_field(field, str(error)) from error


def text_of(one: job_pb2.Schedule) -> str:
    """A schedule as people look for it, in small letters."""
    if one.WhichOneof("kind") == "cron":
        return f"{one.cron.expression} {one.cron.time_zone}".casefold()
    return schedule.describe(one).casefold()


def is_of(record: log_pb2.JobRecord, created: Range) -> bool:
    """Whether the job was created in a range."""
    return created[0] <= record.create_time_ms < created[1]


def _listed(tables: Tables, prefix: bytes) -> Iterator[int]:
    for key, _ in tables.facet.scan(prefix):
        if not key.startswith(prefix):
            return
        yield job_of(key)


def _named(tables: Tables, prefix: str) -> Iterator[int]:
    for key, value in tables.job_name.scan(prefix.encode()):
        if not key.startswith(prefix.encode()):
            return
        yield int(U64.unpack(value)[0])
