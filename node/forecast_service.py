"""The API's ForecastService: forecasts, computed aside and kept for a while. How they come about is in `forecast` and `spread`.

A survey of many jobs takes seconds. It runs on another thread in slices with as much rest between them, so that neither the event
loop nor the step thread waits for it longer than a slice; one at a time, and once for all who ask meanwhile.
"""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from google.protobuf.duration_pb2 import Duration

from horologe.node import errors, views
from horologe.node.context import NodeContext
from horologe.node.due_patterns import MINUTE_MS, Window
from horologe.node.errors import ApiError
from horologe.node.forecast import Cause, Forecast, Survey, causes, spikes, sums
from horologe.node.names import WILDCARD, read_namespace
from horologe.node.spread import CHANGES_DEFAULT, CHANGES_MAX, Proposal, Spreading
from horologe.node.writes import Context
from horologe.v1 import forecast_service_pb2, forecast_service_pb2_grpc

DAY_MINUTES: Final = 24 * 60
STEP_MINUTES_MAX: Final = 60
SPIKES_DEFAULT, SPIKES_MAX = 10, 100
CAUSES_MAX: Final = 10
NAMES_MAX: Final = 10
SLICE_SECONDS: Final = 0.004
"""What others wait for at most, besides the 5 ms after which Python takes the turn from a thread anyway."""
WAIT_SECONDS: Final = 5.0
"""Whoever asks is told after so long that it takes longer."""
KEPT_SECONDS: Final = 60.0
KEPT_RATIO: Final = 20
"""A forecast is kept so many times as long as it took, so that forecasting is a small part of a node's work."""
KEPT_MAX: Final = 16


@dataclass(slots=True)
class _Kept:
    """A forecast, or a proposal, that is there or on its way."""

    task: asyncio.Task[Any]
    until: float = float("inf")
    """By the monotonic clock."""


class Forecasts:
    """The forecasts of one node. Belongs to the event loop, and is shared by all of its servers."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._turn = asyncio.Lock()

    async def forecast(self, namespace: str) -> Forecast:
        """Of the next 24 hours, by the minute; `namespace` empty: of all. Raises an ApiError if it takes long."""
        forecast: Forecast = await _patiently(self._forecasting(namespace))
        return forecast

    async def proposal(self, namespace: str, changes_max: int) -> tuple[Forecast, Proposal]:
        """What would make the load more even, and the forecast that it rests on. Raises an ApiError if it takes long."""

        async def compute() -> tuple[Forecast, Proposal]:
            forecast: Forecast = await asyncio.shield(self._forecasting(namespace))
            spreading = Spreading(self._node.store, forecast, changes_max)
            await self.gently(spreading.work())
            return forecast, spreading.proposal

        found: tuple[Forecast, Proposal] = await _patiently(self._task((f"proposal {changes_max}", namespace), compute))
        return found

    async def gently(self, work: Iterator[object]) -> object:
        """Does all of it on another thread, and rests half of the time; answers the last piece."""
        last: object = None
        async with self._turn:
            is_done = False
            while not is_done:
                began = self._node.clock.monotonic()
                is_done, last = await asyncio.to_thread(self._slice, work, began + SLICE_SECONDS, last)
                await asyncio.sleep(0 if is_done else max(0.0, self._node.clock.monotonic() - began))
        return last

    async def stop(self) -> None:
        """Nobody waits any more, and nobody reads the state."""
        tasks = [kept.task for kept in self._kept.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _slice(self, work: Iterator[object], until: float, last: object) -> tuple[bool, object]:
        for last in work:
            if self._node.clock.monotonic() >= until:
                return False, last
        return True, last

    def _forecasting(self, namespace: str) -> asyncio.Task[Any]:
        async def compute() -> Forecast:
            now_ms = self._node.clock.wall_ms()
            window = Window(-(-now_ms // MINUTE_MS) * MINUTE_MS, DAY_MINUTES)
            survey = Survey(self._node.store, namespace, window, now_ms)
            await self.gently(survey.work())
            return survey.forecast

        return self._task(("forecast", namespace), compute)

    def _task(self, key: tuple[str, str], compute: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """The one that is kept, or a new one."""
        kept = self._kept.get(key)
        began = self._node.clock.monotonic()
        if kept is not None and began < kept.until:
            return kept.task
        kept = self._kept[key] = _Kept(asyncio.create_task(compute(), name=" ".join(key)))
        self._kept.move_to_end(key)
        for other in list(self._kept)[:-KEPT_MAX]:
            if self._kept[other].task.done():
                del self._kept[other]

        def ended(task: asyncio.Task[Any]) -> None:
            # What failed is begun anew by whoever asks next; those who wait for it hear why.
            failed = task.cancelled() or task.exception() is not None
            now = self._node.clock.monotonic()
            kept.until = now if failed else now + max(KEPT_SECONDS, KEPT_RATIO * (now - began))

        kept.task.add_done_callback(ended)
        return kept.task


async def _patiently(task: asyncio.Task[Any]) -> Any:
    """Its result. Raises an ApiError if that takes long; the task goes on, and whoever asks again finds it."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await asyncio.shield(task)
    except TimeoutError as error:
        text = "there is much to look at, and the forecast is still being computed; ask again in a moment"
        raise ApiError("FORECAST_UNDER_WAY", text, retry_seconds=1.0) from error


class ForecastService(forecast_service_pb2_grpc.ForecastServiceServicer):
    """See forecast_service.proto."""

    def __init__(self, context: NodeContext, forecasts: Forecasts) -> None:
        self._node = context
        self._forecasts = forecasts

    async def GetForecast(
        self, request: forecast_service_pb2.GetForecastRequest, context: Context
    ) -> forecast_service_pb2.GetForecastResponse:
        del context
        namespace, steps = _namespace_of(request.parent), _Steps.of(request.window, request.step)
        if request.spike_count < 0:
            raise errors.invalid_field("spike_count", f"{request.spike_count} is less than 0")
        forecast = await self._forecasts.forecast(namespace)
        counts = forecast.steps(steps.minutes, steps.number)
        high = spikes(counts)
        response = forecast_service_pb2.GetForecastResponse(
            start_counts=counts,
            total_count=sum(counts),
            peak_count=max(counts, default=0),
            spike_total=len(high),
            job_count=forecast.job_count,
            revision=forecast.revision,
        )
        response.start_time.FromMilliseconds(forecast.window.start_ms)
        response.step.FromMilliseconds(steps.minutes * MINUTE_MS)
        response.compute_time.FromMilliseconds(forecast.compute_ms)
        for reason in sorted(forecast.left_out):
            response.left_out.add(reason=reason, job_count=forecast.left_out[reason])
        for step in high[: min(request.spike_count or SPIKES_DEFAULT, SPIKES_MAX)]:
            spike = response.spikes.add(start_count=counts[step])
            spike.start_time.FromMilliseconds(forecast.window.start_ms + step * steps.minutes * MINUTE_MS)
            minutes = range(step * steps.minutes, (step + 1) * steps.minutes)
            found: Any = await self._forecasts.gently(causes(forecast, minutes, CAUSES_MAX))
            spike.causes.extend(await asyncio.to_thread(self._causes, found))
        return response

    async def ProposeSpread(
        self, request: forecast_service_pb2.ProposeSpreadRequest, context: Context
    ) -> forecast_service_pb2.ProposeSpreadResponse:
        del context
        namespace, steps = _namespace_of(request.parent), _Steps.of(request.window, request.step)
        if request.change_count < 0:
            raise errors.invalid_field("change_count", f"{request.change_count} is less than 0")
        changes_max = min(request.change_count or CHANGES_DEFAULT, CHANGES_MAX)
        forecast, proposal = await self._forecasts.proposal(namespace, changes_max)
        before = forecast.steps(steps.minutes, steps.number)
        after = sums(proposal.counts_after, steps.minutes, steps.number)
        response = forecast_service_pb2.ProposeSpreadResponse(
            changes=proposal.changes,
            more_count=proposal.more_count,
            peak_before=max(before, default=0),
            peak_after=max(after, default=0),
            counts_before=before,
            counts_after=after,
        )
        response.start_time.FromMilliseconds(forecast.window.start_ms)
        response.step.FromMilliseconds(steps.minutes * MINUTE_MS)
        response.compute_time.FromMilliseconds(forecast.compute_ms)
        return response

    def _causes(self, found: Sequence[Cause]) -> list[forecast_service_pb2.SpikeCause]:
        with self._node.store.read() as tables:
            records = {job: views.read_job(tables, job) for cause in found for job in cause.group.members[:NAMES_MAX]}
        return [
            forecast_service_pb2.SpikeCause(
                schedule=cause.group.text,
                job_count=cause.group.count,
                start_count=cause.start_count,
                jobs=[
                    record.job.name
                    for job in cause.group.members[:NAMES_MAX]
                    if (record := records[job]) is not None and not record.deleted
                ],
            )
            for cause in found
        ]


class _Steps(NamedTuple):
    """How an answer is cut."""

    minutes: int
    """Of one step."""
    number: int

    @classmethod
    def of(cls, window: Duration, step: Duration) -> Self:
        """Raises an ApiError for what is no whole number of minutes, or too much."""
        minutes = _minutes(step, "step", 1, STEP_MINUTES_MAX)
        whole = _minutes(window, "window", DAY_MINUTES, DAY_MINUTES)
        return cls(minutes, -(-whole // minutes))


def _minutes(duration: Duration, field: str, default: int, most: int) -> int:
    if not duration.seconds and not duration.nanos:
        return default
    minutes, rest = divmod(duration.seconds, 60)
    if rest or duration.nanos or not 1 <= minutes <= most:
        raise errors.invalid_field(field, f"{duration.seconds} s is not a whole number of minutes from 1 to {most}")
    return minutes


def _namespace_of(parent: str) -> str:
    """The id of the namespace; empty: all of them."""
    namespace = read_namespace(parent, "parent", wildcard=True)
    return "" if namespace == WILDCARD else namespace
