"""How pages write instants, durations, states, names and hostile texts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.datastructures import QueryParams

from horologe.node.web import words
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.job_pb2 import Job

MOMENT = Timestamp(seconds=1_800_000_000, nanos=123_000_000)


def test_an_instant_is_for_people_and_for_programs() -> None:
    assert words.instant(MOMENT) == '<time datetime="2027-01-15T08:00:00.123Z">2027-01-15 08:00:00Z</time>'
    assert words.instant(MOMENT, milliseconds=True) == (
        '<time datetime="2027-01-15T08:00:00.123Z" data-milliseconds>2027-01-15 08:00:00.123Z</time>'
    )


def test_what_was_never_set_is_absent() -> None:
    execution = Execution()
    for write in (words.instant, words.elapsed):
        assert write(execution.end_time) == write(None) == words.NONE
    assert words.rfc3339(execution.end_time) == words.countdown(execution.end_time) == ""
    assert words.duration(None) == words.NONE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0004, "0 ms"), (0.85, "850 ms"), (0.9996, "1 s"), (1.25, "1.25 s"), (59.9, "59.9 s"), (59.97, "1 min"),
        (60, "1 min"), (200, "3 min 20 s"), (3_600, "1 h"), (7_500, "2 h 5 min"), (7_501, "2 h 5 min"), (90_000, "1 d 1 h"),
        (86_460, "1 d 1 min"), (-1.5, "-1.5 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert words.duration_text(seconds) == text


def test_durations_of_all_kinds() -> None:
    wanted = '<span class="duration">1.5 s</span>'
    assert words.duration(1.5) == words.duration(timedelta(seconds=1.5)) == wanted
    assert words.duration(Duration(seconds=1, nanos=500_000_000)) == wanted
    assert words.between(MOMENT, Timestamp(seconds=1_800_000_001, nanos=623_000_000)) == wanted
    assert words.between(MOMENT, None) == '<span class="elapsed" data-since="2027-01-15T08:00:00.123Z"></span>'
    assert words.between(None, None) == words.NONE


def test_enumerations_are_words() -> None:
    assert words.word(Execution(state=Execution.STATE_RUNNING), "state") == "running"
    assert words.word(Attempt(state=Attempt.STATE_TIMED_OUT), "state") == "timed-out"
    assert words.word(Job(on_lease_loss=1), "on_lease_loss") in {"retry", "fail"}
    assert words.word(Job(), "state") == ""
    assert words.word(Execution(state=99), "state") == "99"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a\x00b", 'a<span class="control">␀</span>b'),
        ("\u202egnp.exe", '<span class="control">[U+202E]</span>gnp.exe'),
        ("\x1b[31m<i>", '<span class="control">␛</span>[31m&lt;i&gt;'),
        ("two\nlines\tand é 日本", "two\nlines\tand é 日本"),
        ("x" * 11, "x" * 9 + "…"),
    ],
)
def test_hostile_texts_are_shown_as_what_they_are(text: str, html: str) -> None:
    assert words.shown(text, 10 if len(text) == 11 else 50) == html


def test_hostile_texts_in_attributes() -> None:
    assert words.plain("a\u202eb\x07") == "a[U+202E]b␇"
    assert words.plain("x" * 300) == "x" * 199 + "…"


def test_names_are_addresses() -> None:
    assert words.url("namespaces/shop/jobs/nightly") == "/jobs/shop/nightly"
    assert words.url("namespaces/shop/jobs/nightly/executions/7") == "/executions/shop/nightly/7"
    assert words.url("namespaces/shop") == "/jobs?namespace=shop"
    assert words.url("namespaces/a b/jobs/?x") == "/jobs/a%20b/%3Fx"
    with pytest.raises(ValueError, match="has no page"):
        words.url("nonsense")
    name = "namespaces/shop/jobs/nightly/executions/7"
    assert (words.namespace_of(name), words.job_of(name), words.id_of(name)) == ("shop", "nightly", "7")
    assert words.namespace_of("workers/w1") == words.job_of("namespaces/shop") == ""


def test_a_query_keeps_what_is_not_changed() -> None:
    query = QueryParams("state=failed&state=dead&page=abc&q=a%26b")
    assert words.with_query("/x", query, page=None) == "/x?state=failed&state=dead&q=a%26b"
    assert words.with_query("/x", query, state="late", q="") == "/x?page=abc&state=late"
    assert words.with_query("/x", None, page="") == "/x"


def test_numbers() -> None:
    assert words.number(1_234_567) == "1\u202f234\u202f567"
    assert words.number(12) == "12"
