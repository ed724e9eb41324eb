"""Opening the folder of a node that is stopped, with the keys that lie beside its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from horologe.node.key_sources import FileKeys
from horologe.node.keyring import Keyring
from horologe.raft.store import Store


def keyring_of(data_dir: Path, state: Path | None = None) -> Keyring:
    """Of a node that keeps its key in its data folder; `state`: a copy of its state."""
    return Keyring(state or data_dir / "state", FileKeys(data_dir / "node.key"), lambda: 0)


def store_of(data_dir: Path, node: str, state: Path | None = None, **options: Any) -> Store:
    return Store(state or data_dir / "state", node, open_cipher=keyring_of(data_dir, state).open, **options)
