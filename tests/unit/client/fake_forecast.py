"""What a fake node answers about what comes next: what a test put there."""

from __future__ import annotations

from typing import Any

from horologe.v1 import forecast_service_pb2 as forecasts
from horologe.v1 import schedule_service_pb2 as schedules


class FakeForecast:
    """Part of FakeCluster."""

    forecast = forecasts.GetForecastResponse()
    proposal = forecasts.ProposeSpreadResponse()

    def _GetForecast(self, request: Any, context: Any) -> forecasts.GetForecastResponse:
        return self.forecast

    def _ProposeSpread(self, request: Any, context: Any) -> forecasts.ProposeSpreadResponse:
        return self.proposal

    def _ExplainCron(self, request: Any, context: Any) -> schedules.ExplainCronResponse:
        return schedules.ExplainCronResponse(description=f"{request.schedule.expression} of {request.job}")
