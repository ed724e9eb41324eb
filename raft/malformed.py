"""Commands that no correct program writes: found out before they touch the state.

A command in the log is applied by every node. One whose form is broken (packed records that end in the middle, a name that no
table can hold, a negative time) must not stop them all, one after the other: it is refused, everywhere in the same way.
What a command says is not looked at here, and a kind that is unknown is another matter: see machine.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from horologe.log.v1 import log_pb2
from horologe.raft.access import GROUP_PREFIX, ROLE_VERBS
from horologe.raft.calendars import calendar_names
from horologe.raft.commands import (
    ASSIGN,
    CALL,
    CALLED_UP_MAX,
    DEADLINE,
    EXECUTION_TIMEOUT,
    FIRE,
    OUTCOME,
    REARM,
    RETRY,
    SESSION,
    TIMEOUT,
    UNPARK,
)
from horologe.raft.dead_letters import ATTEMPT_NUMBER_MAX, DEAD_KEY
from horologe.raft.dependencies import sibling
from horologe.raft.lanes import SEPARATOR, Lane
from horologe.raft.limits import limit_name
from horologe.raft.model import Code, Condition
from horologe.raft.notifications import is_rule_name, secret_names
from horologe.raft.priorities import RANK_COUNT
from horologe.raft.rates import BURST_MAX, COUNT_MAX, PER_MS_MAX
from horologe.raft.records import LEDGER_KEY, U64
from horologe.raft.secrets import secret_name, value_fault
from horologe.v1 import job_pb2

NAME_BYTES_MAX = 500
"""Names are keys of tables, and the store takes keys of up to 511 bytes."""
REQUEST_ID_BYTES_MAX = 64
"""Ids are UUIDs; they are part of keys too."""

UINT8_MAX, UINT16_MAX = 255, 65_535
"""What fits the fields of packed records; see records.py."""
ATTEMPTS_MAX = UINT16_MAX - ATTEMPT_NUMBER_MAX
"""So many more fit an execution that is driven again."""
DUE_TIMES_MAX = 1_000_000_000_000
"""One a second for thirty thousand years: counters that add them up do not overflow."""
SPAN_SECONDS_MAX = 315_576_000_000
"""Ten thousand years: the longest duration that protobuf has a meaning for."""
LOOKED_AT_PER_STEP_MAX = 1_000_000
CURSOR_BYTES_MAX = DEAD_KEY.size
"""Operations go on at a due time, a number, or the key of a dead letter."""
_CODES = frozenset(int(code) for code in Code)
_DELIVERY_OUTCOMES = frozenset(log_pb2.NoteDelivery.Outcome.values()) - {log_pb2.NoteDelivery.OUTCOME_UNSPECIFIED}
_OF_MESSAGES = frozenset(
    {log_pb2.NoteDelivery.OUTCOME_DELIVERED, log_pb2.NoteDelivery.OUTCOME_RETRY, log_pb2.NoteDelivery.OUTCOME_FAILED}
)
"""Outcomes of messages that were sent, or tried to be."""
_CONDITIONS = frozenset(int(condition) for condition in Condition)


def fault_of(command: log_pb2.Command) -> str:
    """What is wrong with a command's form, for people; empty if nothing is."""
    if len(command.request_id) > REQUEST_ID_BYTES_MAX:
        return f"a request id of {len(command.request_id)} bytes"
    if command.HasField("actor"):
        return next(chain(_actor(command.actor), _faults(command)), "")
    return next(_faults(command), "")


def _actor(actor: log_pb2.Actor) -> Iterator[str]:
    yield from _principal(actor.principal)
    if actor.token:
        yield from _name(actor.token)


def _faults(command: log_pb2.Command) -> Iterator[str]:
    match command.WhichOneof("kind"):
        case "plan":
            yield from _plan(command.plan)
        case "complete":
            yield from _packed("outcomes", command.complete.outcomes, OUTCOME.size)
        case "prune":
            yield from _packed("executions", command.prune.executions, U64.size)
            yield from _packed("ledger_rows", command.prune.ledger_rows, LEDGER_KEY.size)
            yield from _packed("operations", command.prune.operations, U64.size)
            yield from _packed("dead_letters", command.prune.dead_letters, U64.size)
            yield from _packed("jobs", command.prune.jobs, U64.size)
            yield from _natural(command.prune.audit_before)
        case "put_jobs":
            for draft in command.put_jobs.jobs:
                yield from _draft(draft)
            for deletion in command.put_jobs.deletions:
                yield from _name(deletion.name)
                yield from _pending(deletion.pending)
        case "delete_job":
            yield from _name(command.delete_job.name)
            yield from _pending(command.delete_job.pending)
        case "pause_job":
            pause = command.pause_job
            yield from _name(pause.name)
            yield from _natural(pause.next_due_ms, pause.next_fire_ms, pause.skipped_last_ms)
            yield from _due_times(pause.skipped_count)
        case "pause_scope":
            yield from _name(command.pause_scope.namespace or "cluster")
        case "set_calendar":
            yield from _name(command.set_calendar.calendar.name)
        case "delete_calendar":
            yield from _name(command.delete_calendar.name)
        case "run_job":
            yield from _name(command.run_job.name)
        case "open_session":
            yield from _name(command.open_session.worker)
            for queue in command.open_session.queues:
                yield from _name(queue)
        case "close_session":
            yield from _natural(command.close_session.session)
        case "drain_worker":
            yield from _name(command.drain_worker.worker)
        case "set_limit":
            yield from _name(command.set_limit.name)
            if command.set_limit.max_running < 1:
                yield f"a limit of {command.set_limit.max_running}"
        case "delete_limit":
            yield from _name(command.delete_limit.name)
        case "set_queue":
            yield from _name(command.set_queue.name)
            yield from _natural(command.set_queue.aging_ms)
            yield from _rate(command.set_queue.start_rate)
        case "pause_queue":
            yield from _name(command.pause_queue.name)
        case "set_namespace":
            yield from _name(command.set_namespace.name)
            yield from _natural(command.set_namespace.max_running)
            yield from _natural(command.set_namespace.history_ms)
            yield from _natural(command.set_namespace.history_count_max)
            yield from _natural(command.set_namespace.dead_letters_ms)
            yield from _natural(command.set_namespace.job_count_max)
            yield from _rate(command.set_namespace.start_rate)
        case "redrive_dead_letter":
            yield from _natural(command.redrive_dead_letter.execution)
        case "purge_dead_letter":
            yield from _natural(command.purge_dead_letter.execution)
        case "start_operation":
            yield from _start_operation(command.start_operation)
        case "cancel_operation":
            yield from _natural(command.cancel_operation.operation)
        case "rerun_execution":
            yield from _natural(command.rerun_execution.execution)
        case _:
            yield from _cluster_faults(command)
            yield from _notification_faults(command)
            yield from _security_faults(command)


def _cluster_faults(command: log_pb2.Command) -> Iterator[str]:
    match command.WhichOneof("kind"):
        case "bootstrap":
            yield from _natural(command.bootstrap.version)
        case "raise_version":
            yield from _natural(command.raise_version.version)
        case "change_membership":
            if command.change_membership.refusal not in _CODES:
                yield f"an unknown refusal {command.change_membership.refusal}"


def _security_faults(command: log_pb2.Command) -> Iterator[str]:
    match command.WhichOneof("kind"):
        case "begin_security":
            yield from _token(command.begin_security.admin)
        case "put_token":
            yield from _token(command.put_token)
        case "revoke_token":
            yield from _name(command.revoke_token.id)
        case "note_token_uses":
            for use in command.note_token_uses.uses:
                yield from _name(use.id)
                yield from _natural(use.time_ms)
        case "set_grant":
            yield from _grant_place(command.set_grant.grant.subject, command.set_grant.grant.namespace)
            yield from _role(command.set_grant.grant.role)
        case "delete_grant":
            yield from _grant_place(command.delete_grant.subject, command.delete_grant.namespace)
        case "set_principal":
            yield from _principal(command.set_principal.name)
        case "set_secret":
            yield from _name(command.set_secret.name)
            if fault := value_fault(command.set_secret.value):
                yield fault
        case "delete_secret":
            yield from _name(command.delete_secret.name)


def _notification_faults(command: log_pb2.Command) -> Iterator[str]:
    match command.WhichOneof("kind"):
        case "set_notification":
            rule = command.set_notification.rule
            yield from _name(rule.name)
            if not is_rule_name(rule.name):
                yield "a notification rule of no namespace, and not of the cluster"
            for secret in secret_names(rule):
                yield from _name(secret)
            yield from _natural(rule.max_per_hour)
            if not 0 <= rule.group_window.seconds <= SPAN_SECONDS_MAX or rule.group_window.nanos < 0:
                yield f"a span of {rule.group_window.seconds} s"
        case "delete_notification":
            yield from _name(command.delete_notification.name)
        case "note_notices":
            note = command.note_notices
            yield from _natural(*_place(note.start), *_place(note.end), note.lost_before)
            if _place(note.end) < _place(note.start):
                yield f"a place in the events before the one where it began, {_place(note.end)}"
            for found in note.found:
                yield from _natural(found.rule, found.notice.revision)
        case "note_deliveries":
            for each in command.note_deliveries.deliveries:
                yield from _natural(each.rule, each.group, each.attempts, each.count, each.next_time_ms)
                if each.outcome not in _DELIVERY_OUTCOMES:
                    yield f"an unknown outcome {each.outcome}"
                if each.outcome in _OF_MESSAGES and not each.count:
                    yield "a message about nothing"


def _place(place: log_pb2.EventPlace) -> tuple[int, int]:
    return place.revision, place.position


def _token(token: log_pb2.PutToken) -> Iterator[str]:
    yield from _name(token.id)
    yield from _principal(token.principal)
    yield from _natural(token.expire_time_ms)
    yield from _role(token.role)


def _principal(name: str) -> Iterator[str]:
    """Nobody can be called as a group is: its grants would be theirs."""
    yield from _name(name)
    yield from _key(name + SEPARATOR)
    if name.startswith(GROUP_PREFIX):
        yield "a principal with the name of a group"


def _grant_place(subject: str, namespace: str) -> Iterator[str]:
    yield from _name(subject)
    yield from _name(namespace)
    yield from _key(subject + SEPARATOR + namespace)


def _role(role: int) -> Iterator[str]:
    if role not in ROLE_VERBS:
        yield f"an unknown role {role}"


def _draft(draft: log_pb2.JobDraft) -> Iterator[str]:
    job = draft.job
    yield from _name(job.name)
    yield from _name(job.queue)
    yield from _key(Lane(job.queue, job.worker_labels).key.decode())
    if any(SEPARATOR in text for pair in job.worker_labels.items() for text in pair):
        yield "a label of a worker that no lane can have"
    yield from _natural(draft.next_due_ms, draft.next_fire_ms, *draft.calendar_revisions)
    yield from _natural(job.retry.max_attempts, job.priority, job.max_running, job.queue_max)
    yield from _natural(job.max_executions, job.catchup_max)
    yield from _pending(draft.pending)
    for limit in job.limits:
        yield from _name(limit_name(job, limit))
    if job.apply_set:
        yield from _name(job.apply_set)
    if job.workflow:
        yield from _name(sibling(job.name, job.workflow))
    for each in job.schedules:
        for name in each.after.jobs:
            yield from _name(sibling(job.name, name))
        if each.after.condition and each.after.condition not in _CONDITIONS:
            yield f"a condition {each.after.condition}"
    for name in calendar_names(job.name, job.calendars):
        yield from _name(name)
    for secret in draft.secrets:
        yield from _name(secret_name(job.name, secret))
    if job.retry.max_attempts > ATTEMPTS_MAX:
        yield f"{job.retry.max_attempts} attempts"
    if job.priority >= RANK_COUNT:
        yield f"a priority of {job.priority}"
    if not 0 <= min(_policies(job)) <= max(_policies(job)) <= UINT8_MAX:
        yield "a policy that no record can hold"
    limits = (job.timeout, job.execution_timeout, job.retry.retry_window, job.deadline, job.catchup_window, job.jitter)
    periods = [span for one in job.schedules for span in (one.interval.every, one.fixed_delay.delay)]
    for span in (*limits, *periods):
        if not 0 <= span.seconds <= SPAN_SECONDS_MAX or span.nanos < 0:
            yield f"a span of {span.seconds} s"


def _policies(job: job_pb2.Job) -> tuple[int, int, int]:
    return job.overlap, job.catchup, job.on_lease_loss


def _rate(rate: log_pb2.StartRate) -> Iterator[str]:
    fits = 0 < rate.per_ms <= PER_MS_MAX and 0 < rate.burst <= BURST_MAX and 0 < rate.count <= COUNT_MAX
    if rate.count and not fits:
        yield f"a rate of {rate.count} per {rate.per_ms} ms, {rate.burst} at once"


def _pending(run: log_pb2.PendingRun) -> Iterator[str]:
    yield from _natural(run.first_ms, run.last_ms)
    yield from _due_times(run.count)


def _plan(plan: log_pb2.Plan) -> Iterator[str]:
    yield from _natural(plan.advance_to_ms)
    yield from _packed("expired_sessions", plan.expired_sessions, SESSION.size)
    yield from _packed("timeouts", plan.timeouts, TIMEOUT.size)
    yield from _packed("execution_timeouts", plan.execution_timeouts, EXECUTION_TIMEOUT.size)
    yield from _packed("assigns", plan.assigns, ASSIGN.size)
    yield from _packed("retries", plan.retries, RETRY.size)
    yield from _packed("fires", plan.fires, FIRE.size)
    yield from _packed("calls", plan.calls, CALL.size)
    yield from _packed("cancellations", plan.cancellations, U64.size)
    if len(plan.cancellations) > U64.size:
        yield "cancellations of more than one job"
    for _, _, count in CALL.iter_unpack(plan.calls[: len(plan.calls) // CALL.size * CALL.size]):
        if count > CALLED_UP_MAX:
            yield f"{count} executions of one line at once"
    yield from _packed("deadlines", plan.deadlines, DEADLINE.size)
    yield from _packed("unparks", plan.unparks, UNPARK.size)
    for _, _, _, _, count, _ in UNPARK.iter_unpack(plan.unparks[: len(plan.unparks) // UNPARK.size * UNPARK.size]):
        yield from _due_times(count)
    yield from _packed("rearms", plan.rearms, REARM.size)
    for piece in plan.operation_steps:
        yield from _operation_step(piece)


def _operation_step(piece: log_pb2.OperationStep) -> Iterator[str]:
    yield from _packed("items", piece.items, U64.size)
    yield from _natural(piece.operation, piece.step, piece.looked_at, piece.next_time_ms)
    if len(piece.cursor) > CURSOR_BYTES_MAX:
        yield f"a cursor of {len(piece.cursor)} bytes"
    if piece.looked_at > LOOKED_AT_PER_STEP_MAX:
        yield f"a piece of {piece.looked_at} things"


def _start_operation(command: log_pb2.StartOperation) -> Iterator[str]:
    yield from _name(command.namespace)
    yield from _natural(command.total)
    match command.WhichOneof("kind"):
        case "redrive" | "purge" as kind:
            selection: log_pb2.DeadLetterSelection = getattr(command, kind)
            yield from _natural(selection.job, selection.from_ms, selection.to_ms, *selection.executions)
        case "backfill":
            backfill = command.backfill
            yield from _natural(backfill.job, backfill.from_ms, backfill.to_ms, backfill.max_running)
            if not backfill.job:
                yield "a backfill of no job"
        case _:
            yield "an operation of no kind"


def _packed(name: str, records: bytes, size: int) -> Iterator[str]:
    if len(records) % size:
        yield f"{name} of {len(records)} bytes, where a record has {size}"


def _name(name: str) -> Iterator[str]:
    yield from _key(name)
    if SEPARATOR in name:
        yield "a name with a zero in it"


def _key(name: str) -> Iterator[str]:
    length = len(name.encode())
    if not 0 < length <= NAME_BYTES_MAX:
        yield f"a name of {length} bytes"


def _due_times(count: int) -> Iterator[str]:
    if not 0 <= count <= DUE_TIMES_MAX:
        yield f"{count} due times"


def _natural(*numbers: int) -> Iterator[str]:
    for number in numbers:
        if number < 0:
            yield f"the number {number}"
