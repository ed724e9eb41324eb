"""Walks over the ledger of one job: its rows in either direction, and what they say of its latest due times and of each day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from horologe.node import errors, paging, views
from horologe.node.catalog import Catalog
from horologe.raft.model import ExecutionState, LedgerOutcome
from horologe.raft.records import LEDGER_KEY, U64, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1 import execution_service_pb2, job_service_pb2

RESULTS_MAX = 20
"""Latest results of each job in a list: a page of a thousand jobs then reads some twenty thousand rows."""
_DAY_MS = 86_400_000
_FIELD_OF_STATE: dict[int, str] = {
    ExecutionState.COMPLETED: "completed",
    ExecutionState.FAILED: "failed",
    ExecutionState.DEAD: "failed",
    ExecutionState.CANCELLED: "cancelled",
    ExecutionState.SKIPPED: "skipped",
}
_FIELD_OF_OUTCOME: dict[int, str] = {
    LedgerOutcome.SKIPPED: "skipped",
    LedgerOutcome.MISSED: "missed",
    LedgerOutcome.COALESCED: "coalesced",
}


def job_number(tables: Tables, name: str) -> int:
    """The job that has the name now. Raises an ApiError if there is none."""
    key = tables.job_name.get(name.encode())
    if key is None:
        raise errors.job_not_found(name)
    return int(U64.unpack(key)[0])


def ledger_rows(tables: Tables, job: int, start: bytes | None = None) -> Iterator[tuple[bytes, LedgerEntry]]:
    """Rows of a job from a key on, earliest first."""
    for key, value in tables.ledger.scan(start or LEDGER_KEY.pack(job, 0, 0)):
        if LEDGER_KEY.unpack(key)[0] != job:
            return
        yield bytes(key), LedgerEntry.unpack(value)


def ledger_rows_down(tables: Tables, job: int, below: bytes | None = None) -> Iterator[tuple[bytes, LedgerEntry]]:
    """Rows of a job below a key, latest first."""
    for key, value in tables.ledger.scan_down(below or LEDGER_KEY.pack(job + 1, 0, 0)):
        if LEDGER_KEY.unpack(key)[0] != job:
            return
        yield bytes(key), LedgerEntry.unpack(value)


def numbers_of_job(tables: Tables, name: str, below: bytes | None) -> Iterator[tuple[bytes, int]]:
    """Rows of a job, latest first: the execution's number, or 0 for rows without one of their own."""
    for key, entry in ledger_rows_down(tables, job_number(tables, name), below):
        yield key, entry.execution if entry.is_of_execution else 0


def read_outcomes(given: Iterable[int]) -> frozenset[int]:
    """The outcomes of a request. Raises an ApiError."""
    found = list(given)
    for position, outcome in enumerate(found):
        if outcome not in execution_service_pb2.LedgerRow.Outcome.values():
            raise errors.invalid_field(f"outcomes[{position}]", f"{outcome} is not a known outcome")
    return frozenset(found)


def latest_results(tables: Tables, catalog: Catalog, job: int, count: int) -> job_service_pb2.JobResults:
    """What became of the latest due times of a job."""
    results = job_service_pb2.JobResults()
    for key, entry in ledger_rows_down(tables, job):
        if len(results.rows) >= count:
            break
        _, due_ms, number = LEDGER_KEY.unpack(key)
        results.rows.append(views.ledger_row(tables, catalog, job, due_ms, entry, number))
    return results


def count_days(tables: Tables, job: int, start_ms: int, end_ms: int) -> job_service_pb2.GetJobStatisticsResponse:
    """What became of the due times from an instant to before another one, day by day, as far back as one call looks."""
    answer = job_service_pb2.GetJobStatisticsResponse(revision=views.revision(tables))
    counts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    counted_from_ms = end_ms
    for position, (key, entry) in enumerate(ledger_rows_down(tables, job, LEDGER_KEY.pack(job, end_ms, 0))):
        due_ms = LEDGER_KEY.unpack(key)[1]
        if due_ms < start_ms:
            break
        # All rows of one instant are counted in one call, because the next one ends before it.
        if position >= paging.SCAN_ROWS_MAX and due_ms != counted_from_ms:
            answer.counted_from.CopyFrom(views.timestamp(counted_from_ms))
            break
        counted_from_ms = due_ms
        counts[due_ms // _DAY_MS][_field_of(tables, entry)] += entry.count
    for day, fields in counts.items():
        fields.pop("", None)
        answer.days.add(start_time=views.timestamp(day * _DAY_MS), **fields)
    return answer


def _field_of(tables: Tables, entry: LedgerEntry) -> str:
    """Where a row counts; empty if its execution is there no more, and nobody knows how it ended."""
    if not entry.is_of_execution:
        return _FIELD_OF_OUTCOME.get(entry.outcome, "")
    execution = views.read_execution(tables, entry.execution)
    return "" if execution is None else _FIELD_OF_STATE.get(execution.state, "unfinished")
