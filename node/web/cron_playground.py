"""The cron playground: what an expression means, while it is typed. The address holds all of it, to be passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response

from horologe.node.local_calls import LocalCallError
from horologe.node.web.forms import Fields
from horologe.node.web.view import Web
from horologe.v1 import job_pb2, schedule_service_pb2
from horologe.v1.schedule_service_pb2_grpc import ScheduleServiceStub

COUNT = 15
EXAMPLE = "*/15 9-17 * * mon-fri"
_Cron = job_pb2.CronSchedule
DIALECTS: Mapping[str, _Cron.Dialect.ValueType] = {
    "unix": _Cron.DIALECT_UNIX,
    "unix-seconds-first": _Cron.DIALECT_UNIX_SECONDS_FIRST,
    "unix-seconds-last": _Cron.DIALECT_UNIX_SECONDS_LAST,
    "quartz": _Cron.DIALECT_QUARTZ,
    "kubernetes": _Cron.DIALECT_KUBERNETES,
}
GAPS: Mapping[str, _Cron.GapPolicy.ValueType] = {
    "run_after": _Cron.GAP_POLICY_RUN_AFTER,
    "skip": _Cron.GAP_POLICY_SKIP,
}
OVERLAPS: Mapping[str, _Cron.OverlapPolicy.ValueType] = {
    "first": _Cron.OVERLAP_POLICY_FIRST,
    "second": _Cron.OVERLAP_POLICY_SECOND,
    "both": _Cron.OVERLAP_POLICY_BOTH,
}
DAY_MATCHES: Mapping[str, _Cron.DayMatch.ValueType] = {
    "either": _Cron.DAY_MATCH_EITHER,
    "both": _Cron.DAY_MATCH_BOTH,
}
"""The words of job files; the first of each is what an empty field means."""


def router(web: Web) -> APIRouter:
    """`/cron`"""
    routes = APIRouter()

    @routes.get("/cron")
    async def playground(request: Request) -> Response:
        view = web.view(request)
        fields = Fields.of(request.query_params)
        expression = request.query_params.get("expression", EXAMPLE)
        wanted = schedule_service_pb2.ExplainCronRequest(
            schedule=_Cron(
                expression=expression,
                time_zone=fields.value("time_zone"),
                dialect=DIALECTS.get(fields.value("dialect"), _Cron.DIALECT_UNIX),
                dst_gap=GAPS.get(fields.value("dst_gap"), _Cron.GAP_POLICY_RUN_AFTER),
                dst_overlap=OVERLAPS.get(fields.value("dst_overlap"), _Cron.OVERLAP_POLICY_FIRST),
                day_match=DAY_MATCHES.get(fields.value("day_match"), _Cron.DAY_MATCH_EITHER),
            ),
            job=fields.value("job"),
            count=COUNT,
        )
        start = fields.instant("from")
        if start is not None:
            getattr(wanted, "from").CopyFrom(start)
        answer, complaint = None, fields.error("from")
        if not complaint:
            try:
                answer = await ScheduleServiceStub(view.channel).ExplainCron(wanted)
            except LocalCallError as error:
                if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                complaint = str(error)
        values: dict[str, Any] = {"answer": answer, "complaint": complaint}
        if view.wants_part:
            return await view.page("cron_answer.html", **values)
        return await view.page(
            "cron.html",
            expression=expression,
            fields=fields,
            dialects=list(DIALECTS),
            gaps=list(GAPS),
            overlaps=list(OVERLAPS),
            day_matches=list(DAY_MATCHES),
            **values,
        )

    return routes
