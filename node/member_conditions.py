"""How nodes stand, each in its own words: version, log, disk, clock. The node that is asked asks the others.

What Raft knows of members is in cluster_service.py. A node that does not answer within a second has no condition.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import grpc

from horologe.node import views
from horologe.node.context import NodeContext
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.machine import cluster_id_of
from horologe.v1 import cluster_service_pb2

if TYPE_CHECKING:
    from horologe.peer.v1.peer_service_pb2_grpc import PeerServiceAsyncStub

WAIT_SECONDS: Final = 1.0

Condition = cluster_service_pb2.MemberCondition
StubOf = Callable[[str], "PeerServiceAsyncStub"]
"""Calls to another member by its name; raises KeyError if nobody knows where it is."""


def own_condition(context: NodeContext) -> peer_service_pb2.GetConditionResponse:
    """This node's."""
    status = context.status()
    disk = shutil.disk_usage(context.store.folder)
    condition = Condition(
        version=program_version(),
        revision=status.revision,
        first_index=status.first_index,
        last_index=status.last_index,
        state_bytes=context.store.size_bytes(),
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        start_time=views.timestamp(context.started_ms),
    )
    if status.clock_correction_ms:
        condition.clock_correction.FromMilliseconds(status.clock_correction_ms)
    expires_ms = context.certificate_expires_ms()
    if expires_ms:
        condition.certificate_expire_time.CopyFrom(views.timestamp(expires_ms))
    with context.store.read() as tables:
        cluster_id = cluster_id_of(tables)
    return peer_service_pb2.GetConditionResponse(
        condition=condition, wall_ms=_own_wall_ms(context), cluster_id=cluster_id
    )


async def conditions_of(context: NodeContext, stub_of: StubOf, names: Iterable[str]) -> dict[str, Condition]:
    """Of all of these nodes that answer, by name."""
    asked = list(names)
    found = await asyncio.gather(*(_condition(context, stub_of, name) for name in asked))
    return {name: condition for name, condition in zip(asked, found, strict=True) if condition is not None}


async def _condition(context: NodeContext, stub_of: StubOf, name: str) -> Condition | None:
    if name == context.config.name:
        own = await asyncio.to_thread(own_condition, context)
        own.condition.clock_offset.FromMilliseconds(0)
        own.condition.clock_uncertainty.FromMilliseconds(0)
        return own.condition
    sent_ms, began = _own_wall_ms(context), context.clock.monotonic()
    try:
        answer = await stub_of(name).GetCondition(peer_service_pb2.GetConditionRequest(), timeout=WAIT_SECONDS)
    except (KeyError, grpc.aio.AioRpcError):
        return None
    half_ms = (context.clock.monotonic() - began) * 1000 / 2
    condition = answer.condition
    # Its clock was read somewhere between the question and the answer: halfway is the best guess.
    condition.clock_offset.FromMilliseconds(round(answer.wall_ms - sent_ms - half_ms))
    condition.clock_uncertainty.FromMicroseconds(round(half_ms * 1000))
    return condition


def _own_wall_ms(context: NodeContext) -> int:
    """As the machine's clock shows it, uncorrected."""
    return context.clock.wall_ms() - context.status().clock_correction_ms


@lru_cache(maxsize=1)
def program_version() -> str:
    """Of the installed package."""
    try:
        return version("horologe")
    except PackageNotFoundError:
        return "unknown"
