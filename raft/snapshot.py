"""Snapshots: a copy of the leader's whole state for a follower that the log no longer reaches.

A snapshot is an LMDB copy of the leader's environment. It becomes the follower's own by replacing what is not shared: the
node's name, its folder's id, its term and vote, and the log, of which only the position remains. What is encrypted stays as it
is: `cipher` must know the sender's data keys.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from horologe.raft.cipher import Cipher
from horologe.raft.journal import HardState, Journal, Logged
from horologe.raft.store import Store, StoreError

_NOBODY = "(snapshot)"


@dataclass(frozen=True, slots=True)
class Position:
    """The last entry that a copied state contains."""

    index: int
    term: int
    configuration: Logged | None
    """Who the members were when that entry was applied; None if the cluster still has the ones that it began with."""


def position_of(folder: Path, cipher: Cipher) -> Position:
    """Where a copied state stands. Raises StoreError or CorruptLogError if the copy is damaged."""
    store = Store(folder, _NOBODY, adopt=True, open_cipher=lambda: cipher)
    try:
        return _position(store)
    finally:
        store.close()


def check(folder: Path, cipher: Cipher) -> None:
    """Reads every record of a copied state. Raises StoreError if one is damaged: the other node's disk may be at fault."""
    store = Store(folder, _NOBODY, adopt=True, open_cipher=lambda: cipher)
    try:
        store.check()
    finally:
        store.close()


def make_own(folder: Path, node: str, id_: str, position: Position, own: HardState, cipher: Cipher) -> None:
    """Turns the copy into this node's own state, keeping this node's name, folder id, term and vote."""
    store = Store(folder, node, adopt=True, id_=id_, open_cipher=lambda: cipher)
    try:
        found = _position(store)
        if found != position:
            # Above all an empty one, where the copy has gone meanwhile: its state would be nobody's.
            raise StoreError(f"{folder}: the copy stands at entry {found.index}, not at {position.index} any more")
        Journal.reset_to(store, position.index, position.term, own, position.configuration)
        store.commit()
    finally:
        store.close()


def _position(store: Store) -> Position:
    journal = Journal(store)
    item = journal.entry_at(journal.applied_index)
    if item is None:
        raise StoreError(f"{store.folder}: the copied log does not hold entry {journal.applied_index}")
    return Position(item[1], item[2], journal.configuration_at(item[1]))


def discard(folder: Path) -> None:
    """Throws a copied state away."""
    shutil.rmtree(folder, ignore_errors=True)
