"""Executions that match a filter, newest first, a page at a time.

A page looks at a bounded number of rows and says where the next one begins, so it answers in a few milliseconds whatever is asked
and however much there is. Blocks in which nothing can match are skipped (raft/search.py), and what is in a rare state is listed.
Executions of one job are found through its ledger, latest due time first.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.catalog import Catalog
from horologe.node.job_filter import FOREVER, JobFilter, Range, check_text, read_range
from horologe.node.ledger_rows import numbers_of_job
from horologe.node.names import WILDCARD, read_job_pattern
from horologe.raft.lanes import lanes_of
from horologe.raft.records import LEDGER_KEY, U32, U64, WORKER_VALUE, Execution
from horologe.raft.search import BLOCK_BITS, LISTED_STATES, STATE_KEY, Block, Term, bit_of
from horologe.raft.tables import Tables
from horologe.v1 import execution_pb2, execution_service_pb2

WORK_PER_PAGE = 10_000
"""In rows of executions, each of which takes about a microsecond."""
_BLOCK_WORK, _LOOKUP_WORK, _JOB_WORK = 2, 4, 12
FEW_JOBS = 256
"""So many jobs are worth a look at their bits in every block."""

_NUMBER_END = 1 << 63
Candidate = tuple[bytes, int, bytes | None, int]
"""Where it lies, its number (0: nothing there), its record if that was read, and the work it took."""


def _place(name: str) -> slice:
    """Where a field lies in the packed record of an execution."""
    position = [field.name for field in fields(Execution)].index(name)
    form = Execution.STRUCT.format
    return slice(struct.calcsize(form[: position + 1]), struct.calcsize(form[: position + 2]))


_JOB, _NAMESPACE, _QUEUE, _WORKER = _place("job"), _place("namespace"), _place("queue"), _place("worker")
_STATE = _place("state").start


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What is asked of an execution. Empty parts ask nothing."""

    jobs: JobFilter
    states: frozenset[int] = frozenset()
    queue: str = ""
    worker: str = ""
    created: Range = FOREVER
    due: Range = FOREVER

    @classmethod
    def of(cls, request: execution_service_pb2.ListExecutionsRequest) -> ExecutionFilter:
        """Raises an ApiError."""
        check_text(request, "queue")
        check_text(request, "worker")
        return cls(
            JobFilter.of(read_job_pattern(request.parent, "parent"), request),
            read_states(request.states),
            request.queue,
            request.worker.removeprefix("workers/"),
            read_range(request, "created"),
            read_range(request, "due"),
        )

    @property
    def key_length(self) -> int:
        """Of the keys below which pages lie: of rows of the ledger, or numbers of executions."""
        return LEDGER_KEY.size if self.jobs.pattern.is_one_job else U64.size


def read_states(states: object) -> frozenset[int]:
    """The states of a request. Raises an ApiError."""
    found = list(states)  # type: ignore[call-overload]
    for position, state in enumerate(found):
        if state not in execution_pb2.Execution.State.values():
            raise errors.invalid_field(f"states[{position}]", f"{state} is not a known state")
    return frozenset(found)


class ExecutionSearch:
    """One page, in one read transaction."""

    def __init__(self, tables: Tables, catalog: Catalog, wanted: ExecutionFilter) -> None:
        self._tables = tables
        self._catalog = catalog
        self._wanted = wanted
        self._work_left = WORK_PER_PAGE
        self._known: dict[int, bool] = {}
        self._is_hopeless = False
        self._fields: list[tuple[slice, frozenset[bytes]]] = []
        self._bits: list[list[int]] = []
        """Of each list a block must have one."""
        self._jobs: frozenset[int] | None = None
        self._look_up()

    def page(self, size: int, below: bytes | None) -> tuple[list[tuple[int, Execution]], bytes | None]:
        """At most `size` executions that lie below a key, and the key below which the next page lies; None at the end."""
        found: list[tuple[int, Execution]] = []
        last = below
        for key, number, record, work in () if self._is_hopeless else self._candidates(below):
            if len(found) >= size or self._work_left <= 0:
                return found, last
            last = key
            self._work_left -= work
            execution = self._match(number, record) if number else None
            if execution is not None:
                found.append((number, execution))
        return found, None

    # What to look at

    def _look_up(self) -> None:
        """Turns names into numbers. What has none has no executions."""
        wanted, tables = self._wanted, self._tables
        is_one_job = wanted.jobs.pattern.is_one_job
        if wanted.jobs.pattern.namespace != WILDCARD and not is_one_job:
            raw = tables.namespace.get(wanted.jobs.pattern.namespace.encode())
            self._need(_NAMESPACE, Term.NAMESPACE, [log_pb2.NamespaceRecord.FromString(bytes(raw)).id] if raw else [])
        if wanted.queue:
            self._need(_QUEUE, Term.QUEUE, [number for number, _ in lanes_of(tables, wanted.queue)])
        if wanted.worker:
            raw = tables.worker.get(wanted.worker.encode())
            self._need(_WORKER, Term.WORKER, [WORKER_VALUE.unpack(raw)[0]] if raw else [])
        self._jobs = None if is_one_job else wanted.jobs.few(tables, FEW_JOBS)
        if self._jobs is not None:
            self._need(_JOB, Term.JOB, sorted(self._jobs))

    def _need(self, place: slice, term: Term, numbers: list[int]) -> None:
        packing = U64 if term is Term.JOB else U32
        self._fields.append((place, frozenset(packing.pack(number) for number in numbers)))
        self._bits.append([bit_of(term, number) for number in numbers])
        self._is_hopeless |= not numbers

    def _candidates(self, below: bytes | None) -> Iterator[Candidate]:
        if self._wanted.jobs.pattern.is_one_job:
            for key, number in numbers_of_job(self._tables, self._wanted.jobs.pattern.name, below):
                yield key, number, None, _LOOKUP_WORK
            return
        end = _NUMBER_END if below is None else U64.unpack(below)[0]
        if self._wanted.states and self._wanted.states <= LISTED_STATES and self._jobs is None:
            yield from self._listed(end)
        else:
            yield from self._in_blocks(end)

    def _listed(self, end: int) -> Iterator[Candidate]:
        lists = [self._of_state(state, end) for state in sorted(self._wanted.states)]
        for number in heapq.merge(*lists, reverse=True):
            yield U64.pack(number), number, None, _LOOKUP_WORK

    def _of_state(self, state: int, end: int) -> Iterator[int]:
        for key, _ in self._tables.by_state.scan_down(STATE_KEY.pack(state, end)):
            found, number = STATE_KEY.unpack(key)
            if found != state:
                return
            yield number

    def _in_blocks(self, end: int) -> Iterator[Candidate]:
        states = bytes(sorted(self._wanted.states)) if self._wanted.states else None
        for key, raw in self._tables.block.scan_down(U64.pack((end - 1 >> BLOCK_BITS) + 1)):
            first = U64.unpack(key)[0] << BLOCK_BITS
            block = Block.unpack(raw)
            if block.create_ms_max < self._wanted.created[0]:
                return  # all others are older still
            yield U64.pack(min(end, first + (1 << BLOCK_BITS))), 0, None, _BLOCK_WORK
            if not self._may_hold(block):
                continue
            yield from self._in_block(first, min(end, first + (1 << BLOCK_BITS)), states)

    def _in_block(self, first: int, end: int, states: bytes | None) -> Iterator[Candidate]:
        """Looks at bytes of the packed records only: this is where the time goes."""
        first_key, work, wanted = U64.pack(first), 0, self._fields
        for key, value in self._tables.execution.scan_down(U64.pack(end)):
            if key < first_key:
                break
            work += 1
            if states is not None and value[_STATE] not in states:
                continue
            for place, allowed in wanted:
                if value[place] not in allowed:
                    break
            else:
                yield bytes(key), U64.unpack(key)[0], value, work
                work = 0
        yield first_key, 0, None, work

    def _may_hold(self, block: Block) -> bool:
        """Whether an execution in the block may match."""
        wanted = self._wanted
        return (
            (not wanted.states or any(block.counts[state] for state in wanted.states if state < len(block.counts)))
            and block.create_ms_min < wanted.created[1]
            and wanted.due[0] <= block.due_ms_max
            and block.due_ms_min < wanted.due[1]
            and all(any(block.has(bit) for bit in bits) for bits in self._bits)
        )

    # Whether it matches

    def _match(self, number: int, record: bytes | None) -> Execution | None:
        raw = record or self._tables.execution.get(U64.pack(number))
        if raw is None:
            return None
        execution = Execution.unpack(raw)
        wanted = self._wanted
        fits = (
            (not wanted.states or execution.state in wanted.states)
            and wanted.created[0] <= execution.create_ms < wanted.created[1]
            and wanted.due[0] <= execution.due_ms < wanted.due[1]
            and (record is not None or all(raw[place] in allowed for place, allowed in self._fields))
            and (not wanted.jobs.asks_of_definition or self._job_matches(execution.job))
        )
        return execution if fits else None

    def _job_matches(self, job: int) -> bool:
        known = self._known.get(job)
        if known is None:
            self._work_left -= _JOB_WORK
            state = views.read_job_state(self._tables, job)
            record = self._catalog.record(self._tables, job, None if state is None else state.revision)
            known = self._known[job] = record is not None and self._wanted.jobs.matches(record.job)
        return known
