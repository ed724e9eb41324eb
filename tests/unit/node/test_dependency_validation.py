"""What a definition may say of other jobs, as far as it can be known from it alone."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from service_harness import START_MS, manual_job

from horologe.node.validation import complete_job
from horologe.v1 import job_pb2

NAME = "namespaces/default/jobs/load"


def parsed(text: str) -> job_pb2.Job:
    job = manual_job()
    if "schedules" in text:
        job.ClearField("schedules")
    if "action" in text:
        job.ClearField("action")
    return text_format.Merge(text, job)


def violations(text: str) -> dict[str, str]:
    return dict(complete_job(parsed(text), NAME, START_MS)[1])


def test_defaults():
    job, found = complete_job(parsed('schedules { after { jobs: "extract" } } workflow: "etl"'), NAME, START_MS)
    assert not found
    assert job.schedules[0].after.condition == job_pb2.AfterSchedule.CONDITION_ALL_SUCCEEDED
    assert job.overlap == job_pb2.OVERLAP_POLICY_ALLOW, "two runs of a workflow do not get into each other's way"
    job, found = complete_job(parsed('schedules { after { jobs: "extract" } }'), NAME, START_MS)
    assert not found
    assert job.overlap == job_pb2.OVERLAP_POLICY_SKIP


@pytest.mark.parametrize(
    ("text", "field", "description"),
    [
        ("schedules { after { } }", "schedules[0].after.jobs", "0 jobs are given"),
        ('schedules { after { jobs: "A" } }', "schedules[0].after.jobs[0]", "'A' is no id of a job"),
        ('schedules { after { jobs: "load" } }', "schedules[0].after.jobs[0]", "load is the job itself"),
        ('schedules { after { jobs: "a" jobs: "a" } }', "schedules[0].after.jobs[1]", "a is here twice"),
        ('schedules { after { jobs: "a" condition: 7 } }', "schedules[0].after.condition", "7 is not a known value"),
        (
            'schedules { after { jobs: "a" } } schedules { interval { every { seconds: 9 } } }',
            "schedules[0]",
            "it must be alone",
        ),
        ('workflow: "No"', "workflow", "'No' is no id of a job"),
        (
            'workflow: "etl" schedules { interval { every { seconds: 9 } } }',
            "schedules",
            "schedule the workflow",
        ),
        ('action { workflow { } } workflow: "etl"', "workflow", "set it in its members"),
        ("action { workflow { } } execution_timeout { seconds: 9 }", "execution_timeout", "no worker of its own"),
        ('action { workflow { } } schedules { after { jobs: "a" } }', "schedules", "put both into one workflow"),
    ],
)
def test_rules(text: str, field: str, description: str):
    found = violations(text)
    assert description in found.get(f"job.{field}", ""), found
