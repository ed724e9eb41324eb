"""The words of cron schedules: dialects and policies, and the error of everything that reads them.

What a dialect allows is in `cron_dialects`, what the policies do to due times in `cron`.
"""

from __future__ import annotations

import json
from enum import StrEnum


class CronError(ValueError):
    """The expression, its zone or its policies cannot be used; the text names the value, the rule and the way out."""


class Dialect(StrEnum):
    """How the fields of an expression are read."""

    UNIX = "unix"
    UNIX_SECONDS_FIRST = "unix-seconds-first"
    UNIX_SECONDS_LAST = "unix-seconds-last"
    QUARTZ = "quartz"
    KUBERNETES = "kubernetes"


class GapPolicy(StrEnum):
    """What becomes of local times that daylight saving leaves out."""

    RUN_AFTER = "run_after"
    SKIP = "skip"


class OverlapPolicy(StrEnum):
    """What becomes of local times that daylight saving repeats."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class DayMatch(StrEnum):
    """Which days match when day of month and day of week are both restricted."""

    EITHER = "either"
    BOTH = "both"


def quoted(text: str) -> str:
    """`text` for a message: in quotes, control characters escaped, shortened when long."""
    return json.dumps(text if len(text) <= 80 else text[:77] + "...", ensure_ascii=False)
