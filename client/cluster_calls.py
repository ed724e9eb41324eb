"""The methods of ClusterService and WorkerService, as `calls.py` has those of the other services: nodes and workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, itself, request_id_or_new
from horologe.client.errors import InvalidArgument
from horologe.v1 import cluster_service_pb2 as cluster
from horologe.v1 import worker_service_pb2 as workers
from horologe.v1.worker_pb2 import Worker

LIST_WORKERS = Method("WorkerService", "ListWorkers", workers.ListWorkersRequest, workers.ListWorkersResponse)
DRAIN_WORKER = Method(
    "WorkerService", "DrainWorker", workers.DrainWorkerRequest, workers.DrainWorkerResponse, is_write=True
)
GET_CLUSTER_STATUS = Method(
    "ClusterService", "GetClusterStatus", cluster.GetClusterStatusRequest, cluster.GetClusterStatusResponse
)
LIST_MEMBERS = Method("ClusterService", "ListMembers", cluster.ListMembersRequest, cluster.ListMembersResponse)
UPGRADE_CLUSTER = Method(
    "ClusterService", "UpgradeCluster", cluster.UpgradeClusterRequest, cluster.UpgradeClusterResponse, is_write=True
)
TAKE_CHECKPOINT = Method(
    "ClusterService", "TakeCheckpoint", cluster.TakeCheckpointRequest, cluster.TakeCheckpointResponse
)
GET_STATE_DIGEST = Method(
    "ClusterService", "GetStateDigest", cluster.GetStateDigestRequest, cluster.GetStateDigestResponse
)
TRANSFER_LEADER = Method(
    "ClusterService", "TransferLeader", cluster.TransferLeaderRequest, cluster.TransferLeaderResponse, is_write=True
)
ADD_MEMBER = Method("ClusterService", "AddMember", cluster.AddMemberRequest, cluster.AddMemberResponse, is_write=True)
PROMOTE_MEMBER = Method(
    "ClusterService", "PromoteMember", cluster.PromoteMemberRequest, cluster.PromoteMemberResponse, is_write=True
)
REMOVE_MEMBER = Method(
    "ClusterService", "RemoveMember", cluster.RemoveMemberRequest, cluster.RemoveMemberResponse, is_write=True
)


def list_workers(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Worker]:
    """Workers that have a session."""
    del namespace  # Workers serve all of them.

    def pick(answer: workers.ListWorkersResponse) -> Iterable[Worker]:
        return answer.workers

    return Pages(LIST_WORKERS, workers.ListWorkersRequest(page_size=page_size), pick)


def drain_worker(namespace: str, name: str, *, request_id: str = "") -> Call[Worker]:
    """Tells a worker to end what it has and take nothing new."""
    del namespace  # Workers serve all of them.

    def pick(answer: workers.DrainWorkerResponse) -> Worker:
        return answer.worker

    request = workers.DrainWorkerRequest(name=names.worker_name(name), request_id=request_id_or_new(request_id))
    return Call(DRAIN_WORKER, request, pick)


def cluster_status(namespace: str) -> Call[cluster.GetClusterStatusResponse]:
    """How the cluster stands, seen from the node that answers."""
    del namespace
    return Call(GET_CLUSTER_STATUS, cluster.GetClusterStatusRequest(), itself)


def list_members(namespace: str, *, with_condition: bool = False, page_size: int = PAGE_SIZE) -> Pages[cluster.Member]:
    """The nodes of the cluster, by name; `with_condition` asks each how it stands, and waits a second at most."""
    del namespace

    def pick(answer: cluster.ListMembersResponse) -> Iterable[cluster.Member]:
        return answer.members

    return Pages(LIST_MEMBERS, cluster.ListMembersRequest(page_size=page_size, with_condition=with_condition), pick)


def transfer_leader(namespace: str, target: str = "") -> Call[cluster.TransferLeaderResponse]:
    """Hands leadership to `target`, or to the member that is furthest. Asking again when it leads is harmless."""
    del namespace
    return Call(TRANSFER_LEADER, cluster.TransferLeaderRequest(target=target), itself)


def upgrade_cluster(
    namespace: str, action: Literal["hold", "release", "finalize"], *, request_id: str = ""
) -> Call[cluster.UpgradeClusterResponse]:
    """Holds the cluster's version where it is, lets it go up by itself again, or raises it now.

    As long as it is held, members can go back to the program of the minor version before. `finalize` ends that for good;
    FailedPrecondition while a member cannot apply the next version, or is not connected.
    """
    del namespace
    request = cluster.UpgradeClusterRequest(
        action=cluster.UpgradeClusterRequest.Action.Value(f"ACTION_{action.upper()}"),
        request_id=request_id_or_new(request_id),
    )
    return Call(UPGRADE_CLUSTER, request, itself)


def add_member(
    namespace: str, name: str, peer_address: str, *, learner: bool = False, request_id: str = ""
) -> Call[list[cluster.Member]]:
    """Adds a node, and returns the members. It votes by itself as soon as it has caught up, unless it is to stay a `learner`.

    `peer_address` is `host:port` under which the other members reach it. Adding a member again is harmless.
    FailedPrecondition if a member of that name was removed before: such names do not come back.
    """
    del namespace
    request = cluster.AddMemberRequest(
        name=name, peer_address=peer_address, learner=learner, request_id=request_id_or_new(request_id)
    )
    return Call(ADD_MEMBER, request, _members)


def promote_member(namespace: str, name: str, *, request_id: str = "") -> Call[list[cluster.Member]]:
    """Lets a learner vote, and returns the members. FailedPrecondition while it has not caught up."""
    del namespace
    request = cluster.PromoteMemberRequest(name=name, request_id=request_id_or_new(request_id))
    return Call(PROMOTE_MEMBER, request, _members)


def remove_member(namespace: str, name: str, *, request_id: str = "") -> Call[list[cluster.Member]]:
    """Removes a node for good, and returns the members. A leader hands over first.

    FailedPrecondition if it is the only voter, or if no majority of the others could be reached.
    """
    del namespace
    if not name:
        # The server would take itself, and which node that is may change between two tries.
        raise InvalidArgument("name: say which member is to be removed", reason="INVALID_FIELD")
    return Call(
        REMOVE_MEMBER, cluster.RemoveMemberRequest(name=name, request_id=request_id_or_new(request_id)), _members
    )


def take_checkpoint(namespace: str) -> Call[int]:
    """Marks a revision at which every member computes a digest of its state; returns it."""
    del namespace

    def pick(answer: cluster.TakeCheckpointResponse) -> int:
        return answer.revision

    return Call(TAKE_CHECKPOINT, cluster.TakeCheckpointRequest(), pick)


def state_digest(namespace: str, revision: int) -> Call[cluster.GetStateDigestResponse]:
    """The digest of the answering node's state as of a checkpoint; waits for it. NotFound if that node has none."""
    del namespace
    return Call(GET_STATE_DIGEST, cluster.GetStateDigestRequest(revision=revision), itself)


def _members(answer: Any) -> list[cluster.Member]:
    return list(answer.members)
