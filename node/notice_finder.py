"""Which events the notification rules want to hear of: reads the events on from a place, and says what it has found.

Reads tables, writes nothing. How what is found lies in the state is in raft/notices.py, and who sends it in `notifier`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.operation_views import fingerprint_text
from horologe.raft import dead_letters
from horologe.raft.access import EVERYWHERE
from horologe.raft.events import Event, EventKind, Row, rows_from
from horologe.raft.model import ExecutionState, Trigger
from horologe.raft.notices import first_known, quorum_of
from horologe.raft.notifications import scope_of
from horologe.raft.records import LEDGER_KEY, U64, Execution, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2, notification_pb2

EVENTS_PER_LOOK = 5_000
FOUND_PER_LOOK = 500
"""Of one look: what it finds goes into one command."""
LATE_AFTER_MS = 60_000
_Rule = notification_pb2.NotificationRule
_Notice = notification_pb2.Notice
FAILED = notification_pb2.NOTIFICATION_EVENT_FAILED
DEAD_LETTER = notification_pb2.NOTIFICATION_EVENT_DEAD_LETTER
RECOVERED = notification_pb2.NOTIFICATION_EVENT_RECOVERED
LATE = notification_pb2.NOTIFICATION_EVENT_LATE
MISSED = notification_pb2.NOTIFICATION_EVENT_MISSED
WORKER_LOST = notification_pb2.NOTIFICATION_EVENT_WORKER_LOST
QUORUM_AT_RISK = notification_pb2.NOTIFICATION_EVENT_QUORUM_AT_RISK
QUORUM_RESTORED = notification_pb2.NOTIFICATION_EVENT_QUORUM_RESTORED
OF_CLUSTER = frozenset({WORKER_LOST, QUORUM_AT_RISK, QUORUM_RESTORED})
"""What no namespace hears of."""
_BEGUN = frozenset({0, ExecutionState.SCHEDULED, ExecutionState.QUEUED})


class Place(NamedTuple):
    """The next event is this one of that revision's row, or what comes after it."""

    revision: int
    position: int


class Found(NamedTuple):
    """What came of one look."""

    notices: list[log_pb2.FoundNotice]
    place: Place
    """Where to go on."""
    lost_before: int
    """Events before this revision are gone, and nobody has looked at them; 0: none."""
    is_all: bool


class NoticeFinder:
    """Looks for what these rules want."""

    def __init__(self, records: Sequence[log_pb2.NotificationRecord]) -> None:
        self._records = [record for record in records if not record.rule.disabled]
        self.events = frozenset(event for record in self._records for event in record.rule.events)
        """All that anybody wants."""
        wants_late = [_late_after_ms(record.rule) for record in self._records if LATE in record.rule.events]
        self._late_after_ms = min(wants_late, default=-1)

    @property
    def has_rules(self) -> bool:
        return bool(self._records)

    def look(self, tables: Tables, place: Place) -> Found:
        """The next events from a place on, a bounded number."""
        notices: list[log_pb2.FoundNotice] = []
        lost_before, looked_at = 0, 0
        if place.revision < first_known(tables):
            lost_before = first_known(tables)
            place = Place(lost_before, 0)
        for row in rows_from(tables, place.revision):
            begin = place.position if row.revision == place.revision else 0
            for position, event in enumerate(row.events[begin:], begin):
                if self._may_matter(row, event):
                    notices += self._found(tables, row, position, event)
                if len(notices) >= FOUND_PER_LOOK:
                    return Found(notices, Place(row.revision, position + 1), lost_before, False)
            place = Place(row.revision + 1, 0)
            looked_at += len(row.events)
            if looked_at >= EVENTS_PER_LOOK:
                return Found(notices, place, lost_before, False)
        return Found(notices, place, lost_before, True)

    def _may_matter(self, row: Row, event: Event) -> bool:
        """Cheap, for most events are of no interest to anybody."""
        if event.kind != EventKind.EXECUTION_MOVED:
            return event.kind >= EventKind.DUE_TIMES_MISSED
        if event.after in (ExecutionState.FAILED, ExecutionState.DEAD):
            return True
        return (
            event.after == ExecutionState.RUNNING
            and self._late_after_ms >= 0
            and event.attempt <= 1
            and event.before in _BEGUN
            and row.time_ms - event.due_ms > self._late_after_ms
        )

    def _found(self, tables: Tables, row: Row, position: int, event: Event) -> Iterator[log_pb2.FoundNotice]:
        notice = _notice_of(tables, event)
        if notice is None or (notice.event not in self.events and notice.event != DEAD_LETTER):
            return
        notice.time.FromMilliseconds(row.time_ms)
        notice.revision, notice.position = row.revision, position
        record = views.read_job(tables, event.job) if event.job else None
        late_ms = row.time_ms - event.due_ms
        for rule in self._records:
            if row.revision <= rule.begin_revision or not matches(rule.rule, record.job if record else None):
                continue
            wanted = _wanted(rule.rule, notice, late_ms)
            if wanted:
                own = _Notice()
                own.CopyFrom(notice)
                own.event = wanted
                yield log_pb2.FoundNotice(rule=rule.id, key=key_of(rule.rule, own), notice=own)


def matches(rule: _Rule, job: job_pb2.Job | None) -> bool:
    """Whether the rule is about this job, or, without one, about the cluster."""
    scope = scope_of(rule.name)
    if job is None:
        return scope == EVERYWHERE
    _, namespace, _, id_ = job.name.split("/")
    return (
        scope in (EVERYWHERE, namespace)
        and (not rule.jobs or any(fnmatchcase(id_, _pattern(text)) for text in rule.jobs))
        and all(job.labels.get(key) == value for key, value in rule.labels.items())
    )


def key_of(rule: _Rule, notice: _Notice) -> str:
    """Notices of one key go out together."""
    match rule.group_by:
        case _Rule.GROUP_BY_RULE:
            return ""
        case _Rule.GROUP_BY_EVENT:
            return notification_pb2.NotificationEvent.Name(notice.event)
        case _Rule.GROUP_BY_FINGERPRINT if notice.fingerprint:
            return f"fingerprint {notice.fingerprint}"
    return notice.job or (f"worker {notice.worker}" if notice.worker else "cluster")


def _pattern(text: str) -> str:
    """Only `*` has a meaning of its own."""
    return text.replace("[", "[[]").replace("?", "[?]")


def _late_after_ms(rule: _Rule) -> int:
    return rule.late_after.ToMilliseconds() if rule.HasField("late_after") else LATE_AFTER_MS


def _wanted(rule: _Rule, notice: _Notice, late_ms: int) -> notification_pb2.NotificationEvent.ValueType:
    """As what the rule hears of it; 0: not at all. A dead letter is a failure too, to those who want to hear of those alone."""
    if notice.event == LATE and late_ms <= _late_after_ms(rule):
        return notification_pb2.NOTIFICATION_EVENT_UNSPECIFIED
    if notice.event in rule.events:
        return notice.event
    if notice.event == DEAD_LETTER and FAILED in rule.events:
        return FAILED
    return notification_pb2.NOTIFICATION_EVENT_UNSPECIFIED


def _notice_of(tables: Tables, event: Event) -> _Notice | None:
    """What happened, as people call it, without its time and place; None if it is nothing."""
    match event.kind:
        case EventKind.WORKER_LOST:
            return _Notice(event=WORKER_LOST, worker=views.worker_name(tables, event.worker))
        case EventKind.QUORUM_CHANGED:
            kind = QUORUM_AT_RISK if event.after else QUORUM_RESTORED
            return _Notice(event=kind, members=quorum_of(tables).missing if event.after else ())
    record = views.read_job(tables, event.job)
    if record is None:
        return None
    notice = _Notice(job=record.job.name)
    notice.due_time.FromMilliseconds(event.due_ms)
    if event.kind == EventKind.DUE_TIMES_MISSED:
        raw = tables.ledger.get(LEDGER_KEY.pack(event.job, event.due_ms, 0))
        notice.event, notice.missed_count = MISSED, 1 if raw is None else LedgerEntry.unpack(raw).count
        return notice
    notice.execution = views.execution_name(record.job.name, event.execution)
    notice.state = event.after  # type: ignore[assignment]
    notice.worker = views.worker_name(tables, event.worker) if event.worker else ""
    raw = tables.execution.get(U64.pack(event.execution))
    execution = None if raw is None else Execution.unpack(raw)
    if event.kind == EventKind.JOB_RECOVERED:
        notice.event = RECOVERED
    elif event.after == ExecutionState.RUNNING:
        # What is asked for, driven again or made good is late by intention.
        if execution is None or execution.trigger != Trigger.SCHEDULE:
            return None
        notice.event = LATE
    else:
        notice.event = DEAD_LETTER if event.after == ExecutionState.DEAD else FAILED
        notice.fingerprint = fingerprint_text(dead_letters.fingerprint_in(tables, event.execution))
    return notice
