"""What happened to an execution, in the order of time: from its record, its attempts, its row of the ledger, and late events.

Reads tables, writes nothing, decides nothing.
"""

from __future__ import annotations

from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.cron_sentence import duration_text
from horologe.node.waiting import queue_name
from horologe.node.why_waiting import waiting_text
from horologe.raft.events import EVENT, Event, EventKind, floor_of
from horologe.raft.model import FINAL_STATES, AttemptState, Counters, ExecutionFlag, ExecutionState, Trigger
from horologe.raft.records import U64, Execution
from horologe.raft.tables import Tables
from horologe.v1 import story_service_pb2

EVENT_ROWS_MAX = 5_000
"""Rows of the window of events that are looked through for what no record keeps; it takes some milliseconds."""

_TRIGGERS = {
    Trigger.SCHEDULE: "due by its schedule",
    Trigger.MANUAL: "asked for",
    Trigger.BACKFILL: "due in the past, and run again by a backfill",
    Trigger.DEPENDENCY: "due as a part of a run",
}
_WHY_LATER = {
    Trigger.BACKFILL: ", when its backfill came to it",
    Trigger.DEPENDENCY: ", when those before it had ended",
}


def why_later(execution: Execution, jitter: str) -> str:
    """Why it was to start later than it was due, as the end of a sentence. Where nothing else decides, it is the job's jitter."""
    return _WHY_LATER.get(Trigger(execution.trigger), f" (jitter{jitter})")


class Story:
    """The story of one execution, in one read transaction."""

    def __init__(self, tables: Tables, number: int, execution: Execution) -> None:
        self._tables = tables
        self._number = number
        self._execution = execution
        self._entries: list[story_service_pb2.StoryEntry] = []

    def entries(self) -> list[story_service_pb2.StoryEntry]:
        """In the order of time; what happened in the same millisecond stays in the order in which it is told."""
        self._tell_beginning()
        detail = views.read_detail(self._tables, self._number, self._execution)
        events = self._late_events()
        self._tell_queueing(events)
        self._tell_attempts(detail)
        for time_ms, event in events:
            if event.kind == EventKind.CANCEL_REQUESTED:
                self._tell(time_ms, "cancel", "its end was asked for", event.attempt)
        self._tell_end(detail)
        return sorted(self._entries, key=lambda entry: (entry.time.seconds, entry.time.nanos))

    def _tell(self, time_ms: int, kind: str, text: str, attempt: int = 0) -> None:
        entry = story_service_pb2.StoryEntry(time=views.timestamp(time_ms), kind=kind, text=text, attempt=attempt)
        self._entries.append(entry)

    def _tell_beginning(self) -> None:
        execution = self._execution
        trigger = _TRIGGERS.get(Trigger(execution.trigger), "made")
        if execution.operation:
            trigger += f" (operation {execution.operation})"
        if execution.root and execution.root != self._number:
            trigger += f" that execution {execution.root} began"
        self._tell(execution.due_ms, "due", trigger)
        planned_ms = execution.planned_ms or execution.due_ms
        if planned_ms > execution.due_ms:
            later = duration_text(planned_ms - execution.due_ms)
            self._tell(planned_ms, "planned", f"to start {later} later{why_later(execution, '')}")
        late_ms = execution.create_ms - planned_ms
        late = f", {duration_text(late_ms)} late" if late_ms > 0 else ""
        self._tell(execution.create_ms, "made", f"fired{late}, with priority {execution.priority}")

    def _tell_attempts(self, detail: log_pb2.ExecutionRecord) -> None:
        ended_ms = 0
        for past in detail.attempts:
            self._tell_assignment(past.number, past.worker, past.token, past.assign_time_ms, ended_ms)
            if past.start_time_ms:
                self._tell(past.start_time_ms, "started", f"attempt {past.number} started", past.number)
            self._tell(past.end_time_ms, "ended", end_text(past), past.number)
            ended_ms = past.end_time_ms
        current = self._execution
        is_told = any(past.number == current.attempt and past.token == current.token for past in detail.attempts)
        if current.attempt_state == AttemptState.NONE or is_told:
            return
        worker = views.worker_name(self._tables, current.worker)
        self._tell_assignment(current.attempt, worker, current.token, current.assign_ms, ended_ms)
        if current.start_ms >= current.assign_ms:
            self._tell(current.start_ms, "started", f"attempt {current.attempt} started", current.attempt)
        if current.end_ms:
            state = AttemptState(current.attempt_state).name
            code = f", exit code {current.exit_code}" if current.flags & ExecutionFlag.HAS_EXIT_CODE else ""
            self._tell(current.end_ms, "ended", f"attempt {current.attempt} {state}{code}", current.attempt)

    def _tell_assignment(self, attempt: int, worker: str, token: int, at_ms: int, before_ms: int) -> None:
        since_ms = before_ms or self._execution.create_ms
        if before_ms and at_ms > before_ms:
            self._tell(before_ms, "backoff", f"waits {duration_text(at_ms - before_ms)} for attempt {attempt}", attempt)
        waited = f" after {duration_text(at_ms - since_ms)}" if at_ms > since_ms else ""
        self._tell(at_ms, "assigned", f"attempt {attempt} given to {worker}{waited}, with token {token}", attempt)

    def _late_events(self) -> list[tuple[int, Event]]:
        """What happened to it, as far as the window of events goes: no record keeps when it was queued, or to be cancelled."""
        packed = U64.pack(self._number)
        first = max(floor_of(self._tables) + 1, self._first_revision())
        return [
            (U64.unpack_from(value)[0], event)
            for _, value in islice(self._tables.event.scan(U64.pack(first)), EVENT_ROWS_MAX)
            if packed in value
            for event in map(Event._make, EVENT.iter_unpack(value[U64.size :]))
            if event.execution == self._number
        ]

    def _tell_queueing(self, events: list[tuple[int, Event]]) -> None:
        for time_ms, event in events:
            if event.kind == EventKind.EXECUTION_MOVED and event.after == ExecutionState.QUEUED:
                text = f"queued again, it was {ExecutionState(event.before).name}" if event.before else "queued"
                self._tell(time_ms, "queued", f"{text}, in queue {queue_name(self._tables, event.queue)}")

    def _first_revision(self) -> int:
        """A revision that its events do not come before, where one is known: a bisection over the times of the window."""
        low, high = floor_of(self._tables) + 1, views.revision(self._tables)
        while low < high:
            middle = (low + high) // 2
            row = next(self._tables.event.scan(U64.pack(middle)), None)
            if row is not None and U64.unpack_from(row[1])[0] < self._execution.create_ms:
                low = U64.unpack(row[0])[0] + 1
            else:
                high = middle
        return low

    def _tell_end(self, detail: log_pb2.ExecutionRecord) -> None:
        execution = self._execution
        state = ExecutionState(execution.state)
        if state in FINAL_STATES:
            reason = f": {detail.reason}" if detail.reason else ""
            self._tell(execution.end_ms, "done", f"{state.name}{reason}")
            return
        waits = waiting_text(self._tables, execution)
        if execution.next_attempt_ms:
            self._tell(execution.next_attempt_ms, "next", f"attempt {execution.attempt + 1} is due")
        elif waits:
            log_time_ms = Counters.load(self._tables).log_time_ms
            self._tell(log_time_ms, "waits", f"waits for {waits}")


def end_text(past: log_pb2.AttemptRecord) -> str:
    """How an attempt ended, and where its output is."""
    said = past.detail
    parts = [f"attempt {past.number} {AttemptState(past.state).name}"]
    if said.HasField("exit_code"):
        parts.append(f"exit code {said.exit_code}")
    if said.HasField("http_status"):
        parts.append(f"HTTP status {said.http_status}")
    if said.error_kind:
        parts.append(said.error_kind)
    if said.output_bytes:
        cut = ", cut" if said.output_truncated else ""
        nodes = f" on {' and '.join(said.output_nodes)}" if said.output_nodes else ""
        parts.append(f"{said.output_bytes} bytes of output{nodes}{cut}")
    return ", ".join(parts) + (f": {said.error}" if said.error else "")
