"""The words of scenario files about notifications; see world.py.

Nobody sends by himself in the stories: `look` and `send` are what the leader does every second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from horologe.log.v1 import log_pb2
from horologe.node.messages import Message, Told, message_id, title
from horologe.node.notice_finder import NoticeFinder, Place
from horologe.raft import notices, notifications
from horologe.raft.model import Code, Result
from horologe.raft.records import PAIR
from horologe.v1.notification_pb2 import Delivery
from support import commands
from support.driver import START_MS, Driver
from support.spans import ms_of, time_of

if TYPE_CHECKING:

    class Base:
        """What World brings."""

        _driver: Driver

        def _apply(self, command: log_pb2.Command) -> Result: ...
        def _do(self, command: log_pb2.Command) -> str: ...

else:
    Base = object

Note = log_pb2.NoteDelivery
RETRY_MS = 5_000


class NotificationWords(Base):
    """Command words, as in World."""

    _letters: dict[str, str]
    """Ids of messages as small letters, in the order in which they come up."""
    _unsaid: log_pb2.Command | None = None
    """What a leader has not come to say."""

    def notify(self, rule: str, on: str = "failed", window: str = "0s", per_hour: str = "0", secret: str = "") -> str:
        """Sets a rule of the namespace."""
        command = commands.set_notification(
            rule,
            *on.upper().split(","),
            group_window_ms=ms_of(window),
            max_per_hour=int(per_hour),
            signing_secret=secret,
        )
        return self._do(command)

    def delete_notification(self, rule: str) -> str:
        return self._do(commands.delete_notification(rule))

    def look(self) -> str:
        """The leader finds what rules want to hear of, and says so in the log."""
        tables = self._driver.tables
        place = Place(*notices.place_of(tables))
        found = NoticeFinder(list(notifications.rules(tables))).look(tables, place)
        note = log_pb2.NoteNotices(found=found.notices, lost_before=found.lost_before)
        note.start.revision, note.start.position = place
        note.end.revision, note.end.position = found.place
        result = self._apply(log_pb2.Command(note_notices=note))
        return f"{len(found.notices)} found" if result.code is Code.OK else f"refused: {result.code.name}"

    def send(self, answer: str = "taken") -> str:
        """The next message of each rule that is due, if its hour has room. The receiver's `answer`: taken, refused, given-up
        (refused for the last time), or unsaid: it is taken, and the leader dies before it says so.
        """
        lines = []
        for record in list(notifications.rules(self._driver.tables)):
            progress = notices.progress_of(self._driver.tables, record.id)
            group = next((one for one in progress.groups if one.due_time_ms <= self._driver.now_ms), None)
            if group is not None:
                lines.append(self._send(record, progress, group, answer))
        return "\n".join(lines) or "nothing is due"

    def say_late(self) -> str:
        """What the leader that died had not said is heard after all."""
        assert self._unsaid is not None, "everything was said"
        return self._do(self._unsaid)

    def notices(self, rule: str) -> str:
        """What waits to be sent."""
        progress = notices.progress_of(self._driver.tables, self._rule(rule).id)
        lines = []
        for group in progress.groups:
            about = group.key.rpartition("/")[2] or "all kinds"
            text = f"group {group.id}: {group.count} of {about}, due at {time_of(group.due_time_ms - START_MS)}"
            text += f", tried {group.attempts} times" if group.attempts else ""
            lines.append(text + (", held back" if group.held_back else ""))
        return "\n".join(lines) or "none"

    def deliveries(self, rule: str) -> str:
        lines = []
        number = self._rule(rule).id
        for key, value in self._driver.tables.delivery.scan(PAIR.pack(number, 0)):
            if PAIR.unpack(key)[0] == number:
                kept = Delivery.FromString(value)
                outcome = Delivery.Outcome.Name(kept.outcome).removeprefix("OUTCOME_")
                text = f"{time_of(kept.time.ToMilliseconds() - START_MS)} {outcome}: {kept.notice_count} notices"
                lines.append(text + f", attempts: {kept.attempt_count}" + (", held back" if kept.held_back else ""))
        return "\n".join(lines) or "none"

    def _send(
        self,
        record: log_pb2.NotificationRecord,
        progress: log_pb2.RuleProgress,
        group: log_pb2.NoticeGroup,
        answer: str,
    ) -> str:
        now_ms, rule = self._driver.now_ms, record.rule.name.rpartition("/")[2]
        note = Note(rule=record.id, group=group.id, attempts=group.attempts, count=group.count)
        command = log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[note]))
        (said,) = command.note_deliveries.deliveries
        room_ms = notices.room_at_ms(progress, record.rule.max_per_hour, now_ms)
        if not group.attempts and room_ms > now_ms:
            said.outcome, said.next_time_ms = Note.OUTCOME_HELD_BACK, room_ms
            self._apply(command)
            return f"{rule}: held back until {time_of(room_ms - START_MS)}"
        message = Message(
            id=message_id("", record.id, group),
            rule=record.rule.name,
            cluster_id="",
            time_ms=now_ms,
            count=group.count,
            told=[Told(notice) for notice in group.notices],
            held_back=group.held_back,
        )
        letter = self._letters.setdefault(message.id, "abcdefghijklmnopqrstuvwxyz"[len(self._letters)])
        text = f"{rule}: message {letter}: {title(message).replace('namespaces/default/jobs/', '')}"
        if answer in ("refused", "given-up"):
            said.outcome = Note.OUTCOME_RETRY if answer == "refused" else Note.OUTCOME_FAILED
            said.next_time_ms, said.error = now_ms + (RETRY_MS << group.attempts), "no answer"
            self._apply(command)
            return f"{text} ({answer})"
        said.outcome = Note.OUTCOME_DELIVERED
        if answer == "unsaid":
            self._unsaid = command
            return f"{text} (the leader dies)"
        self._apply(command)
        return text

    def _rule(self, rule: str) -> log_pb2.NotificationRecord:
        record = notifications.find_rule(self._driver.tables, f"namespaces/default/notifications/{rule}")
        assert record is not None, f"there is no rule {rule}"
        return record
