"""Quartz's XML to jobs: what is carried over, what is listed, what is refused."""

from __future__ import annotations

import pytest

from horologe.client import jobs, quartz
from horologe.client.errors import InvalidFile
from horologe.client.imports import Imported, Options
from horologe.v1.job_pb2 import CATCHUP_POLICY_ALL, CATCHUP_POLICY_LATEST, CATCHUP_POLICY_SKIP, Job

DOCUMENT = """\
<?xml version="1.0" encoding="UTF-8"?>
<job-scheduling-data xmlns="http://www.quartz-scheduler.org/xml/JobSchedulingData" version="2.0">
  <processing-directives><overwrite-existing-data>true</overwrite-existing-data></processing-directives>
  <schedule>
    <job>
      <name>Report</name><group>G</group><description>The report</description>
      <job-class>com.acme.ReportJob</job-class>
      <job-data-map><entry><key>to</key><value>ada</value></entry></job-data-map>
    </job>
    <job><name>native</name><job-class>org.quartz.jobs.NativeJob</job-class>
      <job-data-map><entry><key>command</key><value>ls</value></entry>
      <entry><key>parameters</key><value>-l /tmp</value></entry></job-data-map></job>
    <trigger><cron>
      <name>t1</name><job-name>Report</job-name><job-group>G</job-group><priority>7</priority>
      <misfire-instruction>MISFIRE_INSTRUCTION_DO_NOTHING</misfire-instruction>
      <cron-expression>0 0 2 ? * MON-FRI</cron-expression><time-zone>Europe/Berlin</time-zone>
    </cron></trigger>
    <trigger><simple>
      <name>t2</name><job-name>Report</job-name><job-group>G</job-group>
      <start-time>2027-01-01T00:00:00</start-time>
      <repeat-count>3</repeat-count><repeat-interval>60000</repeat-interval>
    </simple></trigger>
  </schedule>
</job-scheduling-data>
"""
JOB = "<job><name>x</name><job-class>C</job-class></job>"
START = "<start-time>2027-01-01T00:00:00Z</start-time>"


def load(text: str, **options: str) -> Imported:
    return quartz.loads(text.encode(), "f.xml", Options(**options))


def document(*parts: str) -> str:
    return f"<job-scheduling-data><schedule>{JOB}\n{''.join(parts)}</schedule></job-scheduling-data>"


def trigger(kind: str, inside: str) -> str:
    return document(f"<trigger><{kind}><name>t</name><job-name>x</job-name>{inside}</{kind}></trigger>")


def one(kind: str, inside: str) -> Job:
    return load(trigger(kind, inside)).jobs[0]


def problems_of(text: str) -> str:
    with pytest.raises(InvalidFile) as caught:
        load(text)
    return str(caught.value)


def test_everything_that_is_carried_over() -> None:
    native, report, again = load(DOCUMENT, time_zone="UTC").jobs
    python = jobs.python("com.acme.ReportJob", {"to": "ada"})
    once = jobs.retry(max_attempts=1)
    shared = {"retry": once, "overlap": "allow", "on_lease_loss": "fail"}
    assert native == jobs.job(
        "namespaces/default/jobs/native", jobs.manual(), jobs.shell("ls -l /tmp"),
        description="Imported from f.xml", **shared,  # type: ignore[arg-type]
    )  # fmt: skip
    assert report == jobs.job(
        "namespaces/default/jobs/report-t1",
        jobs.cron("0 0 2 ? * MON-FRI", time_zone="Europe/Berlin", dialect="quartz"),
        python,
        catchup="skip",
        priority=7,
        labels={"group": "G"},
        description="The report",
        **shared,  # type: ignore[arg-type]
    )
    assert again == jobs.job(
        "namespaces/default/jobs/report-t2",
        jobs.every("1m", anchor="2027-01-01T00:00:00Z"),
        python,
        start_time="2027-01-01T00:00:00Z",
        end_time="2027-01-01T00:03:00.001Z",
        catchup="latest",
        catchup_window="366d",
        labels={"group": "G"},
        description="The report",
        **shared,  # type: ignore[arg-type]
    )


def test_what_is_not_is_listed_by_line() -> None:
    assert [str(notice) for notice in load(DOCUMENT).notices] == [
        "f.xml:3: <processing-directives> is not carried over",
        "f.xml:5: calls the Python handler 'com.acme.ReportJob': register one of that name in a worker",
        "f.xml:13: 'Report-t1' is called 'report-t1' here",
        "f.xml:18: a misfire does not move the other times here: one run stands for what was missed",
        "f.xml:18: 'Report-t2' is called 'report-t2' here",
    ]


@pytest.mark.parametrize(
    ("word", "policy"),
    [
        ("", CATCHUP_POLICY_LATEST),
        ("MISFIRE_INSTRUCTION_SMART_POLICY", CATCHUP_POLICY_LATEST),
        ("MISFIRE_INSTRUCTION_FIRE_ONCE_NOW", CATCHUP_POLICY_LATEST),
        ("MISFIRE_INSTRUCTION_DO_NOTHING", CATCHUP_POLICY_SKIP),
        ("MISFIRE_INSTRUCTION_IGNORE_MISFIRE_POLICY", CATCHUP_POLICY_ALL),
    ],
)
def test_misfire_instructions_of_cron_triggers(word: str, policy: int) -> None:
    inside = f"<misfire-instruction>{word}</misfire-instruction><cron-expression>0 0 2 * * ?</cron-expression>"
    assert one("cron", inside).catchup == policy


@pytest.mark.parametrize(
    ("inside", "schedule", "catchup"),
    [
        (START, jobs.once("2027-01-01T00:00:00Z"), CATCHUP_POLICY_LATEST),
        (
            "<start-time-seconds-in-future>60</start-time-seconds-in-future>",
            jobs.after_delay("60s"),
            CATCHUP_POLICY_LATEST,
        ),
        (
            f"{START}<repeat-count>-1</repeat-count><repeat-interval>5000</repeat-interval>",
            jobs.every("5s", anchor="2027-01-01T00:00:00Z"),
            CATCHUP_POLICY_SKIP,
        ),
        (
            "<repeat-count>REPEAT_INDEFINITELY</repeat-count><repeat-interval>5000</repeat-interval>",
            jobs.every("5s"),
            CATCHUP_POLICY_SKIP,
        ),
    ],
)
def test_simple_triggers(inside: str, schedule: object, catchup: int) -> None:
    job = one("simple", inside)
    assert list(job.schedules) == [schedule]
    assert job.catchup == catchup
    assert not job.HasField("end_time")


def test_ends_are_where_quartz_has_them() -> None:
    end = "<end-time>2027-01-01T01:00:00Z</end-time>"
    cron = one("cron", f"{end}<cron-expression>0 0 * * * ?</cron-expression>")
    assert cron.end_time.ToJsonString() == "2027-01-01T01:00:00.001Z", "a cron trigger still fires at its end"
    count = "<repeat-count>9</repeat-count><repeat-interval>3600000</repeat-interval>"
    assert one("simple", f"{START}{end}{count}").end_time.ToJsonString() == "2027-01-01T01:00:00Z"
    far = "<repeat-count>1000000000</repeat-count><repeat-interval>31622400000</repeat-interval>"
    assert not one("simple", f"{START}{far}").HasField("end_time")


def test_calendar_intervals_of_a_fixed_length() -> None:
    inside = f"{START}<repeat-interval>6</repeat-interval><repeat-interval-unit>HOUR</repeat-interval-unit>"
    assert list(one("calendar-interval", inside).schedules) == [jobs.every("6h", anchor="2027-01-01T00:00:00Z")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<a/>", "f.xml:1: <a> is no <job-scheduling-data>"),
        ("<a>", "f.xml:1: not valid XML"),
        ("", "f.xml:1: not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>\n<a>&b;</a>', "has a DTD, entities or references to elsewhere"),
        ("<a>" * 100, "is nested more than 50 deep"),
        (
            document("<trigger><nth-included-day><name>t</name></nth-included-day></trigger>"),
            "f.xml:2: a <nth-included-day>",
        ),
        (
            document("<trigger><cron><job-name>y</job-name></cron></trigger>"),
            "its job 'y' of group 'DEFAULT' is not in this file",
        ),
        (trigger("cron", ""), "<cron-expression>: is missing"),
        (trigger("cron", "<cron-expression>x</cron-expression><time-zone>Mars/Base</time-zone>"), "is not a time zone"),
        (
            trigger("cron", "<cron-expression>x</cron-expression><calendar-name>c</calendar-name>"),
            "the calendar 'c' is not in this",
        ),
        (
            trigger("cron", "<cron-expression>x</cron-expression><priority>11</priority>"),
            "<priority>: must be a number from 0 to 9",
        ),
        (
            trigger("cron", "<cron-expression>x</cron-expression><misfire-instruction>M</misfire-instruction>"),
            "<misfire-instruction>: 'M' is not known",
        ),
        (trigger("simple", ""), "fires when it is loaded: give it a <start-time>"),
        (trigger("simple", "<repeat-count>3</repeat-count>"), "begins when it is loaded, and ends after a count"),
        (
            trigger("simple", f"{START}<repeat-count>-1</repeat-count>"),
            "<repeat-interval>: must be from 1s to 366d, not 0s",
        ),
        (trigger("calendar-interval", "<repeat-interval-unit>DAY</repeat-interval-unit>"), "'DAY' has no fixed length"),
        (trigger("simple", "<start-time>soon</start-time>"), "<start-time>: 'soon' is not an instant"),
    ],
)
def test_what_stands_in_the_way_is_named(text: str, said: str) -> None:
    assert said in problems_of(text)
