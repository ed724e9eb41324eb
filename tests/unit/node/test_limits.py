"""Limits of what calls say, as docs/limits.md lists them: what is as large as the limit is accepted, one more is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from service_harness import START_MS, FakeNode, manual_job

from horologe.node import actions, gateway, outcomes, validation, worker_service
from horologe.node.json_values import NESTING_MAX
from horologe.node.names import is_id
from horologe.node.outputs import OutputKey
from horologe.node.paging import PAGE_SIZE_MAX, clamp_count
from horologe.node.sessions import WorkerSession
from horologe.node.templates import TEXT_BYTES_MAX, template_violations
from horologe.node.validation import complete_job
from horologe.node.worker_service import _complaint
from horologe.node.writes import COMMAND_ENVELOPE_BYTES
from horologe.raft.commands import COMMAND_BYTES_MAX
from horologe.v1 import job_pb2, job_service_pb2, worker_pb2, worker_service_pb2

PAGE = Path(__file__).parents[3] / "docs" / "limits.md"
Fits = Callable[[int], bool]


def job_fits(change: Callable[[job_pb2.Job, int], None]) -> Fits:
    """Whether a job may have so much of something."""

    def fits(size: int) -> bool:
        job = manual_job()
        change(job, size)
        return not complete_job(job, "namespaces/default/jobs/tick", START_MS)[1]

    return fits


def hello_fits(change: Callable[[worker_pb2.Hello, int], None]) -> Fits:
    """Whether a worker may say so much of itself."""

    def fits(size: int) -> bool:
        hello = worker_pb2.Hello(worker="w1", incarnation="a", slot_count=1, protocol_version=1)
        change(hello, size)
        return _complaint(worker_service_pb2.ConnectRequest(hello=hello)) is None

    return fits


def filled(job: job_pb2.Job, size: int) -> None:
    """Makes the job's action so large as a whole."""
    del job.action.shell.argv[:]
    job.action.shell.script = "x" * size
    job.action.shell.script = "x" * (2 * size - job.action.ByteSize())
    assert job.action.ByteSize() == size


def nested(levels: int) -> Value:
    value = Value(string_value="x")
    for _ in range(levels):
        outer = Value()
        outer.list_value.values.append(value)
        value = outer
    return value


def payload_fits(size: int) -> bool:
    payload = Value(string_value="x" * size)
    payload.string_value = "x" * (2 * size - payload.ByteSize())
    assert payload.ByteSize() == size
    return not actions.payload_violations(payload, "payload")


def with_labels(labels: object, count: int) -> None:
    labels.update({f"label-{number}": "x" for number in range(count)})  # type: ignore[attr-defined]


def with_schedules(job: job_pb2.Job, count: int) -> None:
    del job.schedules[:]
    for number in range(count):
        job.schedules.add().interval.every.seconds = 60 + number


def with_cron(job: job_pb2.Job, length: int) -> None:
    del job.schedules[:]
    job.schedules.add().cron.expression = "* * * * *".ljust(length)


def held(hello: worker_pb2.Hello, count: int) -> None:
    for number in range(count):
        hello.held_attempts.add(execution=number + 1, attempt=1, fencing_token=1)


def templated(size: int) -> job_pb2.Action:
    return job_pb2.Action(shell=job_pb2.ShellAction(env={"A": "{{ due_time }}".ljust(size)}))


def set_to(field: str, value: Callable[[int], object]) -> Callable[[object, int], None]:
    return lambda message, size: setattr(message, field, value(size))


CASES: dict[str, tuple[int, Fits]] = {
    "Action of a job: script, body, arguments and all": (actions.PAYLOAD_BYTES_MAX, job_fits(filled)),
    "Payload for one run": (actions.PAYLOAD_BYTES_MAX, payload_fits),
    "Lists and objects inside each other in a payload": (
        NESTING_MAX,
        lambda levels: not actions.payload_violations(nested(levels), "payload"),
    ),
    "URL of a request": (
        actions.URL_LENGTH_MAX,
        job_fits(lambda job, size: setattr(job.action.http, "url", "http://a.example/".ljust(size, "x"))),
    ),
    "Text with templates in it": (
        TEXT_BYTES_MAX,
        lambda size: not list(template_violations(templated(size), "action", list)),
    ),
    "Job's id": (63, lambda length: is_id("x" * length)),
    "Description": (validation.DESCRIPTION_BYTES_MAX, job_fits(set_to("description", lambda size: "x" * size))),
    "Owner": (validation.OWNER_LENGTH_MAX, job_fits(set_to("owner", lambda size: "x" * size))),
    "Labels of a job": (validation.LABELS_MAX, job_fits(lambda job, count: with_labels(job.labels, count))),
    "Value of a label": (
        validation.LABEL_VALUE_LENGTH_MAX,
        job_fits(lambda job, size: job.labels.update(label="x" * size)),
    ),
    "Labels of workers that a job asks for": (
        validation.WORKER_LABELS_MAX,
        job_fits(lambda job, count: with_labels(job.worker_labels, count)),
    ),
    "Limits that a job shares": (
        validation.LIMITS_MAX,
        job_fits(lambda job, count: job.limits.extend(f"limit-{number}" for number in range(count))),
    ),
    "Schedules of a job": (validation.SCHEDULES_MAX, job_fits(with_schedules)),
    "Cron expression": (1_000, job_fits(with_cron)),
    "Attempts of an execution": (
        validation.MAX_ATTEMPTS[1],
        job_fits(lambda job, count: setattr(job.retry, "max_attempts", count)),
    ),
    "Failures that a retry policy names": (
        validation.FAILURES_MAX,
        job_fits(lambda job, count: job.retry.retry_on.extend(f"exit:{number + 1}" for number in range(count))),
    ),
    "Captured output of an attempt, as a job may ask for": (
        validation.OUTPUT_BYTES_MAX,
        job_fits(set_to("output_bytes_max", lambda size: size)),
    ),
    "Entries of a page": (PAGE_SIZE_MAX, lambda size: clamp_count(size, "page_size", 100) == size),
    "Queues of a worker": (
        worker_service.QUEUES_MAX,
        hello_fits(lambda hello, count: hello.queues.extend(f"q{number}" for number in range(count))),
    ),
    "Slots of a worker": (worker_service.SLOTS_MAX, hello_fits(set_to("slot_count", lambda count: count))),
    "Attempts that a worker holds when it comes back": (worker_service.SLOTS_MAX, hello_fits(held)),
    "Labels of a worker": (
        worker_service.LABELS_MAX,
        hello_fits(lambda hello, count: with_labels(hello.labels, count)),
    ),
    "Name of a worker": (128, hello_fits(set_to("worker", lambda size: "w" * size))),
}


def rows() -> Iterator[tuple[str, int]]:
    """What the page says."""
    table = PAGE.read_text().split("<!-- limits -->")[1].split("<!-- /limits -->")[0]
    for what, limit in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]:
        yield what, int(limit.split()[0].replace(",", ""))


def test_the_page_lists_all_of_them() -> None:
    assert dict(rows()) == {what: limit for what, (limit, _) in CASES.items()}


@pytest.mark.parametrize("what", CASES)
def test_at_the_limit_and_beyond_it(what: str) -> None:
    limit, fits = CASES[what]
    assert fits(limit)
    assert not fits(limit + 1)


async def test_commands_of_the_log(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:

        async def create(name: str, size: int) -> int:
            """Five jobs that make a command of nearly as much; answers how much it was."""
            request = job_service_pb2.BatchCreateJobsRequest()
            for number in range(5):
                job = request.jobs.add()
                job.CopyFrom(manual_job(f"{name}{number}"))
                del job.action.shell.argv[:]
                job.action.shell.script = "x" * (size // 5)
            request.jobs[0].action.shell.script += "x" * (size % 5)
            await node.jobs.BatchCreateJobs(request)
            return node.commands[-1].ByteSize() + COMMAND_ENVELOPE_BYTES

        size = 1_000_000
        size += COMMAND_BYTES_MAX - await create("a", size)
        assert await create("b", size) == COMMAND_BYTES_MAX
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await create("c", size + 1)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"makes a command of {COMMAND_BYTES_MAX + 1} bytes" in str(refusal.value.details())


@pytest.mark.parametrize("extra", [0, 1])
async def test_pieces_of_output(tmp_path: Path, extra: int) -> None:
    """A worker that sends more at once than workers do loses what is too much, and nobody else does."""
    async with FakeNode(tmp_path).serve() as node:
        await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=manual_job()))
        run = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name="namespaces/default/jobs/tick", force=True))
        number = int(run.execution.name.rpartition("/")[2])
        session = WorkerSession(node.open_session(), "w1")
        node.assign(number, session.number)
        copies = gateway.OutputCopies(node.context, node.outputs, node.peers.__getitem__)
        here = gateway.Gateway(node.context, node.outputs, copies)
        token = node.execution(number).token
        await here.open(session, [worker_pb2.AttemptId(execution=number, attempt=1, fencing_token=token)])
        data = b"x" * (gateway.CHUNK_BYTES_MAX + extra)
        here.output(
            session,
            worker_pb2.OutputChunk(execution=number, attempt=1, fencing_token=token, stream=1, data=data),
        )
        assert session.attempts[number].output.is_truncated is bool(extra)
        result = worker_pb2.AttemptResult(execution=number, attempt=1, fencing_token=token, outcome=1)
        here.results(session, worker_pb2.AttemptResults(results=[result]))
        await here.drained()
        (piece,) = node.outputs.read_batch(OutputKey(number, 1, node.execution(number).assign_ms))
    assert len(piece.data) == gateway.CHUNK_BYTES_MAX


def test_what_the_page_says_of_results() -> None:
    assert (outcomes.ERROR_CHARACTERS_MAX, outcomes.RESULT_BYTES_MAX) == (4 << 10, 64 << 10)
