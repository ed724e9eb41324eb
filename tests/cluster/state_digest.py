"""A digest of a node's whole replicated state, taken from a copy of its data folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from support.keys import store_of

from horologe.raft.model import Counters
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES


def digest_of(data_dir: Path, node: str, scratch: Path) -> tuple[int, str]:
    """Revision and digest over all replicated tables of a node that is stopped."""
    shutil.copytree(data_dir / "state", scratch)
    store = store_of(data_dir, node, scratch)
    try:
        digest = hashlib.sha256()
        with store.read() as tables:
            revision = Counters.load(tables).revision
            for name in (*TABLE_NAMES, *SET_TABLE_NAMES):
                for key, value in getattr(tables, name).scan():
                    digest.update(f"{name} {len(key)} {len(value)} ".encode() + key + value)
        return revision, digest.hexdigest()
    finally:
        store.close()
        shutil.rmtree(scratch)
