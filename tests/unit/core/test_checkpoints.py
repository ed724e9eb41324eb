"""The state exactly as of an entry, whatever else its step applies; and the digest of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import commands
from support.tables import dict_tables
from test_replica import Alone

from horologe.log.v1 import log_pb2
from horologe.raft import intake
from horologe.raft.core import RaftCore
from horologe.raft.digest import RECORDS_PER_TURN, digest_of
from horologe.raft.model import Counters
from horologe.raft.records import U64
from horologe.raft.replica import STATES_KEPT_PER_STEP
from horologe.raft.store import Store

CHECKPOINT = log_pb2.Command(origin="n1", origin_id=7, checkpoint=log_pb2.Checkpoint())
ENTRY_FILLER = "x" * (25 << 10)
"""Two commands that carry this do not fit one entry."""


def _named(name: str) -> log_pb2.Command:
    return commands.create(name, description=ENTRY_FILLER)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """A leader that takes and applies all that comes in one step, and in order."""
    monkeypatch.setattr(intake, "ASKED_FOR", frozenset())
    return Alone(tmp_path / "state", apply_bytes_max=16 << 20)


def test_the_state_as_of_an_entry_in_the_middle_of_a_step(alone: Alone) -> None:
    outbox = alone.step(_named("before"), CHECKPOINT, _named("after"))
    (kept,) = outbox.checkpoints
    assert outbox.results[0][1].numbers == (kept.revision,)
    assert alone.replica.status.revision > kept.revision
    for _ in range(3):
        alone.step(commands.create(f"later-{alone.now}"))
    with kept as tables:
        assert Counters.load(tables).revision == kept.revision
        assert [name for name, _ in tables.job_name.scan()] == [b"before"]
        first = digest_of(tables)
    with alone.store.read() as tables:
        assert digest_of(tables) != first
    alone.store.close()


def test_a_node_that_dies_after_the_commit_in_the_middle_goes_on_from_there(alone: Alone) -> None:
    commit = alone.store.commit

    def die_at_the_end() -> None:
        if alone.store.commits > commits:
            raise RuntimeError("power failure")
        commit()

    commits = alone.store.commits
    alone.store.commit = die_at_the_end  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="power failure"):
        alone.step(_named("before"), CHECKPOINT, _named("after"))
    (kept,) = alone.replica._outbox.checkpoints
    with kept as tables:
        expected = digest_of(tables)
    alone.store.close()

    store = Store(alone.store.folder, "n1", bytes_max=1 << 26)
    store.check()
    with store.read() as tables:
        assert Counters.load(tables).revision == kept.revision
        assert digest_of(tables) == expected
    store.close()
    again = Alone(alone.store.folder)
    again.step(commands.create("another"))
    with again.store.read() as tables:
        assert {b"before", b"another"} <= {name for name, _ in tables.job_name.scan()}
    again.store.close()


def test_a_node_that_comes_by_many_checkpoints_in_one_step_keeps_only_the_newest_states(alone: Alone) -> None:
    checkpoints = [
        log_pb2.Command(origin="n1", origin_id=20 + number, checkpoint=log_pb2.Checkpoint()) for number in range(6)
    ]
    jobs = [_named(f"job-{number}") for number in range(6)]
    outbox = alone.step(*(command for pair in zip(checkpoints, jobs, strict=True) for command in pair))
    passed = sorted({result.numbers[0] for origin_id, result in outbox.results if origin_id >= 20})
    assert len(passed) > STATES_KEPT_PER_STEP
    assert [kept.revision for kept in outbox.checkpoints] == passed[-STATES_KEPT_PER_STEP:]
    for kept in outbox.checkpoints:
        kept.release()
    # It waits for all readers.
    alone.store.close()


def test_nobody_sees_a_revision_before_it_is_in_the_state(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader on another thread takes the status for a promise: what it names must be committed."""
    seen: list[tuple[int, int]] = []
    commit = alone.store.commit

    def look_and_commit() -> None:
        with alone.store.read() as tables:
            seen.append((alone.replica.status.revision, Counters.load(tables).revision))
        commit()

    monkeypatch.setattr(alone.store, "commit", look_and_commit)
    for number in range(5):
        alone.step(commands.create(f"job-{number}"))
    assert len(seen) >= 5
    assert all(promised <= there for promised, there in seen), seen
    alone.store.close()


def test_the_digest_depends_on_every_byte_and_on_nothing_else(tmp_path: Path) -> None:
    tables = dict_tables()
    for number in range(RECORDS_PER_TURN * 2 + 5):
        tables.execution.put(U64.pack(number), b"value %d" % number)
    turns: list[int] = []
    whole = digest_of(tables, lambda: turns.append(1))
    assert whole.record_count == RECORDS_PER_TURN * 2 + 5
    assert len(turns) == 2
    store = Store(tmp_path / "state", "n1", bytes_max=1 << 26)
    for key, value in reversed(list(tables.execution.scan())):
        store.tables.execution.put(key, value)
    store.commit()
    with store.read() as stored:
        assert digest_of(stored) == whole
    store.close()
    last = U64.pack(RECORDS_PER_TURN)
    for key, value in ((last, b"value 1000 "), (last, b"value 1001"), (last + b"v", b"alue 1000")):
        tables.execution.put(key, value)
        assert digest_of(tables).digest != whole.digest
        tables.execution.delete(key)
    tables.execution.put(last, b"value 1000")
    assert digest_of(tables) == whole
    tables.execution.delete(last)
    tables.detail.put(last, b"value 1000")
    assert digest_of(tables).digest != whole.digest


def test_the_core_stands_at_the_checkpoint_too(alone: Alone) -> None:
    core: RaftCore = alone.replica._core
    alone.step(CHECKPOINT).checkpoints[0].release()
    assert core.applied_index == alone.replica.status.revision
    alone.store.close()
