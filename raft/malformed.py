"""Commands that no correct program writes: found out before they touch the state.

A command in the log is applied by every node. One whose form is broken (packed records that end in the middle, a name that no
table can hold, a negative time) must not stop them all, one after the other: it is refused, everywhere in the same way.
What a command says is not looked at here, and a kind that is unknown is another matter: see machine.py.
"""

from __future__ import annotations

from collections.abc import Iterable

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
from horologe.raft.lanes import SEPARATOR, lane_key
from horologe.raft.limits import limit_name
from horologe.raft.model import Code, Condition
from horologe.raft.notifications import is_rule_name, secret_names
from horologe.raft.priorities import RANK_COUNT
from horologe.raft.rates import BURST_MAX, COUNT_MAX, PER_MS_MAX
from horologe.raft.records import LEDGER_KEY, U64
from horologe.raft.secrets import secret_name, value_fault
from horologe.raft.spans import Span
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
    return (_actor(command.actor) if command.HasField("actor") else "") or _fault(command)


# Each of these answers the first thing that is wrong, for people; empty if nothing is.


def _actor(actor: log_pb2.Actor) -> str:
    return _principal(actor.principal) or _optional_name(actor.token)


def _fault(command: log_pb2.Command) -> str:
    match command.WhichOneof("kind"):
        case "plan":
            return _plan(command.plan)
        case "complete":
            return _packed("outcomes", command.complete.outcomes, OUTCOME.size)
        case "prune":
            return _prune(command.prune)
        case "put_jobs":
            return _first(map(_draft, command.put_jobs.jobs)) or _first(map(_deletion, command.put_jobs.deletions))
        case "delete_job":
            return _deletion(command.delete_job)
        case "pause_job":
            pause = command.pause_job
            return (
                _name(pause.name)
                or _natural(pause.next_due_ms, pause.next_fire_ms, pause.skipped_last_ms)
                or _due_times(pause.skipped_count)
            )
        case "pause_scope":
            return _name(command.pause_scope.namespace or "cluster")
        case "set_calendar":
            return _name(command.set_calendar.calendar.name)
        case "delete_calendar":
            return _name(command.delete_calendar.name)
        case "run_job":
            return _name(command.run_job.name)
        case "open_session":
            return _name(command.open_session.worker) or _first(map(_name, command.open_session.queues))
        case "close_session":
            return _natural(command.close_session.session)
        case "drain_worker":
            return _name(command.drain_worker.worker)
        case "redrive_dead_letter":
            return _natural(command.redrive_dead_letter.execution)
        case "purge_dead_letter":
            return _natural(command.purge_dead_letter.execution)
        case "start_operation":
            return _start_operation(command.start_operation)
        case "cancel_operation":
            return _natural(command.cancel_operation.operation)
        case "rerun_execution":
            return _natural(command.rerun_execution.execution)
        case _:
            return (
                _setting_fault(command)
                or _cluster_fault(command)
                or _notification_fault(command)
                or _security_fault(command)
            )


def _setting_fault(command: log_pb2.Command) -> str:
    match command.WhichOneof("kind"):
        case "set_limit":
            limit = command.set_limit
            return _name(limit.name) or ("" if limit.max_running >= 1 else f"a limit of {limit.max_running}")
        case "delete_limit":
            return _name(command.delete_limit.name)
        case "set_queue":
            queue = command.set_queue
            return _name(queue.name) or _natural(queue.aging_ms) or _rate(queue.start_rate)
        case "pause_queue":
            return _name(command.pause_queue.name)
        case "set_namespace":
            namespace = command.set_namespace
            return (
                _name(namespace.name)
                or _natural(namespace.max_running, namespace.history_ms, namespace.history_count_max)
                or _natural(namespace.dead_letters_ms, namespace.job_count_max)
                or _rate(namespace.start_rate)
            )
    return ""


def _cluster_fault(command: log_pb2.Command) -> str:
    match command.WhichOneof("kind"):
        case "bootstrap":
            return _natural(command.bootstrap.version)
        case "raise_version":
            return _natural(command.raise_version.version)
        case "change_membership":
            refusal = command.change_membership.refusal
            return "" if refusal in _CODES else f"an unknown refusal {refusal}"
    return ""


def _security_fault(command: log_pb2.Command) -> str:
    match command.WhichOneof("kind"):
        case "begin_security":
            return _token(command.begin_security.admin)
        case "put_token":
            return _token(command.put_token)
        case "revoke_token":
            return _name(command.revoke_token.id)
        case "note_token_uses":
            return _first(_name(use.id) or _natural(use.time_ms) for use in command.note_token_uses.uses)
        case "set_grant":
            grant = command.set_grant.grant
            return _grant_place(grant.subject, grant.namespace) or _role(grant.role)
        case "delete_grant":
            return _grant_place(command.delete_grant.subject, command.delete_grant.namespace)
        case "set_principal":
            return _principal(command.set_principal.name)
        case "set_secret":
            return _name(command.set_secret.name) or value_fault(command.set_secret.value)
        case "delete_secret":
            return _name(command.delete_secret.name)
    return ""


def _notification_fault(command: log_pb2.Command) -> str:
    match command.WhichOneof("kind"):
        case "set_notification":
            rule = command.set_notification.rule
            return (
                _name(rule.name)
                or ("" if is_rule_name(rule.name) else "a notification rule of no namespace, and not of the cluster")
                or _first(map(_name, secret_names(rule)))
                or _natural(rule.max_per_hour)
                or _spans(rule.group_window)
            )
        case "delete_notification":
            return _name(command.delete_notification.name)
        case "note_notices":
            return _note_notices(command.note_notices)
        case "note_deliveries":
            return _first(map(_delivery, command.note_deliveries.deliveries))
    return ""


def _note_notices(note: log_pb2.NoteNotices) -> str:
    start, end = _place(note.start), _place(note.end)
    if fault := _natural(*start, *end, note.lost_before):
        return fault
    if end < start:
        return f"a place in the events before the one where it began, {end}"
    return _first(_natural(found.rule, found.notice.revision) for found in note.found)


def _place(place: log_pb2.EventPlace) -> tuple[int, int]:
    return place.revision, place.position


def _delivery(delivery: log_pb2.NoteDelivery) -> str:
    if fault := _natural(delivery.rule, delivery.group, delivery.attempts, delivery.count, delivery.next_time_ms):
        return fault
    if delivery.outcome not in _DELIVERY_OUTCOMES:
        return f"an unknown outcome {delivery.outcome}"
    return "a message about nothing" if delivery.outcome in _OF_MESSAGES and not delivery.count else ""


def _token(token: log_pb2.PutToken) -> str:
    return _name(token.id) or _principal(token.principal) or _natural(token.expire_time_ms) or _role(token.role)


def _principal(name: str) -> str:
    """Nobody can be called as a group is: its grants would be theirs."""
    fault = _name(name) or _key(name + SEPARATOR)
    return fault or ("a principal with the name of a group" if name.startswith(GROUP_PREFIX) else "")


def _grant_place(subject: str, namespace: str) -> str:
    return _name(subject) or _name(namespace) or _key(subject + SEPARATOR + namespace)


def _role(role: int) -> str:
    return "" if role in ROLE_VERBS else f"an unknown role {role}"


def _draft(draft: log_pb2.JobDraft) -> str:
    job, retry = draft.job, draft.job.retry
    return (
        _name(job.name)
        or _name(job.queue)
        or (_worker_labels(job) if job.worker_labels else "")
        or _natural(draft.next_due_ms, draft.next_fire_ms, *draft.calendar_revisions)
        or _natural(retry.max_attempts, job.priority, job.max_running, job.queue_max, job.max_executions)
        or _natural(job.catchup_max)
        or (_pending(draft.pending) if draft.HasField("pending") else "")
        or (_first(_name(limit_name(job, limit)) for limit in job.limits) if job.limits else "")
        or _optional_name(job.apply_set)
        or (_name(sibling(job.name, job.workflow)) if job.workflow else "")
        or _first(_after(job.name, each.after) for each in job.schedules if each.HasField("after"))
        or (_first(map(_name, calendar_names(job.name, job.calendars))) if job.calendars else "")
        or (_first(_name(secret_name(job.name, secret)) for secret in draft.secrets) if draft.secrets else "")
        or _policies(job)
    )


def _worker_labels(job: job_pb2.Job) -> str:
    if fault := _key(lane_key(job.queue, job.worker_labels).decode()):
        return fault
    is_broken = any(SEPARATOR in text for pair in job.worker_labels.items() for text in pair)
    return "a label of a worker that no lane can have" if is_broken else ""


def _after(job_name: str, after: job_pb2.AfterSchedule) -> str:
    fault = _first(_name(sibling(job_name, name)) for name in after.jobs)
    is_known = not after.condition or after.condition in _CONDITIONS
    return fault or ("" if is_known else f"a condition {after.condition}")


def _policies(job: job_pb2.Job) -> str:
    retry = job.retry
    if retry.max_attempts > ATTEMPTS_MAX:
        return f"{retry.max_attempts} attempts"
    if job.priority >= RANK_COUNT:
        return f"a priority of {job.priority}"
    policies = (job.overlap, job.catchup, job.on_lease_loss)
    if not 0 <= min(policies) <= max(policies) <= UINT8_MAX:
        return "a policy that no record can hold"
    spans = [job.timeout, job.execution_timeout, retry.retry_window, job.deadline, job.catchup_window, job.jitter]
    for each in job.schedules:
        if each.HasField("interval"):
            spans.append(each.interval.every)
        elif each.HasField("fixed_delay"):
            spans.append(each.fixed_delay.delay)
    return _spans(*spans)


def _spans(*spans: Span) -> str:
    for span in spans:
        if not 0 <= span.seconds <= SPAN_SECONDS_MAX or span.nanos < 0:
            return f"a span of {span.seconds} s"
    return ""


def _rate(rate: log_pb2.StartRate) -> str:
    fits = 0 < rate.per_ms <= PER_MS_MAX and 0 < rate.burst <= BURST_MAX and 0 < rate.count <= COUNT_MAX
    return f"a rate of {rate.count} per {rate.per_ms} ms, {rate.burst} at once" if rate.count and not fits else ""


def _deletion(deletion: log_pb2.DeleteJob) -> str:
    return _name(deletion.name) or _pending(deletion.pending)


def _pending(run: log_pb2.PendingRun) -> str:
    return _natural(run.first_ms, run.last_ms) or _due_times(run.count)


def _prune(prune: log_pb2.Prune) -> str:
    return (
        _packed("executions", prune.executions, U64.size)
        or _packed("ledger_rows", prune.ledger_rows, LEDGER_KEY.size)
        or _packed("operations", prune.operations, U64.size)
        or _packed("dead_letters", prune.dead_letters, U64.size)
        or _packed("jobs", prune.jobs, U64.size)
        or _natural(prune.audit_before)
    )


def _plan(plan: log_pb2.Plan) -> str:
    return (
        _natural(plan.advance_to_ms)
        or _packed("expired_sessions", plan.expired_sessions, SESSION.size)
        or _packed("timeouts", plan.timeouts, TIMEOUT.size)
        or _packed("execution_timeouts", plan.execution_timeouts, EXECUTION_TIMEOUT.size)
        or _packed("assigns", plan.assigns, ASSIGN.size)
        or _packed("retries", plan.retries, RETRY.size)
        or _packed("fires", plan.fires, FIRE.size)
        or _packed("calls", plan.calls, CALL.size)
        or _packed("cancellations", plan.cancellations, U64.size)
        or ("cancellations of more than one job" if len(plan.cancellations) > U64.size else "")
        or _first(_called_up(count) for _, _, count in CALL.iter_unpack(plan.calls))
        or _packed("deadlines", plan.deadlines, DEADLINE.size)
        or _packed("unparks", plan.unparks, UNPARK.size)
        or _first(_due_times(count) for _, _, _, _, count, _ in UNPARK.iter_unpack(plan.unparks))
        or _packed("rearms", plan.rearms, REARM.size)
        or _first(map(_operation_step, plan.operation_steps))
    )


def _called_up(count: int) -> str:
    return "" if count <= CALLED_UP_MAX else f"{count} executions of one line at once"


def _operation_step(piece: log_pb2.OperationStep) -> str:
    return (
        _packed("items", piece.items, U64.size)
        or _natural(piece.operation, piece.step, piece.looked_at, piece.next_time_ms)
        or ("" if len(piece.cursor) <= CURSOR_BYTES_MAX else f"a cursor of {len(piece.cursor)} bytes")
        or ("" if piece.looked_at <= LOOKED_AT_PER_STEP_MAX else f"a piece of {piece.looked_at} things")
    )


def _start_operation(command: log_pb2.StartOperation) -> str:
    if fault := _name(command.namespace) or _natural(command.total):
        return fault
    match command.WhichOneof("kind"):
        case "redrive" | "purge" as kind:
            selection: log_pb2.DeadLetterSelection = getattr(command, kind)
            return _natural(selection.job, selection.from_ms, selection.to_ms, *selection.executions)
        case "backfill":
            backfill = command.backfill
            fault = _natural(backfill.job, backfill.from_ms, backfill.to_ms, backfill.max_running)
            return fault or ("" if backfill.job else "a backfill of no job")
        case _:
            return "an operation of no kind"


def _first(faults: Iterable[str]) -> str:
    return next(filter(None, faults), "")


def _packed(name: str, records: bytes, size: int) -> str:
    return f"{name} of {len(records)} bytes, where a record has {size}" if len(records) % size else ""


def _name(name: str) -> str:
    return _key(name) or ("a name with a zero in it" if SEPARATOR in name else "")


def _optional_name(name: str) -> str:
    return _name(name) if name else ""


def _key(name: str) -> str:
    length = len(name.encode())
    return "" if 0 < length <= NAME_BYTES_MAX else f"a name of {length} bytes"


def _due_times(count: int) -> str:
    return "" if 0 <= count <= DUE_TIMES_MAX else f"{count} due times"


def _natural(*numbers: int) -> str:
    return "" if min(numbers) >= 0 else f"the number {next(number for number in numbers if number < 0)}"
