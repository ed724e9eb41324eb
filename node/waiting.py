"""What an execution that is not running waits for, in words."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.lanes import read_lane
from horologe.raft.model import ExecutionFlag, ExecutionState
from horologe.raft.permits import LimitKind, kind_of, limit_of
from horologe.raft.rates import QueueRules
from horologe.raft.records import Execution
from horologe.raft.tables import Tables


def waits_for(tables: Tables, execution: Execution) -> str:
    """Empty for a worker, and for one that runs or has ended."""
    if execution.flags & ExecutionFlag.HELD:
        return "the end of other executions of its job (overlap)"
    if execution.state == ExecutionState.SCHEDULED:
        return "the time of its next attempt"
    if execution.state != ExecutionState.QUEUED:
        return ""
    if execution.line:
        return f"room under {_limit(tables, execution.line)}"
    rule = QueueRules(tables).of_lane(execution.queue)
    return "the end of its queue's pause" if rule is not None and rule.paused else ""


def queue_name(tables: Tables, lane: int) -> str:
    """The queue of an execution."""
    found = read_lane(tables, lane)
    return "" if found is None else found.queue


def _limit(tables: Tables, limit: int) -> str:
    match kind_of(limit):
        case LimitKind.NAMESPACE:
            return "max_running of its namespace"
        case LimitKind.JOB:
            return "max_running of its job"
        case LimitKind.START_RATE:
            return "the start rate of its namespace"
        case LimitKind.NAMED:
            for key, value in tables.limit.scan():
                if limit_of(LimitKind.NAMED, log_pb2.LimitRecord.FromString(bytes(value)).id) == limit:
                    return bytes(key).decode()
            return "a limit"
