"""Executions that have gone well and badly, for the pages that show them, and dead letters and workflows."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.struct_pb2 import Value
from secure_harness import SecureNode, bearer
from service_harness import FakeNode, interval_job, manual_job

from horologe.node.fingerprints import fingerprint_of
from horologe.node.outputs import OutputKey, OutputPiece
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.failures import Failure
from horologe.v1 import job_pb2, job_service_pb2

PARENT = "namespaces/default"
HOSTILE = "<script>alert(1)</script>\u202e\x07\"'&"


async def create(
    node: FakeNode, job_id: str = "tick", parent: str = PARENT, labels: Mapping[str, str] | None = None
) -> job_pb2.Job:
    """A job every minute, with a payload."""
    job = interval_job()
    job.action.python.handler = "h"
    job.action.python.payload.CopyFrom(Value(string_value=HOSTILE))
    job.labels.update(labels or {})
    request = job_service_pb2.CreateJobRequest(parent=parent, job_id=job_id, job=job)
    metadata = bearer(node.admin) if isinstance(node, SecureNode) else ()
    return (await node.jobs.CreateJob(request, metadata=metadata)).job


def fail(node: FakeNode, number: int, error: str = "broken", retry_ms: int = NO_RETRY, **detail: object) -> None:
    """The attempt that runs fails; without a retry the execution is DEAD."""
    node.clock.now_ms += 1_000
    fingerprint = fingerprint_of(Failure(""), error)
    node.complete(number, Outcome.FAILED, retry_delay_ms=retry_ms, error=error, fingerprint=fingerprint, **detail)


def die(node: FakeNode, job: int = 1, error: str = "broken") -> int:
    """The next execution of a job ends DEAD."""
    number = node.fire(job, node.open_session())
    fail(node, number, error)
    return number


async def printed(node: FakeNode, number: int, *data: bytes, stream: int = 1, first: int = 0) -> None:
    """What the attempt that runs has printed."""
    execution = node.execution(number)
    key = OutputKey(number, execution.attempt, execution.assign_ms)
    await node.outputs.append_async(
        [(key, OutputPiece(first + place, stream, each)) for place, each in enumerate(data)]
    )


async def apply_workflow(node: FakeNode, edges: Mapping[str, tuple[str, ...]], name: str = "etl") -> None:
    """A workflow of jobs that are each after some others."""
    head = manual_job()
    head.name = f"{PARENT}/jobs/{name}"
    head.action.workflow.SetInParent()
    jobs = [head]
    for job_id, after in edges.items():
        job = manual_job()
        job.name, job.workflow = f"{PARENT}/jobs/{job_id}", name
        if after:
            job.schedules[0].after.jobs.extend(after)
        jobs.append(job)
    await node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=jobs))


async def run(node: FakeNode, name: str = "etl") -> int:
    """Begins one; answers the execution's number."""
    answer = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=f"{PARENT}/jobs/{name}"))
    return int(answer.execution.name.rpartition("/")[2])
