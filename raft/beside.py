"""Unfinished executions of old due times, by job: backfilled, or driven again. A look for the latest ones would not find them."""

from __future__ import annotations

from horologe.raft.model import Trigger
from horologe.raft.records import PAIR, Execution
from horologe.raft.state import State


def note(state: State, number: int, execution: Execution) -> None:
    """The execution is not finished any more, or not yet; does nothing if its due time is a current one."""
    if is_old(execution):
        state.tables.beside.put(PAIR.pack(execution.job, number), b"")


def forget(state: State, number: int, execution: Execution) -> None:
    """The execution has ended."""
    if is_old(execution):
        state.tables.beside.delete(PAIR.pack(execution.job, number))


def noted_of(state: State, job: int, count_max: int, first: int = 0) -> list[int]:
    """At most `count_max` of them, from this one on."""
    numbers: list[int] = []
    for key, _ in state.tables.beside.scan(PAIR.pack(job, first)):
        owner, number = PAIR.unpack(key)
        if owner != job or len(numbers) >= count_max:
            break
        numbers.append(number)
    return numbers


def is_old(execution: Execution) -> bool:
    """Whether a look for the latest executions may miss it."""
    return execution.trigger == Trigger.BACKFILL or execution.attempt_base > 0
