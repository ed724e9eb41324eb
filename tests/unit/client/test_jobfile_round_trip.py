"""Any valid job, written as a job file and read again, is the same job.

The jobs are made from the message's own description, so that a field which is new there is in here at once.
"""

from __future__ import annotations

import json
import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.client import jobfile
from horologe.client.documents import dump
from horologe.v1.job_pb2 import Job

# What a text may hold: anything but NUL and halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "1e3",
        "on",
        "2027-01-01",
        "set -e\n\n  echo hi\n",
        "a\n \n\n",
        "a: b\n#\tc",
        "x\x85y",
        "\ufeffz",
        " lead",
        "trail ",
    ]
)
ID = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float)
WELL_KNOWN_JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)

# Bounds that the fields of the message have and their types do not say.
WHOLE_NUMBERS: dict[str, st.SearchStrategy[int]] = {
    "priority": st.integers(0, 9),
    "max_attempts": st.integers(0, 1000),
    "success_codes": st.integers(0, 255),
    "expect": st.integers(100, 599),
    "value": st.integers(0, 2**63 - 1),
}
PERIODS = ("horologe.v1.IntervalSchedule.every", "horologe.v1.FixedDelaySchedule.delay")
REQUIRED = {
    *PERIODS,
    "horologe.v1.Job.action",
    "horologe.v1.SqlAction.connection",
    "horologe.v1.SqlAction.statement",
    "horologe.v1.PythonAction.handler",
    "horologe.v1.HttpAction.url",
    "horologe.v1.CronSchedule.expression",
    "horologe.v1.AfterSchedule.jobs",
}


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    job = Job(name=f"namespaces/{draw(ID)}/jobs/{draw(ID)}")
    for field in Job.DESCRIPTOR.fields:
        if field.name != "name" and field.name not in jobfile.OUTPUT_ONLY:
            fill(draw, job, field)
    if not job.schedules:
        job.schedules.add().manual.SetInParent()
    return job


def fill(draw: st.DrawFn, message: Any, field: FieldDescriptor) -> None:
    """Sets a field of a message to something that is allowed there, or leaves it."""
    if field.full_name not in REQUIRED and not draw(st.booleans()):
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = field.message_type.fields_by_name["value"]
        kept = TEXT if values.type == FieldDescriptor.TYPE_STRING else scalar(values)
        getattr(message, field.name).update(draw(st.dictionaries(TEXT, kept, max_size=2)))
    elif field.is_repeated:
        for _ in range(draw(st.integers(1, 3))):
            container = getattr(message, field.name)
            if field.message_type is not None:
                fill_message(draw, container.add(), field.message_type)
            else:
                container.append(draw(scalar(field)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw_message(draw, field))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(scalar(field)))


def draw_message(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    message = GetMessageClass(field.message_type)()
    match field.message_type.full_name:
        case "google.protobuf.Duration":
            is_period = field.full_name in PERIODS
            message.FromMilliseconds(draw(st.integers(1000, 366 * 86_400_000) if is_period else st.integers(0, 10**12)))
        case "google.protobuf.Timestamp":
            message.FromMilliseconds(draw(st.integers(0, 253_402_300_799_999)))
        case "google.protobuf.Value":
            message.MergeFrom(as_value(draw(WELL_KNOWN_JSON)))
        case "google.protobuf.Struct":
            message.update(draw(st.dictionaries(TEXT, WELL_KNOWN_JSON, max_size=3)))
        case _:
            fill_message(draw, message, field.message_type)
    return message


def as_value(plain: object) -> Any:
    from google.protobuf import json_format, struct_pb2

    return json_format.ParseDict(plain, struct_pb2.Value())  # type: ignore[arg-type]


def fill_message(draw: st.DrawFn, message: Any, descriptor: Descriptor) -> None:
    chosen = {
        oneof.name: draw(st.sampled_from(list(oneof.fields))).name
        for oneof in descriptor.oneofs
        if not oneof.name.startswith("_")
    }
    for field in descriptor.fields:
        home = field.containing_oneof
        if home is None or home.name not in chosen:
            fill(draw, message, field)
        elif chosen[home.name] == field.name:
            getattr(message, field.name).CopyFrom(draw_message(draw, field))
            getattr(message, field.name).SetInParent()
    repair(draw, message)


def repair(draw: st.DrawFn, message: Any) -> None:
    """Some fields exclude each other."""
    match message.DESCRIPTOR.name:
        case "ShellAction":
            if draw(st.booleans()) or not message.argv:
                message.ClearField("argv")
                message.script = message.script or "true"
            else:
                message.ClearField("script")
                message.ClearField("interpreter")
        case "OnceSchedule":
            if message.HasField("delay") and draw(st.booleans()):
                message.ClearField("time")
                message.ClearField("allow_past")
            else:
                message.ClearField("delay")
                message.time.SetInParent()


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return TEXT.filter(bool) if field.full_name in REQUIRED else TEXT
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=12) | TEXT.map(str.encode)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_DOUBLE:
            return st.just(0.0) | st.floats(1.0, 1000.0)
        case _:
            return WHOLE_NUMBERS.get(field.name, st.integers(0, 2**31 - 1))


def read_back(text: str) -> Job:
    entries = jobfile.loads(text)
    assert len(entries) == 1
    return entries[0].job


def test_the_largest_number_is_read() -> None:
    job = Job(name="namespaces/a/jobs/a")
    job.schedules.add().manual.SetInParent()
    job.action.shell.argv.append("true")
    job.action.shell.rlimits["cpu"] = 2**63 - 1
    assert read_back(dump(jobfile.to_mapping(job))).action.shell.rlimits["cpu"] == 2**63 - 1


@settings(max_examples=80, deadline=None)
@given(jobs())
def test_a_job_written_and_read_is_the_same_job(job: Job) -> None:
    before = Job.FromString(job.SerializeToString())
    assert read_back(dump(jobfile.to_mapping(job))) == before
    assert read_back(json.dumps(jobfile.to_mapping(job))) == before
    assert job == before, "writing changes nothing"


@settings(max_examples=100, deadline=None)
@given(WELL_KNOWN_JSON)
def test_any_payload_survives(payload: object) -> None:
    job = Job(name="namespaces/a/jobs/b")
    job.schedules.add().manual.SetInParent()
    job.action.python.handler = "h"
    job.action.python.payload.CopyFrom(as_value(payload))
    found = read_back(dump([jobfile.to_definition(job)])).action.python.payload
    assert found == job.action.python.payload
    if isinstance(payload, float):
        assert math.copysign(1.0, found.number_value) == math.copysign(1.0, payload)
