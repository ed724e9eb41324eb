"""Requests to begin with, for the description of the API. A test sends each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NIGHTLY = {
    "schedules": [{"cron": {"expression": "0 2 * * *", "time_zone": "Europe/Berlin"}}],
    "action": {"shell": {"argv": ["/usr/local/bin/backup", "--all"]}},
    "retry": {"max_attempts": 5, "base": "30s"},
    "labels": {"team": "storage"},
}

EXAMPLES: Mapping[str, Any] = {
    "AccessService.CreateToken": {"principal": "deployer", "time_to_live": "604800s", "namespaces": ["default"]},
    "AccessService.SetGrant": {"role": "ROLE_EDITOR"},
    "BackfillService.BackfillJob": {
        "start_time": "2026-11-01T00:00:00Z",
        "end_time": "2026-11-08T00:00:00Z",
        "validate_only": True,
    },
    "CalendarService.SetCalendar": {"time_zone": "Europe/Berlin", "dates": ["*-12-24/*-12-26", "*-01-01"]},
    "ExecutionService.CancelExecution": {"reason": "not wanted any more"},
    "JobService.ApplyJobs": {"jobs": [{"name": "namespaces/default/jobs/nightly", **_NIGHTLY}]},
    "JobService.CreateJob": _NIGHTLY,
    "JobService.PauseJob": {"reason": "the disk is full"},
    "ScheduleService.ExplainCron": {
        "schedule": {"expression": "0 7 * * mon-fri", "time_zone": "Europe/Berlin"},
        "count": 3,
    },
    "JobService.PreviewSchedule": {"schedule": {"cron": {"expression": "0 7 * * mon-fri"}}, "count": 3},
    "JobService.RunJob": {"force": True},
    "JobService.UpdateJob": {"description": "Every night.", "priority": 7},
    "LimitService.SetLimit": {"max_running": 3},
    "NamespaceService.UpdateNamespace": {"history_retention": "1209600s"},
    "PauseService.Pause": {"reason": "maintenance"},
    "QueueService.UpdateQueue": {"start_rate": {"count": 10, "per": "1s"}},
    "SecretService.SetSecret": {"value": "aHVudGVyMg=="},
}
"""Bodies, by method."""
