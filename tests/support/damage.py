"""What a store does with a damaged file, in a process of its own: LMDB trusts its pages, and damage may end the process.

    python damage.py FOLDER    reads the data keys (hex) and positions from standard input, answers one word per position

The file of the folder is put back after each position. The words: `same` (everything was read as it was), `refused`
(StoreError), `died` (a signal ended the process), `wrong` (something else was read, and nobody noticed).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from horologe.raft.cipher import in_memory, unpack_keys
from horologe.raft.store import Store, StoreError
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES

WORDS = ("same", "refused", "wrong")


def everything(store: Store) -> dict[str, list[tuple[bytes, bytes]]]:
    with store.read() as tables:
        return {name: list(getattr(tables, name).scan()) for name in (*TABLE_NAMES, *SET_TABLE_NAMES)}


def _outcome(folder: Path, expected: dict[str, list[tuple[bytes, bytes]]]) -> int:
    """What a node does: opens the folder, checks it, and reads."""
    try:
        store = Store(folder, "n1", bytes_max=1 << 26)
        store.check()
        if everything(store) != expected:
            return WORDS.index("wrong")
        with store.read() as tables:
            for name in TABLE_NAMES:
                if any(getattr(tables, name).get(key) != value for key, value in expected[name]):
                    return WORDS.index("wrong")
    except StoreError:
        return WORDS.index("refused")
    return WORDS.index("same")


def main(folder: Path) -> None:
    in_memory().add(unpack_keys(bytes.fromhex(sys.stdin.readline())))
    store = Store(folder, "n1", bytes_max=1 << 26)
    expected = everything(store)
    store.close()
    data = folder / "data.mdb"
    whole = data.read_bytes()
    for line in sys.stdin:
        position, bits = map(int, line.split())
        damaged = bytearray(whole)
        damaged[position] ^= bits
        data.write_bytes(bytes(damaged))
        child = os.fork()
        if child == 0:
            os._exit(_outcome(folder, expected))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(WORDS[code] if 0 <= code < len(WORDS) else "died", flush=True)
    data.write_bytes(whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
