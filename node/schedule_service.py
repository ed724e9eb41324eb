"""The API's ScheduleService: what a cron expression means, for people who try one out."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio

from horologe.node import cron_preview, cron_sentence, errors, paging, schedule
from horologe.node.context import NodeContext
from horologe.node.cron_words import CronError
from horologe.node.job_filter import read_bound
from horologe.node.names import read_job_name
from horologe.node.writes import Context
from horologe.v1 import job_pb2, schedule_service_pb2, schedule_service_pb2_grpc

COUNT_DEFAULT = 10
EXPRESSION_LENGTH_MAX = 1_000


class ScheduleService(schedule_service_pb2_grpc.ScheduleServiceServicer):
    """See schedule_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context

    async def ExplainCron(
        self, request: schedule_service_pb2.ExplainCronRequest, context: Context
    ) -> schedule_service_pb2.ExplainCronResponse:
        del context
        count = paging.clamp_count(request.count, "count", COUNT_DEFAULT)
        from_ms = read_bound(request, "from", self._node.clock.wall_ms())
        identity = read_job_name(request.job, "job") if request.job else ""
        # An expression that is rarely due takes a while to look through.
        return await asyncio.to_thread(explain, request.schedule, identity, from_ms, count)


def explain(
    cron: job_pb2.CronSchedule, identity: str, from_ms: int, count: int
) -> schedule_service_pb2.ExplainCronResponse:
    """Raises an ApiError that names the field that is wrong."""
    if len(cron.expression) > EXPRESSION_LENGTH_MAX:
        raise errors.invalid_field("schedule.expression", f"it is longer than {EXPRESSION_LENGTH_MAX} characters")
    violations = schedule.validate(job_pb2.Schedule(cron=cron), "schedule", from_ms, identity)
    if violations:
        raise errors.invalid([each._replace(field=each.field.replace(".cron.", ".")) for each in violations])
    rule = schedule.cron_rule(cron, identity)
    try:
        response = schedule_service_pb2.ExplainCronResponse(
            description=cron_sentence.describe_cron(rule), warnings=cron_preview.warnings(rule, from_ms)
        )
        for each in cron_preview.occurrences(rule, from_ms, count):
            shown = response.occurrences.add(local_time=each.local.isoformat(), note=each.note)
            shown.time.FromDatetime(each.instant)
    except CronError as error:
        raise errors.invalid_field("schedule.expression", str(error)) from error
    return response
