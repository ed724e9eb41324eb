"""The API's ActivityService: what happens now, as this node has seen it (observations.py)."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from google.protobuf.duration_pb2 import Duration

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.callers import current_caller
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.dead_letter_reader import DeadLetterReader, Selection
from horologe.node.observations import LATE_AFTER_MS, SECONDS_KEPT, Figures, quantile_ms
from horologe.node.writes import Context
from horologe.raft.access import EVERYWHERE, Rights, Verb
from horologe.raft.model import Counters
from horologe.raft.tables import Tables
from horologe.v1 import activity_service_pb2, activity_service_pb2_grpc

WINDOW_SECONDS = 300
NAMES_MAX = 100
SAMPLES_MAX = 720
DEAD_LETTERS_COUNTED_MAX = 1_000
"""Of a caller that may not see them all; they are counted one by one then."""


class ActivityService(activity_service_pb2_grpc.ActivityServiceServicer):
    """See activity_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._catalog = Catalog()

    async def GetActivity(
        self, request: activity_service_pb2.GetActivityRequest, context: Context
    ) -> activity_service_pb2.GetActivityResponse:
        del context
        window = _read_seconds(request.window, "window") if request.HasField("window") else WINDOW_SECONDS
        step = _read_seconds(request.step, "step") if request.HasField("step") else 1
        if window > SAMPLES_MAX * step:
            raise errors.invalid_field(
                "step", f"{window} s in steps of {step} s are more than {SAMPLES_MAX} samples; ask for larger steps"
            )
        seen, rights = self._node.observations, current_caller().rights
        response = activity_service_pb2.GetActivityResponse(
            node=self._node.config.name, since_time=views.timestamp(seen.since_ms), late_after=_duration(LATE_AFTER_MS)
        )
        together = Figures()
        samples = seen.samples(self._node.clock.wall_ms(), window, step)
        for second, figures in samples:
            response.samples.append(_sample(second, figures))
            together.add(figures)
        if samples:
            response.total.CopyFrom(_sample(samples[0][0], together))
        with self._node.store.read() as tables:
            counters = Counters.load(tables)
            response.revision = counters.revision
            response.queued_count, response.running_count = counters.queued, counters.running
            response.dead_letter_count = self._dead_letters(tables, rights, counters)
            response.late_executions.extend(self._names(tables, rights, reversed(seen.late)))
            response.failed_executions.extend(self._names(tables, rights, reversed(seen.failed)))
        return response

    def _names(self, tables: Tables, rights: Rights, numbers: Iterable[int]) -> Iterator[str]:
        """Of those that the caller may see, and that are still there."""
        return islice(self._visible(tables, rights, numbers), NAMES_MAX)

    def _visible(self, tables: Tables, rights: Rights, numbers: Iterable[int]) -> Iterator[str]:
        for number in dict.fromkeys(numbers):
            execution = views.read_execution(tables, number)
            job = "" if execution is None else views.job_name_of(tables, self._catalog, execution)
            if job and rights.may(Verb.JOB_READ, job.split("/")[1]):
                yield views.execution_name(job, number)

    def _dead_letters(self, tables: Tables, rights: Rights, counters: Counters) -> int:
        if rights.may(Verb.JOB_READ, EVERYWHERE):
            return counters.dead_letters
        reader = DeadLetterReader(tables, self._catalog)
        mine = (
            row
            for name in rights.verbs
            if rights.may(Verb.JOB_READ, name) and (raw := tables.namespace.get(name.encode())) is not None
            for row in reader.rows(Selection(log_pb2.NamespaceRecord.FromString(bytes(raw)).id))
        )
        return sum(1 for _ in islice(mine, DEAD_LETTERS_COUNTED_MAX))


def _read_seconds(given: Duration, field: str) -> int:
    """Whole seconds, rounded up."""
    seconds = given.seconds + (given.nanos > 0)
    if not 1 <= seconds <= SECONDS_KEPT:
        raise errors.invalid_field(field, f"{seconds} s is not from one second to an hour ({SECONDS_KEPT} s)")
    return seconds


def _sample(second: int, figures: Figures) -> activity_service_pb2.ActivitySample:
    sample = activity_service_pb2.ActivitySample(
        start_time=views.timestamp(second * 1000),
        started_count=figures.started,
        succeeded_count=figures.succeeded,
        failed_count=figures.failed,
        late_count=figures.late,
    )
    for field, share in ((sample.start_delay_p50, 0.5), (sample.start_delay_p99, 0.99)):
        delay_ms = quantile_ms(figures.delays, share)
        if delay_ms is not None:
            field.CopyFrom(_duration(delay_ms))
    return sample


def _duration(milliseconds: int) -> Duration:
    span = Duration()
    span.FromMilliseconds(milliseconds)
    return span
