"""When data keys are replaced: on request, and when those of many process lives have gathered.

A rotation is a new key for what is written from now on, and then a walk through all that lies under the older ones: the state and
the log a piece per step (raft/resealing.py), captured output day by day on its own thread. At the end nothing needs the older
keys, and they are destroyed. What is only half done goes on after a restart, because the keyring remembers it.
"""

from __future__ import annotations

import asyncio

import structlog

from horologe.node.callers import current_caller
from horologe.node.context import NodeContext
from horologe.node.keyring import Keyring
from horologe.node.outputs import OutputError, OutputStore
from horologe.raft import resealing
from horologe.raft.resealing import Resealing
from horologe.raft.step import Inbox
from horologe.raft.store import StoreError
from horologe.v1 import encryption_service_pb2

KEYS_GATHERED_MAX = 8
"""Each life of the process leaves a data key; with more than so many a node tidies up by itself."""
PAUSE_SECONDS = 0.05
"""Between two pieces: whoever waits for a step, or for the output's disk, is not to notice."""
AGAIN_SECONDS = 1.0
"""After a walk that was overtaken: another state came, or other keys."""
RETRY_SECONDS = 60.0
"""After a disk that was full, or a command that did not answer."""

log = structlog.get_logger(__name__)


class Encryption:
    """The keys of one node, and what is done to get rid of the older ones. For the event loop."""

    def __init__(self, context: NodeContext, keyring: Keyring, outputs: OutputStore) -> None:
        self._context = context
        self._keyring = keyring
        self._outputs = outputs
        self._wanted = asyncio.Event()
        self._walk = Resealing(frozenset())
        """The last one."""
        self._is_walking = False
        self._walked = asyncio.Event()
        self._looked_pieces = 0
        self._total_count = 0

    async def keep(self) -> None:
        """Walks whenever it is wanted, for ever."""
        if self._keyring.is_rotating or len(self._keyring.entries) > KEYS_GATHERED_MAX:
            self._wanted.set()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                if not await self._retire():
                    self._wanted.set()
                    await asyncio.sleep(AGAIN_SECONDS)
            except (StoreError, OutputError) as error:
                log.warning("older data keys cannot go yet", error=str(error))
                self._wanted.set()
                await asyncio.sleep(RETRY_SECONDS)

    def resealed(self, walk: Resealing) -> None:
        """A piece of a walk is durable."""
        if walk is self._walk:
            self._walked.set()

    async def rotate(self) -> None:
        """Makes a new data key, and begins to get rid of the others. Raises StoreError if it cannot be made."""
        await asyncio.to_thread(self._keyring.begin_rotation)
        log.info("data keys are rotated", current=self._keyring.cipher.current, principal=current_caller().principal)
        self._wanted.set()

    async def wrap_again(self) -> None:
        """Wraps the data keys with the key-encryption key that is current now. Raises StoreError if it cannot be used."""
        await asyncio.to_thread(self._keyring.wrap_again)
        wrapped_with, principal = self._keyring.source.current, current_caller().principal
        log.info("data keys are wrapped again", wrapped_with=wrapped_with, principal=principal)

    def view(self) -> encryption_service_pb2.GetEncryptionResponse:
        """For callers."""
        view = encryption_service_pb2.GetEncryptionResponse(
            node=self._context.config.name,
            source=self._keyring.source.name,
            rotating=self._is_walking or self._wanted.is_set() or self._keyring.is_rotating,
            done_count=self._done_count,
            # Some came while it walked.
            total_count=max(self._total_count, self._done_count),
        )
        for entry in self._keyring.entries:
            key = view.keys.add(
                number=entry.key.number,
                wrapped_with=entry.wrapped.wrapped_with,
                current=entry.key.number == self._keyring.cipher.current,
            )
            key.create_time.FromMilliseconds(entry.key.create_time_ms)
        return view

    @property
    def _done_count(self) -> int:
        return self._walk.looked_count + self._looked_pieces

    async def _retire(self) -> bool:
        """One walk; whether nothing but the current key is left afterwards."""
        store, keyring = self._context.store, self._keyring
        if keyring.cipher.current is None:
            await asyncio.to_thread(keyring.cipher.renew)
        replacements = store.replacements
        retiring = frozenset(entry.key.number for entry in keyring.entries) - {keyring.cipher.current or 0}
        if not retiring:
            return await asyncio.to_thread(keyring.destroy, retiring)
        days = await self._outputs.on_thread(self._outputs.days)
        self._looked_pieces = 0
        self._total_count = await asyncio.to_thread(resealing.count_of, store)
        for day in days:
            self._total_count += await self._outputs.on_thread(self._outputs.piece_count, day)
        walk = self._walk = Resealing(retiring)
        self._is_walking = True
        try:
            await self._walk_state(walk)
            for day in days:
                after: bytes | None = None
                while True:
                    after, count = await self._outputs.on_thread(self._outputs.reseal, day, retiring, after)
                    self._looked_pieces += count
                    if after is None:
                        break
                    await asyncio.sleep(PAUSE_SECONDS)
            is_over = await asyncio.to_thread(keyring.destroy, retiring, lambda: store.replacements == replacements)
        finally:
            self._is_walking = False
        if is_over:
            log.info("older data keys are destroyed", count=len(retiring), resealed=walk.resealed_count)
        return is_over and not keyring.is_rotating

    async def _walk_state(self, walk: Resealing) -> None:
        while not walk.is_done:
            self._walked.clear()
            self._context.submit(Inbox(resealing=walk))
            await self._walked.wait()
            await asyncio.sleep(PAUSE_SECONDS)
