"""What is said of a namespace as a whole. A namespace comes into being with its first job, or when something is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from horologe.log.v1 import log_pb2
from horologe.raft.limits import change_max, namespace_of
from horologe.raft.model import Code, Result
from horologe.raft.permits import LimitKind, limit_of
from horologe.raft.rates import QueueRule
from horologe.raft.state import State


def set_namespace(state: State, command: log_pb2.SetNamespace) -> Result:
    """Changes what the command names, and leaves the rest. Answers (namespace,)."""
    record = state.namespace(command.name)
    if command.HasField("max_running"):
        record.max_running = command.max_running
        change_max(state, limit_of(LimitKind.NAMESPACE, record.id), command.max_running)
    if command.HasField("job_count_max"):
        record.job_count_max = command.job_count_max
    if command.HasField("start_rate"):
        _set_rate(state, record, command.start_rate)
    kept = state.keeping.of(record.id)
    if command.HasField("history_ms"):
        kept.history_ms = command.history_ms
    if command.HasField("dead_letters_ms"):
        kept.dead_letters_ms = command.dead_letters_ms
    if command.HasField("history_count_max"):
        kept.count_max = command.history_count_max
    state.namespaces.put(command.name, record)
    return Result(Code.OK, (record.id,))


def _set_rate(state: State, record: log_pb2.NamespaceRecord, rate: log_pb2.StartRate) -> None:
    """A new rate begins with a full bucket; those that wait for the old one are called up by the leader's planner."""
    if rate.count:
        record.start_rate.CopyFrom(rate)
        rule = QueueRule()
        rule.set_rate(rate.count, rate.per_ms, rate.burst, state.now_ms)
        state.permits.rates.put(record.id, rule)
    else:
        record.ClearField("start_rate")
        state.permits.rates.put(record.id, None)


def quota_fault(state: State, created: Iterable[str], deleted: Iterable[str]) -> str:
    """What is wrong with jobs of these names coming and going together, for people; empty if nothing is. Writes nothing."""
    growth = Counter(map(namespace_of, created))
    growth.subtract(map(namespace_of, deleted))
    for name in sorted(growth):
        record = state.namespaces.find(name) or log_pb2.NamespaceRecord()
        if growth[name] > 0 and 0 < record.job_count_max < record.job_count + growth[name]:
            jobs = "1 job" if record.job_count == 1 else f"{record.job_count} jobs"
            return f"namespaces/{name} has {jobs}, and its quota is {record.job_count_max}"
    return ""


def count_jobs(state: State, names: Iterable[str], by: int) -> None:
    """Jobs of these names are new (1), or gone (-1)."""
    for name, count in Counter(map(namespace_of, names)).items():
        record = state.namespace(name)
        record.job_count += by * count
        state.namespaces.put(name, record)
