"""Random histories of notifications: rules come and go, a leader looks, sends and writes down, and an earlier one is heard late.

The leader looks with the finder of the product; the messages themselves are nobody's here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from horologe.log.v1 import log_pb2
from horologe.node.notice_finder import NoticeFinder, Place
from horologe.raft import notices, notifications
from horologe.raft.records import PAIR
from horologe.v1.notification_pb2 import Delivery, NotificationRule
from support import commands

if TYPE_CHECKING:
    from support.driver import Driver

SECOND, MINUTE = 1_000, 60_000
Note = log_pb2.NoteDelivery
SCOPES = st.sampled_from(["namespaces/default/", "namespaces/default/", ""])
SENT = st.sampled_from([Note.OUTCOME_DELIVERED, Note.OUTCOME_DELIVERED, Note.OUTCOME_RETRY, Note.OUTCOME_FAILED])
OF_JOBS = ("FAILED", "DEAD_LETTER", "RECOVERED", "LATE", "MISSED")
OF_CLUSTER = ("WORKER_LOST", "QUORUM_AT_RISK", "QUORUM_RESTORED")


class RandomNotifications(RuleBasedStateMachine):
    """The part of a history that is about notifications; whoever has this has a driver and applies commands."""

    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        self.old_notes: list[log_pb2.Command] = []
        self.place = (0, 0)
        self.wanted: Counter[int] = Counter()
        """By rule: how much it has had to tell."""

    def apply(self, *some: log_pb2.Command) -> None:
        raise NotImplementedError

    @rule(
        id_=st.sampled_from(["n1", "n2"]),
        scope=SCOPES,
        events=st.lists(st.sampled_from(OF_JOBS), min_size=1, max_size=4, unique=True),
        group_by=st.sampled_from(NotificationRule.GroupBy.values()),
        window_ms=st.sampled_from([0, 0, 3 * SECOND, MINUTE]),
        max_per_hour=st.sampled_from([0, 1, 2]),
        secret=st.sampled_from(["", "", "s1", "s2"]),
        disabled=st.sampled_from([False, False, True]),
        expected=st.sampled_from([0, 0, 0, 3]),
    )
    def set_notification(
        self,
        id_: str,
        scope: str,
        events: list[str],
        group_by: Any,
        window_ms: int,
        max_per_hour: int,
        secret: str,
        disabled: bool,
        expected: int,
    ) -> None:
        command = commands.set_notification(
            id_,
            *events,
            *(OF_CLUSTER if not scope else ()),
            scope=scope,
            group_by=group_by,
            group_window_ms=window_ms,
            max_per_hour=max_per_hour,
            signing_secret=secret if scope or not secret else f"namespaces/default/secrets/{secret}",
            disabled=disabled,
        )
        command.set_notification.expected_revision = expected
        self.apply(command)

    @rule(id_=st.sampled_from(["n1", "n2"]), scope=SCOPES, expected=st.sampled_from([0, 0, 3]))
    def delete_notification(self, id_: str, scope: str, expected: int) -> None:
        command = commands.delete_notification(id_, scope)
        command.delete_notification.expected_revision = expected
        self.apply(command)

    @rule(at_risk=st.booleans())
    def the_quorum_changes(self, at_risk: bool) -> None:
        note = log_pb2.NoteQuorum(at_risk=at_risk, missing=["n2"] if at_risk else [])
        self.apply(log_pb2.Command(note_quorum=note))

    @rule(writes_down=st.booleans())
    def the_leader_looks_for_news(self, writes_down: bool) -> None:
        """One that has looked and does not come to say so may still be heard much later."""
        place = Place(*notices.place_of(self.driver.tables))
        found = NoticeFinder(list(notifications.rules(self.driver.tables))).look(self.driver.tables, place)
        note = log_pb2.NoteNotices(found=found.notices, lost_before=found.lost_before)
        note.start.revision, note.start.position = place
        note.end.revision, note.end.position = found.place
        self._note(log_pb2.Command(note_notices=note), writes_down=writes_down)

    @rule(
        outcome=SENT,
        delay_ms=st.sampled_from([0, 5 * SECOND, MINUTE]),
        writes_down=st.booleans(),
    )
    def the_leader_sends(self, outcome: Any, delay_ms: int, writes_down: bool) -> None:
        """What is due, as far as there is room in the hour. What it has sent may be written down much later, or never."""
        now_ms = self.driver.now_ms
        for number, record in self._records().items():
            progress = notices.progress_of(self.driver.tables, number)
            room_ms = notices.room_at_ms(progress, record.rule.max_per_hour, now_ms)
            for group in [group for group in progress.groups if group.due_time_ms <= now_ms][:1]:
                note = Note(rule=number, group=group.id, attempts=group.attempts, count=group.count, outcome=outcome)
                note.next_time_ms, note.error = now_ms + delay_ms, "" if outcome == Note.OUTCOME_DELIVERED else "no"
                if not group.attempts and room_ms > now_ms:
                    note.outcome, note.next_time_ms, note.error = Note.OUTCOME_HELD_BACK, room_ms, ""
                self._note(
                    log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[note])), writes_down=writes_down
                )

    @rule(number=st.integers(1, 4), outcome=st.sampled_from([Note.OUTCOME_TEST_DELIVERED, Note.OUTCOME_TEST_FAILED]))
    def somebody_tests_a_rule(self, number: int, outcome: Any) -> None:
        note = Note(rule=number, outcome=outcome)
        self.apply(log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[note])))

    @rule(position=st.integers(0, 20))
    def what_an_earlier_leader_found_or_sent_arrives(self, position: int) -> None:
        if position < len(self.old_notes):
            self._note(self.old_notes[-1 - position], writes_down=True)

    @invariant()
    def the_place_never_goes_back(self) -> None:
        place = notices.place_of(self.driver.tables)
        assert place >= self.place, f"{place} after {self.place}"
        self.place = place

    @invariant()
    def nothing_that_was_found_is_lost_or_told_twice(self) -> None:
        """It waits in a group, or is in the record of one message: of all that are kept, for here are never too many."""
        told = self._told()
        for number in self._records():
            told[number] += sum(group.count for group in notices.progress_of(self.driver.tables, number).groups)
        assert +told == +Counter({number: self.wanted[number] for number in self._records()})

    def _told(self) -> Counter[int]:
        """By rule: how much is on record as told, or as given up."""
        told: Counter[int] = Counter()
        for key, value in self.driver.tables.delivery.scan():
            told[PAIR.unpack(key)[0]] += Delivery.FromString(value).notice_count
        return told

    def _records(self) -> dict[int, log_pb2.NotificationRecord]:
        return {record.id: record for record in notifications.rules(self.driver.tables)}

    def _note(self, command: log_pb2.Command, *, writes_down: bool) -> None:
        """Counts what rules get to tell with it."""
        self.old_notes.append(command)
        if not writes_down:
            return
        note = command.note_notices
        if notices.place_of(self.driver.tables) == (note.start.revision, note.start.position):
            records = self._records()
            for found in note.found:
                record = records.get(found.rule)
                if record and not record.rule.disabled and found.notice.revision > record.begin_revision:
                    self.wanted[found.rule] += 1
        late = [said.rule for said in command.note_deliveries.deliveries if not self._is_next(said)]
        before = [notices.progress_of(self.driver.tables, number) for number in late]
        ends = (Note.OUTCOME_DELIVERED, Note.OUTCOME_FAILED)
        told = sum(
            said.count for said in command.note_deliveries.deliveries if said.outcome in ends and self._is_next(said)
        )
        told += sum(self._told().values())
        self.apply(command)
        assert sum(self._told().values()) == told, "what was not in the message is on record as told"
        after = [notices.progress_of(self.driver.tables, number) for number in late]
        assert before == after, "somebody else has sent it meanwhile"

    def _is_next(self, said: Note) -> bool:
        """Whether this is about the attempt that the group is waiting for."""
        groups = notices.progress_of(self.driver.tables, said.rule).groups
        return any((group.id, group.attempts) == (said.group, said.attempts) for group in groups)
