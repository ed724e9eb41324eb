"""What must hold of events, blocks, `by_state` and facets after every entry: they say what the executions and jobs say."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import facets
from horologe.raft.events import Event, EventKind, floor_of, rows_from
from horologe.raft.model import Counters, ExecutionState
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.search import BLOCK_BITS, LISTED_STATES, STATE_KEY, Block, Term, bit_of
from horologe.raft.tables import Tables


def check(tables: Tables) -> None:
    """Raises AssertionError."""
    executions = {U64.unpack(key)[0]: Execution.unpack(value) for key, value in tables.execution.scan()}
    _check_events(tables, executions)
    _check_blocks(tables, executions)
    assert [STATE_KEY.unpack(key) for key, _ in tables.by_state.scan()] == sorted(
        (found.state, number) for number, found in executions.items() if found.state in LISTED_STATES
    )
    _check_facets(tables)
    _check_retries(tables, executions)


def _check_events(tables: Tables, executions: dict[int, Execution]) -> None:
    """Whoever follows from the beginning knows the state of all; who came later, of all that has moved since."""
    floor, counters = floor_of(tables), Counters.load(tables)
    last: dict[int, Event] = {}
    count, before = 0, floor
    for row in rows_from(tables, 0):
        assert before < row.revision <= counters.revision, f"row {row.revision} comes after {before}"
        before = row.revision
        for event in row.events:
            count += 1
            if event.kind == EventKind.EXECUTION_MOVED:
                known = last[event.execution].after if event.execution in last else 0
                assert event.before == known or (floor and not known), f"{event}, but it was {known}"
            if event.execution:
                last[event.execution] = event
    assert counters.events == count
    assert floor or last.keys() >= executions.keys()
    for number, event in last.items():
        found = executions.get(number)
        if found is not None:
            told = (event.job, event.due_ms, event.namespace, event.queue, event.worker, event.attempt)
            is_so = (found.job, found.due_ms, found.namespace, found.queue, found.worker, found.attempt)
            assert told == is_so, f"execution {number}: {event}, but {found}"
            assert (event.after, event.attempt_state) == (found.state, found.attempt_state), f"execution {number}"


def _check_blocks(tables: Tables, executions: dict[int, Execution]) -> None:
    blocks = {U64.unpack(key)[0]: Block.unpack(value) for key, value in tables.block.scan()}
    counts = {position: [0] * len(block.counts) for position, block in blocks.items()}
    assert blocks.keys() == {number >> BLOCK_BITS for number in executions}
    for number, found in executions.items():
        block = blocks[number >> BLOCK_BITS]
        counts[number >> BLOCK_BITS][found.state] += 1
        assert block.create_ms_min <= found.create_ms <= block.create_ms_max, f"execution {number}"
        assert block.due_ms_min <= found.due_ms <= block.due_ms_max, f"execution {number}"
        assert block.has(bit_of(Term.JOB, found.job)), f"execution {number}"
        assert block.has(bit_of(Term.NAMESPACE, found.namespace)), f"execution {number}"
        assert block.has(bit_of(Term.QUEUE, found.queue)), f"execution {number}"
        if found.state == ExecutionState.RUNNING or found.worker:
            assert block.has(bit_of(Term.WORKER, found.worker)), f"execution {number}"
    assert counts == {position: block.counts for position, block in blocks.items()}


def _check_facets(tables: Tables) -> None:
    wanted: set[tuple[str, str, int, bool]] = set()
    for key, value in tables.job.scan():
        record = log_pb2.JobRecord.FromString(value)
        job, number = record.job, U64.unpack(key)[0]
        assert facets.job_of(key) == number
        some = [("LABEL", f"{label}={text}") for label, text in job.labels.items()]
        some += [("OWNER", job.owner)] if job.owner else []
        some += [("QUEUE", job.queue)] if job.queue not in ("", "default") else []
        some += [("WORKFLOW", "")] if job.action.WhichOneof("kind") == "workflow" else []
        some += [("NAME", "")] if record.deleted else [("PAUSED", "")] if record.paused else []
        wanted |= {(kind, f"{text}\0{job.name}", number, record.deleted) for kind, text in some}
    found = {
        (facets.Facet(key[0] & 127).name, key[1:-9].decode(), facets.job_of(key), bool(key[0] & 128))
        for key, _ in tables.facet.scan()
    }
    assert found == wanted


def _check_retries(tables: Tables, executions: dict[int, Execution]) -> None:
    """Exactly, unless some of a job's history was pruned."""
    for key, value in tables.job_state.scan():
        state = JobState.unpack(value)
        own = [found for found in executions.values() if found.job == U64.unpack(key)[0]]
        retries = sum(max(0, found.attempt - 1) for found in own)
        assert state.retries == retries or (state.retries > retries and state.executions > len(own)), f"job {key.hex()}"
