"""Dead letters as the API shows them: which ones are meant, one by one, and counted by their errors.

Works inside one read transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.catalog import Catalog
from horologe.node.names import read_job_name, shorten
from horologe.node.operation_views import fingerprint_text
from horologe.raft.dead_letters import DEAD_KEY
from horologe.raft.model import ExecutionFlag
from horologe.raft.records import U64, Execution
from horologe.raft.tables import Tables
from horologe.v1 import dead_letter_service_pb2

ROWS_COUNTED_MAX = 200_000
"""Dead letters that one call counts; it takes some microseconds each, in a thread beside the node's work."""
GROUPS_MAX = 1_000
_LAST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters of a namespace are meant."""

    namespace: int
    """0: one in which nothing was ever made."""
    job: int = 0
    fingerprint: int | None = None
    from_ms: int = 0
    to_ms: int = 0

    def as_message(self, executions: Sequence[int]) -> log_pb2.DeadLetterSelection:
        """As an operation keeps it."""
        return log_pb2.DeadLetterSelection(
            executions=executions,
            job=self.job,
            fingerprint=self.fingerprint,
            from_ms=self.from_ms,
            to_ms=self.to_ms,
        )


def read_selection(tables: Tables, namespace: str, wanted: dead_letter_service_pb2.DeadLetterFilter) -> Selection:
    """What a filter means now. Raises an ApiError if it is wrong, or names a job that does not exist."""
    job = 0
    if wanted.job:
        name = read_job_name(wanted.job, "filter.job")
        if name.split("/")[1] != namespace:
            raise errors.invalid_field("filter.job", f"{name} is not in the namespace {namespace}")
        record = views.find_job(tables, name)
        if record is None:
            raise errors.job_not_found(name)
        job = record.id
    raw = tables.namespace.get(namespace.encode())
    return Selection(
        log_pb2.NamespaceRecord.FromString(bytes(raw)).id if raw is not None else 0,
        job,
        _read_fingerprint(wanted.fingerprint) if wanted.fingerprint else None,
        _read_ms(wanted.start_time, "filter.start_time") if wanted.HasField("start_time") else 0,
        _read_ms(wanted.end_time, "filter.end_time") if wanted.HasField("end_time") else 0,
    )


class Row(NamedTuple):
    """One row of the table."""

    key: bytes
    end_ms: int
    number: int
    fingerprint: int


@dataclass(slots=True)
class _Group:
    """Dead letters of one fingerprint, seen from the last to the first."""

    last: Row
    first: Row
    count: int = field(default=0)


class DeadLetterReader:
    """Reads the dead letter queues as of one transaction."""

    def __init__(self, tables: Tables, catalog: Catalog) -> None:
        self._tables = tables
        self._catalog = catalog

    def rows(self, selection: Selection, below: bytes | None = None) -> Iterator[Row]:
        """The rows of a namespace within the selection's time, the one that died last first."""
        last_ms = selection.to_ms or _LAST
        start = below or DEAD_KEY.pack(selection.namespace, last_ms, 0)
        for key, value in self._tables.dead.scan_down(start):
            namespace, end_ms, number = DEAD_KEY.unpack(key)
            if namespace != selection.namespace or end_ms < selection.from_ms:
                return
            yield Row(bytes(key), end_ms, number, int(U64.unpack(value)[0]))

    def fits(self, selection: Selection, row: Row) -> bool:
        """Whether the rest of the selection lets it through."""
        if selection.fingerprint is not None and selection.fingerprint != row.fingerprint:
            return False
        return not selection.job or self._execution(row.number).job == selection.job

    def view(self, number: int, *, full: bool) -> dead_letter_service_pb2.DeadLetter:
        """A dead letter as the API shows it; not `full`: without attempts that are over."""
        execution = self._execution(number)
        detail = views.read_detail(self._tables, number, execution)
        raw = self._tables.dead.get(DEAD_KEY.pack(execution.namespace, execution.end_ms, number))
        view = dead_letter_service_pb2.DeadLetter(
            execution=views.execution_view(self._tables, self._catalog, number, execution, full=full),
            error=_error_of(execution, detail),
            fingerprint=fingerprint_text(int(U64.unpack(raw)[0])) if raw is not None else "",
        )
        record = self._catalog.record(self._tables, execution.job)
        if detail.HasField("payload"):
            view.payload.CopyFrom(detail.payload)
        elif record is not None and record.job.action.python.HasField("payload"):
            view.payload.CopyFrom(record.job.action.python.payload)
        return view

    def groups(self, selection: Selection) -> tuple[list[dead_letter_service_pb2.DeadLetterGroup], bool]:
        """The most frequent error first, and whether there are more dead letters than were counted."""
        found: dict[int, _Group] = {}
        counted = 0
        for row in islice(self.rows(selection), ROWS_COUNTED_MAX):
            counted += 1
            if self.fits(selection, row):
                group = found.setdefault(row.fingerprint, _Group(row, row))
                group.first = row
                group.count += 1
        ordered = sorted(found.items(), key=lambda item: (-item[1].count, item[0]))[:GROUPS_MAX]
        groups = [
            dead_letter_service_pb2.DeadLetterGroup(
                fingerprint=fingerprint_text(fingerprint),
                count=group.count,
                first_time=views.timestamp(group.first.end_ms),
                last_time=views.timestamp(group.last.end_ms),
                sample=self.view(group.last.number, full=False),
            )
            for fingerprint, group in ordered
        ]
        return groups, counted >= ROWS_COUNTED_MAX

    def _execution(self, number: int) -> Execution:
        execution = views.read_execution(self._tables, number)
        assert execution is not None, f"the dead letter {number} is no execution"
        return execution


def _error_of(execution: Execution, detail: log_pb2.ExecutionRecord) -> str:
    """Of the last attempt, unless it was the time for all of them that was over."""
    if execution.flags & ExecutionFlag.TIME_IS_UP or not detail.attempts:
        return detail.reason
    return detail.attempts[-1].detail.error


def _read_fingerprint(text: str) -> int:
    try:
        if len(text) == 16:
            return int(text, 16)
    except ValueError:
        pass
    raise errors.invalid_field("filter.fingerprint", f"{shorten(text)} is no fingerprint; it has 16 hexadecimal digits")


def _read_ms(given: Timestamp, field: str) -> int:
    try:
        return max(0, given.ToMilliseconds())
    except ValueError as error:
        raise errors.invalid_field(field, str(error)) from error
