"""The proof, at each start, that what is written is encrypted, and that the keys on the disk open it again.

An encryption that is switched off by mistake looks from the inside like one that works. So a node writes marks through everything
that writes people's words (each encrypted table, the log, captured output), looks for them in the bytes of the files, and reads
them back with nothing but the keyring as it lies on the disk. All of that in a folder of its own: a mark in the replicated state
would be a difference between nodes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from horologe.node.clock import Clock
from horologe.node.keyring import Keyring
from horologe.node.outputs import OutputError, OutputKey, OutputPiece, OutputStore, Stream
from horologe.raft.cipher import Cipher
from horologe.raft.store import Store, StoreError
from horologe.raft.tables import ENCRYPTED_TABLE_NAMES

MARK_BYTES = 64
"""So long that it is nowhere by accident, and not compressible: it would lie in a file as it is."""
STORE_BYTES_MAX = 16 << 20
_KEY = b"mark"


class NotEncryptedError(StoreError):
    """What this program writes can be read by anybody, or by nobody. The node must not start."""


def prove(folder: Path, keyring: Keyring, clock: Clock, keyring_on_disk: Callable[[], Keyring]) -> None:
    """Raises NotEncryptedError. `folder` is made, and removed again; `keyring_on_disk` answers one that was not read yet."""
    mark = os.urandom(MARK_BYTES)
    output_key = OutputKey(1, 1, clock.wall_ms())
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with _opened(folder, clock, keyring.cipher) as (store, outputs):
            for name in ENCRYPTED_TABLE_NAMES:
                getattr(store.tables, name).put(_KEY, mark)
            store.log_put(1, 1, mark)
            store.commit()
            outputs.append([(output_key, OutputPiece(0, Stream.STDOUT, mark))])
        for path in sorted(folder.rglob("*.mdb")):
            if mark in path.read_bytes():
                raise NotEncryptedError(f"{path}: what was to be encrypted lies there in clear text; {_ADVICE}")
        with _opened(folder, clock, keyring_on_disk().open()) as (store, outputs):
            tables = [getattr(store.tables, name).get(_KEY) for name in ENCRYPTED_TABLE_NAMES]
            log = [command for _, _, command in store.log_get_all()]
            output = [piece.data for piece in outputs.read_batch(output_key)]
        if {*tables, *log, *output} != {mark}:
            raise NotEncryptedError(f"{folder}: what was encrypted does not come back; {_ADVICE}")
    except OutputError as error:
        raise StoreError(f"{error}; check the space on the disk") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_ADVICE = "this program or its libraries are not what they should be: install them anew. The node does not start"


@contextmanager
def _opened(folder: Path, clock: Clock, cipher: Cipher) -> Iterator[tuple[Store, OutputStore]]:
    store = Store(folder / "state", "check", bytes_max=STORE_BYTES_MAX, open_cipher=lambda: cipher)
    try:
        outputs = OutputStore(folder / "outputs", clock, cipher=cipher)
        try:
            yield store, outputs
        finally:
            outputs.close()
    finally:
        store.close()
