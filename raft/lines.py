"""Where QUEUED executions wait: in the ready queue of their lane, or in the line of a limit that has no room for them.

Whatever is blocked when it would start leaves the ready queue, so that nobody ever has to look past it. It comes back when its
limit has room: the first of the line, of its own lane if anybody waits there. What this cannot see (another lane waits, or there
is room for many) is told as `eased`, and the leader's planner calls up whom it has a worker for.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING

from horologe.raft.commands import CALL
from horologe.raft.priorities import in_order
from horologe.raft.records import READY_KEY, Execution
from horologe.raft.tables import Table

if TYPE_CHECKING:
    from horologe.raft.state import State

LINE_KEY = Struct(">QIBQQ")
"""limit, lane, 9 - priority, due, execution"""
LINE = Struct(">QI")
"""limit, lane: where a line begins"""


def join(state: State, number: int, execution: Execution) -> None:
    """Into the ready queue. The caller moves and stores it."""
    state.tables.ready.put(ready_key(number, execution), b"")
    state.effects.queued.append(execution.queue)


def leave(state: State, number: int, execution: Execution, *, starts: bool) -> None:
    """Out of the ready queue or the line that it is in. The caller moves and stores it."""
    was_ready = not execution.line
    _take_out(state, number, execution)
    if was_ready and not starts:
        _give_way(state, execution, until=0)


def line_up(state: State, number: int, execution: Execution, limit: int) -> None:
    """A queued execution waits for room under a limit. The caller stores it."""
    was_ready = not execution.line
    _take_out(state, number, execution)
    if was_ready:
        _give_way(state, execution, until=limit)
    execution.line = limit
    state.tables.limit_line.put(_line_key(number, execution), b"")


def call_up(state: State, limit: int, lane: int) -> bool:
    """The first in line of a lane goes to the ready queue, where it asks all its limits again; False if nobody waits."""
    number = next(in_order(state.tables.limit_line, LINE.pack(limit, lane), state.rules.aging_ms(lane)), None)
    if number is None:
        return False
    execution = state.known_execution(number)
    _take_out(state, number, execution)
    join(state, number, execution)
    state.put_execution(number, execution)
    return True


def call(state: State, records: bytes) -> None:
    """Calls up whom the planner has a worker for, as far as there is room."""
    for limit, lane, count in CALL.iter_unpack(records):
        for _ in range(min(count, state.permits.room(limit))):
            if not call_up(state, limit, lane):
                break


def call_next(state: State) -> None:
    """For each limit that has room again: the next one of the lane is called up, or the planner looks at the other lanes.

    Between commands, like all that follows from an end: whoever is called up must not be in somebody's hands.
    """
    eased, state.eased = state.eased, []
    for limit, lane in eased:
        if state.permits.room(limit) and not call_up(state, limit, lane):
            state.effects.eased.append(limit)


def lines_of(table: Table, limit: int = 0, lane: int = 0) -> Iterator[tuple[int, int]]:
    """(limit, lane) of all lines from this one on; one seek each."""
    start = LINE.pack(limit, lane)
    while True:
        for key, _ in table.scan(start):
            found = LINE.unpack(key[: LINE.size])
            break
        else:
            return
        yield found
        start = LINE.pack(found[0], found[1] + 1)


def _take_out(state: State, number: int, execution: Execution) -> None:
    if execution.line:
        was_there = state.tables.limit_line.delete(_line_key(number, execution))
        execution.line = 0
    else:
        was_there = state.tables.ready.delete(ready_key(number, execution))
        state.effects.unqueued.append(execution.queue)
    if not was_there:
        raise state.contradiction(f"execution {number} is queued, and in no line: {execution}")


def _give_way(state: State, execution: Execution, until: int) -> None:
    """It was called up, or was the next, and does not start: whoever comes after it under its limits is called instead.

    `until`: a limit without room; those that it would have asked before have it.
    """
    job_state = state.job_state(execution.job)
    if job_state is None:
        return
    for limit in state.permits.limits(execution, job_state):
        if limit == until:
            return
        if state.permits.room(limit):
            state.eased.append((limit, execution.queue))


def ready_key(number: int, execution: Execution) -> bytes:
    """Its place in the ready queue."""
    return READY_KEY.pack(execution.queue, 9 - execution.priority, execution.due_ms, number)


def _line_key(number: int, execution: Execution) -> bytes:
    return LINE_KEY.pack(execution.line, execution.queue, 9 - execution.priority, execution.due_ms, number)
