"""The API's ClusterService: how the cluster stands, who its members are, and who leads."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import structlog
from google.protobuf.message import Message

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.callers import current_caller
from horologe.node.config import Address, checked_name
from horologe.node.context import NodeContext
from horologe.node.digests import DigestGivenUpError
from horologe.node.errors import ApiError
from horologe.node.member_conditions import StubOf, conditions_of, program_version
from horologe.node.names import shorten
from horologe.node.proposals import ProposalError
from horologe.node.schedule import Violation
from horologe.node.writes import Context, Writer, WriteRequest, accepted, propose_seconds
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.digest import StateDigest
from horologe.raft.machine import cluster_id_of
from horologe.raft.membership import Member
from horologe.raft.model import Counters
from horologe.raft.step import Inbox, Status
from horologe.raft.version_gate import waits_for
from horologe.v1 import cluster_service_pb2, cluster_service_pb2_grpc

TRANSFER_SECONDS_MAX = 10.0
ASK_SECONDS = 2.0
DIGEST_WAIT_SECONDS = 60.0
DELIVERY_SECONDS = 0.5
"""A checkpoint that was applied comes to the event loop a moment later."""
LOOK_AGAIN_SECONDS = 0.02
"""A change of leader need not apply anything, so it is looked for as well as waited for."""

log = structlog.get_logger(__name__)


class ClusterService(cluster_service_pb2_grpc.ClusterServiceServicer):
    """See cluster_service.proto."""

    def __init__(self, context: NodeContext, stub_of: StubOf) -> None:
        """`stub_of`: how other members are called."""
        self._node = context
        self._stub_of = stub_of
        self._writer = Writer(context)

    async def GetClusterStatus(
        self, request: cluster_service_pb2.GetClusterStatusRequest, context: Context
    ) -> cluster_service_pb2.GetClusterStatusResponse:
        del request, context
        status = self._node.status()
        with self._node.store.read() as tables:
            counters = Counters.load(tables)
            cluster_id = cluster_id_of(tables)
        response = cluster_service_pb2.GetClusterStatusResponse(
            cluster_id=cluster_id,
            node=self._node.config.name,
            version=program_version(),
            leader=status.leader,
            term=status.term,
            commit_index=status.commit_index,
            revision=counters.revision,
            job_count=counters.jobs,
            queued_count=counters.queued,
            running_count=counters.running,
            fired_count=counters.fired,
            completed_count=counters.completed,
            failed_count=counters.failed,
            worker_count=counters.workers,
            has_quorum=status.has_quorum,
            entry_count=counters.entries,
            not_run_count=counters.not_run,
            refused_token_count=counters.refused_tokens,
            history_retention_days=self._node.config.history_retention_days,
            insecure=self._node.config.insecure,
            http_address=self._node.config.http_listen,
            cluster_version=status.cluster_version,
            version_held=status.version_held,
        )
        missing = next_version(status, self._node.config.name)
        if missing is not None:
            response.next_version = status.cluster_version + 1
            response.next_version_waits_for.extend(missing)
        if counters.log_time_ms:
            response.log_time.CopyFrom(views.timestamp(counters.log_time_ms))
        return response

    async def ListMembers(
        self, request: cluster_service_pb2.ListMembersRequest, context: Context
    ) -> cluster_service_pb2.ListMembersResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        status = self._node.status()
        response = cluster_service_pb2.ListMembersResponse(revision=status.revision)
        after = start.decode(errors="replace") if start is not None else ""
        for member in status.configuration.members:
            if member.name <= after:
                continue
            if len(response.members) >= size:
                response.next_page_token = paging.next_token(request, response.members[-1].name.encode())
                break
            response.members.append(self._member(member, status))
        if request.with_condition:
            names = [member.name for member in response.members]
            conditions = await conditions_of(self._node, self._stub_of, names)
            for view in response.members:
                if view.name in conditions:
                    view.condition.CopyFrom(conditions[view.name])
        return response

    async def AddMember(
        self, request: cluster_service_pb2.AddMemberRequest, context: Context
    ) -> cluster_service_pb2.AddMemberResponse:
        violations = []
        for field, parse in (("name", checked_name), ("peer_address", Address.parse)):
            try:
                parse(getattr(request, field))
            except ValueError as error:
                violations.append(Violation(field, str(error)))
        if violations:
            raise errors.invalid(violations)
        address = str(Address.parse(request.peer_address))
        member = log_pb2.Member(
            name=request.name, peer_address=address, role=log_pb2.Member.ROLE_LEARNER, promote=not request.learner
        )
        members = await self._change(log_pb2.ChangeMembership(put=member), "AddMember", request, context)
        return cluster_service_pb2.AddMemberResponse(members=members)

    async def PromoteMember(
        self, request: cluster_service_pb2.PromoteMemberRequest, context: Context
    ) -> cluster_service_pb2.PromoteMemberResponse:
        change = log_pb2.ChangeMembership(promote=request.name)
        members = await self._change(change, "PromoteMember", request, context)
        return cluster_service_pb2.PromoteMemberResponse(members=members)

    async def RemoveMember(
        self, request: cluster_service_pb2.RemoveMemberRequest, context: Context
    ) -> cluster_service_pb2.RemoveMemberResponse:
        # Filled in before anything is remembered: sent again to another node, an empty name must not mean that one.
        request.name = name = request.name or self._node.config.name
        change = log_pb2.ChangeMembership(remove=name)
        changing = asyncio.create_task(self._change(change, "RemoveMember", request, context))
        # Who leaves is cut off at once, and hears only from the others that it has left.
        told = asyncio.create_task(self._node.removed.wait())
        try:
            await asyncio.wait((changing, told), return_when=asyncio.FIRST_COMPLETED)
            if changing.done() or name != self._node.config.name:
                return cluster_service_pb2.RemoveMemberResponse(members=await changing)
        finally:
            changing.cancel()
            told.cancel()
        left = [member for member in self._members() if member.name != name]
        return cluster_service_pb2.RemoveMemberResponse(members=left)

    async def _change(
        self, change: log_pb2.ChangeMembership, method: str, request: Message, context: Context
    ) -> list[cluster_service_pb2.Member]:
        """The members after the change. A leader that is to be removed hands over first, so this waits for the next one."""
        write = WriteRequest.of(method, request)
        first = self._writer.first_answer(write)
        if first is not None:
            accepted(first)
            return self._members()
        deadline = self._node.clock.monotonic() + propose_seconds(context)
        while True:
            try:
                await self._writer.settle(log_pb2.Command(change_membership=change), write, context)
                break
            except ApiError as error:
                if error.reason != "NO_LEADER" or self._node.clock.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return self._members()

    def _members(self) -> list[cluster_service_pb2.Member]:
        status = self._node.status()
        return [self._member(member, status) for member in status.configuration.members]

    async def TransferLeader(
        self, request: cluster_service_pb2.TransferLeaderRequest, context: Context
    ) -> cluster_service_pb2.TransferLeaderResponse:
        names = self._node.status().configuration.voters
        if request.target and request.target not in names:
            raise errors.invalid_field(
                "target", f"{shorten(request.target)} is no voting member; these are {', '.join(sorted(names))}"
            )
        status = self._node.status()
        if not status.leader:
            raise errors.no_leader()
        if request.target == status.leader or len(names) == 1:
            return cluster_service_pb2.TransferLeaderResponse(leader=status.leader, term=status.term)
        log.info("leadership is to be handed over", to=request.target, principal=current_caller().principal)
        if status.is_leader:
            self._node.submit(Inbox(transfer_to=request.target))
        else:
            await self._ask_leader(status.leader, request.target)
        status = await self._other_leader(status.leader, min(TRANSFER_SECONDS_MAX, propose_seconds(context)))
        return cluster_service_pb2.TransferLeaderResponse(leader=status.leader, term=status.term)

    async def _ask_leader(self, leader: str, target: str) -> None:
        """To hand over, for the caller. Raises an ApiError that says where the leader is, if it cannot be asked."""
        request = peer_service_pb2.HandOverRequest(target=target, principal=current_caller().principal)
        try:
            await self._stub_of(leader).HandOver(request, timeout=ASK_SECONDS)
        except (KeyError, grpc.aio.AioRpcError) as error:
            # Who comes with a certificate would not be known at the port where nobody is asked for one.
            has_certificate = current_caller().proof == "certificate"
            addresses = self._node.worker_addresses if has_certificate else self._node.client_addresses
            raise ApiError(
                "NOT_LEADER",
                f"node {self._node.config.name} does not lead, {leader} does; ask that one",
                metadata={"leader": leader, "leader_address": addresses.get(leader, "")},
            ) from error

    async def UpgradeCluster(
        self, request: cluster_service_pb2.UpgradeClusterRequest, context: Context
    ) -> cluster_service_pb2.UpgradeClusterResponse:
        match request.action:
            case cluster_service_pb2.UpgradeClusterRequest.ACTION_HOLD:
                command = log_pb2.Command(hold_version=log_pb2.HoldVersion(held=True))
            case cluster_service_pb2.UpgradeClusterRequest.ACTION_RELEASE:
                command = log_pb2.Command(hold_version=log_pb2.HoldVersion())
            case cluster_service_pb2.UpgradeClusterRequest.ACTION_FINALIZE:
                version = self._node.status().cluster_version + 1
                command = log_pb2.Command(raise_version=log_pb2.RaiseVersion(version=version, asked=True))
            case _:
                raise errors.invalid_field("action", "say what is to be done: hold, release or finalize")
        result = await self._writer.settle(command, WriteRequest.of("UpgradeCluster", request), context)
        return cluster_service_pb2.UpgradeClusterResponse(
            cluster_version=result.numbers[0], version_held=command.hold_version.held
        )

    async def TakeCheckpoint(
        self, request: cluster_service_pb2.TakeCheckpointRequest, context: Context
    ) -> cluster_service_pb2.TakeCheckpointResponse:
        del request
        command = log_pb2.Command(checkpoint=log_pb2.Checkpoint())
        current_caller().sign(command)
        try:
            result = await self._node.proposals.propose(command, propose_seconds(context))
        except ProposalError as error:
            raise errors.of_proposal(error) from error
        return cluster_service_pb2.TakeCheckpointResponse(revision=accepted(result).numbers[0])

    async def GetStateDigest(
        self, request: cluster_service_pb2.GetStateDigestRequest, context: Context
    ) -> cluster_service_pb2.GetStateDigestResponse:
        remaining = context.time_remaining()
        wait_seconds = DIGEST_WAIT_SECONDS if remaining is None else min(DIGEST_WAIT_SECONDS, remaining * 0.9)
        try:
            async with asyncio.timeout(wait_seconds):
                found = await self._digest(request.revision)
        except TimeoutError as error:
            raise ApiError(
                "BEHIND", f"this node has no digest of revision {request.revision} yet; ask again", retry_seconds=1.0
            ) from error
        return cluster_service_pb2.GetStateDigestResponse(
            node=self._node.config.name,
            revision=request.revision,
            digest=found.digest,
            record_count=found.record_count,
        )

    async def _digest(self, revision: int) -> StateDigest:
        while self._node.status().revision < revision:
            await self._node.wait_applied()
        with suppress(TimeoutError):
            async with asyncio.timeout(DELIVERY_SECONDS):
                while self._node.digests.find(revision) is None:
                    await self._node.wait_applied()
        digest = self._node.digests.find(revision)
        reason = "it was no checkpoint, or too long ago, or before the node started"
        if digest is not None:
            try:
                return await asyncio.shield(digest)
            except DigestGivenUpError as error:
                reason = str(error)
        raise ApiError(
            "DIGEST_NOT_FOUND",
            f"node {self._node.config.name} has no digest of revision {revision} ({reason}); take a new checkpoint",
            metadata={"node": self._node.config.name, "revision": str(revision)},
        )

    def _member(self, member: Member, status: Status) -> cluster_service_pb2.Member:
        name = member.name
        is_here = name == self._node.config.name
        if name == status.leader:
            role = cluster_service_pb2.Member.ROLE_LEADER
        elif member.is_voter:
            role = cluster_service_pb2.Member.ROLE_FOLLOWER
        else:
            role = cluster_service_pb2.Member.ROLE_LEARNER
        said = status.introductions.get(name)
        match_index = 0
        if status.is_leader:
            match_index = status.last_index if is_here else status.match_indexes.get(name, 0)
        return cluster_service_pb2.Member(
            name=name,
            peer_address=member.peer_address or self._configured_address(name),
            address=self._node.client_addresses.get(name, ""),
            worker_address=self._node.worker_addresses.get(name, ""),
            role=role,
            reachable=is_here or name in status.connected,
            match_index=match_index,
            id=member.id,
            promote=member.promote,
            version=program_version() if is_here else said.program if said is not None else "",
            oldest_cluster_version=said.versions.oldest if said is not None else 0,
            newest_cluster_version=said.versions.newest if said is not None else 0,
        )

    def _configured_address(self, name: str) -> str:
        """Before the log names the members, only the configuration file has their addresses."""
        members = self._node.config.members
        return next((member.peer_address for member in members if member.name == name), "")

    async def _other_leader(self, before: str, timeout_seconds: float) -> Status:
        """The status as soon as another node leads than before. Raises an ApiError if none does in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            status = self._node.status()
            if status.leader not in ("", before):
                return status
            if loop.time() >= deadline:
                raise ApiError(
                    "TRANSFER_TIMED_OUT",
                    f"no other node took the leadership within {timeout_seconds:.1f} s; "
                    f"the leader is {status.leader or 'unknown'}",
                    metadata={"leader": status.leader},
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._node.applied_waiters.append(waiter)
                    await waiter


def next_version(status: Status, here: str) -> list[str] | None:
    """The members that the cluster's next version waits for; None if no member that is connected could apply it."""
    version, present = status.cluster_version + 1, {*status.connected, here}
    if not any(version in said.versions for name, said in status.introductions.items() if name in present):
        return None
    return waits_for(version, (status.committed_configuration, status.configuration), status.introductions, present)
