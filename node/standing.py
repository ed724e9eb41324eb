"""What a caller is worth as the state stands: whether its proof still holds, and its rights."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node.callers import Caller
from horologe.node.errors import ApiError
from horologe.raft.access import Rights, rights_of, within_scope
from horologe.raft.tables import Tables


def rights_now(tables: Tables, caller: Caller, now_ms: int) -> Rights:
    """What the caller may do, its token's scope considered. Raises an ApiError if its proof is of no use any more."""
    raw = tables.principal.get(caller.principal.encode())
    principal = log_pb2.PrincipalRecord.FromString(bytes(raw or b""))
    if principal.disabled or 0 < caller.expire_time_ms <= now_ms:
        raise unauthenticated()
    rights = rights_of(tables, caller.principal, principal.groups if caller.groups is None else caller.groups)
    if caller.proof != "token":
        return rights
    raw = tables.token.get(caller.token.encode())
    record = log_pb2.TokenRecord.FromString(bytes(raw or b""))
    if raw is None or record.revoked or 0 < record.token.expire_time_ms <= now_ms:
        raise unauthenticated()
    return within_scope(rights, record.token)


def unauthenticated() -> ApiError:
    """Never says what was wrong."""
    return ApiError(
        "UNAUTHENTICATED",
        "the cluster does not know who calls; send a valid token (metadata `authorization: Bearer hlg_...`), or come to the "
        "workers' port with a certificate of the cluster",
    )
