"""The methods of ForecastService and ScheduleService, as `calls.py` has those of the other services: what comes next."""

from __future__ import annotations

from datetime import datetime, timedelta

from horologe.client import names
from horologe.client.calls import Call, Method, itself
from horologe.v1 import forecast_service_pb2 as forecasts
from horologe.v1 import schedule_service_pb2 as schedules
from horologe.v1.job_pb2 import CronSchedule

__all__ = ["explain_cron", "get_forecast", "propose_spread"]

GET_FORECAST = Method("ForecastService", "GetForecast", forecasts.GetForecastRequest, forecasts.GetForecastResponse)
PROPOSE_SPREAD = Method(
    "ForecastService", "ProposeSpread", forecasts.ProposeSpreadRequest, forecasts.ProposeSpreadResponse
)
EXPLAIN_CRON = Method("ScheduleService", "ExplainCron", schedules.ExplainCronRequest, schedules.ExplainCronResponse)


def get_forecast(
    namespace: str,
    *,
    parent: str = "",
    window: timedelta | None = None,
    step: timedelta | None = None,
    spike_count: int = 0,
) -> Call[forecasts.GetForecastResponse]:
    """How many starts are planned for each step of the time ahead, and who causes the spikes.

    `parent` is a namespace; empty: the client's own; `-`: all. Waits for a large one as long as the client's timeout.
    """
    request = forecasts.GetForecastRequest(parent=names.namespace_name(parent or namespace), spike_count=spike_count)
    _cut(request, window, step)
    return Call(GET_FORECAST, request, itself)


def propose_spread(
    namespace: str,
    *,
    parent: str = "",
    window: timedelta | None = None,
    step: timedelta | None = None,
    change_count: int = 0,
) -> Call[forecasts.ProposeSpreadResponse]:
    """Other schedules for jobs that share an instant with many others. Changes nothing: give them to `update_job`."""
    request = forecasts.ProposeSpreadRequest(
        parent=names.namespace_name(parent or namespace), change_count=change_count
    )
    _cut(request, window, step)
    return Call(PROPOSE_SPREAD, request, itself)


def explain_cron(
    namespace: str, schedule: CronSchedule, *, job: str = "", start: datetime | None = None, count: int = 0
) -> Call[schedules.ExplainCronResponse]:
    """What a cron expression means in English, when it is due after `start`, and what may surprise.

    InvalidArgument if it cannot be read.
    """
    full = names.job_name(job, namespace) if job else ""
    request = schedules.ExplainCronRequest(schedule=schedule, job=full, count=count)
    if start is not None:
        getattr(request, "from").FromDatetime(start)
    return Call(EXPLAIN_CRON, request, itself)


def _cut(
    request: forecasts.GetForecastRequest | forecasts.ProposeSpreadRequest,
    window: timedelta | None,
    step: timedelta | None,
) -> None:
    if window is not None:
        request.window.FromTimedelta(window)
    if step is not None:
        request.step.FromTimedelta(step)
