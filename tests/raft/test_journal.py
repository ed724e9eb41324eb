"""The log on disk: what is written is read back, damage is noticed, committed entries are never truncated."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from by_hand import regular
from world_store import MemoryStore

from horologe.raft.journal import NO_OP_COMMAND, CorruptLogError, HardState, Journal, LogGuardError


@pytest.fixture
def store() -> MemoryStore:
    """Entries 1 to 10; 6 committed, 5 applied."""
    store = MemoryStore()
    journal = Journal(store)
    journal.setCurrentTerm(2, "b")
    for index in range(2, 11):
        journal.add(regular(str(index)), index, 1 if index < 8 else 2)
    journal.setRaftCommitIndex(6)
    journal.set_applied_index(5)
    store.commit()
    return store


def test_a_new_log_has_one_entry_that_all_members_share() -> None:
    journal = Journal(MemoryStore())
    assert list(journal[:]) == [(NO_OP_COMMAND, 1, 0)]
    assert (journal.commit_index, journal.applied_index, journal.hard_state) == (1, 1, HardState(0, None))


def test_what_was_written_is_read_back(store: MemoryStore) -> None:
    journal = Journal(store)
    assert (journal.first_index, journal.last_index, journal.last_term) == (1, 10, 2)
    assert (journal.getRaftCommitIndex(), journal.applied_index) == (6, 5)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (2, "b")
    assert journal.entry_at(7) == (regular("7"), 7, 1)
    assert journal.entry_at(0) is journal.entry_at(11) is None


def test_what_was_not_committed_to_the_store_is_gone_after_a_crash(store: MemoryStore) -> None:
    journal = Journal(store)
    journal.add(regular("11"), 11, 3)
    journal.deleteEntriesFrom(7)
    journal.setCurrentTerm(9, None)
    store.roll_back()
    assert (Journal(store).last_index, Journal(store).hard_state) == (10, HardState(2, "b"))


class DamagedStore(MemoryStore):
    """Changes one thing on reading."""

    def __init__(
        self, sound: MemoryStore, *, entry: int | None = None, key: str | None = None, cut: bool = False
    ) -> None:
        super().__init__()
        self._sound, self._entry, self._key, self._cut = sound, entry, key, cut

    def log_get_all(self) -> Iterable[tuple[int, int, bytes]]:
        for index, term, value in self._sound.log_get_all():
            if index != self._entry:
                yield index, term, value
            elif not self._cut:
                yield index, term, value[:-1] + bytes([value[-1] ^ 1])

    def meta_get(self, key: str) -> bytes | None:
        value = self._sound.meta_get(key)
        if key != self._key or value is None:
            return value
        return None if self._cut else value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize("entry", [1, 5, 10])
def test_a_damaged_entry_is_noticed(store: MemoryStore, entry: int) -> None:
    with pytest.raises(CorruptLogError, match=f"checksum of entry {entry} "):
        Journal(DamagedStore(store, entry=entry))


def test_a_missing_entry_is_noticed(store: MemoryStore) -> None:
    with pytest.raises(CorruptLogError, match="entry 4 of term 1 is followed by entry 6"):
        Journal(DamagedStore(store, entry=5, cut=True))


@pytest.mark.parametrize("key", ["term_vote", "commit_index", "applied_index"])
@pytest.mark.parametrize("cut", [False, True])
def test_damage_of_the_small_values_is_noticed(store: MemoryStore, key: str, cut: bool) -> None:
    with pytest.raises(CorruptLogError, match=key):
        Journal(DamagedStore(store, key=key, cut=cut))


def test_an_applied_index_outside_the_log_is_noticed(store: MemoryStore) -> None:
    Journal(store).set_applied_index(7)
    with pytest.raises(CorruptLogError, match="do not fit together"):
        Journal(store)


def test_committed_entries_are_never_truncated(store: MemoryStore) -> None:
    journal = Journal(store)
    with pytest.raises(LogGuardError, match="truncated from entry 6"):
        journal.deleteEntriesFrom(5)
    journal.deleteEntriesFrom(6)
    assert Journal(store).last_index == journal.last_index == 6


def test_entries_follow_one_another(store: MemoryStore) -> None:
    journal = Journal(store)
    with pytest.raises(LogGuardError):
        journal.add(regular("x"), 12, 2)
    with pytest.raises(LogGuardError):
        journal.add(regular("x"), 11, 1)


def test_term_and_commit_index_never_go_back(store: MemoryStore) -> None:
    journal = Journal(store)
    with pytest.raises(LogGuardError):
        journal.setCurrentTerm(1, None)
    with pytest.raises(LogGuardError):
        journal.setRaftCommitIndex(5)


def test_the_engine_s_own_ways_to_drop_the_log_are_closed(store: MemoryStore) -> None:
    journal = Journal(store)
    with pytest.raises(LogGuardError):
        journal.clear()
    with pytest.raises(LogGuardError):
        journal.deleteEntriesTo(3)


def test_compaction_drops_a_prefix_of_what_is_applied(store: MemoryStore) -> None:
    journal = Journal(store)
    assert journal.compact(3) == 3
    assert journal.compact(2) == 3
    assert journal.compact(9) == 5
    again = Journal(store)
    assert (again.first_index, again.last_index) == (5, 10)
    assert again.entry_at(6) == journal.entry_at(6) == (regular("6"), 6, 1)


def test_a_store_is_reset_to_a_snapshot(store: MemoryStore) -> None:
    Journal.reset_to(store, 40, 3, HardState(2, "b"))
    journal = Journal(store)
    assert list(journal[:]) == [(NO_OP_COMMAND, 40, 3)]
    assert (journal.commit_index, journal.applied_index) == (40, 40)
    assert journal.hard_state == HardState(3, None)


def test_slices_copy_nothing_and_read_like_a_list(store: MemoryStore) -> None:
    journal = Journal(store)
    items = list(journal[:])
    assert len(journal) == 10
    assert journal[-1] == items[-1]
    assert list(journal[7:]) == items[7:]
    assert list(journal[3:5]) == items[3:5]
    assert journal[3:][1] == items[4]
    assert journal[3:][-1] == items[-1]
    assert list(journal[3:][1:]) == items[4:]
    assert list(reversed(journal[8:])) == items[:7:-1]
    assert not journal[10:]


def test_entries_are_taken_up_to_a_size(store: MemoryStore) -> None:
    journal = Journal(store)
    assert [index for _, index, _ in journal.entries_from(8, 100)] == [8, 9, 10]
    assert [index for _, index, _ in journal.entries_from(8, 4)] == [8, 9]
    assert [index for _, index, _ in journal.entries_from(8, 1)] == [8]
