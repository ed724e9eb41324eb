"""Builders of log commands, short enough that a test reads as its story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import Value

from horologe.log.v1 import log_pb2
from horologe.raft import commands as records
from horologe.raft.model import Catchup, Condition, LeaseLoss, Overlap
from horologe.raft.records import LEDGER_KEY, U64
from horologe.v1 import access_pb2, job_pb2, notification_pb2

Command = log_pb2.Command
CREATE, UPDATE, APPLY = log_pb2.PutJobs.MODE_CREATE, log_pb2.PutJobs.MODE_UPDATE, log_pb2.PutJobs.MODE_APPLY


def job(
    name: str = "tick",
    *,
    every_ms: int = 60_000,
    once_ms: int = 0,
    overlap: Overlap = Overlap.SKIP,
    catchup: Catchup = Catchup.LATEST,
    catchup_window_ms: int = 3_600_000,
    on_lease_loss: LeaseLoss = LeaseLoss.RETRY,
    max_attempts: int = 3,
    timeout_ms: int = 600_000,
    queue: str = "default",
    priority: int = 5,
    description: str = "",
    apply_set: str = "",
    after: Sequence[str] = (),
    condition: Condition = Condition.ALL_SUCCEEDED,
    workflow: str = "",
    is_workflow: bool = False,
    queue_max: int = 1_000,
    retry_window_ms: int = 0,
    execution_timeout_ms: int = 0,
    retry_on: Sequence[str] = (),
    do_not_retry_on: Sequence[str] = (),
    max_running: int = 0,
    limits: Sequence[str] = (),
    owner: str = "",
    labels: Mapping[str, str] | None = None,
    worker_labels: Mapping[str, str] | None = None,
) -> job_pb2.Job:
    """A definition as a service proposes it: all defaults filled in. `every_ms` 0: on request, or once."""
    made = job_pb2.Job(name=name, queue=queue, priority=priority, description=description, apply_set=apply_set)
    made.owner = owner
    made.labels.update(labels or {})
    made.queue_max, made.max_running = queue_max, max_running
    made.limits.extend(limits)
    made.worker_labels.update(worker_labels or {})
    schedule = made.schedules.add()
    made.workflow = workflow
    if after:
        schedule.after.jobs.extend(after)
        schedule.after.condition = int(condition)  # type: ignore[assignment]
    elif once_ms:
        schedule.once.time.FromMilliseconds(once_ms)
    elif every_ms:
        schedule.interval.every.FromMilliseconds(every_ms)
        schedule.interval.phase.FromMilliseconds(0)
    else:
        schedule.manual.SetInParent()
    if is_workflow:
        made.action.workflow.SetInParent()
    else:
        made.action.shell.script = "true"
    made.retry.max_attempts = max_attempts
    made.retry.retry_on.extend(retry_on)
    made.retry.do_not_retry_on.extend(do_not_retry_on)
    if retry_window_ms:
        made.retry.retry_window.FromMilliseconds(retry_window_ms)
    if execution_timeout_ms:
        made.execution_timeout.FromMilliseconds(execution_timeout_ms)
    made.timeout.FromMilliseconds(timeout_ms)
    made.catchup_window.FromMilliseconds(catchup_window_ms)
    made.overlap = int(overlap)  # type: ignore[assignment]
    made.catchup = int(catchup)  # type: ignore[assignment]
    made.on_lease_loss = int(on_lease_loss)  # type: ignore[assignment]
    return made


def draft(
    definition: job_pb2.Job,
    next_due_ms: int = 0,
    expected_revision: int = 0,
    *,
    expected_absent: bool = False,
    paused: bool = False,
    secrets: Sequence[str] = (),
) -> log_pb2.JobDraft:
    return log_pb2.JobDraft(
        job=definition,
        next_due_ms=next_due_ms,
        expected_revision=expected_revision,
        expected_absent=expected_absent,
        paused=paused,
        uid=f"uid-{definition.name}",
        secrets=secrets,
    )


def put(
    mode: log_pb2.PutJobs.Mode.ValueType,
    *drafts: log_pb2.JobDraft,
    deletions: Sequence[tuple[str, int]] = (),
    author: str = "",
) -> Command:
    """`deletions`: names, and the revisions that they are expected to have."""
    doomed = [log_pb2.DeleteJob(name=name, expected_revision=revision) for name, revision in deletions]
    return Command(put_jobs=log_pb2.PutJobs(mode=mode, jobs=drafts, deletions=doomed, author=author))


def create(name: str = "tick", next_due_ms: int = 0, **fields: Any) -> Command:
    return put(CREATE, draft(job(name, **fields), next_due_ms))


def update(name: str = "tick", next_due_ms: int = 0, expected_revision: int = 0, **fields: Any) -> Command:
    return put(UPDATE, draft(job(name, **fields), next_due_ms, expected_revision))


def apply(name: str = "tick", next_due_ms: int = 0, expected_revision: int = 0, **fields: Any) -> Command:
    return put(APPLY, draft(job(name, **fields), next_due_ms, expected_revision))


def delete(name: str = "tick", *, expected_revision: int = 0, cancel_running: bool = False) -> Command:
    return Command(
        delete_job=log_pb2.DeleteJob(name=name, expected_revision=expected_revision, cancel_running=cancel_running)
    )


def pause(name: str = "tick", *, reason: str = "", expected_revision: int = 0) -> Command:
    return Command(
        pause_job=log_pb2.PauseJob(name=name, paused=True, reason=reason, expected_revision=expected_revision)
    )


def resume(
    name: str = "tick",
    next_due_ms: int = 0,
    *,
    skipped_count: int = 0,
    skipped_last_ms: int = 0,
    expected_revision: int = 0,
) -> Command:
    return Command(
        pause_job=log_pb2.PauseJob(
            name=name,
            paused=False,
            next_due_ms=next_due_ms,
            skipped_count=skipped_count,
            skipped_last_ms=skipped_last_ms,
            expected_revision=expected_revision,
        )
    )


def pause_scope(namespace: str = "", *, reason: str = "") -> Command:
    """Of a namespace, or of the cluster."""
    return Command(pause_scope=log_pb2.PauseScope(namespace=namespace, paused=True, reason=reason))


def resume_scope(namespace: str = "", *, catchup: bool = False) -> Command:
    return Command(pause_scope=log_pb2.PauseScope(namespace=namespace, paused=False, catchup=catchup))


def run(name: str = "tick", *, force: bool = False, payload: str | None = None) -> Command:
    command = log_pb2.RunJob(name=name, force=force)
    if payload is not None:
        command.payload.CopyFrom(Value(string_value=payload))
    return Command(run_job=command)


def cancel(execution: int, reason: str = "") -> Command:
    return Command(cancel_execution=log_pb2.CancelExecution(execution=execution, reason=reason))


def redrive(execution: int, payload: str | None = None) -> Command:
    command = log_pb2.RedriveDeadLetter(execution=execution)
    if payload is not None:
        command.payload.CopyFrom(Value(string_value=payload))
    return Command(redrive_dead_letter=command)


def purge(execution: int) -> Command:
    return Command(purge_dead_letter=log_pb2.PurgeDeadLetter(execution=execution))


def redrive_all(**selection: Any) -> Command:
    return Command(
        start_operation=log_pb2.StartOperation(namespace="default", redrive=log_pb2.DeadLetterSelection(**selection))
    )


def purge_all(**selection: Any) -> Command:
    return Command(
        start_operation=log_pb2.StartOperation(namespace="default", purge=log_pb2.DeadLetterSelection(**selection))
    )


def backfill(
    job: int,
    from_ms: int,
    to_ms: int,
    only: log_pb2.Backfill.Only.ValueType = log_pb2.Backfill.ONLY_MISSING,
    *,
    backwards: bool = False,
    max_running: int = 1,
) -> Command:
    wanted = log_pb2.Backfill(
        job=job, from_ms=from_ms, to_ms=to_ms, only=only, backwards=backwards, max_running=max_running
    )
    return Command(start_operation=log_pb2.StartOperation(namespace="default", backfill=wanted))


def in_namespace(namespace: str, command: Command) -> Command:
    """The same operation in another namespace."""
    moved = Command()
    moved.CopyFrom(command)
    moved.start_operation.namespace = namespace
    return moved


def operation_step(operation: int, step: int, items: Sequence[int], *, exhausted: bool = False) -> Command:
    piece = log_pb2.OperationStep(
        operation=operation,
        step=step,
        items=b"".join(U64.pack(item) for item in items),
        looked_at=len(items),
        exhausted=exhausted,
    )
    return Command(plan=log_pb2.Plan(operation_steps=[piece]))


def cancel_operation(operation: int, reason: str = "") -> Command:
    return Command(cancel_operation=log_pb2.CancelOperation(operation=operation, reason=reason))


def connect(
    worker: str = "w1",
    *,
    incarnation: str = "a",
    queues: Sequence[str] = ("default",),
    slot_count: int = 10,
    labels: Mapping[str, str] | None = None,
) -> Command:
    return Command(
        open_session=log_pb2.OpenSession(
            worker=worker, incarnation=incarnation, queues=queues, slot_count=slot_count, gateway="n1", labels=labels
        )
    )


def close(session: int, *, clean: bool = True) -> Command:
    return Command(close_session=log_pb2.CloseSession(session=session, clean=clean))


def drain(worker: str = "w1") -> Command:
    return Command(drain_worker=log_pb2.DrainWorker(worker=worker))


def set_secret(id_: str, value: str = "a value", namespace: str = "default") -> Command:
    name = f"namespaces/{namespace}/secrets/{id_}"
    return Command(set_secret=log_pb2.SetSecret(name=name, value=value.encode()))


def delete_secret(id_: str) -> Command:
    return Command(delete_secret=log_pb2.DeleteSecret(name=f"namespaces/default/secrets/{id_}"))


def set_notification(id_: str, *events: str, scope: str = "namespaces/default/", **fields: Any) -> Command:
    """A rule with a webhook; `scope=""` for one of the cluster."""
    rule = notification_pb2.NotificationRule(
        name=f"{scope}notifications/{id_}",
        events=[f"NOTIFICATION_EVENT_{event}" for event in events or ("FAILED",)],
    )
    rule.webhook.url = "https://example.com"
    for field, value in fields.items():
        if field.endswith("_ms"):
            getattr(rule, field.removesuffix("_ms")).FromMilliseconds(value)
        elif field.endswith("_secret"):
            setattr(rule.webhook, field, value)
        elif field in ("jobs", "labels"):
            getattr(rule, field).MergeFrom(value)
        else:
            setattr(rule, field, value)
    return Command(set_notification=log_pb2.SetNotification(rule=rule))


def delete_notification(id_: str, scope: str = "namespaces/default/") -> Command:
    return Command(delete_notification=log_pb2.DeleteNotification(name=f"{scope}notifications/{id_}"))


def set_limit(id_: str, max_running: int) -> Command:
    return Command(set_limit=log_pb2.SetLimit(name=f"namespaces/default/limits/{id_}", max_running=max_running))


def delete_limit(id_: str) -> Command:
    return Command(delete_limit=log_pb2.DeleteLimit(name=f"namespaces/default/limits/{id_}"))


def set_queue(name: str, rate: tuple[int, int, int] | None = None, aging_ms: int | None = None) -> Command:
    """`rate`: starts, in how many milliseconds, how many at once."""
    command = log_pb2.SetQueue(name=name, aging_ms=aging_ms)
    if rate is not None:
        command.start_rate.count, command.start_rate.per_ms, command.start_rate.burst = rate
    return Command(set_queue=command)


def pause_queue(name: str, reason: str = "", *, paused: bool = True) -> Command:
    return Command(pause_queue=log_pb2.PauseQueue(name=name, paused=paused, reason=reason, who="ada"))


def set_namespace(name: str, max_running: int) -> Command:
    return Command(set_namespace=log_pb2.SetNamespace(name=name, max_running=max_running))


def set_quotas(name: str, job_count_max: int, rate: tuple[int, int, int]) -> Command:
    """`rate`: starts, in how many milliseconds, how many at once; zeros for none."""
    command = log_pb2.SetNamespace(name=name, job_count_max=job_count_max)
    command.start_rate.count, command.start_rate.per_ms, command.start_rate.burst = rate
    return Command(set_namespace=command)


def keep_history(
    name: str, history_ms: int | None = None, count_max: int | None = None, dead_letters_ms: int | None = None
) -> Command:
    return Command(
        set_namespace=log_pb2.SetNamespace(
            name=name, history_ms=history_ms, history_count_max=count_max, dead_letters_ms=dead_letters_ms
        )
    )


def prune(
    before_ms: int,
    executions: Sequence[int] = (),
    ledger_rows: Sequence[tuple[int, int, int]] = (),
    *,
    dead_letters: Sequence[int] = (),
    jobs: Sequence[int] = (),
    operations: Sequence[int] = (),
) -> Command:
    """Dead letters have the same age to go."""
    return Command(
        prune=log_pb2.Prune(
            before_ms=before_ms,
            dead_letters_before_ms=before_ms,
            dead_letters=b"".join(U64.pack(number) for number in dead_letters),
            jobs=b"".join(U64.pack(job) for job in jobs),
            operations=b"".join(U64.pack(number) for number in operations),
            executions=b"".join(U64.pack(number) for number in executions),
            ledger_rows=b"".join(LEDGER_KEY.pack(*row) for row in ledger_rows),
        )
    )


def role_of(name: str) -> access_pb2.Role.ValueType:
    return access_pb2.Role.Value(f"ROLE_{name.upper()}" if name else "ROLE_UNSPECIFIED")


def token(
    id_: str,
    principal: str,
    *,
    role: str = "",
    namespaces: Sequence[str] = (),
    verbs: Sequence[str] = (),
    expire_time_ms: int = 0,
) -> log_pb2.PutToken:
    return log_pb2.PutToken(
        id=id_,
        principal=principal,
        hash=id_.encode(),
        role=role_of(role),
        namespaces=namespaces,
        verbs=verbs,
        expire_time_ms=expire_time_ms,
    )


def put_token(id_: str, principal: str, **scope: Any) -> Command:
    return Command(put_token=token(id_, principal, **scope))


def begin_security(admin: str = "admin") -> Command:
    return Command(begin_security=log_pb2.BeginSecurity(admin=token("first", admin)))


def set_grant(subject: str, namespace: str, *what: str) -> Command:
    """`what`: a role, and verbs, which have a dot in them."""
    roles = [each for each in what if "." not in each]
    grant = access_pb2.Grant(subject=subject, namespace=namespace, role=role_of(roles[0] if roles else ""))
    grant.verbs.extend(each for each in what if "." in each)
    return Command(set_grant=log_pb2.SetGrant(grant=grant))


def delete_grant(subject: str, namespace: str) -> Command:
    return Command(delete_grant=log_pb2.DeleteGrant(subject=subject, namespace=namespace))


def by(principal: str, command: Command, token: str = "") -> Command:
    """The same command as one that somebody has asked for."""
    signed = Command()
    signed.CopyFrom(command)
    signed.actor.principal, signed.actor.token = principal, token
    return signed


def rerun(execution: int) -> Command:
    return Command(rerun_execution=log_pb2.RerunExecution(execution=execution))


def bootstrap(cluster_id: str) -> Command:
    return Command(bootstrap=log_pb2.Bootstrap(cluster_id=cluster_id))


def plan(
    *,
    advance_to_ms: int = 0,
    fires: Sequence[bytes] = (),
    assigns: Sequence[tuple[int, int]] = (),
    retries: Sequence[tuple[int, int, int]] = (),
    expired: Sequence[int] = (),
    timeouts: Sequence[tuple[int, int]] = (),
    calls: Sequence[tuple[int, int, int]] = (),
) -> Command:
    return Command(
        plan=log_pb2.Plan(
            advance_to_ms=advance_to_ms,
            fires=b"".join(fires),
            assigns=b"".join(records.ASSIGN.pack(*row) for row in assigns),
            retries=b"".join(records.RETRY.pack(*row) for row in retries),
            expired_sessions=b"".join(records.SESSION.pack(session) for session in expired),
            calls=b"".join(records.CALL.pack(*row) for row in calls),
            timeouts=b"".join(records.TIMEOUT.pack(*row, 1) for row in timeouts),
        )
    )


def fire(
    job: int,
    revision: int,
    due_ms: int,
    next_due_ms: int,
    session: int = 0,
    missed: tuple[int, int, int, records.MissedFate] = (0, 0, 0, records.MissedFate.NONE),
    *,
    run: bool = True,
) -> bytes:
    """One record of a plan. `missed`: first, last, count, fate."""
    return records.FIRE.pack(job, revision, due_ms, next_due_ms, next_due_ms, session, *missed, run)


def outcome(
    execution: int,
    token: int,
    attempt: int = 1,
    outcome: records.Outcome = records.Outcome.SUCCEEDED,
    *,
    retry_delay_ms: int = 0,
    exit_code: int | None = None,
    start_delay_ms: int = 5,
) -> bytes:
    flags = 0 if exit_code is None else records.OutcomeFlag.HAS_EXIT_CODE
    return records.OUTCOME.pack(
        execution, token, attempt, outcome, flags, exit_code or 0, start_delay_ms, 10, retry_delay_ms
    )


def complete(*outcomes: bytes, details: Sequence[log_pb2.OutcomeDetail] = ()) -> Command:
    return Command(complete=log_pb2.Complete(outcomes=b"".join(outcomes), details=details))


def requested(command: Command, request_id: bytes, digest: bytes = b"digest") -> Command:
    """The same command as one that its caller may send again."""
    marked = Command()
    marked.CopyFrom(command)
    marked.request_id = request_id.rjust(16, b"\0")
    marked.request_digest = digest
    return marked
