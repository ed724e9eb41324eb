"""Opening the folder of a node that is stopped, with the keys that lie beside its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb

from horologe.node.key_sources import FileKeys
from horologe.node.keyring import Keyring
from horologe.raft.cipher import key_number_of
from horologe.raft.records import U64
from horologe.raft.store import LOG, Store
from horologe.raft.tables import ENCRYPTED_TABLE_NAMES

OUTPUT_HEAD_BYTES = 5
"""In front of a piece of output stand its stream and its length."""


def keyring_of(data_dir: Path, state: Path | None = None) -> Keyring:
    """Of a node that keeps its key in its data folder; `state`: a copy of its state."""
    return Keyring(state or data_dir / "state", FileKeys(data_dir / "node.key"), lambda: 0)


def store_of(data_dir: Path, node: str, state: Path | None = None, **options: Any) -> Store:
    return Store(state or data_dir / "state", node, open_cipher=keyring_of(data_dir, state).open, **options)


def key_numbers_in(data_dir: Path, node: str) -> set[int]:
    """Numbers of the data keys that records of a stopped node lie under: in its state, its log, and its output."""
    found: set[int] = set()
    store = store_of(data_dir, node)
    try:
        for name in (*ENCRYPTED_TABLE_NAMES, LOG):
            transaction, database = store.stored(name)
            for _, stored in transaction.cursor(db=database):
                found.add(key_number_of(stored[U64.size :] if name == LOG else stored))
    finally:
        store.close()
    for day in (data_dir / "outputs").glob("*"):
        with lmdb.open(str(day)) as environment, environment.begin() as transaction:
            found |= {key_number_of(stored[OUTPUT_HEAD_BYTES:]) for _, stored in transaction.cursor()}
    return found
