"""Two copies of what attempts print: one on this node, whose gateway it came to, and one on another node.

Both are written at the same time, many pieces together, and outcomes wait until the output before them is on both disks. If no
second node can be had for a short while, one copy must do: output never holds up outcomes for long. How it lies on the disk is in
outputs.py, which other node in output_mates.py, who reads it in output_reader.py.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc.aio
import structlog

from horologe.node.context import NodeContext
from horologe.node.output_mates import OutputMates
from horologe.node.outputs import OutputError, OutputKey, OutputPiece, OutputStore
from horologe.node.sessions import HeldOutput
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.machine import cluster_id_of

if TYPE_CHECKING:
    from horologe.peer.v1.peer_service_pb2_grpc import PeerServiceAsyncStub

COPY_SECONDS = 2.0
"""Outcomes wait so long for a second node that takes their output, all tries together."""
REQUEST_SECONDS = 1.0
"""One node may take so long for one request, so that another one can be tried."""
CHOOSE_AGAIN_SECONDS = 0.05
REQUEST_BYTES_MAX = 4 << 20
BATCH_BYTES_MAX = 2 << 20
"""So much is written at a time: outcomes wait for the output before them, not for all that has come in since."""
WAITING_BYTES_HIGH = 8 << 20
"""While so much waits for a disk, no more is read from workers."""
ROOM_SECONDS = 1.0
"""Unless the disk takes nothing for so long: what workers say beside their output, their heartbeats, must be heard."""
WAITING_BYTES_MAX = 64 << 20
"""What comes in while so much waits for a disk is dropped, and its attempt's output marked as cut."""
PIECES_PER_PARCEL = 64
"""Of at most 64 KiB each: so a request does not grow far beyond its limit."""
DEBTS_MAX = 10_000
"""Attempts that are remembered because they have ended with one copy."""
DEBT_PAUSE_SECONDS = 5.0
"""So often it is looked whether there is somebody now to give them to."""
DEBT_SECONDS = 10.0
"""One of them may take so long: nobody waits for it."""

StubOf = Callable[[str], "PeerServiceAsyncStub"]
"""The way to another node. Raises KeyError if it is no member."""
Batch = Mapping[HeldOutput, Sequence[OutputPiece]]
Request = peer_service_pb2.StoreOutputRequest

log = structlog.get_logger(__name__)


class OutputCopies:
    """All output that comes to this node's gateway. Belongs to the event loop."""

    def __init__(self, context: NodeContext, outputs: OutputStore, stub_of: StubOf) -> None:
        self._context = context
        self._outputs = outputs
        self._stub_of = stub_of
        self._name = context.config.name
        self._mates = OutputMates(self._name, context.status, context.clock.monotonic)
        self._pieces: deque[tuple[HeldOutput, OutputPiece]] = deque()
        self._waiting_bytes = 0
        self._added_count = 0
        self._kept_count = 0
        self._awaited: deque[tuple[int, list[HeldOutput], Callable[[], None]]] = deque()
        """How many pieces have to be kept before, in order."""
        self._keeping: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._is_stuck = False
        """Somebody has waited for room in vain, and nothing was written since."""
        self._has_mate = True
        """Whether the last output that wanted a second copy got one."""
        self._has_disk = True
        self._debts: dict[OutputKey, None] = {}

    def add(self, output: HeldOutput, piece: OutputPiece) -> None:
        """Takes a piece; it is on no disk yet."""
        if self._waiting_bytes + len(piece.data) > WAITING_BYTES_MAX:
            output.is_truncated = True
            return
        self._waiting_bytes += len(piece.data)
        output.bytes_taken += len(piece.data)
        self._added_count += 1
        self._pieces.append((output, piece))
        self._begin()

    async def room(self) -> None:
        """Waits while much waits for the disks, as long as they take something."""
        while self._waiting_bytes > WAITING_BYTES_HIGH and not self._is_stuck:
            self._progress.clear()
            try:
                async with asyncio.timeout(ROOM_SECONDS):
                    await self._progress.wait()
            except TimeoutError:
                self._is_stuck = True

    def when_kept(self, outputs: list[HeldOutput], done: Callable[[], None]) -> None:
        """Calls `done` when all that was added before, of these outputs, is where it will stay."""
        self._awaited.append((self._added_count, outputs, done))
        self._begin()

    async def settled(self) -> None:
        """Waits until nothing waits for a disk any more."""
        while self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def pay_debts(self) -> None:
        """Makes up for second copies that could not be had before their attempts ended, for ever."""
        while True:
            await asyncio.sleep(DEBT_PAUSE_SECONDS)
            while self._debts and (mate := self._mates.choose()):
                key = next(iter(self._debts))
                if not await self._send(mate, {HeldOutput(key, nodes=(self._name,)): ()}, DEBT_SECONDS):
                    break
                del self._debts[key]

    async def stop(self) -> None:
        """Ends the work; what is on no disk yet is reported by nobody."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    # Inside

    def _begin(self) -> None:
        """One batch at a time: what comes in meanwhile goes together into the next one, and never overtakes."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_all(), name="keep output")

    async def _keep_all(self) -> None:
        try:
            while self._pieces or self._awaited:
                # One turn of the loop, so that everything that came in with it goes together.
                await asyncio.sleep(0)
                batch = self._take_batch()
                released = []
                while self._awaited and self._awaited[0][0] <= self._kept_count:
                    released.append(self._awaited.popleft())
                for _, outputs, _ in released:
                    for output in outputs:
                        # Not only new pieces: perhaps there is a second node by now.
                        batch.setdefault(output, [])
                self._progress.set()
                await self._keep(batch)
                self._is_stuck = False
                for _, outputs, done in released:
                    self._remember_debts(outputs)
                    done()
        finally:
            self._keeping = None

    def _take_batch(self) -> dict[HeldOutput, list[OutputPiece]]:
        batch: dict[HeldOutput, list[OutputPiece]] = defaultdict(list)
        size = 0
        while self._pieces and size < BATCH_BYTES_MAX:
            output, piece = self._pieces.popleft()
            batch[output].append(piece)
            size += len(piece.data)
            self._kept_count += 1
        self._waiting_bytes -= size
        return batch

    async def _keep(self, batch: Batch) -> None:
        is_here, (mate, copied) = await asyncio.gather(self._keep_here(batch), self._keep_there(batch))
        for output, pieces in batch.items():
            nodes = output.nodes
            if pieces:
                nodes = (self._name,) if is_here and (self._name in nodes or not nodes) else ()
            if output in copied and mate not in nodes:
                nodes = (*nodes, mate)
            if pieces and not nodes:
                log.error("output lost", execution=output.key.execution, attempt=output.key.attempt)
                output.is_truncated = True
                nodes = (self._name,)
            output.nodes = nodes

    async def _keep_here(self, batch: Batch) -> bool:
        """Whether the disk took it. One that does not must not hold up outcomes."""
        pieces = [(output.key, piece) for output, pieces in batch.items() for piece in pieces]
        if not pieces:
            return True
        try:
            await self._outputs.append_async(pieces)
        except OutputError as error:
            if self._has_disk:
                log.error("output is not kept here", error=str(error))
            self._has_disk = False
        else:
            self._has_disk = True
        return self._has_disk

    async def _keep_there(self, batch: Batch) -> tuple[str, set[HeldOutput]]:
        """The other node, and what it has all of now."""
        wanted = {output: pieces for output, pieces in batch.items() if pieces or output.nodes == (self._name,)}
        if not wanted or self._mates.is_alone:
            return "", set()
        mate, copied = await self._send_to_somebody(wanted)
        if bool(mate) is not self._has_mate:
            self._has_mate = bool(mate)
            if mate:
                log.info("output has two copies again", node=mate)
            else:
                log.warning("output has one copy only: no other voter takes it", connected=self._mates.connected())
        return mate, copied

    async def _send_to_somebody(self, wanted: Batch) -> tuple[str, set[HeldOutput]]:
        """Who took it, and of what it has all now; nobody and nothing if nobody did in time."""
        clock = self._context.clock
        deadline = clock.monotonic() + COPY_SECONDS
        while (seconds := deadline - clock.monotonic()) > 0:
            mate = self._mates.choose()
            if mate:
                copied = await self._send(mate, wanted, seconds)
                if copied or mate == self._mates.choose():
                    # The rest cannot be read here: nobody else could be given it either.
                    return mate, copied
            elif self._has_mate:
                await asyncio.sleep(CHOOSE_AGAIN_SECONDS)
            else:
                # It was waited for already.
                break
        return "", set()

    async def _send(self, mate: str, wanted: Batch, seconds: float) -> set[HeldOutput]:
        """Of what it has all now. What is missing cannot be read here, or time ran out, or the node failed and gets a rest."""
        copied: set[HeldOutput] = set()
        try:
            async with asyncio.timeout(seconds):
                stub = self._stub_of(mate)
                async with aclosing(self._requests(mate, wanted)) as requests:
                    async for request, whole in requests:
                        if request.parcels:
                            await stub.StoreOutput(request, timeout=REQUEST_SECONDS)
                        copied.update(whole)
        except TimeoutError:
            log.info("output was taken in part only: time ran out", node=mate)
            if not copied:
                self._mates.failed(mate)
        except (grpc.aio.AioRpcError, KeyError) as error:
            log.info("output was not taken", node=mate, error=str(error) or type(error).__name__)
            self._mates.failed(mate)
        return copied

    async def _requests(self, mate: str, wanted: Batch) -> AsyncGenerator[tuple[Request, list[HeldOutput]], None]:
        """Requests of a bounded size, each with the outputs of which all is there after it."""
        with self._context.store.read() as tables:
            cluster_id = cluster_id_of(tables)
        request, size = Request(cluster_id=cluster_id), 0
        whole: list[HeldOutput] = []
        for output, pieces in wanted.items():
            try:
                async for parcel in self._parcels(mate, output, pieces):
                    sent = request.parcels.add(key=key_message(output.key))
                    for piece in parcel:
                        sent.pieces.add(sequence=piece.sequence, stream=piece.stream, data=piece.data)
                        size += len(piece.data)
                    if size >= REQUEST_BYTES_MAX:
                        yield request, whole
                        request, size, whole = Request(cluster_id=cluster_id), 0, []
            except OutputError as error:
                log.warning("output cannot be copied", execution=output.key.execution, error=str(error))
                continue
            if mate in output.nodes or self._is_whole_here(output):
                whole.append(output)
        yield request, whole

    async def _parcels(
        self, mate: str, output: HeldOutput, pieces: Sequence[OutputPiece]
    ) -> AsyncGenerator[Sequence[OutputPiece], None]:
        """The new pieces, and before them the old ones if it was another node that had the second copy of those."""
        if output.nodes and mate not in output.nodes and self._is_whole_here(output):
            async for kept in self._outputs.read(output.key):
                yield [piece for piece in kept if not piece.is_damaged]
        for start in range(0, len(pieces), PIECES_PER_PARCEL):
            yield pieces[start : start + PIECES_PER_PARCEL]

    def _is_whole_here(self, output: HeldOutput) -> bool:
        """Whether all but the newest pieces can be read here."""
        return not output.nodes or self._name in output.nodes

    def _remember_debts(self, outputs: Sequence[HeldOutput]) -> None:
        for output in outputs:
            if output.nodes == (self._name,) and len(self._debts) < DEBTS_MAX and not self._mates.is_alone:
                self._debts[output.key] = None


def key_message(key: OutputKey) -> peer_service_pb2.OutputKey:
    """As it travels."""
    return peer_service_pb2.OutputKey(execution=key.execution, attempt=key.attempt, assign_time_ms=key.assign_ms)
