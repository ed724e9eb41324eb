"""The two clients against a fake node: requests, results, errors, retries, other nodes, own writes."""

from __future__ import annotations

import inspect
import threading
import traceback
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from fake_cluster import FakeCluster, failure

import horologe.client
from horologe.client import AsyncClient, Client, calls, definition_calls, errors, jobs
from horologe.client.channel import MIN_REVISION_KEY
from horologe.v1.cluster_service_pb2 import Member
from horologe.v1.execution_pb2 import Execution
from horologe.v1.execution_service_pb2 import LedgerRow, WatchExecutionsResponse
from horologe.v1.job_pb2 import Job
from horologe.v1.output_service_pb2 import OUTPUT_STREAM_STDERR, OUTPUT_STREAM_STDOUT
from horologe.v1.worker_pb2 import Worker

HELLO = jobs.job("hello", jobs.every("5s"), jobs.shell(["echo", "hello"]))


@pytest.fixture
def client(fake: FakeCluster) -> Iterator[Client]:
    with Client(fake.address, insecure=True) as client:
        yield client


@pytest.fixture
async def async_client(fake: FakeCluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.address, insecure=True) as client:
        yield client


def test_public_names_exist_and_are_listed_in_order() -> None:
    assert horologe.client.__all__ == sorted(horologe.client.__all__)
    for name in horologe.client.__all__:
        assert getattr(horologe.client, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = horologe.client.nonsense  # type: ignore[attr-defined]


def test_both_clients_have_every_method_with_the_same_signature() -> None:
    builders = [
        name
        for module in (calls, definition_calls)
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and str(value.__annotations__.get("return")).startswith(("Call[", "Pages[", "Stream["))
    ]
    assert {"create_job", "list_jobs", "read_output", "plan_jobs"} <= set(builders)
    for name in builders:
        documented = inspect.getdoc(getattr(Client, name))
        assert documented
        assert inspect.getdoc(getattr(AsyncClient, name)) == documented
        signature = inspect.signature(getattr(Client, name))
        assert inspect.signature(getattr(AsyncClient, name)) == signature
        assert next(iter(signature.parameters)) == "self"
    assert set(builders) <= set(dir(Client))
    assert set(builders) <= set(dir(AsyncClient))


def test_a_job_from_creation_to_deletion(client: Client) -> None:
    created = client.create_job(HELLO)
    assert created.name == "namespaces/default/jobs/hello"
    assert client.get_job("hello") == created
    assert [job.name for job in client.list_jobs()] == [created.name]
    assert client.pause_job("hello", reason="repair").pause_reason == "repair"
    assert client.resume_job("hello").state == Job.STATE_ACTIVE
    created.description = "says hello"
    assert client.update_job(created, update_mask=["description"]).description == "says hello"
    client.delete_job("hello")
    assert list(client.list_jobs()) == []
    with pytest.raises(errors.NotFound) as caught:
        client.get_job("hello")
    assert caught.value.reason == "JOB_NOT_FOUND"
    assert caught.value.metadata == {"job": "namespaces/default/jobs/hello"}
    assert caught.value.status == "NOT_FOUND"


def test_lists_follow_all_pages(fake: FakeCluster, client: Client) -> None:
    for index in range(5):
        fake.add_job(f"job-{index}")
        fake.add_execution("job-0", Execution.STATE_COMPLETED)
        fake.workers.append(Worker(name=f"workers/w{index}"))
        fake.ledger.append(LedgerRow(count=index + 1))
    assert [job.name[-5:] for job in client.list_jobs()] == [f"job-{index}" for index in range(5)]
    assert [job.name[-5:] for job in client.list_jobs(name_prefix="job-3")] == ["job-3"]
    assert [execution.name[-1] for execution in client.list_executions("job-0")] == list("54321")
    assert [worker.name for worker in client.list_workers()] == [f"workers/w{index}" for index in range(5)]
    assert [row.count for row in client.list_ledger("job-0")] == [1, 2, 3, 4, 5]
    assert [request.page_token for request in fake.requests("ListLedger")] == ["", "2", "4"]


def test_many_jobs_at_once(fake: FakeCluster, client: Client) -> None:
    second = jobs.job("second", jobs.manual(), jobs.python("report", {"a": 1}))
    assert [job.name[-6:] for job in client.batch_create_jobs([HELLO, second])] == ["/hello", "second"]
    applied = client.apply_jobs([second, jobs.job("third", jobs.manual(), jobs.sql("db", "select 1"))])
    assert [entry.outcome for entry in applied] == ["updated", "created"]
    assert HELLO.name == "hello"  # What the caller holds is not changed.
    with pytest.raises(errors.AlreadyExists):
        client.batch_create_jobs([HELLO])


def test_running_waiting_and_reading(fake: FakeCluster, client: Client) -> None:
    fake.add_job("hello")
    fake.output = [(OUTPUT_STREAM_STDOUT, b"out"), (OUTPUT_STREAM_STDERR, b"err")]
    execution = client.run_job("hello", payload={"n": [1, None]}, force=True)
    assert fake.requests("RunJob")[0].payload.struct_value["n"][0] == 1
    with pytest.raises(errors.DeadlineExceeded, match="has not ended within 0 s"):
        client.wait_execution(execution.name, timeout=0)
    assert [piece.data for piece in client.read_output(1, follow=True)] == [b"out", b"err"]
    assert client.wait_execution(1, timeout=60).state == Execution.STATE_COMPLETED
    with pytest.raises(errors.FailedPrecondition) as caught:
        client.cancel_execution(1)
    assert caught.value.reason == "EXECUTION_FINISHED"
    with pytest.raises(errors.NotFound):
        list(client.read_output(99))


def test_reading_goes_on_elsewhere_where_it_broke_off(fake: FakeCluster) -> None:
    fake.add_execution("hello", Execution.STATE_RUNNING)
    fake.output = [(1, b"one"), (1, b"two"), (1, b"three")]
    fake.output_breaks = True
    with Client([fake.address, fake.address], insecure=True) as client:
        assert [piece.data for piece in client.read_output(1, follow=True)] == [b"one", b"two", b"three"]
    asked = [(request.attempt, request.after_position) for request in fake.requests("ReadOutput")]
    assert asked == [(0, 0), (1, 1), (1, 2)]


def test_watching(fake: FakeCluster, client: Client) -> None:
    fake.changes = [WatchExecutionsResponse(executions=[Execution(name="x")], revision=17)]
    batches = list(client.watch_executions("hello"))
    assert batches == fake.changes
    assert client.revision == 17
    assert fake.requests("WatchExecutions")[0].parent == "namespaces/default/jobs/hello"


def test_the_cluster(fake: FakeCluster, client: Client) -> None:
    assert client.cluster_status().leader == "n1"
    assert client.transfer_leader("n3").leader == "n3"
    assert [sample.started_count for sample in client.activity(window_seconds=60, step_seconds=10).samples] == [3]
    asked = fake.requests("GetActivity")[0]
    assert (asked.window.seconds, asked.step.seconds) == (60, 10)
    assert list(client.list_members()) == []
    fake.workers = [Worker(name="workers/w1")]
    assert client.drain_worker("w1").state == Worker.STATE_DRAINING
    assert client.preview_schedule(jobs.cron("@daily"), count=3).description == "Every day"


def test_members_come_and_go(fake: FakeCluster, client: Client) -> None:
    assert [member.name for member in client.add_member("n4", "h:1")] == ["n4"]
    assert fake.requests("AddMember")[0].request_id
    assert client.promote_member("n4")[0].role == Member.ROLE_FOLLOWER
    fake.failures["RemoveMember"].append(failure("UNAVAILABLE", "OUTCOME_UNKNOWN"))
    assert client.remove_member("n4", request_id="again") == []
    assert [request.request_id for request in fake.requests("RemoveMember")] == ["again", "again"]
    with pytest.raises(errors.NotFound):
        client.remove_member("n4")
    with pytest.raises(errors.InvalidArgument, match="which member"):
        client.remove_member("")


def test_what_only_the_leader_can_do_goes_to_the_leader(fake: FakeCluster, client: Client) -> None:
    leader = FakeCluster()
    try:
        fake.failures["TransferLeader"].append(
            failure("FAILED_PRECONDITION", "NOT_LEADER", leader="n3", leader_address=leader.address)
        )
        assert client.transfer_leader("n2").leader == "n2"
        assert [len(node.requests("TransferLeader")) for node in (fake, leader)] == [1, 1]
        # Everything else goes on where it went before.
        client.cluster_status()
        assert not leader.requests("GetClusterStatus")
    finally:
        leader.stop()


def test_a_leader_that_nobody_is_ends_the_search(fake: FakeCluster, client: Client) -> None:
    answer = failure("FAILED_PRECONDITION", "NOT_LEADER", leader="n3", leader_address=fake.address)
    fake.failures["TransferLeader"] += [answer] * 20
    with pytest.raises(errors.FailedPrecondition):
        client.transfer_leader("n2")
    assert len(fake.requests("TransferLeader")) == 6


def test_own_writes_are_read_on_every_node(fake: FakeCluster, client: Client) -> None:
    client.create_job(HELLO)
    client.get_job("hello")
    client.cluster_status()
    seen = [metadata.get(MIN_REVISION_KEY) for _, _, metadata in fake.received]
    assert seen == [None, "1", None]  # A node that lags must be able to say so.


def test_linearizable_reads_are_asked_for(fake: FakeCluster, client: Client) -> None:
    client.linearizable().create_job(HELLO)
    client.linearizable().get_job("hello")
    client.linearizable().cluster_status()
    client.get_job("hello")
    seen = [metadata.get("horologe-read") for _, _, metadata in fake.received]
    assert seen == [None, "linearizable", None, None]


def test_a_write_keeps_its_request_id_over_retries(fake: FakeCluster, client: Client) -> None:
    fake.failures["CreateJob"] += [
        failure("UNAVAILABLE", "NO_LEADER"),
        failure("UNAVAILABLE", "OUTCOME_UNKNOWN"),
        failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after="10ms"),
    ]
    client.create_job(HELLO)
    ids = [request.request_id for request in fake.requests("CreateJob")]
    assert len(ids) == 4
    assert len(set(ids)) == 1
    uuid.UUID(ids[0])
    client.pause_job("hello", request_id="mine")
    assert fake.requests("PauseJob")[0].request_id == "mine"


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "INVALID_FIELD", errors.InvalidArgument),
        ("ABORTED", "ETAG_MISMATCH", errors.Conflict),
        ("FAILED_PRECONDITION", "OVERLAP", errors.FailedPrecondition),
        ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", errors.ResourceExhausted),
        ("INTERNAL", "INTERNAL", errors.Internal),
        ("PERMISSION_DENIED", "", errors.PermissionDenied),
        ("UNAUTHENTICATED", "UNAUTHENTICATED", errors.Unauthenticated),
        ("CANCELLED", "", errors.HorologeError),
    ],
)
def test_what_will_not_pass_is_raised_at_once(
    fake: FakeCluster, client: Client, status: str, reason: str, kind: type[Exception]
) -> None:
    fake.failures["RunJob"].append(failure(status, reason, "because"))
    with pytest.raises(errors.HorologeError, match="because") as caught:
        client.run_job("hello")
    assert type(caught.value) is kind
    assert len(fake.requests("RunJob")) == 1


def test_violations_are_carried(fake: FakeCluster, client: Client) -> None:
    fake.failures["CreateJob"].append(
        failure("INVALID_ARGUMENT", "INVALID_FIELD", violations={"job.schedules[0].cron.expression": "is impossible"})
    )
    with pytest.raises(errors.InvalidArgument) as caught:
        client.create_job(HELLO)
    assert caught.value.violations == (errors.Violation("job.schedules[0].cron.expression", "is impossible"),)


def test_an_outcome_that_stays_unknown_says_how_to_go_on(fake: FakeCluster, client: Client) -> None:
    fake.failures["CreateJob"] += [failure("UNAVAILABLE", "OUTCOME_UNKNOWN", retry_after="1h")]
    with pytest.raises(errors.OutcomeUnknown) as caught:
        client.create_job(HELLO)
    assert caught.value.request_id == fake.requests("CreateJob")[0].request_id


def test_another_node_is_asked_when_one_is_gone(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who waits for the one that is gone has no time left for the other.
    monkeypatch.setattr("horologe.client.channel.ATTEMPT_SECONDS", 3_600.0)
    gone = FakeCluster()
    gone.stop()
    fake.add_job("hello")
    with Client([gone.address, fake.address], insecure=True) as client:
        assert client.get_job("hello").name.endswith("hello")
        client.get_job("hello")
    assert len(fake.requests("GetJob")) == 2


class Stuck(threading.Event):
    """What a node waits for that never answers; once it waits, the other one does."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self.other = other

    def wait(self, timeout: float | None = None) -> bool:
        self.other.set()
        return super().wait(timeout)


def test_another_node_is_asked_when_one_hangs(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.channel.ATTEMPT_SECONDS", 0.1)
    stuck = FakeCluster()
    fake.hang.clear()
    stuck.hang = Stuck(fake.hang)
    with Client([stuck.address, fake.address], insecure=True) as client:
        created = client.create_job(HELLO)
        assert created.name.endswith("hello")
    assert stuck.requests("CreateJob")[0].request_id == fake.requests("CreateJob")[0].request_id
    stuck.stop()


def test_nobody_there(fake: FakeCluster) -> None:
    fake.stop()
    with Client(fake.address, insecure=True, unreachable_seconds=0.1) as client:
        with pytest.raises(errors.Unavailable, match=f"no node answers at {fake.address}: Connection refused"):
            client.get_job("hello")
        with pytest.raises(errors.Unavailable):
            list(client.watch_executions())
        # Nothing was sent, so nothing can have happened.
        with pytest.raises(errors.Unavailable):
            client.create_job(HELLO)


def test_a_deadline_passes(fake: FakeCluster, client: Client) -> None:
    fake.hang.clear()
    impatient = client.with_timeout(0.1)
    with pytest.raises(errors.DeadlineExceeded):
        impatient.get_job("hello")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        impatient.create_job(HELLO)
    assert caught.value.request_id


async def test_a_traceback_ends_in_our_error_and_shows_none_of_grpc(
    fake: FakeCluster, client: Client, async_client: AsyncClient
) -> None:
    with pytest.raises(errors.NotFound) as unary:
        client.get_job("nobody")
    with pytest.raises(errors.NotFound) as stream:
        list(client.read_output(99))
    with pytest.raises(errors.NotFound) as async_unary:
        await async_client.get_job("nobody")
    with pytest.raises(errors.NotFound) as async_stream:
        _ = [piece async for piece in async_client.read_output(99)]
    fake.stop()
    with (
        Client(fake.address, insecure=True, unreachable_seconds=0.1) as alone,
        pytest.raises(errors.Unavailable) as unreachable,
    ):
        alone.get_job("hello")
    for caught in (unary, stream, async_unary, async_stream, unreachable):
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        lines = traceback.format_exception(caught.value)
        assert lines[0].startswith("Traceback"), lines
        assert len(lines) <= 6, lines


def test_a_closed_client_says_so(fake: FakeCluster) -> None:
    client = Client(fake.address, insecure=True)
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.get_job("hello")


async def test_the_asynchronous_client(fake: FakeCluster, async_client: AsyncClient) -> None:
    fake.failures["CreateJob"].append(failure("UNAVAILABLE", "NO_LEADER"))
    created = await async_client.create_job(HELLO)
    for index in range(3):
        fake.add_job(f"job-{index}")
    assert [job.name async for job in async_client.list_jobs()] == sorted(fake.jobs)
    assert (await async_client.get_job("hello")).uid == created.uid
    execution = await async_client.run_job("hello")
    fake.output = [(1, b"hello")]
    fake.output_breaks = True
    fake.output = [(1, b"hello "), (1, b"again")]
    read = [piece.data async for piece in async_client.read_output(execution.name, follow=True)]
    assert read == [b"hello ", b"again"]
    assert (await async_client.wait_execution(execution.name)).state == Execution.STATE_COMPLETED
    with pytest.raises(errors.NotFound):
        await async_client.get_job("nobody")
    with pytest.raises(errors.NotFound):
        _ = [piece async for piece in async_client.read_output(99)]
    assert fake.received[-1][2][MIN_REVISION_KEY] == str(async_client.revision)
    assert len({request.request_id for request in fake.requests("CreateJob")}) == 1


async def test_the_asynchronous_client_moves_on(fake: FakeCluster) -> None:
    gone = FakeCluster()
    gone.stop()
    fake.add_job("hello")
    fake.changes = [WatchExecutionsResponse(revision=1)]
    async with AsyncClient([gone.address, fake.address], insecure=True) as client:
        assert len([batch async for batch in client.watch_executions()]) == 1
        assert (await client.get_job("hello")).uid
        with pytest.raises(errors.DeadlineExceeded):
            fake.add_execution("hello", Execution.STATE_RUNNING)
            await client.wait_execution(1, timeout=0.1)
