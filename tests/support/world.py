"""A cluster without network and disk for text scenarios: one state machine, one planner that leads, workers, and a clock.

Each handler is a command word of the scenario files; what happens is told line by line, times counted from the start.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.raft.commands import GIVE_UP, NO_RETRY, CompletionStatus, Outcome
from horologe.raft.failures import TIMEOUT, Failure, is_retried
from horologe.raft.model import (
    AttemptState,
    Catchup,
    Code,
    Condition,
    ExecutionFlag,
    ExecutionState,
    LeaseLoss,
    Overlap,
    Result,
)
from horologe.raft.permits import LimitKind, kind_of, limit_of
from horologe.raft.records import Execution
from horologe.v1 import job_service_pb2
from support import commands, invariants
from support.access_words import AccessWords
from support.driver import START_MS, Driver
from support.notification_words import NotificationWords
from support.operation_words import OperationWords
from support.spans import ms_of, time_of
from support.timetable_words import TIMETABLE_FIELDS, TimetableWords, set_times

SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=30 * 86_400.0)
HEARTBEAT_MS = 2_000
_ENUMS: dict[str, Any] = {"overlap": Overlap, "catchup": Catchup, "on_lease_loss": LeaseLoss, "condition": Condition}
_RETRIES = {"never": NO_RETRY, "give-up": GIVE_UP}


class World(AccessWords, NotificationWords, OperationWords, TimetableWords):
    """Every public method but `run` is a command word (`_` for `-`); its arguments are the words after it."""

    def __init__(self) -> None:
        self._driver = Driver()
        self._planner: LeaderPlanner | None = None
        self._sessions: dict[str, int] = {}
        self._silent: set[str] = set()
        self._assigned: dict[tuple[int, int], int] = {}
        self._held: log_pb2.Command | None = None
        self._told: list[str] = []
        self._letters = {}
        self._heartbeat_at_ms = START_MS
        self._lead()

    def run(self, line: str) -> str:
        """One command line; answers what it said and did."""
        word, *arguments = line.split()
        self._actor = None
        if word == "as":
            word, arguments = self._speaker(arguments)
        handler: Callable[..., str | None] = getattr(self, word.replace("-", "_"))
        positional = [argument for argument in arguments if "=" not in argument]
        named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        self._told = []
        said = handler(*positional, **named)
        invariants.check(self._driver.tables)
        return "\n".join([*([said] if said else []), *self._told]) or "nothing"

    def cancel(self, number: str, *reason: str) -> str:
        return self._do(commands.cancel(int(number), " ".join(reason)))

    def complete(
        self,
        number: str,
        outcome: str = "succeeded",
        attempt: str = "",
        retry: str = "0s",
        error: str = "",
        token: str = "",
        kind: str = "",
        exit: str = "",
        http: str = "",
    ) -> str:
        """By whoever held that attempt (the latest, unless named), under the token it was given (the latest, unless named).

        With the kind of the failure, its exit code or HTTP status, the gateway first asks the job's policy about it.
        """
        execution = int(number)
        which = int(attempt) if attempt else max(made for owner, made in self._assigned if owner == execution)
        held = int(token) if token else self._assigned[execution, which]
        delay_ms = _RETRIES.get(retry) or ms_of(retry)
        failure = Failure(kind, int(exit) if exit else None, int(http) if http else None)
        job = self._driver.job(self._driver.execution(execution).job).job
        if (kind or outcome == "timed_out") and not is_retried(job.retry, failure if kind else Failure(TIMEOUT)):
            delay_ms = GIVE_UP
        record = commands.outcome(execution, held, which, Outcome[outcome.upper()], retry_delay_ms=delay_ms)
        details = [log_pb2.OutcomeDetail(error=error.replace("-", " "))] if error else []
        result = self._apply(commands.complete(record, details=details))
        return f"attempt {which}, token {held}: " + CompletionStatus(result.numbers[0]).name

    def connect(
        self, worker: str, process: str = "a", queues: str = "default", slots: str = "1", labels: str = ""
    ) -> str:
        command = commands.connect(
            worker, incarnation=process, queues=queues.split(","), slot_count=int(slots), labels=_pairs(labels)
        )
        result = self._apply(command)
        self._sessions[worker] = result.numbers[0]
        self._silent.discard(worker)
        return f"session {result.numbers[0]}"

    def create(self, name: str, **fields: str) -> str:
        return self._put(commands.CREATE, name, fields)

    def drain(self, worker: str) -> str:
        return self._do(commands.drain(worker))

    def barrier(self) -> str:
        return self._do(log_pb2.Command(barrier=log_pb2.Barrier()))

    def checkpoint(self) -> str:
        return self._do(log_pb2.Command(checkpoint=log_pb2.Checkpoint()))

    def goodbye(self, worker: str) -> str:
        return self._do(commands.close(self._sessions.pop(worker)))

    def hold_plan(self) -> str:
        """The leader proposes what is due now, and the entry does not get anywhere yet."""
        assert self._planner is not None
        plan = self._planner.plan(self._driver.tables, self._seconds(), self._driver.now_ms)
        assert isinstance(plan, log_pb2.Plan), "nothing is due"
        self._held = log_pb2.Command(plan=plan)
        return "held"

    def release_plan(self) -> None:
        assert self._held is not None, "no plan is held"
        self._apply(self._held)

    def leader_changes(self) -> str:
        self._lead()
        return "another node leads"

    def limit(self, id_: str, max_running: str) -> str:
        """As many at a time, of all jobs that name it; `none` deletes it."""
        if max_running == "none":
            return self._do(commands.delete_limit(id_))
        return self._do(commands.set_limit(id_, int(max_running)))

    def namespace(self, name: str, max_running: str = "", jobs: str = "", rate: str = "") -> str:
        """`jobs`: how many it may have; a rate is starts/duration/burst, or none."""
        command = log_pb2.SetNamespace(name=name)
        if max_running:
            command.max_running = int(max_running)
        if jobs:
            command.job_count_max = int(jobs)
        if rate:
            count, per, burst = _rate(rate)
            command.start_rate.CopyFrom(log_pb2.StartRate(count=count, per_ms=per, burst=burst))
        return self._do(log_pb2.Command(set_namespace=command))

    def ledger(self, name: str) -> str:
        job = self._job(name)
        rows = []
        for first_ms, last_ms, count, outcome, reason, execution in self._driver.ledger(job):
            span = time_of(last_ms) if count == 1 else f"{time_of(first_ms)} to {time_of(last_ms)} ({count})"
            into = f" execution {execution}" if execution else ""
            rows.append(f"{span} {outcome}{f' ({reason})' if reason else ''}{into}")
        return "\n".join(rows) or "empty"

    def nobody_leads(self) -> str:
        self._planner = None
        return "no leader"

    def queue(self, name: str, what: str = "", rate: str = "", aging: str = "") -> str:
        """`pause`, `resume`, or settings; a rate is starts/duration/burst, or none."""
        if what:
            return self._do(commands.pause_queue(name, paused=what == "pause"))
        return self._do(commands.set_queue(name, _rate(rate) if rate else None, ms_of(aging) if aging else None))

    def rerun(self, number: str) -> str:
        return self._do(commands.rerun(int(number)))

    def run_now(self, name: str, force: str = "") -> str:
        return self._do(commands.run(name, force=bool(force)))

    def show(self, number: str) -> str:
        execution, detail = self._driver.execution(int(number)), self._driver.detail(int(number))
        lines = [self._line(int(number))]
        lines += [f"reason: {detail.reason}"] if detail.reason else []
        for attempt in detail.attempts:
            state = AttemptState(attempt.state).name
            lines.append(f"attempt {attempt.number} on {attempt.worker}: {state}, token {attempt.token}")
        lines += ["a cancel was asked for"] if execution.flags & ExecutionFlag.CANCEL_REQUESTED else []
        return "\n".join(lines)

    def silent(self, worker: str) -> str:
        """The worker sends no heartbeats any more; it may still run."""
        self._silent.add(worker)
        return f"{worker} is not heard"

    def status(self) -> str:
        counters = self._driver.counters
        return f"{counters.queued} queued, {counters.running} running, {counters.refused_tokens} refused"

    def apply(self, name: str, **fields: str) -> str:
        return self._put(commands.APPLY, name, fields)

    def update(self, name: str, **fields: str) -> str:
        return self._put(commands.UPDATE, name, fields)

    def wait(self, duration: str) -> None:
        """Time passes; living workers are heard, and the leader does what falls due, when it falls due."""
        until_ms = self._driver.now_ms + ms_of(duration)
        while True:
            self._work()
            if self._driver.now_ms >= until_ms:
                return
            self._driver.now_ms = min(until_ms, self._wakeup_ms())

    # Below the words

    def _do(self, command: log_pb2.Command) -> str:
        result = self._apply(command)
        if result.code is Code.OK:
            return "ok"
        return f"refused: {result.code.name}{f' ({result.text})' if result.text else ''}"

    def _put(self, mode: log_pb2.PutJobs.Mode.ValueType, name: str, fields: dict[str, str]) -> str:
        secrets = fields.pop("secrets", "")
        times = {field: fields.pop(field) for field in TIMETABLE_FIELDS if field in fields}
        wanted: dict[str, Any] = {"every_ms": ms_of(fields.pop("every", "0s"))}
        for field, value in fields.items():
            if field in _ENUMS:
                wanted[field] = _ENUMS[field][value.upper()]
            elif field in ("timeout", "catchup_window", "retry_window", "execution_timeout"):
                wanted[f"{field}_ms"] = ms_of(value)
            elif field in ("retry_on", "do_not_retry_on"):
                wanted[field] = value.split(",")
            else:
                wanted[field] = _READERS.get(field, int)(value)
        job = commands.job(name, **wanted)
        set_times(job, times)
        draft = self._draft(job)
        draft.secrets.extend(secrets.split(",") if secrets else ())
        result = self._apply(commands.put(mode, draft))
        if result.code is not Code.OK:
            return f"refused: {result.code.name} ({result.text})"
        outcome = job_service_pb2.ApplyJobsResponse.Outcome.Name(result.numbers[1])  # type: ignore[arg-type]
        due_ms = self._driver.job_state(result.numbers[0]).next_due_ms
        return outcome.removeprefix("OUTCOME_").lower() + (f", due at {time_of(due_ms - START_MS)}" if due_ms else "")

    def _put_all(self, names: tuple[str, ...]) -> Result:
        return self._apply(commands.put(commands.CREATE, *(commands.draft(commands.job(name)) for name in names)))

    def _apply(self, command: log_pb2.Command) -> Result:
        if self._actor is not None:
            command.actor.CopyFrom(self._actor)
        result = self._driver.do(command)
        effects = self._driver.effects
        if self._planner is not None:
            self._planner.observe(effects)
        for _, number, _, attempt, _, token, _ in effects.assigned:
            self._assigned[number, attempt] = token
        for number in dict.fromkeys(effects.changed):
            self._told.append(f"{time_of(self._driver.now_ms - START_MS)}: {self._line(number)}")
        for number in dict.fromkeys(effects.operations_changed):
            record = self._driver.operation(number)
            if record.end_time_ms == self._driver.now_ms:
                self._told.append(f"{time_of(self._driver.now_ms - START_MS)}: {self._operation_line(record)}")
        for session in dict.fromkeys(effects.sessions_closed):
            self._told.append(f"{time_of(self._driver.now_ms - START_MS)}: session {session} is over")
        return result

    def _line(self, number: int) -> str:
        execution = self._driver.execution(number)
        name = self._driver.job(execution.job).job.name
        text = f"execution {number} ({name}, due {time_of(execution.due_ms - START_MS)}) "
        text += ExecutionState(execution.state).name
        if execution.state == ExecutionState.RUNNING:
            worker = {session: worker for worker, session in self._sessions.items()}.get(
                execution.session, "an old session"
            )
            text += f" on {worker}, attempt {execution.attempt}, token {execution.token}" if execution.session else ""
            text += ", to be cancelled" if execution.flags & ExecutionFlag.CANCEL_REQUESTED else ""
            text += ", its time is up" if execution.flags & ExecutionFlag.TIME_IS_UP else ""
        if execution.line:
            text += f" in the line of {self._limit(execution)}"
        if execution.flags & ExecutionFlag.HELD:
            text += " behind others"
        elif execution.state == ExecutionState.SCHEDULED:
            text += f" until {time_of(execution.next_attempt_ms - START_MS)}"
        return text

    def _limit(self, execution: Execution) -> str:
        """Whose room it waits for."""
        if kind_of(execution.line) is not LimitKind.NAMED:
            return f"its {kind_of(execution.line).name.lower().replace('_', ' ')}"
        numbers = {
            limit_of(LimitKind.NAMED, log_pb2.LimitRecord.FromString(value).id): key.decode().rpartition("/")[2]
            for key, value in self._driver.tables.limit.scan()
        }
        return numbers[execution.line]

    def _work(self) -> None:
        if self._planner is None:
            return
        if self._driver.now_ms >= self._heartbeat_at_ms:
            living = [session for worker, session in self._sessions.items() if worker not in self._silent]
            self._planner.renew(living, self._driver.tables, self._seconds())
            self._heartbeat_at_ms = self._driver.now_ms + HEARTBEAT_MS
        while (plan := self._planner.plan(self._driver.tables, self._seconds(), self._driver.now_ms)) is not None:
            kind = "plan" if isinstance(plan, log_pb2.Plan) else "prune"
            self._apply(log_pb2.Command(**{kind: plan}))  # type: ignore[arg-type]

    def _wakeup_ms(self) -> int:
        planned = self._planner and self._planner.next_wakeup_ms(self._driver.tables, self._driver.now_ms)
        return max(self._driver.now_ms + 1, planned or self._driver.now_ms + 86_400_000)

    def _lead(self) -> None:
        self._planner = LeaderPlanner(SETTINGS, random.Random(1))
        self._planner.lead(self._driver.tables, self._seconds(), self._driver.now_ms)

    def _job(self, name: str) -> int:
        key = self._driver.tables.job_name.get(name.encode())
        assert key is not None, f"there is no job {name}"
        return int.from_bytes(key, "big")

    def _seconds(self) -> float:
        return (self._driver.now_ms - START_MS) / 1000


def _rate(text: str) -> tuple[int, int, int]:
    """`2/10s/1`, or `none`."""
    count, per, burst = ("0", "0s", "0") if text == "none" else text.split("/")
    return int(count), ms_of(per), int(burst)


def _pairs(text: str) -> dict[str, str]:
    """`a:1,b:2`"""
    return dict(pair.split(":", 1) for pair in text.split(",") if pair)


_READERS: dict[str, Callable[[str], Any]] = {
    "queue": str,
    "workflow": str,
    "limits": lambda text: text.split(","),
    "after": lambda text: text.split(","),
    "worker_labels": _pairs,
}
