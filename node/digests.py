"""Digests of this node's state at checkpoints, computed beside the step and kept for whoever asks.

A checkpoint is an entry of the log, so all members compute theirs of the same state, under whatever load. One thread does
it, with a pause after each piece, so that neither the step nor the event loop waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from horologe.node.clock import Clock
from horologe.raft.digest import StateDigest, digest_of
from horologe.raft.store import StateGoneError, StateSnapshot, StoreError

DIGESTS_KEPT = 8
WAITING_MAX = 2
"""Each one that waits holds a state, whose pages the disk cannot take back."""
DIGEST_SECONDS_MAX = 120.0
PAUSE_SECONDS = 0.001

log = structlog.get_logger(__name__)


class DigestGivenUpError(Exception):
    """There is no digest of that checkpoint: too many at a time, or it took too long, or the state was replaced."""


class StateDigests:
    """The last few digests, by revision. Belongs to the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digests: dict[int, asyncio.Future[StateDigest]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._stopping = threading.Event()

    def take(self, snapshots: list[StateSnapshot]) -> None:
        """Takes over the states of checkpoints, and releases them in the end."""
        loop = asyncio.get_running_loop()
        for snapshot in snapshots:
            if sum(not future.done() for future in self._digests.values()) >= WAITING_MAX:
                snapshot.release()
                log.warning("digest given up: others are not done yet", revision=snapshot.revision)
                continue
            future = loop.run_in_executor(self._thread, self._compute, snapshot)
            future.add_done_callback(_heard)
            self._digests[snapshot.revision] = future
        while len(self._digests) > DIGESTS_KEPT:
            self._digests.pop(next(iter(self._digests)))

    def find(self, revision: int) -> asyncio.Future[StateDigest] | None:
        """The digest of a checkpoint, or what will be it; raises DigestGivenUpError or StoreError when awaited."""
        return self._digests.get(revision)

    async def stop(self) -> None:
        """Gives up what is under way."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.shutdown)

    def _compute(self, snapshot: StateSnapshot) -> StateDigest:
        try:
            with snapshot as tables:
                digest = digest_of(tables, self._pause(snapshot))
        except StateGoneError as error:
            raise DigestGivenUpError(str(error)) from error
        log.info("digest", revision=snapshot.revision, digest=digest.digest.hex(), records=digest.record_count)
        return digest

    def _pause(self, snapshot: StateSnapshot) -> Callable[[], None]:
        deadline = self._clock.monotonic() + DIGEST_SECONDS_MAX

        def pause() -> None:
            if self._stopping.wait(PAUSE_SECONDS) or snapshot.is_wanted_back:
                raise DigestGivenUpError("the state was needed for something else")
            if self._clock.monotonic() > deadline:
                raise DigestGivenUpError(f"not done within {DIGEST_SECONDS_MAX:.0f} s")

        return pause


def _heard(future: asyncio.Future[StateDigest]) -> None:
    """Whoever asks for the digest hears why there is none; nobody need ask."""
    if not future.cancelled() and (error := future.exception()) is not None:
        level = log.critical if isinstance(error, StoreError) else log.warning
        level("no digest", error=str(error))
