"""What workers do that no worker of ours does: noticed, counted, and named in the audit log.

A worker is not trusted: it may be somebody else's program under a certificate of ours. What it must not do is refused where it
arrives (gateway.py, worker_service.py); here is judged what of that can only be a lie. What is merely late is none: a lease
that ran out while the result was on its way, or an execution whose history is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import structlog

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.callers import Caller
from horologe.node.clock import Clock
from horologe.node.rate_limits import TokenBuckets
from horologe.raft.model import Counters
from horologe.raft.tables import Tables
from horologe.v1 import worker_pb2

MESSAGES_PER_SECOND_MAX, MESSAGES_BURST = 5_000.0, 10_000.0
"""Of one stream: more than a worker with all its slots needs, and less than a node can read. Who sends more waits."""
RESULTS_PER_MESSAGE_MAX = 10_000
"""As many as a worker can have slots."""
ACCUSATIONS_PER_SECOND, ACCUSATIONS_BURST = 1.0, 20.0
"""Of one worker: what comes beyond is counted under one record."""
JUDGED_PER_SECOND, JUDGED_BURST = 20.0, 200.0
"""Looks into the state for what one worker says of attempts that it does not have."""

BROKEN_OFF = "BROKEN_OFF"
"""The reason in the audit record of a stream that ended without goodbye: the worker's process or connection is gone, it cancelled
the call, or it sent a message so large that gRPC refused it by its announced length, of which a node hears nothing else."""

Note = Callable[[Caller, str, Sequence[str]], None]
log = structlog.get_logger(__name__)


class Offence(StrEnum):
    """What a worker did. The text is the reason in its audit record."""

    FOREIGN_RESULT = "FOREIGN_RESULT"
    """It reported an attempt that another worker has, or that nobody was ever given."""
    FOREIGN_OUTPUT = "FOREIGN_OUTPUT"
    """It printed for one."""
    FOREIGN_ATTEMPT = "FOREIGN_ATTEMPT"
    """It came back with one."""
    IMPOSSIBLE_NUMBERS = "IMPOSSIBLE_NUMBERS"
    UNEXPECTED_MESSAGE = "UNEXPECTED_MESSAGE"
    """No hello at first, or another one later, or one that breaks the rules."""
    FALSE_NAME = "FALSE_NAME"
    """Its hello says what its certificate does not bear out."""
    FLOOD = "FLOOD"


class Conduct:
    """Of all workers of one node. Belongs to the event loop."""

    def __init__(self, clock: Clock, note: Note | None) -> None:
        """`note` writes into the audit log; None where nobody knows who a worker is."""
        self._clock = clock
        self._note = note
        self._accusations = TokenBuckets(ACCUSATIONS_PER_SECOND, ACCUSATIONS_BURST)
        self._judged = TokenBuckets(JUDGED_PER_SECOND, JUDGED_BURST)
        self.offence_count = 0

    def accuse(self, caller: Caller, worker: str, offence: Offence, objects: Sequence[str] = ()) -> None:
        """Writes down what a worker did."""
        self.offence_count += 1
        is_detailed = not self._accusations.take(worker, self._clock.monotonic())
        if is_detailed:
            log.warning("a worker does what it must not", worker=worker, offence=offence, objects=list(objects))
        if self._note is not None:
            self._note(caller, offence, objects if is_detailed else ())

    def broke_off(self, caller: Caller, worker: str) -> None:
        """Writes down that a worker's stream broke off, which happens to honest ones as well."""
        if self._note is not None:
            self._note(caller, BROKEN_OFF, [f"workers/{worker}"])

    def judge(self, tables: Tables, caller: Caller, worker: str, attempt: worker_pb2.AttemptId, lie: Offence) -> None:
        """Accuses the worker of a lie if what it says of an attempt that it does not have can be nothing else."""
        if not self._judged.take(worker, self._clock.monotonic()) and is_lie(tables, worker, attempt):
            self.accuse(caller, worker, lie, [f"namespaces/-/jobs/-/executions/{attempt.execution}"])


def is_lie(tables: Tables, worker: str, attempt: worker_pb2.AttemptId) -> bool:
    """Whether no worker of this name can ever have had the attempt, for certain.

    This node has applied the beginning of the worker's session, and with it everything that the worker was given before.
    """
    counters = Counters.load(tables)
    if attempt.execution > counters.last_execution or attempt.fencing_token > counters.revision:
        return True
    execution = views.read_execution(tables, attempt.execution)
    if execution is None:
        return False
    if execution.token == attempt.fencing_token:
        session = views.read_session(tables, execution.session)
        return session is not None and session.open.worker != worker
    past: log_pb2.AttemptRecord
    for past in views.read_detail(tables, attempt.execution, execution).attempts:
        if past.token == attempt.fencing_token:
            return past.worker != worker
    return False
