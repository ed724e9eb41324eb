"""The leader's messenger: finds what notification rules want to hear of, sends it, and writes down what came of it.

Everything that must outlive a leader is in the state (raft/notices.py): how far the events were looked at, what waits to be sent,
how often it was tried. First comes the entry that says what there is to send, then the sending, then the entry that says that it
was sent. So what was found is sent at least once, and what is sent twice carries the same id twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from horologe.log.v1 import log_pb2
from horologe.node.channels import Sender, SendError
from horologe.node.context import NodeContext
from horologe.node.messages import (
    ID_HEADER,
    SIGNATURE_HEADER,
    Message,
    Told,
    mail,
    message_id,
    plain,
    signature,
    slack_body,
    webhook_body,
)
from horologe.node.notice_finder import QUORUM_AT_RISK, QUORUM_RESTORED, NoticeFinder, Place
from horologe.node.proposals import ProposalError
from horologe.raft.machine import first_cluster_id_of
from horologe.raft.model import Code
from horologe.raft.notices import place_of, progress_of, quorum_of, room_at_ms
from horologe.raft.notifications import changed_at, full_secret_name, rules
from horologe.raft.records import U64
from horologe.raft.secrets import find_secret
from horologe.raft.tables import Tables
from horologe.v1 import notification_pb2

LOOK_SECONDS = 1.0
"""So often the leader looks for something new."""
PROPOSE_SECONDS = 5.0
PLACE_SECONDS = 30.0
"""So often it says how far it has looked, if it finds nothing: a new leader looks at the rest once more."""
SENDERS_MAX = 16
"""Rules that are served at a time."""
RETRY_MS, RETRY_MS_MAX = 5_000, 3_600_000
ATTEMPTS_MAX = 12
"""Of a message: the last one is some two hours and a half after the first."""
QUORUM_SECONDS = 10.0
"""A member that is gone for so long is missed; shorter is a restart."""
_Note = log_pb2.NoteDelivery

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message and where it goes, with the secrets that it needs: to be sent at once, and not to be kept."""

    rule: notification_pb2.NotificationRule
    message: Message
    url: str = ""
    key: bytes = b""


class Messenger:
    """Makes messages of what lies in the state, and sends them. Used for tests of a rule too."""

    def __init__(self, context: NodeContext, sender: Sender) -> None:
        self._node = context
        self._sender = sender

    def letter(
        self, tables: Tables, record: log_pb2.NotificationRecord, group: log_pb2.NoticeGroup, *, is_test: bool = False
    ) -> Letter:
        """Raises SendError if a secret is not there any more."""
        rule, cluster_id = record.rule, first_cluster_id_of(tables)
        message = Message(
            id="" if is_test else message_id(cluster_id, record.id, group),
            rule=rule.name,
            cluster_id=cluster_id,
            time_ms=self._node.clock.wall_ms(),
            count=group.count,
            told=[Told(notice, _reason(tables, notice)) for notice in group.notices],
            held_back=group.held_back,
            test=is_test,
            dashboard_url=self._node.config.dashboard_url,
        )
        match rule.WhichOneof("channel"):
            case "webhook":
                hook = rule.webhook
                url = _secret(tables, rule, hook.url_secret).decode() if hook.url_secret else hook.url
                key = _secret(tables, rule, hook.signing_secret) if hook.signing_secret else b""
                return Letter(rule, message, url, key)
            case "slack":
                return Letter(rule, message, _secret(tables, rule, rule.slack.url_secret).decode())
        return Letter(rule, message)

    async def send(self, letter: Letter) -> None:
        """Raises SendError."""
        message = letter.message
        headers = {"Content-Type": "application/json", "User-Agent": "horologe"}
        match letter.rule.WhichOneof("channel"):
            case "webhook":
                body = webhook_body(message)
                if message.id:
                    headers |= {ID_HEADER: message.id, "Idempotency-Key": message.id}
                if letter.key:
                    headers[SIGNATURE_HEADER] = signature(letter.key, message.time_ms // 1000, body)
                await self._sender.post(letter.url.strip(), body, headers)
            case "slack":
                await self._sender.post(letter.url.strip(), slack_body(message), headers)
            case _:
                await self._sender.mail(mail(message, self._node.config.smtp_from, list(letter.rule.email.to)))


class Notifier:
    """See the top of this file. It does something on the leader only."""

    def __init__(self, context: NodeContext, messenger: Messenger) -> None:
        self._node = context
        self._messenger = messenger
        self._finder = NoticeFinder(())
        self._rules: dict[int, log_pb2.NotificationRecord] = {}
        self._rules_of = 0
        """The entry that changed a rule last, when they were read."""
        self._place: Place | None = None
        """How far this leader has looked; None: as far as the state says."""
        self._placed_at = 0.0
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._quorum_since: float | None = None
        """Since when the quorum is not as the state says."""

    async def keep_telling(self) -> None:
        """As long as this node runs."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if not self._node.status().may_serve:
                    self._place = self._quorum_since = None
                    continue
                with suppress(ProposalError):
                    await self._work()
        finally:
            for task in self._sending.values():
                task.cancel()

    async def _work(self) -> None:
        self._read_rules()
        if not self._finder.has_rules:
            return
        await self._watch_quorum()
        is_all = False
        while not is_all:
            is_all = await self._look()
            await asyncio.sleep(0)
        self._begin_sending()

    def _read_rules(self) -> None:
        with self._node.store.read() as tables:
            changed = changed_at(tables)
            if changed != self._rules_of:
                self._rules = {record.id: record for record in rules(tables)}
                self._finder = NoticeFinder(list(self._rules.values()))
                self._rules_of, self._place = changed, None

    # Finding

    async def _look(self) -> bool:
        """Whether nothing is left to look at."""
        with self._node.store.read() as tables:
            known = Place(*place_of(tables))
            here = max(known, self._place or known)
            found = self._finder.look(tables, here)
        now = self._node.clock.monotonic()
        is_news = bool(found.notices) or bool(found.lost_before)
        is_time = found.place != known and now - self._placed_at >= PLACE_SECONDS
        if not is_news and not is_time:
            self._place = found.place
            return found.is_all
        note = log_pb2.NoteNotices(
            start=log_pb2.EventPlace(revision=known.revision, position=known.position),
            end=log_pb2.EventPlace(revision=found.place.revision, position=found.place.position),
            found=found.notices,
            lost_before=found.lost_before,
        )
        self._placed_at = now
        result = await self._node.proposals.propose(log_pb2.Command(note_notices=note), PROPOSE_SECONDS)
        # MOVED_ON: another leader has looked, or this was sent twice. The state knows how far.
        self._place = found.place if result.code is Code.OK else None
        return found.is_all

    # Sending

    def _begin_sending(self) -> None:
        self._sending = {rule: task for rule, task in self._sending.items() if not task.done()}
        now_ms = self._node.clock.wall_ms()
        due: list[log_pb2.NotificationRecord] = []
        with self._node.store.read() as tables:
            for key, raw in tables.notice.scan():
                (rule,) = U64.unpack(key)
                groups = log_pb2.RuleProgress.FromString(bytes(raw)).groups
                record = self._rules.get(rule)
                if record is None or record.rule.disabled or rule in self._sending:
                    continue
                if any(group.due_time_ms <= now_ms for group in groups):
                    due.append(record)
        for record in due[: max(0, SENDERS_MAX - len(self._sending))]:
            name = f"notifications of rule {record.id}"
            self._sending[record.id] = asyncio.create_task(self._serve(record), name=name)

    async def _serve(self, record: log_pb2.NotificationRecord) -> None:
        """Sends what a rule has to send now, one message after the other."""
        try:
            while self._node.status().may_serve:
                note = await self._serve_one(record)
                if note is None:
                    return
                command = log_pb2.Command(note_deliveries=log_pb2.NoteDeliveries(deliveries=[note]))
                await self._node.proposals.propose(command, PROPOSE_SECONDS)
        except ProposalError:
            # Nobody has written down what was sent, so it is sent again.
            log.info("the cluster did not take what came of a notification", rule=record.rule.name)
        except Exception:
            log.exception("sending notifications failed and begins again", rule=record.rule.name)

    async def _serve_one(self, record: log_pb2.NotificationRecord) -> log_pb2.NoteDelivery | None:
        """What came of the next message; None if there is none."""
        now_ms = self._node.clock.wall_ms()
        letter: Letter | None = None
        with self._node.store.read() as tables:
            progress = progress_of(tables, record.id)
            group = next((group for group in progress.groups if group.due_time_ms <= now_ms), None)
            if group is None:
                return None
            note = _Note(rule=record.id, group=group.id, attempts=group.attempts, count=group.count)
            room_ms = room_at_ms(progress, record.rule.max_per_hour, now_ms)
            if not group.attempts and room_ms > now_ms:
                note.outcome, note.next_time_ms = _Note.OUTCOME_HELD_BACK, room_ms
                return note
            with _written_into(note, record):
                letter = self._messenger.letter(tables, record, group)
        if letter is not None:
            note.id = letter.message.id
            with _written_into(note, record):
                await self._messenger.send(letter)
        note.outcome = _Note.OUTCOME_DELIVERED
        if note.error:
            is_last = group.attempts + 1 >= ATTEMPTS_MAX
            note.outcome = _Note.OUTCOME_FAILED if is_last else _Note.OUTCOME_RETRY
            note.next_time_ms = self._node.clock.wall_ms() + min(RETRY_MS << group.attempts, RETRY_MS_MAX)
            log.warning(
                "a notification was not delivered", rule=record.rule.name, attempt=group.attempts + 1, error=note.error
            )
        return note

    # The quorum

    async def _watch_quorum(self) -> None:
        if not self._finder.events & {QUORUM_AT_RISK, QUORUM_RESTORED}:
            return
        status = self._node.status()
        voters = status.configuration.voters
        missing = voters - status.connected - {self._node.config.name}
        at_risk = bool(missing) and len(voters) - len(missing) - 1 < len(voters) // 2 + 1
        with self._node.store.read() as tables:
            known = quorum_of(tables).at_risk
        now = self._node.clock.monotonic()
        if at_risk == known:
            self._quorum_since = None
        elif self._quorum_since is None:
            self._quorum_since = now
        elif now - self._quorum_since >= QUORUM_SECONDS:
            note = log_pb2.NoteQuorum(at_risk=at_risk, missing=sorted(missing))
            await self._node.proposals.propose(log_pb2.Command(note_quorum=note), PROPOSE_SECONDS)
            self._quorum_since = None


@contextmanager
def _written_into(note: log_pb2.NoteDelivery, record: log_pb2.NotificationRecord) -> Iterator[None]:
    """Why a message was not made or not sent. A defect of ours counts as an attempt too, so that others go on."""
    try:
        yield
    except SendError as failure:
        note.error = plain(str(failure))
    except Exception:
        log.exception("a notification could not be made or sent", rule=record.rule.name)
        note.error = "it could not be made or sent, by a defect; the log of the node says more"


def _secret(tables: Tables, rule: notification_pb2.NotificationRule, name: str) -> bytes:
    full = full_secret_name(rule.name, name)
    record = find_secret(tables, full)
    if record is None:
        raise SendError(f"{full} does not exist")
    return record.value


def _reason(tables: Tables, notice: notification_pb2.Notice) -> str:
    """Why an execution ended so, in the words of its record, as far as that is still there."""
    number = notice.execution.rpartition("/")[2]
    if not number or notice.event in (
        notification_pb2.NOTIFICATION_EVENT_LATE,
        notification_pb2.NOTIFICATION_EVENT_RECOVERED,
    ):
        return ""
    raw = tables.detail.get(U64.pack(int(number)))
    if raw is None:
        return ""
    detail = log_pb2.ExecutionRecord.FromString(bytes(raw))
    return detail.reason or (detail.attempts[-1].detail.error if detail.attempts else "")
