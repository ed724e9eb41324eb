"""What must hold of notification rules, of what they have to tell and of what has come of it, after every entry."""

from __future__ import annotations

from collections import Counter

from horologe.log.v1 import log_pb2
from horologe.raft import notices
from horologe.raft.model import Counters
from horologe.raft.notices import DELIVERIES_MAX, NOTICES_MAX, SENT_MAX, place_of
from horologe.raft.notifications import RULES_MAX, changed_at, is_rule_name, scope_of, secret_names
from horologe.raft.records import PAIR, U64
from horologe.raft.tables import Tables
from horologe.v1.notification_pb2 import Delivery


def check_notifications(tables: Tables, counters: Counters) -> None:
    """Raises AssertionError."""
    records = _check_rules(tables, counters)
    progresses = {U64.unpack(key)[0]: log_pb2.RuleProgress.FromString(value) for key, value in tables.notice.scan()}
    assert progresses.keys() <= records, "a rule is gone, and what it has to tell is not"
    deliveries: dict[int, list[tuple[int, Delivery]]] = {rule: [] for rule in progresses}
    for key, value in tables.delivery.scan():
        rule, number = PAIR.unpack(key)
        deliveries[rule].append((number, Delivery.FromString(value)))
    for rule, progress in progresses.items():
        _check_groups(f"rule {rule}: {progress}", progress, counters.log_time_ms)
        _check_deliveries(f"rule {rule}", progress, deliveries[rule], counters.log_time_ms)
    assert place_of(tables) <= (counters.revision + 1, 0), "what has not happened yet was looked at"


def _check_rules(tables: Tables, counters: Counters) -> set[int]:
    """Their numbers."""
    records = {key.decode(): log_pb2.NotificationRecord.FromString(value) for key, value in tables.notification.scan()}
    for name, record in records.items():
        assert record.rule.name == name and is_rule_name(name), f"{name}: {record}"
        assert 0 < record.revision <= changed_at(tables) <= counters.revision, f"{name}: {record}"
        assert record.begin_revision <= record.revision, f"{name}: {record}"
        assert record.begin_revision or record.rule.disabled, f"{name} hears of what happened before it was made"
        for secret in secret_names(record.rule):
            assert tables.secret.get(secret.encode()) is not None, f"{name} names {secret}, which is gone"
    assert max(Counter(map(scope_of, records)).values(), default=0) <= RULES_MAX
    numbers = {record.id for record in records.values()}
    assert len(numbers) == len(records), "two rules have one number"
    return numbers


def _check_groups(story: str, progress: log_pb2.RuleProgress, now_ms: int) -> None:
    """Each group has its number for itself and stands for something; none but those that were tried are beyond the bounds."""
    numbers = [group.id for group in progress.groups]
    assert len(set(numbers)) == len(numbers) and max(numbers, default=0) <= progress.last_group, story
    for group in progress.groups:
        assert group.count >= 1 and len(group.notices) <= min(group.count, NOTICES_MAX), story
        assert group.attempts or not group.error, story
    fresh = [group for group in progress.groups if not group.attempts]
    assert sum(group.held_back for group in fresh) <= 1, f"what is held back does not go out together: {story}"
    assert sum(not group.held_back for group in fresh) <= notices.GROUPS_MAX, story
    open_keys = [group.key for group in fresh if not group.held_back and group.due_time_ms > now_ms]
    assert len(set(open_keys)) == len(open_keys), f"what belongs together does not go out together: {story}"
    times = list(progress.sent_times_ms)
    assert times == sorted(times) and len(times) <= SENT_MAX and max(times, default=0) <= now_ms, story


def _check_deliveries(
    story: str, progress: log_pb2.RuleProgress, kept: list[tuple[int, Delivery]], now_ms: int
) -> None:
    """The last ones, without a gap, in the order in which they came."""
    last = progress.last_delivery
    assert [number for number, _ in kept] == list(range(last - progress.deliveries + 1, last + 1)), story
    assert len(kept) <= DELIVERIES_MAX, story
    times = [delivery.time.ToMilliseconds() for _, delivery in kept]
    assert times == sorted(times) and max(times, default=0) <= now_ms, story
    for _, delivery in kept:
        is_message = delivery.outcome != Delivery.OUTCOME_EVENTS_LOST and not delivery.test
        assert delivery.outcome != Delivery.OUTCOME_UNSPECIFIED, f"{story}: {delivery}"
        assert (delivery.notice_count >= 1) == is_message, f"{story}: {delivery}"
        assert len(delivery.notices) <= min(delivery.notice_count, NOTICES_MAX), f"{story}: {delivery}"
