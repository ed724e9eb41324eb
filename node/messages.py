"""What a notification says: the JSON of a webhook and its signature, the text for Slack, the mail.

Pure: no network, no clock. Texts that jobs and people wrote are hostile: they are cut, and characters that would change how the
rest is read are shown as marks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from horologe.log.v1 import log_pb2
from horologe.v1 import execution_pb2, notification_pb2

TEXT_LENGTH_MAX = 500
LINES_MAX = 10
SIGNATURE_HEADER = "Horologe-Signature"
ID_HEADER = "Horologe-Notification-Id"
_Event = notification_pb2.NotificationEvent
_WORDS: dict[int, str] = {
    notification_pb2.NOTIFICATION_EVENT_FAILED: "failed",
    notification_pb2.NOTIFICATION_EVENT_DEAD_LETTER: "is a dead letter",
    notification_pb2.NOTIFICATION_EVENT_RECOVERED: "is well again",
    notification_pb2.NOTIFICATION_EVENT_LATE: "started late",
    notification_pb2.NOTIFICATION_EVENT_MISSED: "missed due times",
    notification_pb2.NOTIFICATION_EVENT_WORKER_LOST: "is lost",
    notification_pb2.NOTIFICATION_EVENT_QUORUM_AT_RISK: "the loss of one more member would stop the cluster",
    notification_pb2.NOTIFICATION_EVENT_QUORUM_RESTORED: "the loss of one more member would not stop the cluster any more",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A notice, with what is looked up when it is sent."""

    notice: notification_pb2.Notice
    reason: str = ""
    """Why the execution ended so, or what its last error was."""


@dataclass(frozen=True, slots=True)
class Message:
    """All that a message says, before it is known in which form."""

    id: str
    rule: str
    cluster_id: str
    time_ms: int
    count: int
    told: list[Told] = field(default_factory=list)
    held_back: bool = False
    test: bool = False
    dashboard_url: str = ""


def message_id(cluster_id: str, rule: int, group: log_pb2.NoticeGroup) -> str:
    """The same for every copy of a message, whichever node sends it; another one for every other message."""
    text = f"{cluster_id}/{rule}/{group.id}/{group.count}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def event_word(event: int) -> str:
    """As people and programs write it, `dead_letter` for example."""
    return _Event.Name(event).removeprefix("NOTIFICATION_EVENT_").lower()  # type: ignore[arg-type]


def plain(text: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    """One line, cut, with characters that are not seen, or turn what follows around, as marks."""
    shown = "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character
        for character in text[: length_max + 1].replace("\n", " ").replace("\t", " ").replace("\r", " ")
    )
    return shown if len(text) <= length_max else shown[:length_max] + "…"


# Webhook


def webhook_body(message: Message) -> bytes:
    """See docs/notifications.md."""
    body: dict[str, object] = {
        "id": message.id,
        "rule": message.rule,
        "cluster_id": message.cluster_id,
        "time": _time(message.time_ms),
        "test": message.test,
        "held_back": message.held_back,
        "notice_count": message.count,
        "notices": [_notice(message, told) for told in message.told],
    }
    if message.dashboard_url:
        body["url"] = message.dashboard_url
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()


def _notice(message: Message, told: Told) -> dict[str, object]:
    notice = told.notice
    body: dict[str, object] = {"event": event_word(notice.event), "time": notice.time.ToJsonString()}
    if notice.HasField("due_time"):
        body["due_time"] = notice.due_time.ToJsonString()
    if notice.state:
        body["state"] = execution_pb2.Execution.State.Name(notice.state).removeprefix("STATE_")
    named: dict[str, object] = {
        "job": notice.job,
        "execution": notice.execution,
        "worker": plain(notice.worker),
        "reason": plain(told.reason),
        "fingerprint": notice.fingerprint,
        "missed_count": notice.missed_count,
        "members": list(notice.members),
        "url": link(message.dashboard_url, notice),
    }
    return body | {name: value for name, value in named.items() if value}


def signature(key: bytes, timestamp: int, body: bytes) -> str:
    """The value of the signature's header: when it was sent, in seconds, and HMAC-SHA256 over that, a dot, and the body."""
    signed = hmac.digest(key, f"{timestamp}.".encode() + body, "sha256").hex()
    return f"t={timestamp},v1={signed}"


def link(dashboard_url: str, notice: notification_pb2.Notice) -> str:
    """Where the dashboard shows it; empty without one."""
    if not dashboard_url:
        return ""
    base = dashboard_url.rstrip("/")
    if notice.job:
        _, namespace, _, job = notice.job.split("/")
        number = notice.execution.rpartition("/")[2]
        return f"{base}/executions/{namespace}/{job}/{number}" if number else f"{base}/jobs/{namespace}/{job}"
    return f"{base}/workers" if notice.worker else f"{base}/cluster"


# For people


def slack_body(message: Message) -> bytes:
    """What Slack's incoming webhooks take, and those of others who speak alike."""
    lines = [f"*{_escape(title(message))}*", *(_escape(line) for line in _lines(message))]
    return json.dumps({"text": "\n".join(lines)}, ensure_ascii=True).encode()


def mail(message: Message, sender: str, receivers: list[str]) -> EmailMessage:
    """Plain text. Copies of one message have one Message-ID."""
    made = EmailMessage()
    made["From"] = sender
    made["To"] = ", ".join(receivers)
    made["Subject"] = f"[horologe] {title(message)}"
    made["Message-ID"] = f"<{message.id or message.time_ms}@horologe>"
    made["Date"] = format_datetime(_datetime(message.time_ms))
    made["Auto-Submitted"] = "auto-generated"
    made[ID_HEADER] = message.id or "test"
    rest = [*_lines(message), "", f"Rule: {message.rule}"]
    made.set_content("\n".join([title(message), "", *rest]) + "\n")
    return made


def title(message: Message) -> str:
    """All of it in one line."""
    if message.test:
        return f"test of {message.rule}"
    held = " (held back)" if message.held_back else ""
    if message.count == 1 and message.told:
        return _sentence(message.told[0]) + held
    kinds = sorted({event_word(told.notice.event) for told in message.told})
    jobs = {told.notice.job for told in message.told if told.notice.job}
    about = f" of {next(iter(jobs))}" if len(jobs) == 1 and message.count <= len(message.told) else ""
    # Of what came late to a full group only the number is known.
    what = f": {', '.join(kinds)}" if kinds else ""
    return f"{message.count} notices{about}{what}{held}"


def _lines(message: Message) -> list[str]:
    lines: list[str] = ["This is a test. Nothing has happened."] if message.test else []
    for told in message.told[:LINES_MAX]:
        reason = f": {plain(told.reason)}" if told.reason else ""
        lines.append(f"{told.notice.time.ToJsonString()} {_sentence(told)}{reason}")
        where = link(message.dashboard_url, told.notice)
        if where:
            lines.append(f"  {where}")
    more = message.count - min(len(message.told), LINES_MAX)
    return [*lines, f"... and {more} more"] if more > 0 and not message.test else lines


def _sentence(told: Told) -> str:
    notice = told.notice
    words = _WORDS[notice.event]
    if notice.members:
        words += f"; not reached: {', '.join(notice.members)}"
    if notice.missed_count:
        words += f" ({notice.missed_count}, up to {notice.due_time.ToJsonString()})"
    subject = notice.execution or notice.job or (f"worker {plain(notice.worker)}" if notice.worker else "")
    return f"{subject} {words}".strip()


def _escape(text: str) -> str:
    """The three characters by which Slack knows links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(time_ms: int) -> str:
    return _datetime(time_ms).isoformat().replace("+00:00", "Z")


def _datetime(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
