"""What lets a search skip executions: a summary of each block of them, and a list of those that stand out.

Executions are numbered in the order of their creation; a block is 512 neighbours. Its row counts their states exactly, bounds
their times, and has a bit for the number of each job, namespace, queue and worker that one of them has to do with. Numbers that
are far apart share a bit; one that is not set proves that nothing fits. So a search for what is rare reads rows of blocks, not of
executions.
Blocks are written once per entry. `by_state` names the executions in states that few are in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Self

from horologe.raft.model import ExecutionState
from horologe.raft.records import U64, Execution
from horologe.raft.tables import Tables

BLOCK_BITS = 9
"""A million executions are 2,000 blocks, which are walked over in a few milliseconds; one that cannot be skipped takes one."""
_NEVER = (1 << 64) - 1

STATE_KEY = Struct(">BQ")
LISTED_STATES = frozenset(
    {
        ExecutionState.SCHEDULED,
        ExecutionState.FAILED,
        ExecutionState.CANCELLED,
        ExecutionState.DEAD,
        ExecutionState.SKIPPED,
    }
)
"""States of `by_state`: a healthy execution passes none of them, and pays nothing."""


class Term(IntEnum):
    """What a bit of a block stands for. The value: where its bits begin, and how many they are, which is a power of two."""

    JOB = 0
    NAMESPACE = 4_096
    QUEUE = 4_224
    WORKER = 4_352

    @property
    def size(self) -> int:
        return _SIZES[self]


_SIZES = {Term.JOB: 4_096, Term.NAMESPACE: 128, Term.QUEUE: 128, Term.WORKER: 256}
"""512 executions of as many jobs set an eighth of the bits for jobs."""
_MASK_BYTES = sum(_SIZES.values()) // 8


def bit_of(term: Term, number: int) -> int:
    """The bit for the thing with this number."""
    return term + (number & term.size - 1)


@dataclass(slots=True)
class Block:
    """What is known of the executions of a block without looking at them."""

    HEAD: ClassVar[Struct] = Struct(">QQQQ9H")

    create_ms_min: int = _NEVER
    create_ms_max: int = 0
    due_ms_min: int = _NEVER
    due_ms_max: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * 9)
    """By state."""
    mask: bytearray = field(default_factory=lambda: bytearray(_MASK_BYTES))

    def pack(self) -> bytes:
        head = self.HEAD.pack(self.create_ms_min, self.create_ms_max, self.due_ms_min, self.due_ms_max, *self.counts)
        return head + self.mask

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        create_min, create_max, due_min, due_max, *counts = cls.HEAD.unpack_from(raw)
        return cls(create_min, create_max, due_min, due_max, counts, bytearray(raw[cls.HEAD.size :]))

    def has(self, bit: int) -> bool:
        return bool(self.mask[bit >> 3] >> (bit & 7) & 1)

    def add(self, execution: Execution) -> None:
        """A new execution. Written out, as below, because every execution passes here."""
        create_ms, due_ms, mask = execution.create_ms, execution.due_ms, self.mask
        if create_ms < self.create_ms_min:
            self.create_ms_min = create_ms
        if create_ms > self.create_ms_max:
            self.create_ms_max = create_ms
        if due_ms < self.due_ms_min:
            self.due_ms_min = due_ms
        if due_ms > self.due_ms_max:
            self.due_ms_max = due_ms
        bit = execution.job & 4_095
        mask[bit >> 3] |= 1 << (bit & 7)
        bit = 4_096 + (execution.namespace & 127)
        mask[bit >> 3] |= 1 << (bit & 7)
        bit = 4_224 + (execution.queue & 127)
        mask[bit >> 3] |= 1 << (bit & 7)

    def assign(self, worker: int) -> None:
        bit = 4_352 + (worker & 255)
        self.mask[bit >> 3] |= 1 << (bit & 7)


class Index:
    """The blocks that an entry has touched, and `by_state`."""

    __slots__ = ("_blocks", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._blocks: dict[int, Block] = {}

    def moved(self, number: int, execution: Execution, before: int, after: int) -> None:
        """The execution is new (`before` is 0), or has another state."""
        block = self._blocks.get(number >> BLOCK_BITS) or self._load(number >> BLOCK_BITS)
        if before:
            block.counts[before] -= 1
            if before in LISTED_STATES:
                self._tables.by_state.delete(STATE_KEY.pack(before, number))
            if before == ExecutionState.DEAD:
                # Its job may have been given another queue before it was driven again.
                block.add(execution)
        else:
            block.add(execution)
        block.counts[after] += 1
        if after == ExecutionState.RUNNING:
            block.assign(execution.worker)
        if after in LISTED_STATES:
            self._tables.by_state.put(STATE_KEY.pack(after, number), b"")

    def dropped(self, number: int, execution: Execution) -> None:
        """The execution is history that was forgotten."""
        self._load(number >> BLOCK_BITS).counts[execution.state] -= 1
        if execution.state in LISTED_STATES:
            self._tables.by_state.delete(STATE_KEY.pack(execution.state, number))

    def save(self) -> None:
        """Once per entry. A block that is empty again leaves nothing behind."""
        for position, block in self._blocks.items():
            if any(block.counts):
                self._tables.block.put(U64.pack(position), block.pack())
            else:
                self._tables.block.delete(U64.pack(position))

    def _load(self, position: int) -> Block:
        block = self._blocks.get(position)
        if block is None:
            raw = self._tables.block.get(U64.pack(position))
            block = self._blocks[position] = Block() if raw is None else Block.unpack(raw)
        return block
