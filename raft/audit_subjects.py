"""What a command is about, as the audit chain says it: the names of its objects, and how a single one stands.

Names and etags only: never a definition, a payload, a secret, or what somebody wrote for people to read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft.access import grant_key
from horologe.raft.calendars import find_calendar
from horologe.raft.model import Code, Result
from horologe.raft.notifications import find_rule
from horologe.raft.records import U64, JobState
from horologe.raft.tables import Tables
from horologe.v1 import access_pb2


def objects_of(tables: Tables, command: log_pb2.Command, result: Result, count_max: int) -> tuple[list[str], int]:
    """The objects of a command and what it made, at most so many, and how many there are."""
    if command.HasField("put_jobs"):
        wanted = command.put_jobs
        names = (draft.job.name for draft in wanted.jobs)
        deleted = (deletion.name for deletion in wanted.deletions)
        found = [*islice(names, count_max)]
        return [*found, *islice(deleted, count_max - len(found))], len(wanted.jobs) + len(wanted.deletions)
    found = [*_named(tables, command), *_made(command, result)]
    return found[:count_max], len(found)


def state_of(tables: Tables, command: log_pb2.Command) -> str:
    """How the one object of a command stands now, as far as it has an etag or something like it; else empty."""
    match command.WhichOneof("kind"):
        case "put_jobs":
            wanted = command.put_jobs
            if len(wanted.jobs) + len(wanted.deletions) != 1:
                return ""
            return _job(tables, wanted.jobs[0].job.name if wanted.jobs else wanted.deletions[0].name)
        case "delete_job":
            return _job(tables, command.delete_job.name)
        case "pause_job":
            return _job(tables, command.pause_job.name)
        case "set_calendar":
            return _calendar(tables, command.set_calendar.calendar.name)
        case "delete_calendar":
            return _calendar(tables, command.delete_calendar.name)
        case "set_notification":
            return _notification(tables, command.set_notification.rule.name)
        case "delete_notification":
            return _notification(tables, command.delete_notification.name)
        case "set_secret":
            return _secret(tables, command.set_secret.name)
        case "delete_secret":
            return _secret(tables, command.delete_secret.name)
        case "set_grant":
            return _grant(tables, command.set_grant.grant.subject, command.set_grant.grant.namespace)
        case "delete_grant":
            return _grant(tables, command.delete_grant.subject, command.delete_grant.namespace)
        case "set_principal":
            return _principal(tables, command.set_principal.name)
    return ""


def grant_name(subject: str, namespace: str) -> str:
    return f"grants/{subject}/{namespace}"


def _named(tables: Tables, command: log_pb2.Command) -> Iterator[str]:
    kind = command.WhichOneof("kind")
    match kind:
        case "delete_job" | "pause_job" | "run_job" | "set_limit" | "delete_limit" | "delete_calendar":
            yield getattr(command, kind).name
        case "set_secret" | "delete_secret":
            yield getattr(command, kind).name
        case "set_calendar":
            yield command.set_calendar.calendar.name
        case "set_notification":
            yield command.set_notification.rule.name
        case "delete_notification":
            yield command.delete_notification.name
        case "cancel_execution" | "rerun_execution" | "redrive_dead_letter" | "purge_dead_letter":
            yield f"executions/{getattr(command, kind).execution}"
        case "open_session" | "drain_worker":
            yield f"workers/{getattr(command, kind).worker}"
        case "close_session":
            yield f"sessions/{command.close_session.session}"
        case "change_membership":
            change = command.change_membership
            yield f"members/{change.promote or change.remove or change.put.name}"
        case "set_namespace":
            yield f"namespaces/{command.set_namespace.name}"
        case "set_queue" | "pause_queue":
            yield f"queues/{getattr(command, kind).name}"
        case "pause_scope":
            yield f"namespaces/{command.pause_scope.namespace}" if command.pause_scope.namespace else "cluster"
        case "raise_version" | "hold_version":
            yield "cluster"
        case "start_operation":
            yield from _of_operation(tables, command.start_operation)
        case "cancel_operation":
            yield f"operations/{command.cancel_operation.operation}"
        case _:
            yield from _of_access(command)


def _of_access(command: log_pb2.Command) -> Iterator[str]:
    match command.WhichOneof("kind"):
        case "begin_security":
            yield f"tokens/{command.begin_security.admin.id}"
        case "put_token":
            yield f"tokens/{command.put_token.id}"
        case "revoke_token":
            yield f"tokens/{command.revoke_token.id}"
        case "set_grant":
            yield grant_name(command.set_grant.grant.subject, command.set_grant.grant.namespace)
        case "delete_grant":
            yield grant_name(command.delete_grant.subject, command.delete_grant.namespace)
        case "set_principal":
            yield f"principals/{command.set_principal.name}"


def _of_operation(tables: Tables, start: log_pb2.StartOperation) -> Iterator[str]:
    """The executions that it names, or its job, or else all of its namespace."""
    selection = start.purge if start.HasField("purge") else start.redrive
    job = start.backfill.job or selection.job
    if selection.executions:
        yield from (f"executions/{number}" for number in selection.executions)
        return
    raw = tables.job.get(U64.pack(job)) if job else None
    yield f"namespaces/{start.namespace}" if raw is None else log_pb2.JobRecord.FromString(bytes(raw)).job.name


def _made(command: log_pb2.Command, result: Result) -> Iterator[str]:
    """What came into being and has a number of its own."""
    if result.code is Code.OK and result.numbers:
        if command.HasField("run_job"):
            yield f"executions/{result.numbers[0]}"
        elif command.HasField("start_operation"):
            yield f"operations/{result.numbers[0]}"


def _job(tables: Tables, name: str) -> str:
    key = tables.job_name.get(name.encode())
    raw = None if key is None else tables.job_state.get(bytes(key))
    return "" if raw is None else str(JobState.unpack(raw).revision)


def _calendar(tables: Tables, name: str) -> str:
    record = find_calendar(tables, name)
    return "" if record is None else str(record.revision)


def _notification(tables: Tables, name: str) -> str:
    record = find_rule(tables, name)
    return "" if record is None else str(record.revision)


def _secret(tables: Tables, name: str) -> str:
    raw = tables.secret.get(name.encode())
    return "" if raw is None else f"version {log_pb2.SecretRecord.FromString(bytes(raw)).version}"


def _grant(tables: Tables, subject: str, namespace: str) -> str:
    """The role and the verbs, as people write them."""
    raw = tables.grant.get(grant_key(subject, namespace))
    if raw is None:
        return ""
    grant = log_pb2.GrantRecord.FromString(bytes(raw)).grant
    role = access_pb2.Role.Name(grant.role).removeprefix("ROLE_").lower() if grant.role else ""
    return ", ".join(word for word in (role, *grant.verbs) if word)


def _principal(tables: Tables, name: str) -> str:
    raw = tables.principal.get(name.encode())
    if raw is None:
        return ""
    return "disabled" if log_pb2.PrincipalRecord.FromString(bytes(raw)).disabled else "enabled"
