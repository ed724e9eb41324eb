"""Who may do which command: what each kind needs, for every object in it, and whether its actor has that.

Asked by the state machine before a command does anything. Rights are looked up for the objects as the state has them: an
execution is in the namespace of its job, whatever a request says around it. An owner is who wrote a job's definition last.

The caller is looked at first, then the request id, then the rights: so a repetition gets the first answer although the command
itself may have changed what its actor may do, but only under a token that is still good, and only for the same principal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.raft.access import (
    EVERYWHERE,
    NOTHING,
    ROLE_VERBS,
    Rights,
    Verb,
    is_secure,
    rights_of,
    verbs_in_scope,
    within_scope,
)
from horologe.raft.calendars import calendar_names
from horologe.raft.dependencies import after_of, sibling
from horologe.raft.limits import limit_name, namespace_of
from horologe.raft.notifications import scope_of, secret_names
from horologe.raft.operations import find as find_operation
from horologe.raft.operations import verb_of
from horologe.raft.principals import find_principal, find_token, fitting_groups, remember_groups
from horologe.raft.records import U64
from horologe.raft.state import State
from horologe.raft.tables import Tables

OWN_KINDS = frozenset(
    {
        "plan",
        "complete",
        "prune",
        "open_session",
        "close_session",
        "bootstrap",
        "barrier",
        "begin_security",
        "note_token_uses",
        "note_denied",
        "note_notices",
        "note_deliveries",
        "note_quorum",
    }
)
"""Commands of the cluster itself, which no caller may make."""
SHARED_KINDS = frozenset({"change_membership", "checkpoint", "drain_worker", "raise_version"})
"""Made by the cluster itself too: a node introduces itself, a worker that stops takes nothing new, all have been upgraded."""
_WITHOUT_ACTOR = OWN_KINDS | SHARED_KINDS


@dataclass(frozen=True, slots=True)
class Need:
    """One right without which a command is refused."""

    verb: str
    namespace: str = EVERYWHERE
    owner: str = ""
    """To this principal `own_verb` is enough."""
    own_verb: str = Verb.JOB_WRITE


def fault_of_caller(state: State, command: log_pb2.Command) -> str:
    """Why nothing is done for whoever asks, for people; empty if nothing speaks against them."""
    kind = command.WhichOneof("kind")
    if not command.HasField("actor"):
        if kind in _WITHOUT_ACTOR or not is_secure(state.tables):
            return ""
        return "nobody is said to have asked"
    if not is_secure(state.tables):
        return ""
    actor = command.actor
    if kind in OWN_KINDS:
        return f"{actor.principal} may not {kind}: that is for the cluster itself"
    if command.change_membership.HasField("configuration"):
        # In force since the leader asked (replica.py): its caller must not hear, nor the audit log say, that nothing was done.
        return ""
    if actor.token:
        fault = _fault_of_token(find_token(state, actor.token), actor, state.now_ms)
        if fault:
            return fault
    if actor.has_groups:
        remember_groups(state, actor.principal, actor.groups)
    record = find_principal(state, actor.principal)
    return f"{actor.principal} is disabled" if record is not None and record.disabled else ""


def _fault_of_token(record: log_pb2.TokenRecord | None, actor: log_pb2.Actor, now_ms: int) -> str:
    if record is None or record.token.principal != actor.principal:
        return f"{actor.principal} has no token {actor.token}"
    if record.revoked:
        return f"token {actor.token} was revoked"
    return f"token {actor.token} has expired" if 0 < record.token.expire_time_ms <= now_ms else ""


def missing_right(state: State, command: log_pb2.Command) -> str:
    """Which right the actor lacks for the command, for people; empty if none, or if nobody has to have any."""
    if not command.HasField("actor") or not is_secure(state.tables):
        return ""
    actor = command.actor
    if command.HasField("change_membership"):
        # As above: nothing holds it up here.
        return ""
    rights = _rights(state.tables, actor, state.now_ms)
    seen: set[Need] = set()
    for need in needs_of(state, command):
        if need not in seen and not _has(rights, actor.principal, need):
            return lacks(actor.principal, need.verb, need.namespace)
        seen.add(need)
    return _widening(state, actor, rights, command.put_token) if command.HasField("put_token") else ""


def may_change_members(tables: Tables, actor: log_pb2.Actor, now_ms: int) -> bool:
    """For the leader, before a configuration comes into force."""
    return not is_secure(tables) or _rights(tables, actor, now_ms).may(Verb.CLUSTER_WRITE, EVERYWHERE)


def _rights(tables: Tables, actor: log_pb2.Actor, now_ms: int) -> Rights:
    """What the actor may do: with the groups that it was said to be in last, and within its token's scope."""
    if actor.has_groups:
        groups = fitting_groups(actor.groups)
    else:
        raw = tables.principal.get(actor.principal.encode())
        groups = list(log_pb2.PrincipalRecord.FromString(bytes(raw or b"")).groups)
    rights = rights_of(tables, actor.principal, groups)
    if not actor.token:
        return rights
    raw = tables.token.get(actor.token.encode())
    record = None if raw is None else log_pb2.TokenRecord.FromString(bytes(raw))
    if record is None or _fault_of_token(record, actor, now_ms):
        return NOTHING
    return within_scope(rights, record.token)


def lacks(principal: str, verb: str, namespace: str) -> str:
    """For people."""
    return f"{principal} may not {verb} {'everywhere' if namespace == EVERYWHERE else f'in namespaces/{namespace}'}"


def needs_of(state: State, command: log_pb2.Command) -> Iterator[Need]:
    """All rights that a caller's command needs, for each object in it. What is not there needs what its name says."""
    kind = command.WhichOneof("kind")
    if kind is None or kind not in NEEDS:
        raise state.contradiction(f"a command of kind {kind!r} has an actor, and nobody knows what it needs")
    yield from NEEDS[kind](state, command)


def _has(rights: Rights, principal: str, need: Need) -> bool:
    if rights.may(need.verb, need.namespace):
        return True
    return need.owner == principal and rights.may(need.own_verb, need.namespace)


# What each kind needs


def _put_jobs(state: State, command: log_pb2.Command) -> Iterator[Need]:
    homes: set[str] = set()
    for draft in command.put_jobs.jobs:
        home = namespace_of(draft.job.name)
        if home not in homes:
            homes.add(home)
            yield Need(Verb.JOB_WRITE, home)
        if draft.secrets:
            yield Need(Verb.SECRET_USE, home)
        for namespace in _named_namespaces(draft):
            # A job has to do with its own namespace only; a name that leads elsewhere gets nobody anywhere.
            yield Need(Verb.JOB_WRITE, namespace)
    for deletion in command.put_jobs.deletions:
        yield from _deletion(state, deletion)


def _named_namespaces(draft: log_pb2.JobDraft) -> Iterator[str]:
    """Of everything that a definition names."""
    job = draft.job
    after = after_of(job)
    if after is not None:
        yield from (namespace_of(sibling(job.name, other)) for other in after.jobs)
    if job.workflow:
        yield namespace_of(sibling(job.name, job.workflow))
    for limit in job.limits:
        yield namespace_of(limit_name(job, limit))
    if job.calendars:
        yield from map(namespace_of, calendar_names(job.name, job.calendars))


def _delete_job(state: State, command: log_pb2.Command) -> Iterator[Need]:
    yield from _deletion(state, command.delete_job)


def _deletion(state: State, deletion: log_pb2.DeleteJob) -> Iterator[Need]:
    namespace, owner = _job(state, deletion.name)
    yield Need(Verb.JOB_WRITE, namespace)
    if deletion.cancel_running:
        yield Need(Verb.JOB_CANCEL, namespace, owner)


def _pause_job(state: State, command: log_pb2.Command) -> Iterator[Need]:
    yield Need(Verb.JOB_PAUSE, *_job(state, command.pause_job.name))


def _run_job(state: State, command: log_pb2.Command) -> Iterator[Need]:
    """A payload is an input, as a handler expects it from whoever may run the job."""
    yield Need(Verb.JOB_RUN, _job(state, command.run_job.name)[0])


def _cancel_execution(state: State, command: log_pb2.Command) -> Iterator[Need]:
    for namespace, owner in _execution(state, command.cancel_execution.execution):
        yield Need(Verb.JOB_CANCEL, namespace, owner)


def _rerun_execution(state: State, command: log_pb2.Command) -> Iterator[Need]:
    for namespace, _ in _execution(state, command.rerun_execution.execution):
        yield Need(Verb.JOB_RUN, namespace)


def _redrive(state: State, command: log_pb2.Command) -> Iterator[Need]:
    for namespace, _ in _execution(state, command.redrive_dead_letter.execution):
        yield Need(Verb.JOB_RUN, namespace)


def _purge(state: State, command: log_pb2.Command) -> Iterator[Need]:
    for namespace, _ in _execution(state, command.purge_dead_letter.execution):
        yield Need(Verb.DEAD_LETTER_PURGE, namespace)


def _start_operation(state: State, command: log_pb2.Command) -> Iterator[Need]:
    start = command.start_operation
    verb = verb_of(start)
    yield Need(verb, start.namespace)
    job = start.backfill.job or start.redrive.job or start.purge.job
    for namespace, _ in _job_of_number(state, job):
        yield Need(verb, namespace)
    for number in (*start.redrive.executions, *start.purge.executions):
        for namespace, _ in _execution(state, number):
            yield Need(verb, namespace)


def _cancel_operation(state: State, command: log_pb2.Command) -> Iterator[Need]:
    record = find_operation(state, command.cancel_operation.operation)
    if record is not None:
        yield Need(Verb.JOB_CANCEL, record.start.namespace, record.started_by, verb_of(record.start))


def _pause_scope(state: State, command: log_pb2.Command) -> Iterator[Need]:
    del state
    yield Need(Verb.JOB_PAUSE, command.pause_scope.namespace or EVERYWHERE)


def _put_token(state: State, command: log_pb2.Command) -> Iterator[Need]:
    """For oneself nothing, as long as it is worth no more than what one came with: see `_widening`."""
    del state
    if command.put_token.principal != command.actor.principal:
        yield Need(Verb.ACCESS_WRITE)


def _revoke_token(state: State, command: log_pb2.Command) -> Iterator[Need]:
    record = find_token(state, command.revoke_token.id)
    if record is None or record.token.principal != command.actor.principal:
        yield Need(Verb.ACCESS_WRITE)


def _set_grant(state: State, command: log_pb2.Command) -> Iterator[Need]:
    """Nobody gives what they have not."""
    del state
    grant = command.set_grant.grant
    yield Need(Verb.ACCESS_WRITE, grant.namespace)
    for verb in sorted(ROLE_VERBS[grant.role] | frozenset(grant.verbs)):
        yield Need(verb, grant.namespace)


def _in_namespace(verb: Verb, name_of: Callable[[log_pb2.Command], str]) -> Callable[..., Iterator[Need]]:
    """For an object with a name that says its namespace."""

    def needs(state: State, command: log_pb2.Command) -> Iterator[Need]:
        del state
        yield Need(verb, namespace_of(name_of(command)))

    return needs


def _everywhere(verb: Verb) -> Callable[..., Iterator[Need]]:
    """For what belongs to no namespace."""

    def needs(state: State, command: log_pb2.Command) -> Iterator[Need]:
        del state, command
        yield Need(verb)

    return needs


def _set_namespace(state: State, command: log_pb2.Command) -> Iterator[Need]:
    del state
    yield Need(Verb.NAMESPACE_WRITE, command.set_namespace.name)


def _set_notification(state: State, command: log_pb2.Command) -> Iterator[Need]:
    del state
    rule = command.set_notification.rule
    yield Need(Verb.NOTIFICATION_WRITE, scope_of(rule.name))
    for secret in secret_names(rule):
        yield Need(Verb.SECRET_USE, namespace_of(secret))


def _delete_notification(state: State, command: log_pb2.Command) -> Iterator[Need]:
    del state
    yield Need(Verb.NOTIFICATION_WRITE, scope_of(command.delete_notification.name))


def _delete_grant(state: State, command: log_pb2.Command) -> Iterator[Need]:
    del state
    yield Need(Verb.ACCESS_WRITE, command.delete_grant.namespace)


NEEDS: Mapping[str, Callable[[State, log_pb2.Command], Iterator[Need]]] = {
    "put_jobs": _put_jobs,
    "delete_job": _delete_job,
    "pause_job": _pause_job,
    "run_job": _run_job,
    "cancel_execution": _cancel_execution,
    "rerun_execution": _rerun_execution,
    "redrive_dead_letter": _redrive,
    "purge_dead_letter": _purge,
    "start_operation": _start_operation,
    "cancel_operation": _cancel_operation,
    "pause_scope": _pause_scope,
    "set_calendar": _in_namespace(Verb.CALENDAR_WRITE, lambda command: command.set_calendar.calendar.name),
    "delete_calendar": _in_namespace(Verb.CALENDAR_WRITE, lambda command: command.delete_calendar.name),
    "set_limit": _in_namespace(Verb.LIMIT_WRITE, lambda command: command.set_limit.name),
    "delete_limit": _in_namespace(Verb.LIMIT_WRITE, lambda command: command.delete_limit.name),
    "set_secret": _in_namespace(Verb.SECRET_WRITE, lambda command: command.set_secret.name),
    "delete_secret": _in_namespace(Verb.SECRET_WRITE, lambda command: command.delete_secret.name),
    "set_notification": _set_notification,
    "delete_notification": _delete_notification,
    "set_namespace": _set_namespace,
    "set_queue": _everywhere(Verb.QUEUE_WRITE),
    "pause_queue": _everywhere(Verb.QUEUE_WRITE),
    "drain_worker": _everywhere(Verb.WORKER_DRAIN),
    "change_membership": _everywhere(Verb.CLUSTER_WRITE),
    "checkpoint": _everywhere(Verb.CLUSTER_WRITE),
    "raise_version": _everywhere(Verb.CLUSTER_WRITE),
    "hold_version": _everywhere(Verb.CLUSTER_WRITE),
    "put_token": _put_token,
    "revoke_token": _revoke_token,
    "set_grant": _set_grant,
    "delete_grant": _delete_grant,
    "set_principal": _everywhere(Verb.ACCESS_WRITE),
}
"""Of every kind that a caller may make. A test holds it against the kinds of log.proto."""


# Objects as the state has them


def _job(state: State, name: str) -> tuple[str, str]:
    """Namespace and owner of the job that has this name now."""
    key = state.tables.job_name.get(name.encode())
    found = next(_job_of_number(state, U64.unpack(key)[0]), None) if key is not None else None
    return found or (namespace_of(name), "")


def _job_of_number(state: State, number: int) -> Iterator[tuple[str, str]]:
    """Namespace and owner, of one that is there."""
    raw = state.tables.job.get(U64.pack(number)) if number else None
    if raw is not None:
        record = log_pb2.JobRecord.FromString(bytes(raw))
        yield namespace_of(record.job.name), record.run_as


def _execution(state: State, number: int) -> Iterator[tuple[str, str]]:
    """Namespace and owner of the job of an execution, if that is there."""
    execution = state.execution(number) if number > 0 else None
    if execution is not None:
        yield from _job_of_number(state, execution.job)


# Tokens


FOR_LONGER = "for longer"
"""Says that a token would outlive the one that asks for it. The state remembers refusals, so these words stay as they are."""


def _widening(state: State, actor: log_pb2.Actor, rights: Rights, wanted: log_pb2.PutToken) -> str:
    """What a new token would be worth beyond what its maker has, for people; empty if nothing."""
    maker = find_token(state, actor.token) if actor.token else None
    if maker is not None:
        fault = _beyond_scope(maker.token, wanted)
        if fault:
            return f"the token would be of use {fault}, and token {actor.token}, which asks for it, is not"
    if wanted.principal == actor.principal:
        return ""
    record = find_principal(state, wanted.principal)
    theirs = rights_of(state.tables, wanted.principal, () if record is None else record.groups)
    for namespace, verbs in within_scope(theirs, wanted).verbs.items():
        for verb in sorted(verbs):
            if not rights.may(verb, namespace):
                return f"{lacks(actor.principal, verb, namespace)}, and the token could"
    return ""


def _beyond_scope(maker: log_pb2.PutToken, wanted: log_pb2.PutToken) -> str:
    """Where one scope goes beyond the other, whatever rights the principal has or gets; empty if nowhere."""
    if maker.expire_time_ms and not 0 < wanted.expire_time_ms <= maker.expire_time_ms:
        return FOR_LONGER
    is_bound = maker.namespaces and EVERYWHERE not in maker.namespaces
    if is_bound and not (wanted.namespaces and set(wanted.namespaces) <= set(maker.namespaces)):
        return "in other namespaces"
    allowed, asked = verbs_in_scope(maker), verbs_in_scope(wanted)
    if allowed is not None and (asked is None or not asked <= allowed):
        return "for other verbs"
    return ""
