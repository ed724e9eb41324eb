"""JSON and messages of the proto: what one side writes, the other one reads, whatever is in it; jobs of every kind, both ways."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from http_harness import JOB, http_client
from hypothesis import given
from hypothesis import strategies as st
from service_harness import FakeNode

from horologe.node.http.endpoints import Router
from horologe.node.http.json_reader import VIOLATIONS_MAX, Reader, is_map, parse, value_of_map
from horologe.node.http.json_writer import LARGE_BYTES, write
from horologe.node.http.problems import Problem
from horologe.v1 import calendar_pb2, execution_pb2, job_pb2, job_service_pb2

JOBS = "/v1/namespaces/default/jobs"
F = FieldDescriptor
_SCALARS = {
    F.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    F.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    F.CPPTYPE_BOOL: st.booleans(),
    F.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
}
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_LEAVES = st.none() | st.booleans() | _TEXTS | st.integers(-(2**40), 2**40)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2), max_leaves=4
)
_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "google.protobuf.Timestamp": st.sampled_from(["2026-11-26T21:00:00Z", "1970-01-01T00:00:00.000000001Z"]),
    "google.protobuf.Duration": st.sampled_from(["0s", "90s", "-0.500s"]),
    "google.protobuf.Value": _JSON,
    "google.protobuf.Struct": st.dictionaries(_TEXTS, _JSON, max_size=2),
}


def _one(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.name for value in field.enum_type.values])
    if field.type == F.TYPE_BYTES:
        return st.sampled_from(["", "aHVudGVyMg==", "AP//"])
    if field.message_type is None:
        return _SCALARS.get(field.cpp_type, _TEXTS)
    known = _KNOWN.get(field.message_type.full_name)
    return known if known is not None else values(field.message_type)


@st.composite
def values(draw: st.DrawFn, descriptor: Descriptor) -> dict[str, Any]:
    """A JSON object that stands for a message of that kind."""
    found: dict[str, Any] = {}
    groups: set[str] = set()
    fields = list(descriptor.fields)
    chosen = draw(st.lists(st.sampled_from(fields), unique_by=lambda each: each.name, max_size=4)) if fields else []
    for field in chosen:
        group = field.containing_oneof.name if field.containing_oneof is not None else field.name
        if group in groups:
            continue
        groups.add(group)
        if is_map(field):
            found[field.name] = draw(st.dictionaries(_TEXTS, _one(value_of_map(field)), max_size=2))
        elif field.is_repeated:
            found[field.name] = draw(st.lists(_one(field), max_size=2))
        else:
            found[field.name] = draw(_one(field))
    return found


@pytest.mark.parametrize("kind", [job_pb2.Job, execution_pb2.Execution, calendar_pb2.Calendar])
def test_what_is_read_is_what_the_library_reads_and_what_is_written_is_read_again(kind: type[Message]):
    @given(values(kind.DESCRIPTOR))
    def check(value: dict[str, Any]) -> None:
        read, expected, again = kind(), kind(), kind()
        reader = Reader()
        reader.message(read, parse(json.dumps(value).encode()))
        assert not reader.violations
        json_format.ParseDict(value, expected)
        assert read == expected
        reader.message(again, parse(asyncio.run(write(read))))
        assert not reader.violations
        assert again == read

    check()


async def test_a_large_answer_is_written_elsewhere_and_is_the_same():
    job = job_pb2.Job(description="ä" * LARGE_BYTES)
    assert json.loads(await write(job))["description"] == job.description


SCHEDULES: list[dict[str, Any]] = [
    {"cron": {"expression": "0 2 * * *", "time_zone": "Europe/Berlin", "dst_overlap": "OVERLAP_POLICY_BOTH"}},
    {"interval": {"every": "90s", "phase": "5s"}},
    {"once": {"time": "2030-01-01T00:00:00Z"}},
    {"fixed_delay": {"delay": "30s"}},
    {"manual": {}},
]
ACTIONS: list[dict[str, Any]] = [
    {
        "shell": {
            "argv": ["true"],
            "env": {"A": "ä"},
            "stdin": "AP//",
            "rlimits": {"nofile": 64},
            "success_codes": [0, 3],
        }
    },
    {"shell": {"script": "echo", "interpreter": ["/bin/bash", "-e"]}},
    {"http": {"method": "POST", "url": "https://example.org/", "headers": {"A": "b"}, "body": "e30=", "expect": [204]}},
    {"sql": {"connection": "main", "statement": "select :a", "parameters": {"a": 1.5}}},
    {"python": {"handler": "report", "payload": {"list": [1, "two", None, {"deep": True}]}}},
    {"workflow": {}},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=[next(iter(each)) for each in SCHEDULES])
@pytest.mark.parametrize("action", ACTIONS, ids=[f"{place}-{next(iter(each))}" for place, each in enumerate(ACTIONS)])
async def test_a_job_of_every_kind_is_the_same_over_both(
    node: FakeNode, schedule: dict[str, Any], action: dict[str, Any]
):
    wanted = {
        **JOB, "schedules": [schedule], "action": action, "labels": {"team": "ä"}, "timeout": "60s", "priority": 0,
        "retry": {"max_attempts": 2, "backoff": "BACKOFF_LINEAR", "factor": 1.5, "retry_on": ["exit:1-3"]},
    }  # fmt: skip
    order = json_format.ParseDict(wanted, job_pb2.Job())
    async with http_client(node) as http:
        over_http = await http.post(f"{JOBS}?job_id=a", json=wanted)
        assert over_http.status_code == 200, over_http.text
        stored = (await node.jobs.GetJob(job_service_pb2.GetJobRequest(name="namespaces/default/jobs/a"))).job
        assert json_format.ParseDict(over_http.json()["job"], job_pb2.Job()) == stored
        await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=stored.name))
        over_grpc = (await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="a", job=order))).job
        read = json_format.ParseDict((await http.get(f"{JOBS}/a")).json()["job"], job_pb2.Job())
    assert read == over_grpc
    for job in (stored, over_grpc):
        for field in ("uid", "etag"):
            job.ClearField(field)
    assert stored == over_grpc


def test_a_key_that_comes_twice_among_very_many_is_found_in_one_pass() -> None:
    keys = ",".join(f'"k{number}":0' for number in range(200_000))
    with pytest.raises(ValueError, match="'k199999' twice"):
        parse(f'{{{keys},"k199999":0}}'.encode())


def test_a_body_that_is_wrong_all_over_is_not_read_to_its_end() -> None:
    endpoint, path = Router().find("POST", JOBS)
    job = Endless()
    with pytest.raises(Problem) as refusal:
        endpoint.request(path, [("job_id", "a")], job)
    assert len(refusal.value.violations) == job.read == VIOLATIONS_MAX


class Endless(dict[str, Any]):
    """An object of many unknown fields, which counts those that were read."""

    read = 0

    def items(self) -> Any:
        for number in range(100 * VIOLATIONS_MAX):
            self.read += 1
            yield f"unknown_{number}", 0
