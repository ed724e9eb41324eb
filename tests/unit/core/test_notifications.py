"""Notification rules in the state, and what they have to tell: grouped, held back, sent once more if nobody wrote it down."""

from __future__ import annotations

import pytest
from support import commands
from support.driver import Driver

from horologe.log.v1 import log_pb2
from horologe.raft import notices, notifications
from horologe.raft.commands import SESSION, Outcome
from horologe.raft.events import EventKind, rows_from
from horologe.raft.model import Code, Result
from horologe.raft.notices import DELIVERIES_MAX, GROUPS_MAX, HOUR_MS, NOTICES_MAX, SENT_MAX, place_of, progress_of
from horologe.raft.notifications import find_rule, scope_of
from horologe.raft.records import PAIR
from horologe.v1.notification_pb2 import Delivery, Notice

SECOND, MINUTE = 1_000, 60_000
DELIVERED, RETRY = log_pb2.NoteDelivery.OUTCOME_DELIVERED, log_pb2.NoteDelivery.OUTCOME_RETRY
FAILED, HELD_BACK = log_pb2.NoteDelivery.OUTCOME_FAILED, log_pb2.NoteDelivery.OUTCOME_HELD_BACK
TEST_FAILED = log_pb2.NoteDelivery.OUTCOME_TEST_FAILED
TICK = "namespaces/default/jobs/tick"


def set_rule(machine: Driver, id_: str = "n1", *events: str, **fields: object) -> int:
    result = machine.do(commands.set_notification(id_, *events, **fields))
    assert result.code is Code.OK, result
    return result.numbers[0]


def found(machine: Driver, rule: int, *keys: str, lost_before: int = 0, after_ms: int = 0) -> Result:
    """The leader has found a notice of each key."""
    revision, position = place_of(machine.tables)
    note = log_pb2.NoteNotices(lost_before=lost_before)
    note.start.revision, note.start.position = revision, position
    note.end.revision = max(revision, machine.index + 2)
    for key in keys:
        note.found.add(rule=rule, key=key, notice=Notice(revision=machine.index + 1, job=TICK))
    return machine.do(log_pb2.Command(note_notices=note), after_ms=after_ms)


def groups(machine: Driver, rule: int) -> list[log_pb2.NoticeGroup]:
    return list(progress_of(machine.tables, rule).groups)


def told(machine: Driver, rule: int) -> list[tuple[str, int, int, bool]]:
    """Key, how many, when from now on, and whether held back."""
    return [(g.key, g.count, g.due_time_ms - machine.now_ms, g.held_back) for g in groups(machine, rule)]


def sent(machine: Driver, rule: int, group: log_pb2.NoticeGroup, outcome: int = DELIVERED, **fields: object) -> None:
    note = log_pb2.NoteDelivery(rule=rule, group=group.id, attempts=group.attempts, count=group.count, outcome=outcome)
    for field, value in fields.items():
        setattr(note, field, value)
    machine.do(log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[note])))


def deliveries(machine: Driver, rule: int) -> list[Delivery]:
    rows = machine.tables.delivery.scan(PAIR.pack(rule, 0))
    return [Delivery.FromString(raw) for key, raw in rows if PAIR.unpack(key)[0] == rule]


# Rules


def test_a_rule_is_made_changed_and_deleted(machine: Driver) -> None:
    rule = set_rule(machine)
    name = "namespaces/default/notifications/n1"
    made = find_rule(machine.tables, name)
    assert made is not None
    assert (made.id, made.revision, made.begin_revision) == (rule, machine.index, machine.index)
    assert machine.do(commands.set_notification("n1")).code is Code.OK, "the same again changes nothing"
    assert find_rule(machine.tables, name) == made
    set_rule(machine, "n1", "MISSED")
    changed = find_rule(machine.tables, name)
    assert changed is not None
    assert (changed.id, changed.revision, changed.begin_revision) == (rule, machine.index, made.begin_revision)
    stale = log_pb2.DeleteNotification(name=name, expected_revision=made.revision)
    assert machine.do(log_pb2.Command(delete_notification=stale)) == Result(Code.ETAG_MISMATCH, (), name)
    found(machine, rule, "a")
    sent(machine, rule, groups(machine, rule)[0])
    found(machine, rule, "b")
    assert machine.do(commands.delete_notification("n1")).code is Code.OK
    assert not deliveries(machine, rule)
    assert not groups(machine, rule)
    assert machine.do(commands.delete_notification("n1")) == Result(Code.NOTIFICATION_NOT_FOUND, (), name)
    assert set_rule(machine) > rule, "numbers are never given again"


def test_rules_of_the_cluster_are_in_no_namespace() -> None:
    assert scope_of("notifications/default") == "*"
    assert scope_of("namespaces/shop/notifications/n1") == "shop"


def test_a_secret_stays_while_a_rule_names_it(machine: Driver) -> None:
    lost = Result(Code.SECRET_NOT_FOUND, (), "namespaces/default/secrets/s1")
    assert machine.do(commands.set_notification("n1", signing_secret="s1")) == lost
    machine.do(commands.set_secret("s1"))
    full = "namespaces/default/secrets/s1"
    for scope, named in (("namespaces/default/", "s1"), ("", full)):
        assert machine.do(commands.set_notification("n1", scope=scope, signing_secret=named)).code is Code.OK
        assert machine.do(commands.delete_secret("s1")) == Result(Code.SECRET_IN_USE, (), full)
        machine.do(commands.delete_notification("n1", scope=scope))
    assert machine.do(commands.set_notification("n1", scope="namespaces/shop/", signing_secret="s1")).text == (
        "namespaces/shop/secrets/s1"
    )
    assert machine.do(commands.delete_secret("s1")).code is Code.OK


def test_a_namespace_and_the_cluster_hold_so_many_each(machine: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "RULES_MAX", 2)
    for scope in ("", "namespaces/default/", "namespaces/shop/"):
        for id_ in ("n1", "n2"):
            set_rule(machine, id_, scope=scope)
        assert machine.do(commands.set_notification("n3", scope=scope)).code is Code.QUOTA_EXCEEDED
        set_rule(machine, "n2", "MISSED", scope=scope)


# What happens


def test_a_job_that_is_well_again_is_told_once(machine: Driver) -> None:
    machine.do(commands.create("tick", max_attempts=1))
    session = machine.do(commands.connect()).numbers[0]

    def run(outcome: Outcome) -> None:
        number = machine.do(commands.run("tick", force=True)).numbers[0]
        machine.do(commands.plan(assigns=[(number, session)]))
        machine.do(commands.complete(commands.outcome(number, machine.index, 1, outcome)))

    def recoveries() -> list[int]:
        rows = rows_from(machine.tables, 0)
        return [event.execution for row in rows for event in row.events if event.kind == EventKind.JOB_RECOVERED]

    run(Outcome.SUCCEEDED)
    run(Outcome.FAILED)
    machine.do(commands.update("tick", max_attempts=1, description="changed"))
    run(Outcome.FAILED)
    assert recoveries() == []
    run(Outcome.SUCCEEDED)
    run(Outcome.SUCCEEDED)
    assert recoveries() == [4]


def test_a_lost_worker_is_told_once_and_one_that_left_is_not(machine: Driver) -> None:
    first = machine.do(commands.connect("w1")).numbers[0]
    machine.do(commands.close(machine.do(commands.connect("w2")).numbers[0]))
    for _ in range(2):
        machine.do(log_pb2.Command(plan=log_pb2.Plan(expired_sessions=SESSION.pack(first))))
    events = [event for row in rows_from(machine.tables, 0) for event in row.events]
    assert [(event.kind, event.worker) for event in events] == [(EventKind.WORKER_LOST, 1)]


def test_the_quorum_is_told_when_it_changes(machine: Driver) -> None:
    for at_risk in (False, True, True, False, False):
        note = log_pb2.NoteQuorum(at_risk=at_risk, missing=["n2"] if at_risk else [])
        machine.do(log_pb2.Command(note_quorum=note))
    events = [event for row in rows_from(machine.tables, 0) for event in row.events]
    assert [(event.kind, event.after) for event in events] == [
        (EventKind.QUORUM_CHANGED, 1),
        (EventKind.QUORUM_CHANGED, 0),
    ]


# Groups


def test_the_first_rule_begins_with_what_comes_after_it(machine: Driver) -> None:
    machine.do(commands.create("tick"))
    rule = set_rule(machine)
    assert place_of(machine.tables) == (machine.index + 1, 0)
    found(machine, rule, "a")
    here = place_of(machine.tables)
    set_rule(machine, "n2")
    assert place_of(machine.tables) == here, "somebody listens already"


def test_what_is_found_twice_or_by_an_old_leader_is_left_out(machine: Driver) -> None:
    rule = set_rule(machine)
    assert found(machine, rule, "a").code is Code.OK
    assert machine.do(machine.entries[-1][1].commands[0]).code is Code.MOVED_ON
    assert told(machine, rule) == [("a", 1, 0, False)]


def test_a_window_gathers_and_then_closes(machine: Driver) -> None:
    rule = set_rule(machine, group_window_ms=MINUTE)
    found(machine, rule, "a", "b", "a")
    found(machine, rule, "a", after_ms=59 * SECOND)
    assert told(machine, rule) == [("a", 3, SECOND, False), ("b", 1, SECOND, False)]
    found(machine, rule, "a", after_ms=SECOND)
    assert told(machine, rule) == [("a", 3, 0, False), ("b", 1, 0, False), ("a", 1, MINUTE, False)]


def test_only_the_first_notices_are_kept_and_all_are_counted(machine: Driver) -> None:
    rule = set_rule(machine, group_window_ms=MINUTE)
    found(machine, rule, *["a"] * (NOTICES_MAX + 5))
    (group,) = groups(machine, rule)
    assert (len(group.notices), group.count) == (NOTICES_MAX, NOTICES_MAX + 5)


def test_too_many_groups_go_out_as_one(machine: Driver) -> None:
    rule = set_rule(machine, group_window_ms=MINUTE)
    found(machine, rule, *(f"k{number}" for number in range(GROUPS_MAX + 7)))
    assert told(machine, rule)[-1] == ("", 7, 0, True)
    assert len(groups(machine, rule)) == GROUPS_MAX + 1


def test_what_a_disabled_or_deleted_rule_would_have_wanted_is_left_out(machine: Driver) -> None:
    rule, other = set_rule(machine), set_rule(machine, "n2")
    set_rule(machine, "n1", disabled=True)
    found(machine, rule, "a")
    assert told(machine, rule) == []
    set_rule(machine, "n1")
    old = log_pb2.FoundNotice(rule=rule, key="a", notice=Notice(revision=machine.index - 1))
    start = log_pb2.EventPlace(revision=place_of(machine.tables)[0])
    note = log_pb2.NoteNotices(start=start, end=start, found=[old])
    machine.do(log_pb2.Command(note_notices=note))
    assert told(machine, rule) == [], "that was before it was enabled again"
    machine.do(commands.delete_notification("n2"))
    found(machine, other, "a")
    assert told(machine, other) == []


# Deliveries


def test_what_was_sent_is_recorded_and_gone(machine: Driver) -> None:
    rule = set_rule(machine)
    found(machine, rule, "a")
    sent(machine, rule, groups(machine, rule)[0], id="abc")
    (record,) = deliveries(machine, rule)
    assert (record.outcome, record.id, record.notice_count, record.attempt_count) == (
        Delivery.OUTCOME_DELIVERED,
        "abc",
        1,
        1,
    )
    assert record.notices[0].job == TICK
    assert told(machine, rule) == []


def test_who_says_it_again_or_too_late_changes_nothing(machine: Driver) -> None:
    rule = set_rule(machine)
    found(machine, rule, "a")
    (group,) = groups(machine, rule)
    sent(machine, rule, group, RETRY, error="no answer", next_time_ms=machine.now_ms + 5 * SECOND)
    sent(machine, rule, group, DELIVERED)
    assert [(each.attempts, each.error) for each in groups(machine, rule)] == [(1, "no answer")]
    assert not deliveries(machine, rule)
    (again,) = groups(machine, rule)
    sent(machine, rule, again, FAILED, error="no answer")
    sent(machine, rule, again, FAILED, error="no answer")
    (record,) = deliveries(machine, rule)
    assert (record.outcome, record.attempt_count, record.error) == (Delivery.OUTCOME_FAILED, 2, "no answer")


@pytest.mark.parametrize("outcome", [DELIVERED, RETRY, FAILED])
def test_what_came_while_a_message_was_on_its_way_is_still_to_be_sent(machine: Driver, outcome: int) -> None:
    rule = set_rule(machine, group_window_ms=MINUTE)
    found(machine, rule, "a")
    (group,) = groups(machine, rule)
    found(machine, rule, "a")
    sent(machine, rule, group, outcome, next_time_ms=machine.now_ms + SECOND)
    left = told(machine, rule)
    assert left[-1] == ("a", 1, 0, False)
    assert len(left) == (2 if outcome == RETRY else 1)
    assert [each.notice_count for each in deliveries(machine, rule)] == ([] if outcome == RETRY else [1])


def test_what_is_held_back_goes_out_together(machine: Driver) -> None:
    rule = set_rule(machine, max_per_hour=1)
    found(machine, rule, "a", "b", "c")
    first, second, third = groups(machine, rule)
    sent(machine, rule, first)
    progress = progress_of(machine.tables, rule)
    assert notices.room_at_ms(progress, 1, machine.now_ms) == machine.now_ms + HOUR_MS
    assert notices.room_at_ms(progress, 2, machine.now_ms) == machine.now_ms
    for group in (second, third):
        sent(machine, rule, group, HELD_BACK, next_time_ms=machine.now_ms + HOUR_MS)
    assert told(machine, rule) == [("", 2, HOUR_MS, True)]
    machine.now_ms += HOUR_MS
    assert notices.room_at_ms(progress_of(machine.tables, rule), 1, machine.now_ms) == machine.now_ms
    sent(machine, rule, groups(machine, rule)[0])
    assert [(each.notice_count, each.held_back) for each in deliveries(machine, rule)] == [(1, False), (2, True)]


def test_a_message_counts_once_however_often_it_is_tried(machine: Driver) -> None:
    rule = set_rule(machine, max_per_hour=2)
    found(machine, rule, "a")
    for _ in range(3):
        sent(machine, rule, groups(machine, rule)[0], RETRY, next_time_ms=machine.now_ms)
    assert len(progress_of(machine.tables, rule).sent_times_ms) == 1


def test_so_many_an_hour_whatever_the_rule_says(machine: Driver) -> None:
    progress = log_pb2.RuleProgress(sent_times_ms=[machine.now_ms] * SENT_MAX)
    assert notices.room_at_ms(progress, 10 * SENT_MAX, machine.now_ms) > machine.now_ms


def test_records_are_bounded_in_number_and_age(machine: Driver) -> None:
    rule, other = set_rule(machine), set_rule(machine, "n2")
    test = log_pb2.NoteDelivery(rule=rule, outcome=TEST_FAILED, error="refused")
    for _ in range(DELIVERIES_MAX + 3):
        machine.do(log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[test])))
    test.rule = other
    machine.do(log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[test])))
    kept = deliveries(machine, rule)
    assert len(kept) == progress_of(machine.tables, rule).deliveries == DELIVERIES_MAX
    assert (kept[0].test, kept[0].outcome, kept[0].error) == (True, Delivery.OUTCOME_FAILED, "refused")
    test.rule = rule
    machine.now_ms += 31 * 86_400_000
    for _ in range(DELIVERIES_MAX // 10 + 1):
        machine.do(log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[test])))
    assert len(deliveries(machine, rule)) == DELIVERIES_MAX // 10 + 1
    assert len(deliveries(machine, other)) == 1


def test_lost_events_are_admitted(machine: Driver) -> None:
    rule = set_rule(machine)
    machine.do(commands.create("tick"))
    newer = set_rule(machine, "n2")
    found(machine, rule, lost_before=machine.index)
    (record,) = deliveries(machine, rule)
    assert record.outcome == Delivery.OUTCOME_EVENTS_LOST
    assert "were gone before anybody had looked at them" in record.error
    assert not deliveries(machine, newer), "it did not want those"
