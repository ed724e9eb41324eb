"""What an examination of a node asks the network: its own ports, and the other members: are they there, what time is it there.

It speaks to the others as the node would: with its certificate, at their ports for members. It joins nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

import grpc

from horologe.client.findings import Finding, Grade
from horologe.node.config import Address, MemberConfig, NodeConfig
from horologe.node.peers import CHANNEL_OPTIONS
from horologe.node.tls import peer_options
from horologe.node.tls_folder import TlsFiles
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc

ANSWER_SECONDS_MAX = 3.0
_LISTENING = "0A"
PORTS = ("listen", "worker_listen", "peer_listen", "http_listen")


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one other member."""

    name: str
    address: str
    complaint: str = ""
    """Why there is none; the rest is empty then."""
    is_refused: bool = False
    """It is there, and does not take us for a member."""
    version: str = ""
    cluster_id: str = ""
    clock_offset_ms: float = 0.0
    """Its wall clock minus ours."""
    uncertainty_ms: float = 0.0


def check_ports(config: NodeConfig, process: int | None) -> Iterator[Finding]:
    """Each port on which the node listens, or will. `process`: of the node, if it runs."""
    for option in PORTS:
        text = getattr(config, option)
        if not text or (option == "worker_listen" and config.insecure):
            continue
        address, check = Address.parse(text), f"port {option}"
        why = "a node that cannot bind one of its ports does not start"
        if process is not None and address.port and _is_held_by(process, address.port):
            found = f"{text} is held by this node (process {process})"
            yield Finding(check, Grade.OK, found, why)
            continue
        complaint = _cannot_bind(address)
        if complaint:
            do = f"stop the process that has it (`ss -ltnp`), or change `{option}`"
            yield Finding(check, Grade.FAILURE, f"{text} cannot be bound: {complaint}", why, do)
        elif process is not None:
            text = f"{text} is free, although the node runs (process {process}): it runs with another configuration"
            yield Finding(check, Grade.WARNING, text, why, "give the configuration that the node was started with")
        else:
            yield Finding(check, Grade.OK, f"{text} is free", why)


def _is_held_by(process: int, port: int) -> bool:
    """Whether that process listens at the port; also False if nobody may know."""
    links = set()
    with suppress(OSError):
        for link in Path(f"/proc/{process}/fd").iterdir():
            # Some are closed meanwhile.
            with suppress(OSError):
                links.add(str(link.readlink()))
    for table in ("tcp", "tcp6"):
        try:
            rows = [line.split() for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]]
        except OSError:
            continue
        # Local address, state and inode; see proc(5).
        found = (row for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[3] == _LISTENING)
        if any(f"socket:[{row[9]}]" in links for row in found):
            return True
    return False


def _cannot_bind(address: Address) -> str:
    with closing(socket(AF_INET6 if ":" in address.host else AF_INET, SOCK_STREAM)) as probe:
        # As servers do: connections that have ended do not count.
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind(tuple(address))
        except OSError as error:
            return error.strerror or str(error)
    return ""


async def ask_members(config: NodeConfig, tls: TlsFiles | None) -> list[Answer]:
    """All other members that the configuration names, at once."""
    others = [member for member in config.members if member.name != config.name]
    return list(await asyncio.gather(*(_ask(member, tls) for member in others)))


async def _ask(member: MemberConfig, tls: TlsFiles | None) -> Answer:
    if tls is None:
        channel = grpc.aio.insecure_channel(member.peer_address, options=CHANNEL_OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.certificate_pem)
        options = [*CHANNEL_OPTIONS, *peer_options(member.name)]
        channel = grpc.aio.secure_channel(member.peer_address, credentials, options=options)
    request = peer_service_pb2.GetConditionRequest()
    async with channel:
        stub = peer_service_pb2_grpc.PeerServiceStub(channel)
        try:
            # The first call also makes the connection, and would make the clock uncertain.
            await stub.GetCondition(request, timeout=ANSWER_SECONDS_MAX)
            began_ms, began = time.time() * 1000, time.perf_counter()
            answer = await stub.GetCondition(request, timeout=ANSWER_SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            is_refused = error.code() is grpc.StatusCode.PERMISSION_DENIED
            return Answer(member.name, member.peer_address, _complaint(error), is_refused)
    half_ms = (time.perf_counter() - began) * 1000 / 2
    return Answer(
        member.name,
        member.peer_address,
        version=answer.condition.version,
        cluster_id=answer.cluster_id,
        clock_offset_ms=answer.wall_ms - began_ms - half_ms,
        uncertainty_ms=half_ms,
    )


def _complaint(error: grpc.aio.AioRpcError) -> str:
    details = (error.details() or error.code().name).splitlines()[0]
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "its certificate is not signed by a CA that this node trusts"
    if "Hostname Verification" in details:
        return "it has the certificate of another node"
    return details[:200]


def check_members(config: NodeConfig, answers: list[Answer], *, is_new: bool) -> Iterator[Finding]:
    """`is_new`: this node has not been of a cluster yet, and the others may be about to start too."""
    why = "members agree by a majority: who does not reach it takes no part"
    for answer in answers:
        check, place = f"member {answer.name}", f"{answer.name} at {answer.address}"
        if answer.is_refused:
            do = f"add this node with `horologe cluster add`, or make it a certificate: `horologe tls issue node {config.name}`"
            # A node that is to be added is none yet.
            grade = Grade.WARNING if config.join and is_new else Grade.FAILURE
            yield Finding(check, grade, f"{place} does not take this node: {answer.complaint}", why, do)
        elif answer.complaint:
            do = "start it, or correct its `peer_address`; look at names, routes and firewalls between the two"
            yield Finding(check, Grade.WARNING, f"{place} does not answer: {answer.complaint}", why, do)
        else:
            found = f"{place} answers, takes this node for a member, and has version {answer.version}"
            yield Finding(check, Grade.OK, found, why)
    there = [answer for answer in answers if not answer.complaint]
    if answers:
        yield _quorum(config, len(there) + 1, is_new)
    if there:
        yield _same_cluster(there)
        yield _clocks(config, there)


def _quorum(config: NodeConfig, count: int, is_new: bool) -> Finding:
    needed = len(config.members) // 2 + 1
    found = f"with this node, {count} of the {len(config.members)} members of the configuration are there; {needed} are needed"
    why = "without a majority nothing fires and nothing is written"
    if count >= needed:
        return Finding("majority", Grade.OK, found, why)
    return Finding("majority", Grade.WARNING if is_new else Grade.FAILURE, found, why, "start the others")


def _same_cluster(there: list[Answer]) -> Finding:
    why = "two clusters under the same addresses have nothing to do with each other, whatever their nodes are called"
    found = {answer.cluster_id: answer.name for answer in there if answer.cluster_id}
    if len(found) > 1:
        text = ", ".join(f"{name} is of {cluster_id}" for cluster_id, name in sorted(found.items()))
        do = "decide which one is right; a node of the other starts with an empty data folder"
        return Finding("cluster", Grade.FAILURE, f"the members are of different clusters: {text}", why, do)
    return Finding("cluster", Grade.OK, f"all that answer are of {next(iter(found), 'one that is being made')}", why)


def _clocks(config: NodeConfig, there: list[Answer]) -> Finding:
    why = f"a node whose clock is more than `clock_skew_ms_max` ({config.clock_skew_ms_max} ms) from the others goes by theirs, "
    why += "and hands over if it leads"
    worst = max(there, key=lambda answer: abs(answer.clock_offset_ms))
    offset_ms, uncertainty_ms = worst.clock_offset_ms, worst.uncertainty_ms
    found = f"that of {worst.name} is furthest: {offset_ms:+.0f} ms, give or take {uncertainty_ms:.1f} ms"
    do = "let the same source set both clocks, with chrony or the like"
    surely_ms = abs(offset_ms) - uncertainty_ms
    if surely_ms > config.clock_skew_ms_max:
        return Finding("clocks of members", Grade.FAILURE, found, why, do)
    if surely_ms > config.clock_skew_ms_max / 4:
        return Finding("clocks of members", Grade.WARNING, found, why, do)
    return Finding("clocks of members", Grade.OK, found, why)
