"""Limits with names: how many attempts run at a time of all jobs that name one. Set, deleted, and named by jobs.

How many run is counted in permits.py; who waits for room is in lines.py. The limits of a job alone and of a namespace are counted
in the same way, and have no record of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from horologe.log.v1 import log_pb2
from horologe.raft import lines
from horologe.raft.model import Code, ExecutionFlag, Result
from horologe.raft.permits import LimitKind, limit_of
from horologe.raft.records import PAIR, U32, U64
from horologe.raft.state import InvariantError, State
from horologe.v1 import job_pb2


def set_limit(state: State, command: log_pb2.SetLimit) -> Result:
    """Makes a limit, or changes it: what runs already goes on, also beyond a lower number."""
    record = find_limit(state, command.name)
    if record is None:
        state.counters.last_limit += 1
        record = log_pb2.LimitRecord(id=state.counters.last_limit, create_time_ms=state.now_ms)
    record.max_running = command.max_running
    record.update_time_ms = state.now_ms
    _write(state, command.name, record)
    change_max(state, limit_of(LimitKind.NAMED, record.id), command.max_running)
    return Result(Code.OK, (record.id,))


def delete_limit(state: State, command: log_pb2.DeleteLimit) -> Result:
    """Refused while a job names it, or an execution of a deleted job runs under it or waits for it."""
    record = find_limit(state, command.name)
    if record is None:
        return Result(Code.LIMIT_NOT_FOUND, text=command.name)
    limit = limit_of(LimitKind.NAMED, record.id)
    first = next(lines.lines_of(state.tables.limit_line, limit), None)
    if record.job_count or state.permits.running(limit) or (first is not None and first[0] == limit):
        return Result(Code.LIMIT_IN_USE, (record.job_count,), command.name)
    state.tables.limit.delete(command.name.encode())
    state.permits.set_max(limit, 0)
    return Result(Code.OK)


def change_max(state: State, limit: int, max_running: int) -> None:
    """Of a limit of any kind."""
    if state.permits.set_max(limit, max_running):
        state.effects.eased.append(limit)


def limit_name(job: job_pb2.Job, id_: str) -> str:
    """The full name of a limit that a job names: limits belong to the job's namespace."""
    return f"namespaces/{namespace_of(job.name)}/limits/{id_}"


def namespace_of(name: str) -> str:
    """The namespace in a job's name; any other text is in the default one."""
    parts = name.split("/")
    return (parts[1] if len(parts) > 1 else "") or "default"


def unknown_limit(state: State, job: job_pb2.Job) -> str:
    """The first limit that a job names and that does not exist; empty if there is none."""
    names = (limit_name(job, id_) for id_ in job.limits)
    return next((name for name in names if find_limit(state, name) is None), "")


def name_limits(state: State, number: int, job: job_pb2.Job) -> None:
    """A job has these limits from now on. Those of its attempts that count by limits already count by the new ones too."""
    before = set(state.permits.named(number))
    numbers = _count_job(state, (limit_name(job, id_) for id_ in job.limits), 1)
    after = {limit_of(LimitKind.NAMED, each) for each in numbers}
    running = state.permits.running(limit_of(LimitKind.JOB, number))
    for limit in sorted(before - after):
        state.permits.add(limit, -running)
        state.effects.eased.append(limit)
    for limit in sorted(after - before):
        state.permits.add(limit, running)
    if numbers:
        state.tables.job_limit.put(U64.pack(number), b"".join(U32.pack(each) for each in sorted(numbers)))
    elif before:
        state.tables.job_limit.delete(U64.pack(number))
    change_max(state, limit_of(LimitKind.JOB, number), job.max_running)


def count_running(state: State, jobs: Collection[int]) -> None:
    """Jobs have got their first limits: those of their attempts that run count by them. Looks at all that run, once."""
    for key, _ in state.tables.running.scan():
        number = PAIR.unpack(key)[1]
        execution = state.known_execution(number)
        if execution.job in jobs and not execution.flags & ExecutionFlag.LIMITED:
            state.permits.count_in(execution)
            state.put_execution(number, execution)


def forget_limits(state: State, job: job_pb2.Job) -> None:
    """A job names its limits no longer: it is deleted, or gets others. Its executions go on under those that they have."""
    _count_job(state, (limit_name(job, id_) for id_ in job.limits), -1)


def find_limit(state: State, name: str) -> log_pb2.LimitRecord | None:
    raw = state.tables.limit.get(name.encode())
    return None if raw is None else log_pb2.LimitRecord.FromString(bytes(raw))


def _count_job(state: State, names: Iterable[str], by: int) -> set[int]:
    """Counts a job, or one less, in each of these limits; answers their numbers."""
    numbers: set[int] = set()
    for name in sorted(set(names)):
        record = find_limit(state, name)
        if record is None:
            raise InvariantError(f"{name} is named by a job, and is not there")
        record.job_count += by
        _write(state, name, record)
        numbers.add(record.id)
    return numbers


def _write(state: State, name: str, record: log_pb2.LimitRecord) -> None:
    state.tables.limit.put(name.encode(), record.SerializeToString(deterministic=True))
