"""How the jobs before a node stand in a run, in numbers, and what its condition makes of them.

A node that waits for some of them has a tally, in the table `tally`, so that the end of one more costs the same whether it is
after two jobs or a hundred. A tally holds as long as the definition of its job: after a change it is counted anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import ClassVar, Self

from horologe.raft.model import Condition, ExecutionState
from horologe.raft.records import PAIR, RUN_NODE
from horologe.raft.tables import Tables

BAD_STATES = frozenset({ExecutionState.FAILED, ExecutionState.DEAD, ExecutionState.CANCELLED})


class Fate(Enum):
    """What becomes of a node whose upstream jobs stand as they do."""

    START = "start"
    SKIP = "skip"
    WAIT = "wait"


@dataclass(slots=True)
class Tally:
    """Of the jobs before one node, in one run."""

    STRUCT: ClassVar[Struct] = Struct(">QBHHHH")

    revision: int
    """Of the node's job when it was counted."""
    condition: int = Condition.ALL_SUCCEEDED
    total: int = 0
    ended: int = 0
    succeeded: int = 0
    bad: int = 0
    """Ended FAILED, DEAD or CANCELLED; the rest of those that have ended were SKIPPED."""

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))

    def pack(self) -> bytes:
        return self.STRUCT.pack(self.revision, self.condition, self.total, self.ended, self.succeeded, self.bad)

    def add(self, final_state: int) -> None:
        """One more of them has ended."""
        self.ended += 1
        self.succeeded += final_state == ExecutionState.COMPLETED
        self.bad += final_state in BAD_STATES

    def fate(self) -> Fate:
        is_complete = self.ended == self.total
        match self.condition:
            case Condition.ALL_SUCCEEDED:
                if self.ended > self.succeeded:
                    return Fate.SKIP
                return Fate.START if is_complete else Fate.WAIT
            case Condition.ALL_DONE:
                return Fate.START if is_complete else Fate.WAIT
            case Condition.ANY_SUCCEEDED:
                is_met = self.succeeded > 0
            case _:
                is_met = self.bad > 0
        if is_met:
            return Fate.START
        return Fate.SKIP if is_complete else Fate.WAIT


def count_upstream(tables: Tables, root: int, job: int, revision: int) -> Tally:
    """The tally of a node from the rows of its run."""
    tally = Tally(revision)
    for key, value in tables.upstream.scan(PAIR.pack(job, 0)):
        owner, upstream = PAIR.unpack(key)
        if owner != job:
            break
        tally.condition = value[0]
        tally.total += 1
        raw = tables.run.get(PAIR.pack(root, upstream))
        ended = RUN_NODE.unpack(raw)[1] if raw is not None else 0
        if ended:
            tally.add(ended)
    return tally
