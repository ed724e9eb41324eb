"""What a notification says: for programs, signed; for Slack and for mail, harmless whatever a job has printed."""

from __future__ import annotations

import json
import time

import pytest

from horologe.client.webhook import InvalidSignature, verify
from horologe.log.v1 import log_pb2
from horologe.node import messages
from horologe.node.messages import Message, Told, link, mail, message_id, plain, signature, slack_body, webhook_body
from horologe.v1 import notification_pb2
from horologe.v1.notification_pb2 import Notice

NOW_MS = 1_800_000_000_000
JOB = "namespaces/shop/jobs/tick"


def notice(event: str = "FAILED", **fields: object) -> Notice:
    made = Notice(event=f"NOTIFICATION_EVENT_{event}", job=JOB, execution=f"{JOB}/executions/7", state=5)
    made.time.FromMilliseconds(NOW_MS)
    made.due_time.FromMilliseconds(NOW_MS - 60_000)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def message(*told: Told, **fields: object) -> Message:
    values = {"id": "abc", "rule": "namespaces/shop/notifications/ops", "cluster_id": "c", "time_ms": NOW_MS}
    return Message(**{**values, "count": len(told), "told": list(told), **fields})


def test_the_json_of_a_webhook() -> None:
    body = webhook_body(message(Told(notice(fingerprint="7f"), "boom"), dashboard_url="https://h.example/"))
    assert json.loads(body) == {
        "id": "abc",
        "rule": "namespaces/shop/notifications/ops",
        "cluster_id": "c",
        "time": "2027-01-15T08:00:00Z",
        "test": False,
        "held_back": False,
        "notice_count": 1,
        "notices": [
            {
                "event": "failed",
                "time": "2027-01-15T08:00:00Z",
                "due_time": "2027-01-15T07:59:00Z",
                "state": "FAILED",
                "job": JOB,
                "execution": f"{JOB}/executions/7",
                "reason": "boom",
                "fingerprint": "7f",
                "url": "https://h.example/executions/shop/tick/7",
            }
        ],
        "url": "https://h.example/",
    }


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "/executions/shop/tick/7"),
        ({"execution": ""}, "/jobs/shop/tick"),
        ({"execution": "", "job": "", "worker": "w1"}, "/workers"),
        ({"execution": "", "job": ""}, "/cluster"),
    ],
)
def test_links(fields: dict[str, str], path: str) -> None:
    assert link("https://h.example", notice(**fields)) == f"https://h.example{path}"
    assert link("", notice(**fields)) == ""


def test_a_receiver_knows_who_signed_and_when() -> None:
    now, body = int(time.time()), b'{"a":1}'
    signed = signature(b"key", now, body)
    verify("key", signed, body)
    for secret, header, content, said in (
        ("other", signed, body, "another secret"),
        ("key", signed, b'{"a":2}', "another body"),
        ("key", signature(b"key", now - 301, body), body, "too far from now"),
        ("key", signed.replace(f"t={now}", f"t={now + 1}"), body, "another secret"),
        ("key", "", body, "not of the form"),
        ("key", "t=x,v1=y", body, "not of the form"),
    ):
        with pytest.raises(InvalidSignature, match=said):
            verify(secret, header, content)


def test_copies_have_one_id_and_what_grew_has_another() -> None:
    group = log_pb2.NoticeGroup(id=3, count=2)
    first = message_id("c", 1, group)
    group.attempts = 4
    assert message_id("c", 1, group) == first
    group.count = 3
    others = {message_id("c", 1, group), message_id("d", 1, log_pb2.NoticeGroup(id=3, count=2)), first}
    assert len(others | {message_id("c", 2, log_pb2.NoticeGroup(id=3, count=2))}) == 4


def test_slack_gets_no_link_and_no_mention_that_a_job_has_made_up() -> None:
    hostile = "<!channel> <https://evil.example|click> & more"
    text = json.loads(slack_body(message(Told(notice(), hostile))))["text"]
    assert "&lt;!channel&gt; &lt;https://evil.example|click&gt; &amp; more" in text
    assert "<" not in text


@pytest.mark.parametrize("text", ["a\nBcc: x@evil.example", "a\r\n\r\nb", "\u202egnp", "a\x00b", "\u2028"])
def test_hostile_texts_are_one_line_that_hides_nothing(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    made = mail(message(Told(notice("WORKER_LOST", execution="", job="", worker=text), text)), "a@x.org", ["b@x.org"])
    assert "Bcc" not in made
    assert "\n" not in str(made["Subject"])
    assert made.as_bytes()


def test_long_texts_are_cut() -> None:
    assert len(plain("x" * 10_000)) == messages.TEXT_LENGTH_MAX + 1


def test_a_mail() -> None:
    told = [Told(notice(), "boom"), Told(notice("RECOVERED"))]
    made = mail(message(*told, count=40, dashboard_url="https://h.example"), "horologe@x.org", ["a@x.org", "b@x.org"])
    assert (made["From"], made["To"], made["Message-ID"]) == ("horologe@x.org", "a@x.org, b@x.org", "<abc@horologe>")
    assert made["Subject"] == "[horologe] 40 notices: failed, recovered"
    lines = made.get_content().splitlines()
    assert f"2027-01-15T08:00:00Z {JOB}/executions/7 failed: boom" in lines
    assert "  https://h.example/executions/shop/tick/7" in lines
    assert "... and 38 more" in lines


def test_of_what_came_to_a_full_group_only_the_number_is_known() -> None:
    assert messages.title(message(count=7, held_back=True)) == "7 notices (held back)"


@pytest.mark.parametrize("event", notification_pb2.NotificationEvent.keys()[1:])
def test_every_event_has_words(event: str) -> None:
    made = notice(event.removeprefix("NOTIFICATION_EVENT_"), missed_count=3)
    assert messages.title(message(Told(made)))
    assert messages.title(message(Told(made), held_back=True)).endswith("(held back)")


def test_a_test_says_that_it_is_one() -> None:
    test = message(test=True, id="")
    assert messages.title(test) == "test of namespaces/shop/notifications/ops"
    assert "Nothing has happened." in mail(test, "a@x.org", ["b@x.org"]).get_content()
    assert json.loads(webhook_body(test))["test"] is True
