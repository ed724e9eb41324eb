"""What notification rules have to tell, and what has come of it: grouped, held back, sent, recorded.

The leader reads the events on from the place that is kept here, and proposes what rules want (`note_notices`). It lies in
groups, each with the time at which it goes out, until the leader has sent it and says so (`note_deliveries`). So a leader that
dies after it has sent something leaves it to the next one, which sends it once more, under the same number. Every step expects
what it follows: what comes twice, or from a leader that is none any more, does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft.events import EVENT, EventKind, floor_of
from horologe.raft.model import Code, Result
from horologe.raft.records import PAIR, U64
from horologe.raft.state import State
from horologe.raft.tables import Tables
from horologe.v1 import notification_pb2

GROUPS_MAX = 50
"""Groups of a rule that wait; what would make more of them is held back in one."""
NOTICES_MAX = 10
"""Notices of a group that are remembered one by one; the others are counted."""
SENT_MAX = 100
"""Messages an hour, whatever a rule says."""
PER_HOUR_DEFAULT = 60
HOUR_MS = 3_600_000
DELIVERIES_MAX = 200
"""Deliveries of a rule that are kept."""
DELIVERY_MS = 30 * 86_400_000
"""So long one is kept, at most."""
MEMBERS_MAX = 20
_PLACE_KEY = b"notice_place"
_QUORUM_KEY = b"quorum"
_Note = log_pb2.NoteDelivery
_Kept = notification_pb2.Delivery
_ENDS: Mapping[int, tuple[_Kept.Outcome.ValueType, bool]] = {
    _Note.OUTCOME_DELIVERED: (_Kept.OUTCOME_DELIVERED, False),
    _Note.OUTCOME_FAILED: (_Kept.OUTCOME_FAILED, False),
    _Note.OUTCOME_TEST_DELIVERED: (_Kept.OUTCOME_DELIVERED, True),
    _Note.OUTCOME_TEST_FAILED: (_Kept.OUTCOME_FAILED, True),
}
"""What is recorded, and whether it was a test."""


# The events


def place_of(tables: Tables) -> tuple[int, int]:
    """Where the leader goes on to read events: an entry, and a position in its row."""
    raw = tables.meta.get(_PLACE_KEY)
    return (0, 0) if raw is None else PAIR.unpack(raw)


def begin_anew(state: State) -> None:
    """There was nobody to be told until now: nothing that has happened is looked at."""
    state.tables.meta.put(_PLACE_KEY, PAIR.pack(state.index + 1, 0))


def note_notices(state: State, command: log_pb2.NoteNotices) -> Result:
    """What the leader has found since the place that it began at. MOVED_ON if that is not where the state is."""
    start, end = command.start, command.end
    if place_of(state.tables) != (start.revision, start.position):
        return Result(Code.MOVED_ON)
    if command.lost_before:
        _tell_of_lost_events(state, command.lost_before)
    active = {record.id: record for record in _active_rules(state.tables)} if command.found else {}
    changed: dict[int, log_pb2.RuleProgress] = {}
    for found in command.found:
        record = active.get(found.rule)
        if record is None or found.notice.revision <= record.begin_revision:
            continue
        progress = changed.setdefault(record.id, progress_of(state.tables, record.id))
        window_ms = record.rule.group_window.ToMilliseconds()
        _add(progress, found.key, [found.notice], 1, state.now_ms, window_ms)
    for rule, progress in changed.items():
        _write(state, rule, progress)
    state.tables.meta.put(_PLACE_KEY, PAIR.pack(end.revision, end.position))
    return Result(Code.OK)


def _tell_of_lost_events(state: State, before: int) -> None:
    for record in list(_active_rules(state.tables)):
        if record.begin_revision < before - 1:
            progress = progress_of(state.tables, record.id)
            text = f"events before revision {before} were gone before anybody had looked at them"
            _record(state, record.id, progress, _Kept(outcome=_Kept.OUTCOME_EVENTS_LOST, error=text))
            _write(state, record.id, progress)


def _active_rules(tables: Tables) -> list[log_pb2.NotificationRecord]:
    found = (log_pb2.NotificationRecord.FromString(bytes(raw)) for _, raw in tables.notification.scan())
    return [record for record in found if not record.rule.disabled]


# Groups


def progress_of(tables: Tables, rule: int) -> log_pb2.RuleProgress:
    raw = tables.notice.get(U64.pack(rule))
    return log_pb2.RuleProgress() if raw is None else log_pb2.RuleProgress.FromString(bytes(raw))


def room_at_ms(progress: log_pb2.RuleProgress, max_per_hour: int, now_ms: int) -> int:
    """When the rule may send its next message: `now_ms` or before, if it may now."""
    per_hour = min(max_per_hour or PER_HOUR_DEFAULT, SENT_MAX)
    recent = [sent_ms for sent_ms in progress.sent_times_ms if sent_ms > now_ms - HOUR_MS]
    return now_ms if len(recent) < per_hour else recent[-per_hour] + HOUR_MS


def _add(
    progress: log_pb2.RuleProgress,
    key: str,
    notices: list[notification_pb2.Notice],
    count: int,
    now_ms: int,
    window_ms: int,
) -> None:
    """To the open group of that key; else to a new one, if there may be one more."""
    group = next(
        (each for each in progress.groups if each.key == key and each.due_time_ms > now_ms and _is_open(each)), None
    )
    if group is None and len(progress.groups) >= GROUPS_MAX:
        group = _held_back(progress, now_ms)
    elif group is None:
        progress.last_group += 1
        group = progress.groups.add(id=progress.last_group, key=key, due_time_ms=now_ms + window_ms)
    group.count += count
    group.notices.extend(notices[: max(0, NOTICES_MAX - len(group.notices))])


def _is_open(group: log_pb2.NoticeGroup) -> bool:
    return not group.attempts and not group.held_back


def _held_back(progress: log_pb2.RuleProgress, due_ms: int) -> log_pb2.NoticeGroup:
    """The group of what is held back, which is made if there is none."""
    for group in progress.groups:
        if group.held_back and not group.attempts:
            return group
    progress.last_group += 1
    return progress.groups.add(id=progress.last_group, due_time_ms=due_ms, held_back=True)


# Deliveries


def note_deliveries(state: State, command: log_pb2.NoteDeliveries) -> Result:
    """What has come of groups, and of tests. What is about a group that stands otherwise now is left out."""
    rules = {record.id for record in _all_rules(state.tables)}
    for note in command.deliveries:
        if note.rule not in rules:
            continue
        progress = progress_of(state.tables, note.rule)
        if note.outcome in (_Note.OUTCOME_TEST_DELIVERED, _Note.OUTCOME_TEST_FAILED):
            _record(state, note.rule, progress, _delivery(note, log_pb2.NoticeGroup()))
        elif not _settle(state, note, progress):
            continue
        _write(state, note.rule, progress)
    return Result(Code.OK)


def _all_rules(tables: Tables) -> list[log_pb2.NotificationRecord]:
    return [log_pb2.NotificationRecord.FromString(bytes(raw)) for _, raw in tables.notification.scan()]


def _settle(state: State, note: log_pb2.NoteDelivery, progress: log_pb2.RuleProgress) -> bool:
    """False if the group is not there any more, or was tried by somebody else meanwhile."""
    position = next((place for place, each in enumerate(progress.groups) if each.id == note.group), None)
    if position is None or progress.groups[position].attempts != note.attempts:
        return False
    group = progress.groups[position]
    if note.outcome == _Note.OUTCOME_HELD_BACK:
        _hold_back(progress, position, note.next_time_ms)
        return True
    _split_off(progress, group, note.count, state.now_ms)
    if not group.attempts:
        recent = [sent_ms for sent_ms in progress.sent_times_ms if sent_ms > state.now_ms - HOUR_MS]
        progress.sent_times_ms[:] = [*recent, state.now_ms][-SENT_MAX:]
    group.attempts += 1
    group.error = note.error
    if note.outcome == _Note.OUTCOME_RETRY:
        group.due_time_ms = note.next_time_ms
        return True
    _record(state, note.rule, progress, _delivery(note, group))
    del progress.groups[position]
    return True


def _split_off(progress: log_pb2.RuleProgress, group: log_pb2.NoticeGroup, count: int, now_ms: int) -> None:
    """What has come to a group since the message was made becomes one of its own."""
    rest = group.count - count
    if rest <= 0:
        return
    progress.last_group += 1
    notices = list(group.notices[count:])
    progress.groups.add(
        id=progress.last_group,
        key=group.key,
        count=rest,
        notices=notices,
        due_time_ms=now_ms,
        held_back=group.held_back,
    )
    group.count = count
    del group.notices[count:]


def _hold_back(progress: log_pb2.RuleProgress, position: int, until_ms: int) -> None:
    """The group waits, together with all others that are held back."""
    group = progress.groups[position]
    if group.held_back:
        group.due_time_ms = until_ms
        return
    count, notices = group.count, list(group.notices)
    del progress.groups[position]
    held = _held_back(progress, until_ms)
    held.count += count
    held.notices.extend(notices[: max(0, NOTICES_MAX - len(held.notices))])
    held.due_time_ms = max(held.due_time_ms, until_ms)


def _delivery(note: log_pb2.NoteDelivery, group: log_pb2.NoticeGroup) -> notification_pb2.Delivery:
    outcome, is_test = _ENDS[note.outcome]
    return _Kept(
        outcome=outcome,
        id=note.id,
        notice_count=group.count,
        notices=group.notices,
        attempt_count=group.attempts or 1,
        error=note.error,
        held_back=group.held_back,
        test=is_test,
    )


def deliveries_key(rule: int, number: int) -> bytes:
    return PAIR.pack(rule, number)


def _record(state: State, rule: int, progress: log_pb2.RuleProgress, delivery: notification_pb2.Delivery) -> None:
    """The next record of the rule; the oldest ones go. The caller writes the progress."""
    delivery.time.FromMilliseconds(state.now_ms)
    progress.last_delivery += 1
    progress.deliveries += 1
    table = state.tables.delivery
    table.put(deliveries_key(rule, progress.last_delivery), delivery.SerializeToString(deterministic=True))
    too_old: list[bytes] = []
    for key, raw in islice(table.scan(deliveries_key(rule, 0)), 10):
        is_old = _Kept.FromString(bytes(raw)).time.ToMilliseconds() < state.now_ms - DELIVERY_MS
        if PAIR.unpack(key)[0] != rule or not (is_old or progress.deliveries - len(too_old) > DELIVERIES_MAX):
            break
        too_old.append(bytes(key))
    for key in too_old:
        table.delete(key)
    progress.deliveries -= len(too_old)


def forget_rule(state: State, rule: int) -> None:
    """It is deleted."""
    state.tables.notice.delete(U64.pack(rule))
    found = islice(state.tables.delivery.scan(deliveries_key(rule, 0)), DELIVERIES_MAX + 1)
    for key in [bytes(key) for key, _ in found if PAIR.unpack(key)[0] == rule]:
        state.tables.delivery.delete(key)


def _write(state: State, rule: int, progress: log_pb2.RuleProgress) -> None:
    state.tables.notice.put(U64.pack(rule), progress.SerializeToString(deterministic=True))


# The quorum


def quorum_of(tables: Tables) -> log_pb2.NoteQuorum:
    """What a leader has said last, while there was a rule that wanted to know."""
    raw = tables.meta.get(_QUORUM_KEY)
    return log_pb2.NoteQuorum() if raw is None else log_pb2.NoteQuorum.FromString(bytes(raw))


def note_quorum(state: State, command: log_pb2.NoteQuorum) -> Result:
    """An event, if it is something new."""
    if quorum_of(state.tables).at_risk != command.at_risk:
        state.tables.meta.put(_QUORUM_KEY, command.SerializeToString(deterministic=True))
        state.events += EVENT.pack(0, 0, 0, 0, 0, 0, 0, EventKind.QUORUM_CHANGED, 0, int(command.at_risk), 0)
    return Result(Code.OK)


def first_known(tables: Tables) -> int:
    """The first revision whose events are certainly still there."""
    return floor_of(tables) + 1
