"""What waits to be sent to the cluster, coalesced per turn of the event loop.

The outbox decides what goes first; the session takes from it and writes. Results that must survive a broken stream are
kept in the attempt table, output that should survive is kept here as long as memory allows.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable

from horologe.client.attempts import AttemptKey
from horologe.client.redaction import RedactedStream, Redactor
from horologe.v1 import worker_pb2, worker_service_pb2

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2

# The protocol's limit for one piece of output.
CHUNK_BYTES_MAX = 64 * 1024

# A piece that has not left yet is filled up to here, so that many small writes do not become many small messages.
CHUNK_BYTES_FILLED = 8 * 1024

# Executors pause reading above this; it is a second or so of a fast network.
QUEUED_BYTES_HIGH = 4 * 1024 * 1024

# Handlers cannot be paused; above this their output is cut off, so that a chatty one cannot take all memory.
QUEUED_BYTES_MAX = 64 * 1024 * 1024

# Output that was sent is kept until the result is acknowledged, to be sent again after a broken stream.
KEPT_BYTES_MAX = 16 * 1024 * 1024

# A message stays far below the limit of gRPC and of a command in the log.
RESULTS_PER_MESSAGE_MAX = 1000
RESULT_BYTES_PER_MESSAGE_MAX = 512 * 1024

Item = worker_pb2.OutputChunk | worker_pb2.AttemptResult


class Output:
    """Captured output of one attempt: numbered, capped, in pieces of at most 64 KiB."""

    __slots__ = (
        "_attempt",
        "_bytes_left",
        "_closed",
        "_execution",
        "_fencing_token",
        "_open_chunk",
        "_outbox",
        "_redacted",
        "_redactor",
        "_sequence",
        "truncated",
        "unsent_count",
    )

    def __init__(
        self,
        outbox: Outbox,
        execution: int,
        attempt: int,
        fencing_token: int,
        bytes_max: int,
        redactor: Redactor | None = None,
    ) -> None:
        """`redactor` knows what must not leave in it."""
        self._outbox = outbox
        self._execution = execution
        self._attempt = attempt
        self._fencing_token = fencing_token
        self._bytes_left = bytes_max
        self._closed = False
        self._redactor = redactor
        self._redacted: dict[int, RedactedStream] = {}
        self._sequence = 0
        self._open_chunk: worker_pb2.OutputChunk | None = None
        # Output beyond the cap was dropped.
        self.truncated = False
        self.unsent_count = 0

    @property
    def key(self) -> AttemptKey:
        """Names the attempt."""
        return (self._execution, self._fencing_token)

    def write(self, stream: int, data: bytes) -> None:
        """Adds output; from any thread. What exceeds the cap is dropped and the result says so.

        After the attempt has ended it does nothing: code that could not be stopped may still write.
        """
        if threading.get_ident() == self._outbox.thread_id:
            self._write(stream, data)
        else:
            self._outbox.loop.call_soon_threadsafe(self._write, stream, data)

    @property
    def chunk_count(self) -> int:
        """How many pieces were made of it so far."""
        return self._sequence

    async def drain(self) -> None:
        """Waits while more is queued than the network takes."""
        await self._outbox.writable()

    def when_writable(self, callback: Callable[[], object]) -> bool:
        """Whether more may be written at once; if not, `callback` is called when it may."""
        return self._outbox.when_writable(callback)

    def finish(self) -> None:
        """The attempt has ended: what might have become a secret is none, and nothing comes after the result."""
        if not self._closed:
            for stream, redacted in self._redacted.items():
                self._add(stream, redacted.end())
        self.close()

    def close(self) -> None:
        """Nobody wants what is left."""
        self._closed = True

    def _write(self, stream: int, data: bytes) -> None:
        if self._closed:
            return
        if self._redactor is not None:
            redacted = self._redacted.get(stream)
            if redacted is None:
                redacted = self._redacted[stream] = self._redactor.stream()
            data = redacted.feed(data)
        self._add(stream, data)

    def _add(self, stream: int, data: bytes) -> None:
        if self._outbox.queued_bytes > QUEUED_BYTES_MAX:
            self._bytes_left = 0
        if len(data) > self._bytes_left:
            self.truncated = True
            data = data[: self._bytes_left]
        self._bytes_left -= len(data)
        position = 0
        while position < len(data):
            position += self._append(stream, data[position : position + CHUNK_BYTES_MAX])

    def _append(self, stream: int, piece: bytes) -> int:
        chunk = self._open_chunk
        if chunk is not None and chunk.stream == stream and len(chunk.data) < CHUNK_BYTES_FILLED:
            piece = piece[: CHUNK_BYTES_FILLED - len(chunk.data)]
            chunk.data += piece
            self._outbox.queued_bytes += len(piece)
            return len(piece)
        chunk = worker_pb2.OutputChunk(
            execution=self._execution,
            attempt=self._attempt,
            fencing_token=self._fencing_token,
            stream=stream,
            data=piece,
            sequence=self._sequence,
        )
        self._sequence += 1
        self.unsent_count += 1
        self._open_chunk = chunk
        self._outbox.add_chunk(self, chunk)
        return len(piece)

    def chunk_left(self, chunk: worker_pb2.OutputChunk) -> None:
        """The outbox hands this piece to the network: it must not grow any more."""
        self.unsent_count -= 1
        if self._open_chunk is chunk:
            self._open_chunk = None


class Outbox:
    """The messages that wait for the stream. A drain and heartbeats go first, then results, then output.

    A result never overtakes the output of its own attempt, so that the cluster has all output when it records the end.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self.queued_bytes = 0
        self._wakeup = asyncio.Event()
        self._heartbeat: worker_pb2.Heartbeat | None = None
        self._drain = False
        self._results: list[worker_pb2.AttemptResult] = []
        self._queue: deque[tuple[Output, Item]] = deque()
        self._kept: dict[AttemptKey, list[worker_pb2.OutputChunk]] = {}
        self._kept_bytes = 0
        self._again: deque[worker_pb2.OutputChunk] = deque()
        self._writable_waiters: list[asyncio.Future[None]] = []

    def add_heartbeat(self, sequence: int) -> None:
        """Asks for renewal; replaces one that has not left yet."""
        self._heartbeat = worker_pb2.Heartbeat(sequence=sequence)
        self._wakeup.set()

    def add_drain(self) -> None:
        """Tells the cluster to send nothing new."""
        self._drain = True
        self._wakeup.set()

    def add_result(self, output: Output, result: worker_pb2.AttemptResult) -> None:
        """Reports the end of an attempt, after what is left of its output."""
        if output.unsent_count:
            self._queue.append((output, result))
        else:
            self._results.append(result)
        self._wakeup.set()

    def add_chunk(self, output: Output, chunk: worker_pb2.OutputChunk) -> None:
        """Queues a piece of output."""
        self._queue.append((output, chunk))
        self.queued_bytes += len(chunk.data)
        self._wakeup.set()

    def begin_session(self, unacknowledged: list[worker_pb2.AttemptResult]) -> None:
        """A new stream knows nothing of the old one: what was not acknowledged goes again, output first."""
        self._heartbeat = None
        self._again = deque(chunk for chunks in self._kept.values() for chunk in chunks)
        self._results = []
        self.repeat(unacknowledged)

    def repeat(self, results: list[worker_pb2.AttemptResult]) -> None:
        """Reports these again, except those that wait here anyway."""
        waiting = {id(item) for _, item in self._queue} | {id(result) for result in self._results}
        self._results += [result for result in results if id(result) not in waiting]
        self._wakeup.set()

    def forget(self, keys: Iterable[AttemptKey]) -> None:
        """Nobody will ask for the output of these attempts again."""
        if not self._kept:
            return
        for key in keys:
            for chunk in self._kept.pop(key, ()):
                self._kept_bytes -= len(chunk.data)

    def discard(self, keys: set[AttemptKey]) -> None:
        """These attempts lost their lease: nothing of them leaves any more."""
        kept = deque(pair for pair in self._queue if pair[0].key not in keys)
        self.queued_bytes -= sum(
            len(item.data)
            for output, item in self._queue
            if output.key in keys and isinstance(item, worker_pb2.OutputChunk)
        )
        self._queue = kept
        self._results = [one for one in self._results if (one.execution, one.fencing_token) not in keys]
        self._again = deque(one for one in self._again if (one.execution, one.fencing_token) not in keys)
        self.forget(keys)
        self._release_writers()

    async def next_request(self) -> worker_service_pb2.ConnectRequest:
        """The next message; waits until there is one."""
        while True:
            request = self._take()
            if request is not None:
                return request
            self._wakeup.clear()
            await self._wakeup.wait()

    def _take(self) -> worker_service_pb2.ConnectRequest | None:
        if self._drain:
            self._drain = False
            return worker_service_pb2.ConnectRequest(drain=worker_pb2.Drain())
        if self._heartbeat is not None:
            heartbeat, self._heartbeat = self._heartbeat, None
            return worker_service_pb2.ConnectRequest(heartbeat=heartbeat)
        if self._again:
            # Output that belongs to the results of the last stream; they wait behind it.
            return worker_service_pb2.ConnectRequest(output=self._again.popleft())
        if self._results:
            return self._take_results()
        return self._take_queued()

    def _take_results(self) -> worker_service_pb2.ConnectRequest:
        results = self._results
        count = len(results)
        # A few of them always fit; only then it is worth adding up their sizes.
        if count > 8:
            count = _count_within(results, RESULT_BYTES_PER_MESSAGE_MAX)
        batch, self._results = results[:count], results[count:]
        request = worker_service_pb2.ConnectRequest()
        request.results.results.extend(batch)
        return request

    def _take_queued(self) -> worker_service_pb2.ConnectRequest | None:
        if not self._queue:
            return None
        output, item = self._queue.popleft()
        if isinstance(item, worker_pb2.AttemptResult):
            request = worker_service_pb2.ConnectRequest()
            request.results.results.append(item)
            return request
        output.chunk_left(item)
        self.queued_bytes -= len(item.data)
        self._keep(output.key, item)
        self._release_writers()
        return worker_service_pb2.ConnectRequest(output=item)

    def _keep(self, key: AttemptKey, chunk: worker_pb2.OutputChunk) -> None:
        self._kept.setdefault(key, []).append(chunk)
        self._kept_bytes += len(chunk.data)
        while self._kept_bytes > KEPT_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(self._kept[oldest].pop(0).data)
            if not self._kept[oldest]:
                del self._kept[oldest]

    async def writable(self) -> None:
        """Waits while more output is queued than the network takes."""
        while self.queued_bytes > QUEUED_BYTES_HIGH:
            waiter = self.loop.create_future()
            self._writable_waiters.append(waiter)
            await waiter

    def when_writable(self, callback: Callable[[], object]) -> bool:
        """Whether output may go on at once; if not, `callback` is called when it may."""
        if self.queued_bytes <= QUEUED_BYTES_HIGH:
            return True
        waiter = self.loop.create_future()
        waiter.add_done_callback(lambda _: callback())
        self._writable_waiters.append(waiter)
        return False

    def _release_writers(self) -> None:
        if self._writable_waiters and self.queued_bytes <= QUEUED_BYTES_HIGH:
            waiters, self._writable_waiters = self._writable_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _count_within(results: list[worker_pb2.AttemptResult], bytes_max: int) -> int:
    """How many of the first results fit into one message; at least one."""
    total_bytes = 0
    for position, result in enumerate(results[:RESULTS_PER_MESSAGE_MAX]):
        total_bytes += result.ByteSize()
        if total_bytes > bytes_max:
            return max(position, 1)
    return min(len(results), RESULTS_PER_MESSAGE_MAX)
