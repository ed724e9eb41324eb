"""SecretService over gRPC: values go in and nothing tells them, and jobs name secrets without saying more than the name."""

from __future__ import annotations

import logging
import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from service_harness import FakeNode, manual_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import logging_setup
from horologe.v1 import definition_service_pb2, job_pb2, job_service_pb2
from horologe.v1 import secret_service_pb2 as api

DB = "namespaces/default/secrets/db"
VALUE = "correct horse battery staple"


def job(name: str = "", text: str = "{{ secrets.db }}") -> job_pb2.Job:
    made = manual_job(name=name)
    made.action.shell.env["PASSWORD"] = text
    return made


async def set_secret(node: FakeNode, value: str = VALUE, name: str = DB, request_id: str = "") -> api.Secret:
    request = api.SetSecretRequest(name=name, value=value.encode(), request_id=request_id)
    return (await node.secrets.SetSecret(request)).secret


async def list_secrets(node: FakeNode, **fields: object) -> api.ListSecretsResponse:
    return await node.secrets.ListSecrets(api.ListSecretsRequest(**fields))


async def create(node: FakeNode, job_id: str = "tick", text: str = "{{ secrets.db }}") -> job_pb2.Job:
    request = job_service_pb2.CreateJobRequest(job_id=job_id, job=job(text=text))
    return (await node.jobs.CreateJob(request)).job


async def test_what_may_be_known_of_a_secret(node):
    first = await set_secret(node)
    assert (first.name, first.version, first.job_count) == (DB, 1, 0)
    node.clock.now_ms += 5_000
    await create(node)
    second = await set_secret(node, "another")
    assert (second.version, second.job_count) == (2, 1)
    assert second.create_time == first.create_time
    assert second.update_time.ToMilliseconds() == node.clock.now_ms
    assert list((await list_secrets(node)).secrets) == [second]


async def test_lists_are_by_namespace_and_in_pages(node):
    for name in ("default/secrets/b", "default/secrets/a", "default-2/secrets/a", "shop/secrets/c"):
        await set_secret(node, name=f"namespaces/{name}")
    assert [each.name for each in (await list_secrets(node)).secrets] == [
        "namespaces/default/secrets/a",
        "namespaces/default/secrets/b",
    ]
    assert len((await list_secrets(node, parent="namespaces/-")).secrets) == 4
    page = await list_secrets(node, parent="namespaces/-", page_size=3)
    rest = await list_secrets(node, parent="namespaces/-", page_size=3, page_token=page.next_page_token)
    assert (len(page.secrets), [each.name for each in rest.secrets]) == (3, ["namespaces/shop/secrets/c"])
    assert not rest.next_page_token


async def test_deleted_only_when_no_job_names_it(node):
    await set_secret(node)
    await create(node)
    error = await refused(node.secrets.DeleteSecret(api.DeleteSecretRequest(name=DB)))
    assert (error.reason, error.code) == ("SECRET_IN_USE", grpc.StatusCode.FAILED_PRECONDITION)
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name="namespaces/default/jobs/tick"))
    answer = await node.secrets.DeleteSecret(api.DeleteSecretRequest(name=DB))
    assert answer.revision == node.index
    error = await refused(node.secrets.DeleteSecret(api.DeleteSecretRequest(name=DB)))
    assert (error.reason, error.code) == ("SECRET_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("name", "value", "field", "text"),
    [
        ("db", b"x", "name", "'db' is not of the form namespaces/NAMESPACE/secrets/SECRET"),
        ("namespaces/default/secrets/DB", b"x", "name", "'DB' is no secret name; use 1 to 63 lower-case"),
        ("namespaces/-/secrets/db", b"x", "name", "'-' is no namespace name"),
        (DB, b"", "value", "a value has 1 to 65536 bytes, and this one has 0"),
        (DB, b"hush" * 16_385, "value", "a value has 1 to 65536 bytes, and this one has 65540"),
        (DB, b"hush\0", "value", "the value has a NUL character"),
        (DB, b"hush\xff", "value", "the value is no UTF-8 text"),
    ],
)
async def test_what_is_refused(node, name, value, field, text):
    error = await refused(node.secrets.SetSecret(api.SetSecretRequest(name=name, value=value)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in error.fields[field]
    assert "hush" not in error.text + error.fields[field]
    assert not node.commands


async def test_a_request_sent_again_sets_nothing_again(node):
    request_id = str(uuid.uuid4())
    first = await set_secret(node, request_id=request_id)
    assert await set_secret(node, request_id=request_id) == first
    await set_secret(node, "newer")
    assert (await set_secret(node, request_id=request_id)).version == 2, "the first answer, and the newer value stays"


async def test_a_request_id_that_comes_again_with_another_value_is_found_out(node):
    request_id = str(uuid.uuid4())
    await set_secret(node, request_id=request_id)
    request = api.SetSecretRequest(name=DB, value=b"another value", request_id=request_id)
    assert (await refused(node.secrets.SetSecret(request))).reason == "REQUEST_ID_REUSED"
    request.name, request.value = "namespaces/default/secrets/other", VALUE.encode()
    assert (await refused(node.secrets.SetSecret(request))).reason == "REQUEST_ID_REUSED"


async def test_what_is_remembered_of_a_request_does_not_depend_on_the_value(node):
    await set_secret(node, "guessable", request_id=str(uuid.uuid4()))
    await set_secret(node, "differently", request_id=str(uuid.uuid4()))
    with node.store.read() as tables:
        records = [log_pb2.RequestRecord.FromString(bytes(raw)) for _, raw in tables.request.scan()]
    assert len({record.digest for record in records}) == 1


# Jobs


async def test_a_job_that_names_an_unknown_secret_is_refused_with_the_field(node):
    await set_secret(node)
    jobs = [job("good"), job("bad", "{{ secrets.db }}{{ secrets.lost }}")]
    for call in (
        node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=jobs)),
        node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=jobs, validate_only=True)),
        node.jobs.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(jobs=jobs)),
        node.definitions.PlanJobs(definition_service_pb2.PlanJobsRequest(jobs=jobs)),
    ):
        error = await refused(call)
        assert (error.reason, error.fields) == ("SECRET_NOT_FOUND", {"jobs[1].action": "there is no secret lost"})
        assert "namespaces/default/secrets/lost does not exist; set it first" in error.text


async def test_a_secret_of_another_namespace_is_not_there(node):
    await set_secret(node, name="namespaces/payments/secrets/db")
    request = job_service_pb2.CreateJobRequest(parent="namespaces/shop", job_id="tick", job=job())
    error = await refused(node.jobs.CreateJob(request))
    assert (error.reason, error.code) == ("SECRET_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    assert "namespaces/shop/secrets/db" in error.text


async def test_jobs_show_the_reference_only(node):
    await set_secret(node)
    created = await create(node)
    assert created.action.shell.env["PASSWORD"] == "{{ secrets.db }}"
    update = job_service_pb2.UpdateJobRequest(
        job=job_pb2.Job(name=created.name, description="new"), update_mask=FieldMask(paths=["description"])
    )
    await node.jobs.UpdateJob(update)
    name = created.name
    shown: list[Message] = [
        await node.jobs.GetJob(job_service_pb2.GetJobRequest(name=name)),
        await node.jobs.ListJobs(job_service_pb2.ListJobsRequest()),
        await node.definitions.ListJobVersions(definition_service_pb2.ListJobVersionsRequest(parent=name)),
        await node.definitions.PlanJobs(definition_service_pb2.PlanJobsRequest(jobs=[job("tick"), job("tock")])),
        await list_secrets(node),
    ]
    for message in shown:
        assert VALUE.encode() not in message.SerializeToString(), type(message).__name__
        assert VALUE not in str(message)
    with node.store.read() as tables:
        (record,) = [log_pb2.JobRecord.FromString(bytes(raw)) for _, raw in tables.job.scan()]
    assert list(record.secrets) == ["db"]


async def test_a_new_definition_names_other_secrets(node):
    await set_secret(node)
    await create(node)
    assert (await list_secrets(node)).secrets[0].job_count == 1
    changed = job_service_pb2.ApplyJobsRequest(jobs=[job("tick", "{{ due_time }}")])
    await node.jobs.ApplyJobs(changed)
    assert (await list_secrets(node)).secrets[0].job_count == 0


# What is written down


async def test_no_log_line_has_a_value(node, tmp_path):
    """A call that fails on the way: the log shows the error with its traceback, and not what was in the variables."""
    config = node.config.model_copy(update={"log_file": tmp_path / "log", "log_level": "debug", "log_format": "text"})
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)
    try:
        logging_setup.configure(config)
        await set_secret(node)
        node.failures.append(RuntimeError("the disk is on fire"))
        error = await refused(node.secrets.SetSecret(api.SetSecretRequest(name=DB, value=VALUE.encode())))
        assert error.code is grpc.StatusCode.INTERNAL
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
            handler.close()
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
    written = (tmp_path / "log").read_text()
    assert "the disk is on fire" in written
    assert VALUE not in written
