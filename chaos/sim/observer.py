"""What must hold at every moment, watched from outside by somebody who sees all nodes at once.

One leader per term; logs that agree wherever they have an entry of the same index and term; leaders that have everything that was
ever committed; commitment only of what a majority has on disk; the same result and the same effects of every entry, and the same
bytes in all tables, on every node. What handlers saw and what callers were told is judged at the end (judge.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from horologe.chaos.sim.disk import Log, SimStore
from horologe.log.v1 import log_pb2
from horologe.raft.commands import SESSION, TIMEOUT, CompletionStatus
from horologe.raft.machine import StateMachine
from horologe.raft.model import Code, Effects, Result
from horologe.raft.step import Status
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES, Tables

DIGEST_EVERY = 64
"""All tables are compared at every revision that is a multiple of this."""


class InvariantBrokenError(AssertionError):
    """A promise was broken. `invariant` names it; the text tells the story."""

    def __init__(self, invariant: str, story: str) -> None:
        super().__init__(f"{invariant}: {story}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class JobChange:
    """A definition, pause or end of a job, as the log has it."""

    index: int
    time_ms: int
    command: log_pb2.Command
    result: Result


@dataclass(frozen=True, slots=True)
class _Applied:
    """What one node made of one entry; `state` is the digest of all tables, at some revisions."""

    index: int
    digest: bytes
    state: bytes | None
    entry: log_pb2.Entry
    results: list[Result]
    effects: Effects


@dataclass(slots=True)
class Observer:
    """Sees every step and every applied entry of every node."""

    stores: Callable[[], Mapping[str, SimStore]]
    """The stores of all nodes; those of the dead as they were left."""
    counts: Counter[str] = field(default_factory=Counter)
    """What happened, once per entry or event, whoever saw it first."""
    job_changes: list[JobChange] = field(default_factory=list)
    commit_index: int = 0
    last_applied: int = 0
    _leaders: dict[int, str] = field(default_factory=dict)
    _entries: dict[tuple[int, int], int] = field(default_factory=dict)
    _committed: Log = field(default_factory=dict)
    _applied: dict[int, bytes] = field(default_factory=dict)
    _unsettled: dict[str, list[_Applied]] = field(default_factory=dict)
    _digests: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    _requests: set[bytes] = field(default_factory=set)
    _terms: set[int] = field(default_factory=set)

    # After each step

    def stepped(self, name: str, store: SimStore, status: Status) -> None:
        """A node has finished a step, and nothing of it has left yet."""
        if status.is_leader:
            self._check_leader(name, store, status)
        if status.commit_index > self.commit_index:
            self._check_commit(name, store, status)

    def _check_leader(self, name: str, store: SimStore, status: Status) -> None:
        known = self._leaders.setdefault(status.term, name)
        if known != name:
            raise InvariantBrokenError("one leader per term", f"{name} and {known} both lead term {status.term}")
        if status.term in self._terms:
            return
        self._terms.add(status.term)
        self.counts["elections won"] += 1
        first = min(store.durable_log)
        for index, entry in self._committed.items():
            if index > first and store.durable_log.get(index) != entry:
                raise InvariantBrokenError(
                    "leader completeness",
                    f"{name} leads term {status.term} but has {store.durable_log.get(index)} at index {index}, "
                    f"where {entry} was committed",
                )

    def _check_commit(self, name: str, store: SimStore, status: Status) -> None:
        voters = status.configuration.voters
        logs = [found.durable_log for other, found in self.stores().items() if other in voters]
        for index in range(self.commit_index + 1, status.commit_index + 1):
            entry = store.durable_log.get(index)
            if entry is None:
                # A snapshot: its entries were committed elsewhere, and are known to us from there.
                continue
            known = self._committed.setdefault(index, entry)
            if known != entry:
                raise InvariantBrokenError(
                    "state machine safety", f"{name} has committed {entry} at index {index}, before it was {known}"
                )
        entry = store.durable_log.get(status.commit_index)
        holders = sum(1 for log in logs if entry is not None and log.get(status.commit_index) == entry)
        if status.is_leader and 2 * holders <= len(voters):
            raise InvariantBrokenError(
                "committed is on the disks of a majority",
                f"{name} has committed index {status.commit_index}, which {holders} of {sorted(voters)} have on disk",
            )
        self.commit_index = status.commit_index

    def logged(self, name: str, index: int, term: int, checksum: int) -> None:
        """A node has written an entry of its log."""
        known = self._entries.setdefault((index, term), checksum)
        if known != checksum:
            raise InvariantBrokenError("log matching", f"{name} has another entry at index {index} of term {term}")

    # At each applied entry

    def applied(
        self, name: str, tables: Tables, index: int, entry: log_pb2.Entry, results: list[Result], effects: Effects
    ) -> None:
        """A node has applied an entry, in a transaction that may still fail: it counts once that is durable."""
        digest = hashlib.blake2b(
            entry.SerializeToString(deterministic=True) + repr((results, effects)).encode(), digest_size=16
        ).digest()
        state = digest_of(tables) if index % DIGEST_EVERY == 0 else None
        self._unsettled.setdefault(name, []).append(_Applied(index, digest, state, entry, results, effects))

    def settled(self, name: str, durable: bool) -> None:
        """A node's transaction is durable, or has never been."""
        for applied in self._unsettled.pop(name, []):
            if durable:
                self._settle(name, applied)

    def _settle(self, name: str, applied: _Applied) -> None:
        index = applied.index
        known = self._applied.setdefault(index, applied.digest)
        if known != applied.digest:
            raise InvariantBrokenError("same results everywhere", f"{name} got something else out of entry {index}")
        if applied.state is not None:
            self.compare(name, index, applied.state)
        if index > self.last_applied:
            self.last_applied = index
            self._note(index, applied.entry, applied.results, applied.effects)

    def compare(self, name: str, revision: int, digest: bytes) -> None:
        """All tables of a node at a revision."""
        other, known = self._digests.setdefault(revision, (name, digest))
        self.counts["states compared"] += other != name
        if known != digest:
            raise InvariantBrokenError("same state everywhere", f"{name} and {other} differ at revision {revision}")

    def _note(self, index: int, entry: log_pb2.Entry, results: list[Result], effects: Effects) -> None:
        counts = self.counts
        counts["entries applied"] += 1
        counts["attempts assigned"] += len(effects.assigned)
        counts["sessions opened"] += len(effects.sessions_opened)
        counts["attempts told to stop"] += len(effects.cancelled)
        for command, result in zip(entry.commands, results, strict=True):
            if command.request_id:
                if bytes(command.request_id) in self._requests:
                    counts["repeated requests answered from the table"] += 1
                self._requests.add(bytes(command.request_id))
            match command.WhichOneof("kind"):
                case "plan":
                    counts["leases expired"] += len(command.plan.expired_sessions) // SESSION.size
                    counts["timeouts enforced by the cluster"] += len(command.plan.timeouts) // TIMEOUT.size
                case "complete":
                    refused = sum(number == CompletionStatus.LEASE_LOST for number in result.numbers)
                    counts["outcomes recorded"] += len(result.numbers) - refused
                    counts["outcomes refused (token not current)"] += refused
                case "put_jobs" | "delete_job" | "pause_job":
                    if result.code == Code.OK:
                        self.job_changes.append(JobChange(index, entry.time_ms, command, result))
                case "change_membership":
                    counts["membership changes"] += 1


class WatchedMachine(StateMachine):
    """The state machine of one node, with the observer looking on."""

    def __init__(self, name: str, observer: Observer) -> None:
        self._name = name
        self._observer = observer

    def apply(self, tables: Tables, index: int, entry: log_pb2.Entry) -> tuple[list[Result], Effects]:
        results, effects = super().apply(tables, index, entry)
        self._observer.applied(self._name, tables, index, entry, results, effects)
        return results, effects


def digest_of(tables: Tables) -> bytes:
    """Over every byte of the replicated state."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (*TABLE_NAMES, *SET_TABLE_NAMES):
        digest.update(name.encode())
        for key, value in getattr(tables, name).scan():
            digest.update(b"%d %d " % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
    return digest.digest()
