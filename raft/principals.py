"""Tokens, grants and principals: made, changed and taken away. What they allow is in access.py."""

from __future__ import annotations

from collections.abc import Iterable

from horologe.log.v1 import log_pb2
from horologe.raft.access import (
    EVERYWHERE,
    GROUP_PREFIX,
    ROLE_VERBS,
    SECURE_KEY,
    WORKER_PREFIX,
    Verb,
    grant_key,
    is_secure,
)
from horologe.raft.model import Code, Result
from horologe.raft.records import U32
from horologe.raft.state import State
from horologe.v1 import access_pb2

GROUPS_MAX = 100
GROUP_BYTES_MAX = 200
"""Of what an identity provider says."""


def begin_security(state: State, command: log_pb2.BeginSecurity) -> Result:
    """From now on rights count; the first administrator has all of them. Later ones change nothing."""
    if is_secure(state.tables):
        return Result(Code.ALREADY_SECURE)
    state.tables.meta.put(SECURE_KEY, b"\1")
    grant = access_pb2.Grant(subject=command.admin.principal, namespace=EVERYWHERE, role=access_pb2.ROLE_ADMIN)
    set_grant(state, log_pb2.SetGrant(grant=grant))
    return put_token(state, command.admin)


def put_token(state: State, command: log_pb2.PutToken) -> Result:
    """A token for a principal, which comes into being with it."""
    key = command.id.encode()
    if state.tables.token.get(key) is not None:
        return Result(Code.TOKEN_EXISTS, text=command.id)
    known_principal(state, command.principal)
    record = log_pb2.TokenRecord(token=command, create_time_ms=state.now_ms)
    state.tables.token.put(key, record.SerializeToString(deterministic=True))
    return Result(Code.OK)


def revoke_token(state: State, command: log_pb2.RevokeToken) -> Result:
    """For ever. The record stays, so that what was done with it keeps a name."""
    record = find_token(state, command.id)
    if record is None:
        return Result(Code.TOKEN_NOT_FOUND, text=command.id)
    record.revoked = True
    state.tables.token.put(command.id.encode(), record.SerializeToString(deterministic=True))
    return Result(Code.OK)


def note_token_uses(state: State, command: log_pb2.NoteTokenUses) -> Result:
    """What nodes have noticed. Never goes back."""
    for use in command.uses:
        record = find_token(state, use.id)
        if record is not None and use.time_ms > record.last_use_time_ms:
            record.last_use_time_ms = use.time_ms
            state.tables.token.put(use.id.encode(), record.SerializeToString(deterministic=True))
    return Result(Code.OK)


def set_grant(state: State, command: log_pb2.SetGrant) -> Result:
    """In place of what the subject had in this namespace. The last administrator of the cluster stays one."""
    grant = command.grant
    if grant.namespace == EVERYWHERE and not _governs(grant) and _is_last_admin(state, grant.subject):
        return Result(Code.LAST_ADMIN, text=grant.subject)
    if not grant.subject.startswith(GROUP_PREFIX):
        known_principal(state, grant.subject)
    record = log_pb2.GrantRecord(grant=grant, update_time_ms=state.now_ms)
    key = grant_key(grant.subject, grant.namespace)
    state.tables.grant.put(key, record.SerializeToString(deterministic=True))
    state.owners.clear()
    return Result(Code.OK)


def delete_grant(state: State, command: log_pb2.DeleteGrant) -> Result:
    """The subject has no rights in this namespace any more, but those that it has everywhere."""
    key = grant_key(command.subject, command.namespace)
    if state.tables.grant.get(key) is None:
        return Result(Code.GRANT_NOT_FOUND, text=command.subject)
    if command.namespace == EVERYWHERE and _is_last_admin(state, command.subject):
        return Result(Code.LAST_ADMIN, text=command.subject)
    state.tables.grant.delete(key)
    state.owners.clear()
    return Result(Code.OK)


def set_principal(state: State, command: log_pb2.SetPrincipal) -> Result:
    """A disabled one may do nothing, and its jobs do not run. So a worker's certificate that was stolen is of no use any more."""
    if command.disabled and command.name.startswith(WORKER_PREFIX) and is_secure(state.tables):
        # Workers have no grants and no tokens, and so are not known yet.
        known_principal(state, command.name)
    record = find_principal(state, command.name)
    if record is None:
        return Result(Code.PRINCIPAL_NOT_FOUND, text=command.name)
    if command.disabled and _is_last_admin(state, command.name):
        return Result(Code.LAST_ADMIN, text=command.name)
    record.disabled = command.disabled
    put_principal(state, command.name, record)
    state.owners.clear()
    return Result(Code.OK, (record.id,))


def remember_groups(state: State, name: str, groups: Iterable[str]) -> None:
    """What the identity provider says now, for the jobs that run in this principal's name."""
    fitting = fitting_groups(groups)
    record = find_principal(state, name)
    if fitting == ([] if record is None else list(record.groups)):
        return
    record = known_principal(state, name)
    record.groups[:] = fitting
    put_principal(state, name, record)
    state.owners.clear()


def fitting_groups(groups: Iterable[str]) -> list[str]:
    """Those that can be the subject of a grant, as many as are remembered."""
    fitting = {group for group in groups if group and "\0" not in group and len(group.encode()) <= GROUP_BYTES_MAX}
    return sorted(fitting)[:GROUPS_MAX]


def count_job(state: State, name: str, by: int) -> int:
    """A job more, or less, runs in the name of a principal. Answers its number; 0 for nobody."""
    if not name:
        return 0
    record = known_principal(state, name)
    record.job_count += by
    put_principal(state, name, record)
    return record.id


def known_principal(state: State, name: str) -> log_pb2.PrincipalRecord:
    """The record of a principal, who comes into being if nobody has heard of it."""
    record = find_principal(state, name)
    if record is None:
        state.counters.last_principal += 1
        record = log_pb2.PrincipalRecord(id=state.counters.last_principal)
        put_principal(state, name, record)
        state.tables.principal_name.put(U32.pack(record.id), name.encode())
    return record


def find_principal(state: State, name: str) -> log_pb2.PrincipalRecord | None:
    raw = state.tables.principal.get(name.encode())
    return None if raw is None else log_pb2.PrincipalRecord.FromString(raw)


def put_principal(state: State, name: str, record: log_pb2.PrincipalRecord) -> None:
    state.tables.principal.put(name.encode(), record.SerializeToString(deterministic=True))


def find_token(state: State, id_: str) -> log_pb2.TokenRecord | None:
    raw = state.tables.token.get(id_.encode())
    return None if raw is None else log_pb2.TokenRecord.FromString(raw)


def _governs(grant: access_pb2.Grant) -> bool:
    return Verb.ACCESS_WRITE in ROLE_VERBS[grant.role] or Verb.ACCESS_WRITE in grant.verbs


def _is_last_admin(state: State, subject: str) -> bool:
    """Whether nobody but this subject could give rights everywhere. Groups do not count: nobody knows who is in them."""
    others, is_one = False, False
    for _, raw in state.tables.grant.scan():
        grant = log_pb2.GrantRecord.FromString(raw).grant
        if grant.namespace != EVERYWHERE or grant.subject.startswith(GROUP_PREFIX) or not _governs(grant):
            continue
        if grant.subject == subject:
            is_one = True
            continue
        record = find_principal(state, grant.subject)
        others = others or (record is not None and not record.disabled)
    return is_one and not others
