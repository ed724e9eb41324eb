"""Pauses of a namespace or of the whole cluster. A due time that comes during one *parks* its job: no timer, a row in `parked`.

So a pause costs nothing while it lasts and nothing when it begins. When it is over, the leader's planner takes the parked jobs up
again, a few per entry, and what the pause swallowed is skipped or caught up: until then the pause is kept, because it says which.
Pauses of single jobs are in jobs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from horologe.log.v1 import log_pb2
from horologe.raft.commands import UNPARK
from horologe.raft.model import Code, JobFlag, LedgerOutcome, Reason, Result
from horologe.raft.pending import parked_key
from horologe.raft.records import PAIR, U64, JobState, LedgerEntry
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables

CLUSTER = 0
"""In the place of a namespace's number."""
PAUSES_MAX = 1_000
"""All pauses are one record, which every entry that fires anything reads."""
_KEY = b"scope_pauses"


@dataclass(slots=True)
class Pauses:
    """The pauses in force, and those that are over while jobs are still parked."""

    by_namespace: dict[int, log_pb2.ScopePause] = field(default_factory=dict)

    @classmethod
    def load(cls, tables: Tables) -> Self:
        raw = tables.meta.get(_KEY)
        if raw is None:
            return cls()
        found = log_pb2.ScopePauses.FromString(bytes(raw))
        return cls({pause.namespace: pause for pause in found.pauses})

    def in_force(self, namespace: int) -> log_pb2.ScopePause | None:
        """The pause that holds back the jobs of a namespace: of the cluster, or of the namespace itself."""
        for scope in (CLUSTER, namespace):
            pause = self.by_namespace.get(scope)
            if pause is not None and not pause.resumed:
                return pause
        return None

    def catches_up(self, namespace: int) -> bool:
        """What becomes of what a pause swallowed, now that it is over."""
        pause = self.by_namespace.get(namespace) or self.by_namespace.get(CLUSTER)
        return pause is not None and pause.catchup

    def parked(self, tables: Tables) -> Iterator[tuple[int, int]]:
        """The parked jobs that no pause holds back any more, and the due times at which they are parked."""
        start: bytes | None = None if self.in_force(CLUSTER) is not None else b""
        while start is not None:
            rows, start = tables.parked.scan(start), None
            for key, value in rows:
                namespace, job = PAIR.unpack(key)
                if self.in_force(namespace) is not None:
                    start = PAIR.pack(namespace + 1, 0)
                    break
                yield job, int(U64.unpack(value)[0])

    def save(self, tables: Tables) -> None:
        pauses = [self.by_namespace[namespace] for namespace in sorted(self.by_namespace)]
        if pauses:
            tables.meta.put(_KEY, log_pb2.ScopePauses(pauses=pauses).SerializeToString(deterministic=True))
        else:
            tables.meta.delete(_KEY)


def pause_scope(state: State, command: log_pb2.PauseScope) -> Result:
    """Nothing of the namespace, or of the whole cluster, fires until it is resumed. Manual runs and what is queued go on."""
    pauses = Pauses.load(state.tables)
    scope = state.namespace_number(command.namespace) if command.namespace else CLUSTER
    pause = pauses.by_namespace.get(scope)
    is_paused = pause is not None and not pause.resumed
    if is_paused == command.paused:
        return Result(Code.SCOPE_PAUSED if is_paused else Code.SCOPE_NOT_PAUSED, text=scope_text(command.namespace))
    if command.paused:
        if len(pauses.by_namespace) >= PAUSES_MAX:
            return Result(Code.TOO_MANY_PAUSES, text=str(PAUSES_MAX))
        pauses.by_namespace[scope] = log_pb2.ScopePause(
            namespace=scope, reason=command.reason, by=command.by, time_ms=state.now_ms
        )
    elif pause is not None:
        pause.resumed = True
        pause.catchup = command.catchup
    _save(state, pauses)
    return Result(Code.OK)


def scope_text(namespace: str) -> str:
    """What a pause is of, for people."""
    return f"namespaces/{namespace}" if namespace else "the cluster"


def park(state: State, job: int, job_state: JobState) -> None:
    """The job's due time has come during a pause. The caller stores `job_state`."""
    due_ms = job_state.next_due_ms
    state.arm_fire(job, job_state, 0)
    job_state.flags |= JobFlag.PARKED
    state.tables.parked.put(parked_key(job, job_state), U64.pack(due_ms))


def leave_parking(state: State, job: int, job_state: JobState) -> None:
    """A job that changes, or goes, is parked no longer, if it was. The caller arms and stores it."""
    if job_state.flags & JobFlag.PARKED:
        _leave_parking(state, job, job_state)
        _save(state, Pauses.load(state.tables))


def _leave_parking(state: State, job: int, job_state: JobState) -> None:
    job_state.flags &= ~JobFlag.PARKED
    if not state.tables.parked.delete(parked_key(job, job_state)):
        raise InvariantError(f"job {job} is parked nowhere")


def unpark(state: State, records: bytes) -> None:
    """Takes parked jobs up again. One that has changed since, or that another pause holds back, stays as it is."""
    pauses = Pauses.load(state.tables)
    for job, revision, next_ms, next_fire_ms, skipped_count, skipped_last_ms in UNPARK.iter_unpack(records):
        job_state = state.job_state(job)
        if job_state is None or job_state.revision != revision or not job_state.flags & JobFlag.PARKED:
            continue
        if pauses.in_force(job_state.namespace) is not None:
            continue
        (parked_ms,) = U64.unpack(state.tables.parked.get(parked_key(job, job_state)) or bytes(8))
        _leave_parking(state, job, job_state)
        if skipped_count:
            row = LedgerEntry(LedgerOutcome.SKIPPED, Reason.PAUSED, 0, parked_ms, skipped_count)
            state.put_not_run(job, job_state, skipped_last_ms, row)
        state.arm_fire(job, job_state, next_ms, next_fire_ms)
        if not next_ms:
            state.arm_after_end(job, job_state)
        state.put_job_state(job, job_state)
    _save(state, pauses)


def _save(state: State, pauses: Pauses) -> None:
    """Pauses that are over and have nothing parked any more are forgotten."""
    if next(pauses.parked(state.tables), None) is None:
        pauses.by_namespace = {scope: pause for scope, pause in pauses.by_namespace.items() if not pause.resumed}
    pauses.save(state.tables)


def pauses_by_name(tables: Tables) -> Mapping[str, log_pb2.ScopePause]:
    """The pauses in force by their namespaces; the cluster's under an empty name."""
    pauses = Pauses.load(tables)
    found = {number: pause for number, pause in pauses.by_namespace.items() if not pause.resumed}
    if not found:
        return {}
    names = {
        log_pb2.NamespaceRecord.FromString(bytes(raw)).id: bytes(key).decode() for key, raw in tables.namespace.scan()
    }
    return {names.get(number, ""): pause for number, pause in found.items()}
