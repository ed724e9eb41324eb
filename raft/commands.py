"""The fixed-size records inside commands: what a plan and a completion say of each execution.

These bytes are part of the log's format (horologe.log.v1): a field is never moved, and a new form gets a new name.
All integers are big-endian; times are milliseconds since the epoch; 0 stands for "none".
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

COMMAND_BYTES_MAX = 1 << 20
"""A log entry is never larger: the Raft engine corrupts entries that do not fit one of its batches (4 MiB)."""

FIRE = Struct(">QQQQQQQQIBB")
"""job, revision, due_ms, next_due_ms, next_fire_ms, session, missed_first_ms, missed_last_ms, missed_count, missed_fate, run

The job's pending due time is the earlier of `due_ms` (if `run` is 1) and `missed_first_ms` (if `missed_count` is not 0). The
missed ones, from `missed_first_ms` to `missed_last_ms`, share `missed_fate`; `due_ms` runs if `run` is 1. `next_fire_ms` is
`next_due_ms` and the job's jitter. `session` is 0 when no worker has a free slot: the execution is then queued."""

ASSIGN = Struct(">QQ")
"""execution, session (0: it has no room under a limit, and waits in that one's line)"""

RETRY = Struct(">QQQ")
"""execution, next_attempt_ms, session (0: queue it)"""

SESSION = Struct(">Q")
"""session"""

TIMEOUT = Struct(">QQi")
"""execution, token, retry_delay_ms (as in OUTCOME)"""

EXECUTION_TIMEOUT = Struct(">QQ")
"""execution, end_by_ms"""

CALL = Struct(">QII")
"""limit, lane, count: so many of the line are called up, as far as there is room"""
CALLED_UP_MAX = 1_000
"""Of one line in one plan; more follow with the next plans."""

DEADLINE = Struct(">QQ")
"""execution, deadline_ms"""

UNPARK = Struct(">QQQQQQ")
"""job, revision, next_due_ms, next_fire_ms, skipped_count, skipped_last_ms

What was skipped begins with the due time that the job is parked at. `skipped_count` 0: it goes on with that one."""

REARM = Struct(">QQQQQQQ")
"""job, revision, due_ms, next_due_ms, next_fire_ms, calendar, calendar_revision

The job's next due time is no longer `due_ms`, as of this revision of a calendar (0: not because of a calendar)."""

OUTCOME = Struct(">QQHBBiIIi")
"""execution, token, attempt, outcome, flags, exit_code, start_delay_ms, duration_ms, retry_delay_ms

`retry_delay_ms` is what the job's policy and the proposer's dice say if the attempt failed; NO_RETRY: not again (out of
attempts); GIVE_UP: not again (the failure is permanent)."""

NO_RETRY = -1
GIVE_UP = -2


PARK_ONLY = 2
"""In the place of `run`: the proposer saw a pause, so the job is parked; if the pause is over by then, nothing is done."""


class MissedFate(IntEnum):
    """What becomes of missed due times."""

    NONE = 0
    COALESCED = 1
    MISSED_CATCHUP_SKIP = 2
    MISSED_CATCHUP_WINDOW = 3
    COALESCED_EARLIEST = 4
    MISSED_CATCHUP_MAX = 5


class Outcome(IntEnum):
    """Numbers as in horologe.v1.AttemptResult.Outcome."""

    SUCCEEDED = 1
    FAILED = 2
    TIMED_OUT = 3
    CANCELLED = 4


class OutcomeFlag:
    """One bit each in an outcome."""

    HAS_DETAIL: Final = 1
    HAS_EXIT_CODE: Final = 2


class CompletionStatus(IntEnum):
    """What became of a reported outcome; one number per outcome in the result of a Complete command."""

    RECORDED = 0
    LEASE_LOST = 1
