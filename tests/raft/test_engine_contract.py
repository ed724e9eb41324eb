"""What raft/core_engine.py relies on inside pysyncobj. When a test here fails, read the new version before changing anything."""

from __future__ import annotations

import hashlib
import importlib.metadata
import random
import re
from pathlib import Path

import pytest
from by_hand import Hand
from world import World

from horologe.raft import core_engine
from horologe.raft.journal import NO_OP_COMMAND

ENGINE = core_engine._engine_module
PACKAGE = Path(ENGINE.__file__).parent
RAFT = Path(core_engine.__file__).parent

# The files of pysyncobj 0.3.17 that our core runs through, by SHA-256.
REVIEWED = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
}

PRIVATE_NAMES = sorted(set(re.findall(r"_SyncObj__\w+", (RAFT / "core_engine.py").read_text())))


def test_the_version_is_the_one_that_was_reviewed() -> None:
    assert importlib.metadata.version("pysyncobj") == "0.3.17"


@pytest.mark.parametrize("name", sorted(REVIEWED))
def test_the_files_are_the_ones_that_were_reviewed(name: str) -> None:
    assert hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest() == REVIEWED[name]


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_every_private_name_exists(name: str) -> None:
    assert hasattr(Hand().core._engine._engine, name)
    if name in vars(core_engine._SyncObj):
        assert hasattr(ENGINE.SyncObj, name)


def test_every_private_name_is_listed_at_the_top_of_the_file() -> None:
    documentation = core_engine.__doc__ or ""
    assert PRIVATE_NAMES
    assert [name for name in PRIVATE_NAMES if name not in documentation] == []


def test_only_one_file_imports_pysyncobj() -> None:
    importing = {
        path.relative_to(RAFT.parent).as_posix()
        for package in ("raft", "node", "client", "chaos")
        for path in (RAFT.parent / package).rglob("*.py")
        if re.search(r"^\s*(from|import) pysyncobj", path.read_text(), re.MULTILINE)
    }
    assert importing == {"raft/core_engine.py"}


def test_the_command_bytes_are_the_engine_s() -> None:
    assert bytes([ENGINE._COMMAND_TYPE.NO_OP]) == NO_OP_COMMAND
    assert ENGINE._COMMAND_TYPE.REGULAR == core_engine.REGULAR_COMMAND
    assert ENGINE._RAFT_STATE.LEADER == 2


def test_clock_and_chance_are_the_caller_s() -> None:
    assert ENGINE.monotonicTime is not None
    hand = Hand()
    hand.tick(3.0)
    assert ENGINE.monotonicTime() == hand.now
    chance = random.Random(1)
    core_engine.ambient.chance = chance
    assert ENGINE.random.random() == random.Random(1).random()


def test_a_core_opens_no_descriptors() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    world = World("abc", 1)
    world.run(0.5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
