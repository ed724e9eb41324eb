"""The leader's eye on the lines of the limits: who is called up when there is room, where the state does not see to it itself.

The state calls the next one of the same lane when an attempt ends. It does not know which other lanes have workers, and calls one
at a time; both is made good for here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from horologe.node.room import Room
from horologe.raft.commands import CALL, CALLED_UP_MAX
from horologe.raft.lines import lines_of
from horologe.raft.model import Effects
from horologe.raft.permits import LIMIT_USE, LimitKind, limit_of
from horologe.raft.records import U64
from horologe.raft.tables import Tables

CHECK_SECONDS = 1.0
"""All lines are looked at this often: the one that was called up may be in a lane whose worker has left since."""
LINES_PER_PLAN = 250
"""One seek each; the next plan goes on with the check, which also finds lines that a limit has beyond these."""
_FIRST_RATE = limit_of(LimitKind.START_RATE, 0)
CALLED_WITHOUT_SLOT = 1
"""Where nobody has a free slot: it takes its place in the ready queue, by its priority."""


class LimitLines:
    """Which limits have room and people in line; one per leader."""

    def __init__(self) -> None:
        self._eased: dict[int, None] = {}
        """Limits that may have room for somebody in their lines; a dict for its order."""
        self._check_at = 0.0
        self._check_from = (0, 0)
        self.next_ms: int | None = None
        """When the first of the rates that keep somebody waiting lets one start."""

    def begin(self) -> None:
        """Nobody knows what the leader before had in mind: all lines are looked at."""
        self.__init__()  # type: ignore[misc]

    def observe(self, effects: Effects) -> None:
        self._eased.update(dict.fromkeys(limit for limit in effects.eased if limit < _FIRST_RATE))

    def calls(
        self, tables: Tables, now: float, wall_ms: int, has_free: Callable[[int], bool], room_left: Room
    ) -> bytes:
        """CALL records, for lanes in the order of their lines. `has_free` says whether a lane has a free slot left."""
        budget = LINES_PER_PLAN
        records = bytearray()
        unfinished: list[int] = []
        while self._eased and budget > 0:
            limit = next(iter(self._eased))
            del self._eased[limit]
            room = _room(tables, limit)
            for found, lane in lines_of(tables.limit_line, limit) if room else ():
                if found != limit or budget <= 0:
                    break
                budget -= 1
                count = min(room, CALLED_UP_MAX) if has_free(lane) else CALLED_WITHOUT_SLOT
                records += CALL.pack(limit, lane, count)
                if count == CALLED_UP_MAX:
                    unfinished.append(limit)
        self._eased.update(dict.fromkeys(unfinished))
        if now >= self._check_at:
            records += self._check(tables, has_free)
            if self._check_from == (0, 0):
                self._check_at = now + CHECK_SECONDS
        return bytes(records) + self._rated(tables, wall_ms, has_free, room_left)

    def _rated(self, tables: Tables, wall_ms: int, has_free: Callable[[int], bool], room_left: Room) -> bytes:
        """Those that wait for a rate, as far as it lets them start now: time alone brings room, so each plan looks."""
        self.next_ms = None
        records = bytearray()
        left: dict[int, int] = {}
        for rate, lane in islice(lines_of(tables.limit_line, _FIRST_RATE), LINES_PER_PLAN):
            count = min(left.setdefault(rate, room_left.left(rate)), CALLED_UP_MAX)
            if not count:
                at_ms = room_left.next_start_ms(rate, wall_ms)
                self.next_ms = at_ms if self.next_ms is None else min(at_ms, self.next_ms)
            elif has_free(lane):
                left[rate] -= count
                records += CALL.pack(rate, lane, count)
        return bytes(records)

    def _check(self, tables: Tables, has_free: Callable[[int], bool]) -> bytes:
        """Lines that have room and a worker, and that nobody spoke of."""
        records = bytearray()
        start, self._check_from = self._check_from, (0, 0)
        for count, (limit, lane) in enumerate(lines_of(tables.limit_line, *start)):
            if limit >= _FIRST_RATE:
                break
            if count >= LINES_PER_PLAN:
                self._check_from = limit, lane
                break
            room = _room(tables, limit) if has_free(lane) else 0
            if room:
                records += CALL.pack(limit, lane, min(room, CALLED_UP_MAX))
        return bytes(records)


def _room(tables: Tables, limit: int) -> int:
    raw = tables.limit_use.get(U64.pack(limit))
    max_running, running = LIMIT_USE.unpack(raw) if raw is not None else (0, 0)
    return max(0, max_running - running) if max_running else CALLED_UP_MAX
