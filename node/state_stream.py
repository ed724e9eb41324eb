"""The whole state in pieces, for another node, while this one goes on with its work.

Nothing is written to this node's disk, on which every step waits for its own commit; and the pieces leave at a bounded pace.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from horologe.raft.store import Store

PIECE_BYTES = 1 << 20
PIECE_PAUSE_SECONDS = 0.01
"""After each piece: at most 100 MiB/s, so that both nodes' disks and processors are there for others too."""

StatePieces = Callable[[Store, Path], AsyncGenerator[bytes, None]]
"""A store, and a folder for what may have to lie somewhere meanwhile."""


async def through_a_pipe(store: Store, folder: Path) -> AsyncGenerator[bytes, None]:
    """As LMDB copies it, through a pipe: at most two pieces are in memory. Raises StoreError if the copy fails, also because the
    store needs its files for something else."""
    del folder
    source, sink = socket.socketpair()
    errors: list[BaseException] = []
    copying = threading.Thread(target=_copy, args=(store, sink, errors), name="copy", daemon=True)
    copying.start()
    try:
        # Closed before the end, it ends the copy.
        with source, source.makefile("rb") as pipe:
            while data := await asyncio.to_thread(pipe.read, PIECE_BYTES):
                yield data
                await asyncio.sleep(PIECE_PAUSE_SECONDS)
    finally:
        await asyncio.to_thread(copying.join)
    if errors:
        raise errors[0]


def _copy(store: Store, sink: socket.socket, errors: list[BaseException]) -> None:
    with sink:
        try:
            store.copy_into(sink)
        except BaseException as error:  # noqa: BLE001 - it is raised by the one who reads
            errors.append(error)


async def through_a_file(store: Store, folder: Path) -> AsyncGenerator[bytes, None]:
    """By way of a copy in a folder: for machines without threads, as the simulated ones are."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        await asyncio.to_thread(store.copy_to, folder)
        with (folder / "data.mdb").open("rb") as file:
            while data := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield data
    finally:
        shutil.rmtree(folder, ignore_errors=True)
