"""ClusterService and the people's part of WorkerService over gRPC."""

from __future__ import annotations

import asyncio
import uuid

import grpc
from secure_harness import SecureNode, bearer
from service_harness import START_MS, FakeNode, interval_job, refused
from structlog.testing import capture_logs

from horologe.log.v1 import log_pb2
from horologe.node.proposals import NoLeaderError
from horologe.peer.v1 import peer_service_pb2
from horologe.v1 import cluster_service_pb2, job_service_pb2, worker_pb2, worker_service_pb2

Api = cluster_service_pb2
NAMES = ("n1", "n2", "n3")


async def test_status(node):
    node.apply(log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id="c-1")))
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=interval_job()))
    session = node.open_session()
    node.complete(node.fire(1, session))
    node.fire(1, session)
    status = await node.cluster.GetClusterStatus(Api.GetClusterStatusRequest())
    assert (status.cluster_id, status.node, status.leader, status.term) == ("c-1", "n1", "n1", 3)
    assert (status.revision, status.commit_index, status.entry_count) == (6, 6, 6)
    assert (status.job_count, status.running_count, status.queued_count, status.worker_count) == (1, 1, 0, 1)
    assert (status.fired_count, status.completed_count, status.failed_count) == (2, 1, 0)
    assert status.has_quorum
    assert status.version
    assert status.log_time.ToMilliseconds() == node.clock.now_ms > START_MS


async def test_members(tmp_path):
    async with FakeNode(tmp_path, members=("n3", "n1", "n2")).serve() as node:
        answer = await node.cluster.ListMembers(Api.ListMembersRequest())
        member = Api.Member
        assert [(each.name, each.role, each.reachable, each.match_index) for each in answer.members] == [
            ("n1", member.ROLE_LEADER, True, 0),
            ("n2", member.ROLE_FOLLOWER, True, 7),
            ("n3", member.ROLE_FOLLOWER, False, 0),
        ]
        assert all(each.address.startswith("127.0.0.1:74") for each in answer.members)
        assert all(each.peer_address.startswith("127.0.0.1:75") for each in answer.members)
        names: list[str] = []
        token = ""
        while not names or token:
            page = await node.cluster.ListMembers(Api.ListMembersRequest(page_size=2, page_token=token))
            names += [each.name for each in page.members]
            token = page.next_page_token
        assert names == ["n1", "n2", "n3"]


async def test_leadership_goes_to_another_member(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        call = asyncio.ensure_future(node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n2")))
        async with asyncio.timeout(60):
            await node.submitted.wait()
        assert node.inboxes[0].transfer_to == "n2"
        node.leader = ""
        await asyncio.sleep(0)
        node.leader = "n2"
        answer = await call
        assert (answer.leader, answer.term) == ("n2", 3)


async def test_the_log_says_who_hands_leadership_over(tmp_path):
    async with SecureNode(tmp_path, members=NAMES).serve() as node:
        with capture_logs() as lines:
            request = Api.TransferLeaderRequest(target="n2")
            call = asyncio.ensure_future(node.cluster.TransferLeader(request, metadata=bearer(node.admin)))
            async with asyncio.timeout(60):
                await node.submitted.wait()
            node.leader = "n2"
            await call
        [line] = [line for line in lines if line["event"] == "leadership is to be handed over"]
        assert (line["to"], line["principal"]) == ("n2", "admin")
        [record] = await node.denied()
        assert (record.principal, record.method, record.allowed) == ("admin", "ClusterService.TransferLeader", True)
        assert list(record.objects) == ["members/n1"]


async def test_a_hand_over_that_did_not_come_about_is_recorded_with_its_reason(tmp_path):
    async with SecureNode(tmp_path, members=NAMES).serve() as node:
        wrong = Api.TransferLeaderRequest(target="n9")
        await refused(node.cluster.TransferLeader(wrong, metadata=bearer(node.admin)))
        [record] = await node.denied()
        assert (record.allowed, record.reason) == (False, "INVALID_FIELD")


async def test_leadership_that_nobody_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("horologe.node.cluster_service.TRANSFER_SECONDS_MAX", 0.05)
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        error = await refused(node.cluster.TransferLeader(Api.TransferLeaderRequest()))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TRANSFER_TIMED_OUT")


async def test_only_the_leader_can_hand_over(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        assert "target" in (await refused(node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n9")))).fields
        assert (await node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n1"))).leader == "n1"
        node.leader = "n3"
        error = await refused(node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n2")))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER")
        assert error.metadata == {"leader": "n3", "leader_address": "127.0.0.1:7402"}
        node.leader = ""
        error = await refused(node.cluster.TransferLeader(Api.TransferLeaderRequest()))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER")
        assert not node.inboxes


async def test_a_change_of_the_members_that_is_sent_again_is_not_made_again(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        request = Api.RemoveMemberRequest(name="n3", request_id=str(uuid.uuid4()))
        assert [each.name for each in (await node.cluster.RemoveMember(request)).members] == list(NAMES)
        await node.cluster.RemoveMember(request)
        assert [command.change_membership.remove for command in node.commands] == ["n3"]
        request.name = "n2"
        assert (await refused(node.cluster.RemoveMember(request))).reason == "REQUEST_ID_REUSED"
        error = await refused(node.cluster.AddMember(Api.AddMemberRequest(name="N4", peer_address="nowhere")))
        assert set(error.fields) == {"name", "peer_address"}


async def test_an_empty_name_means_the_node_that_was_asked_first(tmp_path):
    request = Api.RemoveMemberRequest(request_id=str(uuid.uuid4()))
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        await node.cluster.RemoveMember(request)
        assert node.commands[0].change_membership.remove == "n1"
        digest = node.commands[0].request_digest
        named = Api.RemoveMemberRequest(name="n1")
        await node.cluster.RemoveMember(named)
        assert node.commands[1].request_digest == digest


async def test_a_node_that_is_told_that_it_has_left_says_so(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        node.failures = [NoLeaderError("none")] * 1_000
        call = asyncio.ensure_future(node.cluster.RemoveMember(Api.RemoveMemberRequest()))
        await asyncio.sleep(0)
        node.context.removed.set()
        assert [each.name for each in (await call).members] == ["n2", "n3"]


async def test_workers(node):
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=interval_job()))
    session = node.open_session("w1")
    node.open_session("w2")
    node.fire(1, session)
    state = worker_pb2.Worker
    answer = await node.workers.DrainWorker(worker_service_pb2.DrainWorkerRequest(name="workers/w1"))
    assert (answer.worker.state, answer.worker.running_count) == (state.STATE_DRAINING, 1)
    workers: list[worker_pb2.Worker] = []
    token = ""
    while not workers or token:
        page = await node.workers.ListWorkers(worker_service_pb2.ListWorkersRequest(page_size=1, page_token=token))
        workers += page.workers
        token = page.next_page_token
    assert [(each.name, each.state, each.slot_count, each.gateway) for each in workers] == [
        ("workers/w1", state.STATE_DRAINING, 10, "n1"),
        ("workers/w2", state.STATE_READY, 10, "n1"),
    ]
    error = await refused(node.workers.DrainWorker(worker_service_pb2.DrainWorkerRequest(name="workers/w9")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "WORKER_NOT_FOUND")
    for name in ("w1", "workers/", ""):
        error = await refused(node.workers.DrainWorker(worker_service_pb2.DrainWorkerRequest(name=name)))
        assert "name" in error.fields


async def test_members_say_how_they_stand(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        other = peer_service_pb2.GetConditionResponse(wall_ms=node.clock.now_ms + 250)
        other.condition.version = "9.9"
        node.peers["n2"] = FakePeerCondition(other)
        answer = await node.cluster.ListMembers(Api.ListMembersRequest(with_condition=True))
        here, there, away = answer.members
        assert here.condition.revision == node.index
        assert here.condition.disk_total_bytes > here.condition.disk_free_bytes > 0
        assert here.condition.state_bytes > 0
        assert here.condition.clock_offset.ToMilliseconds() == 0
        assert (there.condition.version, there.condition.clock_offset.ToMilliseconds()) == ("9.9", 250)
        assert not away.HasField("condition")
        answer = await node.cluster.ListMembers(Api.ListMembersRequest())
        assert not any(member.HasField("condition") for member in answer.members)


async def test_a_follower_asks_the_leader_to_hand_over(tmp_path):
    async with FakeNode(tmp_path, members=NAMES).serve() as node:
        node.leader = "n2"
        asked = node.peers["n2"] = FakePeerCondition(peer_service_pb2.GetConditionResponse())
        call = asyncio.ensure_future(node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n3")))
        async with asyncio.timeout(60):
            await asked.was_asked.wait()
        assert asked.handed_to == ["n3"]
        node.leader = "n3"
        assert (await call).leader == "n3"
        assert (await node.cluster.TransferLeader(Api.TransferLeaderRequest(target="n3"))).leader == "n3"


class FakePeerCondition:
    """A stub of another node that answers at once."""

    def __init__(self, answer: peer_service_pb2.GetConditionResponse) -> None:
        self.answer = answer
        self.handed_to: list[str] = []
        self.was_asked = asyncio.Event()

    async def GetCondition(self, request, timeout):
        assert timeout > 0
        return self.answer

    async def HandOver(self, request, timeout):
        self.handed_to.append(request.target)
        self.was_asked.set()
