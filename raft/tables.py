"""The tables of the replicated state: what a table can do, which ones there are, and what lies in each.

Here belongs the shape only: store.py implements it over LMDB, tests over dicts; what a value means is in records.py and
horologe.log.v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from horologe.raft.recent import Recent


class Table(Protocol):
    """A sorted map of bytes. Key order is byte order, so packed big-endian keys sort by value."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, /) -> object: ...
    def put_new(self, key: bytes, value: bytes, /) -> bool:
        """Does nothing, and answers False, if the key is there."""

    def delete(self, key: bytes, /) -> bool: ...
    def scan(self, start: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Pairs from `start` on, upwards. The table must not change while the iterator is in use."""

    def scan_down(self, start: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """Pairs from below `start` downwards."""


class SetTable(Protocol):
    """A sorted map of bytes to sorted sets of values of one size."""

    def put(self, key: bytes, value: bytes, /) -> object: ...
    def delete(self, key: bytes, value: bytes, /) -> bool: ...
    def scan(self, start: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]: ...


class Tables(Protocol):
    """All tables of one transaction; store.py implements it over LMDB, tests over dicts."""

    @property
    def recent(self) -> Recent: ...  # beside the tables: see recent.py
    @property
    def meta(self) -> Table: ...  # name -> see Counters; cluster identity
    @property
    def job(self) -> Table: ...  # job -> log.v1.JobRecord
    @property
    def job_name(self) -> Table: ...  # name -> job
    @property
    def job_state(self) -> Table: ...  # job -> JobState
    @property
    def timer(self) -> SetTable: ...  # see wheel.py
    @property
    def execution(self) -> Table: ...  # execution -> Execution
    @property
    def detail(self) -> Table: ...  # execution -> log.v1.ExecutionRecord
    @property
    def ready(self) -> Table: ...  # queue, 9 - priority, due, execution -> nothing
    @property
    def running(self) -> Table: ...  # session, execution -> deadline, token, attempt
    @property
    def session(self) -> Table: ...  # session -> log.v1.SessionRecord
    @property
    def worker(self) -> Table: ...  # name -> worker, session
    @property
    def worker_name(self) -> Table: ...  # worker -> name
    @property
    def queue(self) -> Table: ...  # a queue's name, and labels -> lane: see lanes.py
    @property
    def ledger(self) -> Table: ...  # job, due, execution (manual) or 0 -> LedgerEntry
    @property
    def held(self) -> Table: ...  # job, execution -> nothing: see overlap.py
    @property
    def namespace(self) -> Table: ...  # name -> namespace, log.v1.NamespaceRecord
    @property
    def queue_setting(self) -> Table: ...  # queue's name -> log.v1.QueueRecord
    @property
    def bucket(self) -> Table: ...  # queue, or namespace -> what its settings mean to a start, tokens: see rates.py
    @property
    def limit(self) -> Table: ...  # name -> log.v1.LimitRecord
    @property
    def job_limit(self) -> Table: ...  # job -> numbers of its limits
    @property
    def limit_use(self) -> Table: ...  # kind, limit -> running: see limits.py
    @property
    def limit_line(self) -> Table: ...  # kind, limit, lane, 9 - priority, due, execution -> nothing
    @property
    def parked(self) -> Table: ...  # namespace, job -> due: see pauses.py
    @property
    def calendar(self) -> Table: ...  # name -> log.v1.CalendarRecord
    @property
    def calendar_use(self) -> Table: ...  # calendar, job -> the calendar's revision that the job's due time rests on
    @property
    def dead(self) -> Table: ...  # namespace, end, execution -> fingerprint: see dead_letters.py
    @property
    def downstream(self) -> Table: ...  # job, job that is after it -> nothing: see dependencies.py
    @property
    def run(self) -> Table: ...  # root execution, job -> execution, state; root, 0 -> counts: see workflows.py
    @property
    def operation(self) -> Table: ...  # operation -> log.v1.OperationRecord: see operations.py
    @property
    def version(self) -> Table: ...  # job, revision -> log.v1.JobRecord: see versions.py
    @property
    def event(self) -> Table: ...  # revision -> packed events: see events.py
    @property
    def block(self) -> Table: ...  # execution >> BLOCK_BITS -> what its executions have in common: see search.py
    @property
    def by_state(self) -> Table: ...  # state, execution -> nothing, of those that did not end well: see search.py
    @property
    def apply_set(self) -> Table: ...  # name of a set, job -> nothing: see apply_sets.py
    @property
    def beside(self) -> Table: ...  # job, unfinished execution of an old due time -> nothing: see backfills.py
    @property
    def cancelling(self) -> Table: ...  # deleted job -> how far its executions are cancelled: see cancellation.py
    @property
    def facet(self) -> Table: ...  # kind, text, job's name, job -> nothing: see facets.py
    @property
    def lane(self) -> Table: ...  # lane -> its queue, and its key in `queue`
    @property
    def lane_use(self) -> Table: ...  # lane -> waiting, running
    @property
    def upstream(self) -> Table: ...  # job, job that it is after -> condition: see dependencies.py
    @property
    def tally(self) -> Table: ...  # root execution, job -> how those before it stand: see tallies.py
    @property
    def over(self) -> Table: ...  # namespace, end, execution -> nothing: see keeping.py
    @property
    def idle(self) -> Table: ...  # namespace, due, job -> nothing, of due times that made no execution
    @property
    def kept(self) -> Table: ...  # namespace -> how much history there is, and may be
    @property
    def token(self) -> Table: ...  # token's id -> log.v1.TokenRecord
    @property
    def principal(self) -> Table: ...  # name -> log.v1.PrincipalRecord
    @property
    def principal_name(self) -> Table: ...  # principal -> name
    @property
    def grant(self) -> Table: ...  # subject, 0, namespace -> log.v1.GrantRecord: see access.py
    @property
    def secret(self) -> Table: ...  # name -> log.v1.SecretRecord
    @property
    def audit(self) -> Table: ...  # number -> v1.AuditRecord: see audit.py
    @property
    def notification(self) -> Table: ...  # name -> log.v1.NotificationRecord
    @property
    def notice(self) -> Table: ...  # rule -> log.v1.RuleProgress: see notices.py
    @property
    def delivery(self) -> Table: ...  # rule, number -> v1.Delivery, without its name
    @property
    def request(self) -> Table: ...  # request id -> log.v1.RequestRecord
    @property
    def request_time(self) -> Table: ...  # time, request id -> nothing


TABLE_NAMES: tuple[str, ...] = (
    "meta",
    "job",
    "job_name",
    "job_state",
    "execution",
    "detail",
    "ready",
    "running",
    "session",
    "worker",
    "worker_name",
    "queue",
    "ledger",
    "request",
    "request_time",
    "held",
    "namespace",
    "queue_setting",
    "bucket",
    "limit",
    "job_limit",
    "limit_use",
    "limit_line",
    "parked",
    "calendar",
    "calendar_use",
    "dead",
    "downstream",
    "run",
    "operation",
    "version",
    "event",
    "block",
    "by_state",
    "apply_set",
    "beside",
    "facet",
    "lane",
    "lane_use",
    "upstream",
    "tally",
    "over",
    "idle",
    "kept",
    "cancelling",
    "token",
    "principal",
    "principal_name",
    "grant",
    "secret",
    "audit",
    "notification",
    "notice",
    "delivery",
)
SET_TABLE_NAMES: tuple[str, ...] = ("timer",)

ENCRYPTED_TABLE_NAMES: frozenset[str] = frozenset(
    {
        "meta",  # why a namespace is paused, and by whom
        "job",  # what is run: scripts, requests with their headers and bodies, payloads
        "version",  # the same, of earlier revisions
        "detail",  # payloads of manual runs, results, errors, rendered inputs of workflows
        "session",  # what workers say of themselves
        "queue_setting",  # why it is paused, and by whom
        "calendar",  # what its days are for
        "operation",  # what was asked for, and what became of it
        "request",  # answers that callers got
        "token",  # hashes, scopes, what people call their tokens
        "principal",  # groups
        "grant",  # who may do what: nobody shall write one into the file
        "secret",  # values
        "audit",  # who did what from where, before and after
        "notification",  # addresses and URLs of receivers
        "notice",  # what receivers answered
        "delivery",  # the same
    }
)
"""Tables whose values are encrypted on the disk, because they carry what people wrote, or what nobody else may write. All keys
stay readable, and so do the values of the other tables: numbers, times and states of a fixed size, which every execution touches.
docs/encryption.md says what of people's words is among that."""
