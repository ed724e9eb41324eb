"""What an execution waits for, and why it must: who has paused its queue, or where the workers are.

For one execution that somebody asks about; `waiting` says it in a word or two for each of many.
"""

from __future__ import annotations

from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.waiting import waits_for
from horologe.raft.lanes import Lane, read_lane
from horologe.raft.model import Counters, ExecutionState
from horologe.raft.rates import QueueRules
from horologe.raft.records import Execution
from horologe.raft.tables import Tables

SESSIONS_LOOKED_AT_MAX = 1_000
"""Where there are more, some worker will be right: then nothing is said of them."""


def waiting_text(tables: Tables, execution: Execution) -> str:
    """For after `waits for`. Empty for one that runs or has ended."""
    if execution.state not in (ExecutionState.SCHEDULED, ExecutionState.QUEUED):
        return ""
    waits = waits_for(tables, execution) or "a worker"
    why = "" if execution.state == ExecutionState.SCHEDULED or execution.line else _why(tables, execution.queue)
    return f"{waits}: {why}" if why else waits


def _why(tables: Tables, number: int) -> str:
    """Why a lane does not move."""
    lane = read_lane(tables, number)
    if lane is None:
        return ""
    rule = QueueRules(tables).of_lane(number)
    if rule is not None and rule.paused:
        return _pause_text(tables, lane.queue)
    if rule is not None and not rule.starts(Counters.load(tables).log_time_ms):
        return f"queue {lane.queue} starts no more of them at once (its start rate)"
    return _workers_text(tables, lane)


def _pause_text(tables: Tables, queue: str) -> str:
    record = log_pb2.QueueRecord.FromString(bytes(tables.queue_setting.get(queue.encode()) or b""))
    who = f" by {record.paused_by}" if record.paused_by else ""
    reason = f" ({record.pause_reason})" if record.pause_reason else ""
    return f"queue {queue} is paused{who}{reason}"


def _workers_text(tables: Tables, lane: Lane) -> str:
    sessions = [
        log_pb2.SessionRecord.FromString(bytes(value))
        for _, value in islice(tables.session.scan(), SESSIONS_LOOKED_AT_MAX + 1)
    ]
    if len(sessions) > SESSIONS_LOOKED_AT_MAX:
        return ""
    serving = [each for each in sessions if _takes_from(each, lane)]
    if not serving:
        labels = ", ".join(f"{name}={value}" for name, value in lane.labels.items())
        carrying = f" and carries {labels}" if labels else ""
        return f"no worker that is connected takes from queue {lane.queue}{carrying}"
    for each in serving:
        if views.running_count(tables, each.id) < each.open.slot_count:
            return f"{each.open.worker} has a free slot"
    slots = sum(each.open.slot_count for each in serving)
    return f"all slots of those that take from queue {lane.queue} are taken ({slots} of {len(serving)} workers)"


def _takes_from(session: log_pb2.SessionRecord, lane: Lane) -> bool:
    is_over = session.closed or session.draining
    return not is_over and lane.queue in session.open.queues and lane.is_served_with(session.open.labels)
