"""What a run hands to its nodes: how those before them ended, and the results of those that ended well."""

from __future__ import annotations

from collections.abc import Iterator

from horologe.node import views
from horologe.node.catalog import Catalog
from horologe.raft.dependencies import short_name, upstream_of
from horologe.raft.model import ExecutionState
from horologe.raft.records import PAIR, RUN_NODE
from horologe.raft.tables import Tables
from horologe.v1 import worker_pb2

RESULT_BYTES_TOGETHER_MAX = 512 << 10
"""Of all results that travel with one assignment; one alone has at most 64 KiB."""


def upstream_results(tables: Tables, catalog: Catalog, number: int) -> list[worker_pb2.UpstreamResult]:
    """Of an execution of a run: all before it that have ended, the nearest first."""
    execution = views.read_execution(tables, number)
    if execution is None or not execution.root:
        return []
    found: list[worker_pb2.UpstreamResult] = []
    room = RESULT_BYTES_TOGETHER_MAX
    for job in _all_before(tables, execution.job):
        raw = tables.run.get(PAIR.pack(execution.root, job))
        upstream, ended = RUN_NODE.unpack(raw) if raw is not None else (0, 0)
        before = views.read_execution(tables, upstream) if ended else None
        record = catalog.record(tables, job)
        if before is None or record is None or record.job.action.HasField("workflow"):
            continue
        result = worker_pb2.UpstreamResult(
            job=short_name(record.job.name),
            execution=upstream,
            state=ExecutionState(ended).value,  # type: ignore[arg-type]
        )
        detail = views.read_detail(tables, upstream, before)
        if detail.HasField("result"):
            size = detail.result.ByteSize()
            if size > room:
                result.result_omitted = True
            else:
                room -= size
                result.result.CopyFrom(detail.result)
        found.append(result)
    return found


def _all_before(tables: Tables, job: int) -> Iterator[int]:
    """The jobs that a job is after, directly or not, the nearest first."""
    line = list(upstream_of(tables, job))
    known = set(line)
    for one in line:
        yield one
        for above in upstream_of(tables, one):
            if above not in known:
                known.add(above)
                line.append(above)
