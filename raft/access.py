"""Who may do what: verbs, roles, grants, and what a token leaves of them.

Pure, and the same on every node. Whoever is refused here is refused by the replicated state itself, whatever the node that
took the call believed. Rights are additive: what no grant gives is denied. A grant is for a namespace, or for EVERYWHERE: all
namespaces, and what belongs to none (queues, workers, members, keys).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from horologe.log.v1 import log_pb2
from horologe.raft.tables import Tables
from horologe.v1 import access_pb2

EVERYWHERE = "*"
GROUP_PREFIX = "group:"
OIDC_PREFIX = "oidc:"
WORKER_PREFIX = "worker:"
"""Of principals that a certificate makes, and that have no rights."""
SECURE_KEY = b"secure"
"""In the meta table once the cluster has security."""


class Verb(StrEnum):
    """What can be allowed. The text is what people write in grants and tokens."""

    JOB_READ = "job.read"
    """Jobs, executions, ledgers, calendars, limits, namespaces, operations, notifications: all but what they print."""
    JOB_WRITE = "job.write"
    JOB_RUN = "job.run"
    """Run, rerun, backfill, drive again."""
    JOB_PAUSE = "job.pause"
    """Of others, and of whole namespaces; for one's own jobs JOB_WRITE is enough."""
    JOB_CANCEL = "job.cancel"
    """Of others; for executions of one's own jobs JOB_WRITE is enough."""
    DEAD_LETTER_PURGE = "dead_letter.purge"
    OUTPUT_READ = "output.read"
    CALENDAR_WRITE = "calendar.write"
    LIMIT_WRITE = "limit.write"
    NAMESPACE_WRITE = "namespace.write"
    """Retention and quotas."""
    SECRET_LIST = "secret.list"
    SECRET_USE = "secret.use"
    """Name secrets in jobs."""
    SECRET_WRITE = "secret.write"
    NOTIFICATION_WRITE = "notification.write"
    QUEUE_READ = "queue.read"
    QUEUE_WRITE = "queue.write"
    WORKER_READ = "worker.read"
    WORKER_DRAIN = "worker.drain"
    ACCESS_READ = "access.read"
    ACCESS_WRITE = "access.write"
    AUDIT_READ = "audit.read"
    CLUSTER_READ = "cluster.read"
    CLUSTER_WRITE = "cluster.write"
    """Members, leadership, keys."""
    CLUSTER_BACKUP = "cluster.backup"
    """Take the whole state away, secrets' values included."""


_VIEWER = frozenset(
    {Verb.JOB_READ, Verb.OUTPUT_READ, Verb.SECRET_LIST, Verb.QUEUE_READ, Verb.WORKER_READ, Verb.CLUSTER_READ}
)
_EDITOR = _VIEWER | {Verb.JOB_WRITE, Verb.JOB_RUN, Verb.SECRET_USE, Verb.CALENDAR_WRITE}
_OPERATOR = _EDITOR | {
    Verb.JOB_PAUSE,
    Verb.JOB_CANCEL,
    Verb.DEAD_LETTER_PURGE,
    Verb.LIMIT_WRITE,
    Verb.NOTIFICATION_WRITE,
    Verb.QUEUE_WRITE,
    Verb.WORKER_DRAIN,
}
ROLE_VERBS: Mapping[int, frozenset[str]] = {
    access_pb2.ROLE_UNSPECIFIED: frozenset(),
    access_pb2.ROLE_VIEWER: frozenset(_VIEWER),
    access_pb2.ROLE_EDITOR: frozenset(_EDITOR),
    access_pb2.ROLE_OPERATOR: frozenset(_OPERATOR),
    access_pb2.ROLE_ADMIN: frozenset(Verb),
}


@dataclass(frozen=True, slots=True)
class Rights:
    """Verbs by namespace, EVERYWHERE among them."""

    verbs: Mapping[str, frozenset[str]]

    def may(self, verb: str, namespace: str) -> bool:
        """Whether the verb is allowed in this namespace, or, for EVERYWHERE, for what belongs to none."""
        return verb in self.verbs.get(EVERYWHERE, ()) or verb in self.verbs.get(namespace, ())

    def may_somewhere(self, verb: str) -> bool:
        """Whether there is any namespace in which the verb is allowed: for what everybody with a part in it may see."""
        return any(verb in verbs for verbs in self.verbs.values())


NOTHING = Rights({})
ALL = Rights({EVERYWHERE: frozenset(Verb)})
"""In a cluster without security."""


def is_secure(tables: Tables) -> bool:
    """Whether rights count in this cluster."""
    return tables.meta.get(SECURE_KEY) is not None


def grant_key(subject: str, namespace: str) -> bytes:
    return subject.encode() + b"\0" + namespace.encode()


def grants_of(tables: Tables, subject: str) -> Iterator[access_pb2.Grant]:
    """All grants of a principal or a group, without what it has through groups."""
    start = grant_key(subject, "")
    for key, raw in tables.grant.scan(start):
        if not key.startswith(start):
            return
        yield log_pb2.GrantRecord.FromString(raw).grant


def rights_of(tables: Tables, principal: str, groups: Iterable[str]) -> Rights:
    """What a principal may do, its groups' grants included. A disabled one may do nothing."""
    raw = tables.principal.get(principal.encode())
    if raw is not None and log_pb2.PrincipalRecord.FromString(raw).disabled:
        return NOTHING
    verbs: dict[str, frozenset[str]] = {}
    for subject in (principal, *(GROUP_PREFIX + group for group in groups)):
        for grant in grants_of(tables, subject):
            given = ROLE_VERBS[grant.role] | frozenset(grant.verbs)
            verbs[grant.namespace] = verbs.get(grant.namespace, frozenset()) | given
    return Rights(verbs)


def verbs_in_scope(token: log_pb2.PutToken) -> frozenset[str] | None:
    """For which verbs the token is of use at all; None: for any."""
    return ROLE_VERBS[token.role] | frozenset(token.verbs) if token.role or token.verbs else None


def within_scope(rights: Rights, token: log_pb2.PutToken) -> Rights:
    """What the token leaves of its principal's rights."""
    allowed = verbs_in_scope(token)
    left: dict[str, frozenset[str]] = {}
    everywhere = rights.verbs.get(EVERYWHERE, frozenset())
    is_anywhere = not token.namespaces or EVERYWHERE in token.namespaces
    for namespace in rights.verbs if is_anywhere else token.namespaces:
        verbs = rights.verbs.get(namespace, frozenset()) | everywhere
        left[namespace] = verbs if allowed is None else verbs & allowed
    return Rights(left)
