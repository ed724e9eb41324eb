"""The Raft log of one node, kept in the tables of the node's current write transaction.

Here belongs what the log consists of (entries, term and vote, commit index, applied index), its encoding with checksums, and
the guards that keep a committed entry from being touched. How entries travel and who leads does not: see core.py. The file
knows no LMDB; it speaks to a `LogStore`, which the store implements over the transaction that is open at the moment.

The entries since the last compaction are also held in memory, so that the engine reads without touching the disk. A write
transaction that fails therefore must end the process: the memory would be ahead of the disk.

Layout of the values (all integers big-endian):
    log entry       CRC-32 over index, term and command (4 bytes) + command
    "term_vote"     CRC-32 (4) + term (8) + name of the member voted for in that term (empty: none)
    "commit_index"  CRC-32 (4) + index (8)
    "applied_index" CRC-32 (4) + index (8)
    "configuration" CRC-32 (4) + index (8) + horologe.log.v1.Configuration: the newest one at or before the first entry; missing
                    while the log has held none
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

from horologe.log.v1 import log_pb2
from horologe.raft.membership import Configuration, configuration_of, from_message, to_message

# The engine's form of an entry: command (first byte: its type), index, term.
LogItem = tuple[bytes, int, int]

# The engine's command byte for an entry that changes nothing. A test checks that the engine agrees (test_engine_contract.py).
NO_OP_COMMAND = b"\x01"

# Every log begins with the same entry, so that any two logs match somewhere.
FIRST_INDEX = 1
FIRST_TERM = 0

_TERM_VOTE = "term_vote"
_COMMIT_INDEX = "commit_index"
_APPLIED_INDEX = "applied_index"
_CONFIGURATION = "configuration"
_CHECKSUM = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_INDEX_TERM = struct.Struct(">QQ")


class CorruptLogError(Exception):
    """The log on disk is damaged. The node must stop; it is rebuilt from the other members under a new name."""


class LogGuardError(AssertionError):
    """A change of the log that Raft forbids was asked for. This is a defect: the node must stop before it commits."""


class HardState(NamedTuple):
    """What a member must never forget: the newest term it has seen, and whom it voted for in that term."""

    term: int
    voted_for: str | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A configuration, and the index of the entry that brought it."""

    index: int
    configuration: Configuration


class LogStore(Protocol):
    """Access to the log's tables inside the write transaction that is open at the moment.

    `command` is opaque to the store (it begins with the journal's checksum). Nothing may become durable in parts: all calls
    between two commits reach the disk together or not at all.
    """

    def log_get_all(self) -> Iterable[tuple[int, int, bytes]]:
        """All entries as (index, term, command), ascending."""

    def log_put(self, index: int, term: int, command: bytes) -> None:
        """Write one entry."""

    def log_delete_from(self, index: int) -> None:
        """Delete this entry and all after it."""

    def log_delete_to(self, index: int) -> None:
        """Delete all entries before this one."""

    def meta_get(self, key: str) -> bytes | None:
        """Read one of the journal's small values."""

    def meta_put(self, key: str, value: bytes) -> None:
        """Write one of the journal's small values."""


class LogView(Sequence[LogItem]):
    """A slice of the log that copies nothing: the engine slices to the end of the log and then looks at one entry."""

    __slots__ = ("_items", "_range")

    def __init__(self, items: list[LogItem], positions: range) -> None:
        self._items = items
        self._range = positions

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, position: int) -> LogItem: ...
    @overload
    def __getitem__(self, position: slice) -> LogView: ...
    def __getitem__(self, position: int | slice) -> LogItem | LogView:
        if isinstance(position, slice):
            return LogView(self._items, self._range[position])
        return self._items[self._range[position]]

    def __iter__(self) -> Iterator[LogItem]:
        return (self._items[position] for position in self._range)


class Journal:
    """The log of one member: what the Raft engine reads and writes.

    Give it a store inside an open write transaction. A store without entries gets the state of a new member: entry 1 of
    term 0 (a no-op, the same on every member), committed and applied.

    After a snapshot was installed, the store must hold what `reset_to` writes.

    `guarded=False` switches off the guards against truncating applied entries; only tests that show what then goes wrong do that.

    Raises:
        CorruptLogError: a checksum does not match, or the parts do not fit together.
    """

    def __init__(self, store: LogStore, *, guarded: bool = True) -> None:
        self._store = store
        self._guarded = guarded
        self._items: list[LogItem] = [_unseal_entry(*row) for row in store.log_get_all()]
        if not self._items:
            self.reset_to(store, FIRST_INDEX, FIRST_TERM, HardState(FIRST_TERM, None))
            self._items = [(NO_OP_COMMAND, FIRST_INDEX, FIRST_TERM)]
        # Ascending; the first one may stem from before the first entry.
        self._configurations = _read_configuration(store)
        self._stored_configuration_index = self._configurations[-1].index if self._configurations else 0
        for item in self._items:
            self._note_configuration(item)
        self._hard_state = _read_hard_state(store)
        self._commit_index = _read_index(store, _COMMIT_INDEX)
        self._applied_index = _read_index(store, _APPLIED_INDEX)
        self._check_whole()

    @staticmethod
    def reset_to(store: LogStore, index: int, term: int, own: HardState, configuration: Logged | None = None) -> None:
        """Write the smallest state that a member can go on from after it was given the state as of `index`.

        That is: one no-op entry (index, term) in place of the one whose effects the state contains, commit and applied index
        at `index`, the configuration as of `index`, and the member's *own* term and vote. A snapshot is a copy of another
        member's tables; taking over that member's vote would let this one vote twice in a term, hence the argument without
        default (`Journal.hard_state` of the journal that is replaced).
        """
        store.log_delete_to(index)
        store.log_delete_from(index)
        if configuration is not None:
            _write_configuration(store, configuration)
        store.log_put(index, term, _seal_entry(NO_OP_COMMAND, index, term))
        store.meta_put(_COMMIT_INDEX, _seal(_NUMBER.pack(index)))
        store.meta_put(_APPLIED_INDEX, _seal(_NUMBER.pack(index)))
        # A state of a newer term than our own is proof that this term exists; in it we have not voted.
        kept = own if own.term >= term else HardState(term, None)
        store.meta_put(_TERM_VOTE, _seal(_encode_hard_state(kept)))

    def _check_whole(self) -> None:
        for previous, item in zip(self._items, self._items[1:], strict=False):
            if item[1] != previous[1] + 1 or item[2] < previous[2]:
                raise CorruptLogError(
                    f"The log on disk is damaged: entry {previous[1]} of term {previous[2]} is followed by entry {item[1]} of "
                    f"term {item[2]}. Restore this node's folder from a backup, or replace the node by one with a new name."
                )
        if not self.first_index <= self._applied_index <= self._commit_index <= self.last_index:
            raise CorruptLogError(
                f"The log on disk is damaged: entries {self.first_index} to {self.last_index}, applied index "
                f"{self._applied_index}, commit index {self._commit_index} do not fit together. "
                "Restore this node's folder from a backup, or replace the node by one with a new name."
            )

    # --- what our core reads and writes -------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """The oldest entry that is still in the log."""
        return self._items[0][1]

    @property
    def last_index(self) -> int:
        """The newest entry."""
        return self._items[-1][1]

    @property
    def last_term(self) -> int:
        """The term of the newest entry."""
        return self._items[-1][2]

    @property
    def commit_index(self) -> int:
        """All entries up to this one are committed."""
        return self._commit_index

    @property
    def applied_index(self) -> int:
        """All entries up to this one are contained in the state of the same transaction."""
        return self._applied_index

    @property
    def configuration(self) -> Logged | None:
        """The newest configuration in the log, committed or not: the one in force. None while the log has held none."""
        return self._configurations[-1] if self._configurations else None

    def configuration_at(self, index: int) -> Logged | None:
        """The configuration that the state as of an entry goes with. The entry must be in the log."""
        return next((logged for logged in reversed(self._configurations) if logged.index <= index), None)

    @property
    def hard_state(self) -> HardState:
        """Current term and vote, to be carried over when a snapshot replaces the store."""
        return self._hard_state

    def entry_at(self, index: int) -> LogItem | None:
        """The entry, or None when it is not in the log (compacted away, or not written yet)."""
        position = index - self._items[0][1]
        return self._items[position] if 0 <= position < len(self._items) else None

    def has_entry(self, index: int, term: int) -> bool:
        """Whether the log holds this very entry: by Raft's log matching, all before it are then the same too."""
        item = self.entry_at(index)
        return item is not None and item[2] == term

    def entries_from(self, index: int, bytes_max: int) -> list[LogItem]:
        """The entries from `index` on whose commands fit into `bytes_max`, but at least one if there is one."""
        taken: list[LogItem] = []
        size_bytes = 0
        for position in range(index - self._items[0][1], len(self._items)):
            item = self._items[position]
            size_bytes += len(item[0])
            if taken and size_bytes > bytes_max:
                break
            taken.append(item)
        return taken

    def set_applied_index(self, index: int) -> None:
        """Note that the state of this transaction contains all entries up to `index`."""
        self._applied_index = index
        self._store.meta_put(_APPLIED_INDEX, _seal(_NUMBER.pack(index)))

    def compact(self, keep_from_index: int) -> int:
        """Drop the entries before `keep_from_index`, except what is not applied, and the last two. Returns the first index."""
        keep_from_index = min(keep_from_index, self._applied_index, self.last_index - 1)
        if keep_from_index > self.first_index:
            self._store.log_delete_to(keep_from_index)
            del self._items[: keep_from_index - self.first_index]
            self._compact_configurations()
        return self.first_index

    def _note_configuration(self, item: LogItem) -> None:
        configuration = configuration_of(item[0])
        known_index = self._configurations[-1].index if self._configurations else 0
        if configuration is not None and item[1] > known_index:
            self._configurations.append(Logged(item[1], configuration))

    def _compact_configurations(self) -> None:
        """Of those at or before the first entry, only the newest counts, and it must outlive its entry."""
        base = self.configuration_at(self.first_index)
        if base is not None and base.index > self._stored_configuration_index:
            self._stored_configuration_index = base.index
            self._configurations = [logged for logged in self._configurations if logged.index >= base.index]
            _write_configuration(self._store, base)

    # --- what the engine calls, under the names it uses ---------------------------------------------------------------

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry."""
        if index != self.last_index + 1 or term < self.last_term:
            raise LogGuardError(
                f"entry {index} of term {term} cannot follow entry {self.last_index} of term {self.last_term}"
            )
        self._items.append((command, index, term))
        self._note_configuration(self._items[-1])
        self._store.log_put(index, term, _seal_entry(command, index, term))

    def clear(self) -> None:
        """The engine clears the log only to load a dump file, which we never have."""
        raise LogGuardError("the engine tried to clear the log")

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        """Drop entries that conflict with the leader's log, from a position in the list on."""
        index = self.first_index + position
        if self._guarded and index <= max(self._applied_index, self._commit_index):
            raise LogGuardError(
                f"the log would be truncated from entry {index} on, but entries up to {self._commit_index} are committed "
                f"and up to {self._applied_index} applied"
            )
        self._store.log_delete_from(index)
        del self._items[position:]
        while self._configurations and self._configurations[-1].index >= index:
            self._configurations.pop()

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        """The engine compacts only after writing a dump file, which we never have. See `compact`."""
        raise LogGuardError(f"the engine tried to drop the first {position} entries of the log")

    @overload
    def __getitem__(self, position: int) -> LogItem: ...
    @overload
    def __getitem__(self, position: slice) -> LogView: ...
    def __getitem__(self, position: int | slice) -> LogItem | LogView:
        if isinstance(position, slice):
            return LogView(self._items, range(len(self._items))[position])
        return self._items[position]

    def __len__(self) -> int:
        return len(self._items)

    def _destroy(self) -> None:
        """The store belongs to the caller."""

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        """Store the commit index; it never goes back."""
        if index == self._commit_index:
            return
        if self._guarded and index < self._commit_index:
            raise LogGuardError(f"the commit index would go back from {self._commit_index} to {index}")
        self._commit_index = index
        self._store.meta_put(_COMMIT_INDEX, _seal(_NUMBER.pack(index)))

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """The stored commit index."""
        return self._commit_index

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        """Store term and vote; leaves this transaction before any message that rests on them leaves the process."""
        if term < self._hard_state.term:
            raise LogGuardError(f"the term would go back from {self._hard_state.term} to {term}")
        self._hard_state = HardState(term, voted_for)
        self._store.meta_put(_TERM_VOTE, _seal(_encode_hard_state(self._hard_state)))

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The stored term."""
        return self._hard_state.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """The stored vote."""
        return self._hard_state.voted_for

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """The engine's own journal flushes here; ours is durable with the transaction."""


def _seal(payload: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(payload)) + payload


def _unseal(key: str, value: bytes | None) -> bytes:
    if value is None:
        raise CorruptLogError(
            f"The log on disk is damaged: {key} is missing. "
            "Restore this node's folder from a backup, or replace the node by one with a new name."
        )
    payload = value[_CHECKSUM.size :]
    if len(value) < _CHECKSUM.size or _CHECKSUM.pack(zlib.crc32(payload)) != value[: _CHECKSUM.size]:
        raise CorruptLogError(
            f"The log on disk is damaged: the checksum of {key} does not match. "
            "Restore this node's folder from a backup, or replace the node by one with a new name."
        )
    return payload


def _seal_entry(command: bytes, index: int, term: int) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(command, zlib.crc32(_INDEX_TERM.pack(index, term)))) + command


def _unseal_entry(index: int, term: int, value: bytes) -> LogItem:
    command = bytes(value[_CHECKSUM.size :])
    if _seal_entry(command, index, term) != bytes(value):
        raise CorruptLogError(
            f"The log on disk is damaged: the checksum of entry {index} (term {term}) does not match. "
            "Restore this node's folder from a backup, or replace the node by one with a new name."
        )
    return command, index, term


def _encode_hard_state(state: HardState) -> bytes:
    return _NUMBER.pack(state.term) + (state.voted_for or "").encode()


def _read_hard_state(store: LogStore) -> HardState:
    payload = _unseal(_TERM_VOTE, store.meta_get(_TERM_VOTE))
    (term,) = _NUMBER.unpack_from(payload)
    return HardState(term, payload[_NUMBER.size :].decode() or None)


def _read_index(store: LogStore, key: str) -> int:
    (index,) = _NUMBER.unpack(_unseal(key, store.meta_get(key)))
    return int(index)


def _read_configuration(store: LogStore) -> list[Logged]:
    value = store.meta_get(_CONFIGURATION)
    if value is None:
        return []
    payload = _unseal(_CONFIGURATION, value)
    (index,) = _NUMBER.unpack_from(payload)
    return [Logged(index, from_message(log_pb2.Configuration.FromString(payload[_NUMBER.size :])))]


def _write_configuration(store: LogStore, logged: Logged) -> None:
    message = to_message(logged.configuration).SerializeToString(deterministic=True)
    store.meta_put(_CONFIGURATION, _seal(_NUMBER.pack(logged.index) + message))
