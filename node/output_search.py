"""Looking for a text in what many attempts printed, over all nodes that keep it. What a line is, is in output_lines.py."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc.aio

from horologe.node.output_copies import StubOf, key_message
from horologe.node.output_reader import Whereabouts
from horologe.node.outputs import OutputError, OutputKey
from horologe.node.peer_outputs import PeerOutputs
from horologe.peer.v1 import peer_service_pb2

ASK_SECONDS = 10.0
"""One node may take so long for its part of a page; longer counts as away."""

Request = peer_service_pb2.FindInOutputRequest
Found = peer_service_pb2.FoundInOutput


@dataclass(slots=True)
class Search:
    """One search over the output of many attempts, wherever it is."""

    name: str
    """This node's."""
    here: PeerOutputs
    stub_of: StubOf
    text: str
    ignore_case: bool
    found: dict[OutputKey, Found] = field(default_factory=dict)
    """What was found, by attempt."""
    away: set[str] = field(default_factory=set)
    """Nodes that could not be asked, or cannot read what they keep."""

    async def look_at(self, sought: Iterable[Whereabouts]) -> list[OutputKey]:
        """Asks each node for what it keeps, all at once, and others for what it lacks; answers what nobody could be asked for."""
        left = {where.key: list(where.nodes) for where in sought if where.bytes_kept}
        certain = {where.key: set(where.keepers) for where in sought}
        unread: list[OutputKey] = []
        while left:
            by_node: dict[str, list[OutputKey]] = defaultdict(list)
            for key, nodes in left.items():
                by_node[nodes[0]].append(key)
            answers = await asyncio.gather(*(self._ask(node, keys) for node, keys in by_node.items()))
            for keys, answer in zip(by_node.values(), answers, strict=True):
                for key, found in zip(keys, answer, strict=True):
                    if found.is_here:
                        self.found[key] = found
                        del left[key]
            for key, nodes in list(left.items()):
                nodes[:] = [node for node in nodes[1:] if node not in self.away]
                if not nodes:
                    del left[key]
                    # Where nobody reported who keeps it, it may be anybody.
                    if self.away & certain[key] or (self.away and not certain[key]):
                        unread.append(key)
        return unread

    async def _ask(self, node: str, keys: list[OutputKey]) -> list[Found]:
        request = Request(keys=map(key_message, keys), text=self.text, ignore_case=self.ignore_case)
        try:
            if node == self.name:
                answer = await self.here.find(request)
            else:
                answer = await self.stub_of(node).FindInOutput(request, timeout=ASK_SECONDS)
        except (grpc.aio.AioRpcError, KeyError, OutputError):
            self.away.add(node)
            return [Found()] * len(keys)
        return list(answer.found)
