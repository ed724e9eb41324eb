"""The gateway: the sessions of the workers that are connected to this node.

Assignments come out of this node's own apply, so nothing that is not committed is ever dispatched. Heartbeats go to the
leader and are acknowledged only when it has renewed the lease. Outcomes are collected, proposed together, and acknowledged
after they are committed; output is where it will stay (output_copies.py) before the outcome that refers to it is proposed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

import structlog

from horologe.log.v1 import log_pb2
from horologe.node.catalog import Catalog
from horologe.node.conduct import Conduct, Note, Offence
from horologe.node.context import NodeContext
from horologe.node.outcomes import Reported, batches, is_plausible, pack_outcomes, retry_delay_ms
from horologe.node.output_copies import OutputCopies
from horologe.node.outputs import OutputKey, OutputPiece, OutputStore, Stream
from horologe.node.proposals import ProposalError
from horologe.node.sessions import HeldAttempt, HeldOutput, WorkerSession
from horologe.node.upstream_results import upstream_results
from horologe.raft.commands import NO_RETRY, CompletionStatus
from horologe.raft.model import Effects, ExecutionFlag, ExecutionState
from horologe.raft.records import PAIR, U64, Execution
from horologe.raft.secrets import find_secret, secret_name
from horologe.raft.step import Inbox
from horologe.raft.tables import Tables
from horologe.v1 import worker_pb2, worker_service_pb2

PROPOSE_SECONDS = 15.0
PROPOSE_AGAIN_SECONDS = 0.2
ASSIGNMENT_BYTES_PER_MESSAGE = 1 << 20
"""What goes along with assignments (results of others, payloads) may be large, and gRPC takes messages of up to 4 MiB."""
PLAIN_JOBS_MAX = 200_000
"""Jobs whose revision is remembered: some 25 MiB."""
CHUNK_BYTES_MAX = 64 << 10
"""Of one piece of output. Workers send no larger ones; what one has too much is cut, and the output marked as cut."""
ACK_SECONDS = 0.05
"""So long what was recorded waits to be acknowledged together with what comes after it. A worker waits for it only at its end."""
ROUNDS_KEPT = 100
"""Heartbeat rounds whose answer may still come."""

Response = worker_service_pb2.ConnectResponse
log = structlog.get_logger(__name__)


class Gateway:
    """All sessions of this node. Belongs to the event loop."""

    def __init__(
        self, context: NodeContext, outputs: OutputStore, copies: OutputCopies, note: Note | None = None
    ) -> None:
        """`note` writes into the audit log what workers do that they must not."""
        self._context = context
        self.conduct = Conduct(context.clock, note)
        self._outputs = outputs
        self._copies = copies
        self._catalog = Catalog()
        self._plain_revisions: dict[int, int] = {}
        """Of jobs that name no secrets: whoever has been sent their definition as of this revision needs nothing else of them."""
        self._replacements = context.store.replacements
        self._sessions: dict[int, WorkerSession] = {}
        self._rounds: dict[int, dict[int, int]] = {}
        self._round_numbers = itertools.count(1)
        self._heartbeats: dict[int, int] = {}
        self._reported: list[Reported] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None

    def numbers(self) -> list[int]:
        """The sessions of this node."""
        return list(self._sessions)

    def renewed_ms(self, number: int) -> int:
        """When the lease of a session of this node was renewed last; 0 if that is not known."""
        session = self._sessions.get(number)
        return 0 if session is None else session.renewed_ms

    # What the replica says

    def deliver(self, effects: Effects) -> None:
        """Carries out what an applied entry asks of this node's sessions."""
        for job in effects.jobs_changed:
            self._catalog.forget(job)
            self._plain_revisions.pop(job, None)
        if not self._sessions:
            return
        by_session: dict[int, list[tuple[int, int, int, int, int, int, int]]] = defaultdict(list)
        for assigned in effects.assigned:
            if assigned[0] in self._sessions:
                by_session[assigned[0]].append(assigned)
        if by_session:
            with self._context.store.read() as tables:
                for number, batch in by_session.items():
                    self._dispatch(tables, self._sessions[number], batch)
        for session_number, execution, attempt, token in effects.cancelled:
            concerned = self._sessions.get(session_number)
            if concerned is not None:
                ids = [worker_pb2.AttemptId(execution=execution, attempt=attempt, fencing_token=token)]
                concerned.send(Response(cancellation=worker_pb2.Cancellation(attempts=ids)))
        for session_number in effects.sessions_drained:
            drained = self._sessions.get(session_number)
            if drained is not None:
                drained.draining = True
                drained.send(Response(drain=worker_pb2.Drain()))
        self.end_sessions(effects.sessions_closed, "the session is over: connect again")

    def renewed(self, rounds: list[tuple[int, list[int]]]) -> None:
        """The leader has renewed these sessions: only now do their workers hear it."""
        for round_number, sessions in rounds:
            sequences = self._rounds.get(round_number, {})
            for number in sessions:
                session = self._sessions.get(number)
                if session is not None and number in sequences:
                    session.renewed_ms = self._context.clock.wall_ms()
                    session.send(Response(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=sequences[number])))

    def end_sessions(self, numbers: list[int], reason: str) -> None:
        for number in numbers:
            session = self._sessions.get(number)
            if session is not None:
                session.go_away(reason)

    def resync(self) -> None:
        """The state was replaced: look at every session again."""
        with self._context.store.read() as tables:
            for session in list(self._sessions.values()):
                if tables.session.get(U64.pack(session.number)) is None:
                    session.go_away("the session is over: connect again")
                else:
                    running = _running(tables, session.number)
                    self._dispatch(tables, session, running)
                    _repeat_cancellations(session, running)

    # What workers say

    async def open(self, session: WorkerSession, held: list[worker_pb2.AttemptId]) -> list[worker_pb2.AttemptId]:
        """Takes a session in; answers those of its held attempts that are no longer its own.

        What the state has for the session and the worker does not hold is sent to it, the same attempts under the same
        tokens: nothing was lost but the message.
        """
        outputs = await self._outputs_of(held)
        self._sessions[session.number] = session
        revoked: list[worker_pb2.AttemptId] = []
        with self._context.store.read() as tables:
            running = _running(tables, session.number)
            current = {assigned[1]: assigned for assigned in running}
            for attempt in held:
                assigned = current.get(attempt.execution)
                if assigned is None or assigned[5] != attempt.fencing_token:
                    revoked.append(attempt)
                    self.conduct.judge(tables, session.caller, session.worker, attempt, Offence.FOREIGN_ATTEMPT)
                else:
                    session.attempts[attempt.execution] = HeldAttempt(
                        attempt.fencing_token, attempt.attempt, assigned[2], outputs.get(attempt.execution)
                    )
            self._dispatch(tables, session, running)
            _repeat_cancellations(session, running)
        return revoked

    def close(self, session: WorkerSession) -> None:
        """The stream is over. The lease goes on; only a worker that said goodbye with empty hands ends its session."""
        if self._sessions.get(session.number) is session:
            del self._sessions[session.number]
        self._heartbeats.pop(session.number, None)

    def heartbeat(self, session: WorkerSession, sequence: int) -> None:
        """Collects the heartbeats of one turn of the loop into one round."""
        if not self._heartbeats:
            asyncio.get_running_loop().call_soon(self._send_heartbeats)
        self._heartbeats[session.number] = sequence

    def output(self, session: WorkerSession, chunk: worker_pb2.OutputChunk) -> None:
        held = session.attempts.get(chunk.execution)
        if held is None or held.token != chunk.fencing_token:
            attempt = worker_pb2.AttemptId(execution=chunk.execution, fencing_token=chunk.fencing_token)
            with self._context.store.read() as tables:
                self.conduct.judge(tables, session.caller, session.worker, attempt, Offence.FOREIGN_OUTPUT)
            return
        if chunk.stream not in (Stream.STDOUT, Stream.STDERR):
            return
        if held.output is None:
            held.output = self._begin_output(chunk.execution, held)
        output = held.output
        if output is None or chunk.sequence <= output.last_sequence:
            return
        # A worker forgets the oldest output when a broken stream lets too much of it pile up.
        output.is_truncated |= chunk.sequence > output.last_sequence + 1
        output.last_sequence = chunk.sequence
        left = self._context.config.output_bytes_per_attempt_max - output.bytes_taken
        data = chunk.data[: max(0, min(left, CHUNK_BYTES_MAX))]
        output.is_truncated |= len(data) < len(chunk.data)
        if data:
            self._copies.add(output, OutputPiece(chunk.sequence, chunk.stream, bytes(data)))

    async def output_room(self) -> None:
        """Waits while more output came in than the disks take."""
        await self._copies.room()

    def results(self, session: WorkerSession, results: worker_pb2.AttemptResults) -> None:
        waiting: list[Reported] = []
        for result in results.results:
            if not is_plausible(result):
                # Nothing of ours: it must not reach the log, where every node would have to make sense of it.
                self.conduct.accuse(session.caller, session.worker, Offence.IMPOSSIBLE_NUMBERS)
                session.send(Response(result_acks=worker_pb2.ResultAcks(lease_lost=[_id_of(result)])))
                continue
            held = session.attempts.get(result.execution)
            if held is not None and held.token != result.fencing_token:
                held = None
            if held is not None:
                self._note_missing_output(result, held)
            if held is not None and held.output is not None:
                waiting.append((session, result, held))
            else:
                self._reported.append((session, result, held))
        if waiting:
            outputs = [held.output for _, _, held in waiting if held is not None and held.output is not None]
            self._copies.when_kept(outputs, lambda: self._report(waiting))
        self._schedule_flush()

    async def drained(self) -> None:
        """Waits until everything that was reported is settled."""
        await self._copies.settled()
        while self._flushing is not None or self._settling:
            flushing = [self._flushing] if self._flushing is not None else []
            await asyncio.gather(*flushing, *self._settling, return_exceptions=True)
        for session in self._sessions.values():
            session.acknowledge()

    # Inside

    async def _outputs_of(self, held: list[worker_pb2.AttemptId]) -> dict[int, HeldOutput]:
        """What attempts printed here before their stream broke."""
        with self._context.store.read() as tables:
            keys = [_output_key(tables, attempt.execution, attempt.fencing_token) for attempt in held]
        here = (self._context.config.name,)

        def measure() -> dict[int, HeldOutput]:
            extents = [(key, self._outputs.extent(key)) for key in keys if key is not None]
            return {
                key.execution: HeldOutput(key, extent.bytes_kept, extent.last_sequence, nodes=here)
                for key, extent in extents
                if extent.last_sequence >= 0
            }

        return await asyncio.to_thread(measure) if held else {}

    def _note_missing_output(self, result: worker_pb2.AttemptResult, held: HeldAttempt) -> None:
        """A worker whose stream broke has not the memory to send everything again; what is missing may be on another node."""
        came = held.output.last_sequence + 1 if held.output is not None else 0
        if result.output_chunk_count > came:
            held.output = held.output or self._begin_output(result.execution, held)
            if held.output is not None:
                held.output.is_truncated = True

    def _begin_output(self, execution: int, held: HeldAttempt) -> HeldOutput | None:
        with self._context.store.read() as tables:
            key = _output_key(tables, execution, held.token)
        return None if key is None else HeldOutput(key)

    def _dispatch(
        self, tables: Tables, session: WorkerSession, batch: list[tuple[int, int, int, int, int, int, int]]
    ) -> None:
        self._follow_store()
        message, size = worker_pb2.Assignments(), 0
        for _, number, job, attempt, due_ms, token, flags in batch:
            held = session.attempts.get(number)
            if held is not None and held.token == token:
                continue
            record = None
            if self._plain_revisions.get(job, -1) != session.sent_revisions.get(job, 0):
                record = self._look_at(tables, job)
                if record is None:
                    continue
                if session.sent_revisions.get(job) != record.revision:
                    session.sent_revisions[job] = record.revision
                    message.definitions.append(_definition(record))
                    size += message.definitions[-1].ByteSize()
            assignment = message.assignments.add(
                execution=number, job=job, attempt=attempt, fencing_token=token, due_time_ms=due_ms
            )
            if flags & ExecutionFlag.HAS_DETAIL:
                detail = log_pb2.ExecutionRecord.FromString(bytes(tables.detail.get(U64.pack(number)) or b""))
                if detail.HasField("payload"):
                    assignment.payload.CopyFrom(detail.payload)
            if flags & ExecutionFlag.HAS_UPSTREAM:
                assignment.upstream.extend(upstream_results(tables, self._catalog, number))
            if self._context.tracing is not None:
                execution = Execution.unpack(bytes(tables.execution.get(U64.pack(number)) or b""))
                run = execution.root or number
                assignment.traceparent = self._context.tracing.traceparent(tables, run, number, attempt)
            if record is not None and record.secrets:
                _add_secrets(tables, record, assignment)
            size += assignment.ByteSize()
            session.attempts[number] = HeldAttempt(token, attempt, job)
            if size >= ASSIGNMENT_BYTES_PER_MESSAGE:
                session.send(Response(assignments=message))
                message, size = worker_pb2.Assignments(), 0
        if message.assignments:
            session.send(Response(assignments=message))

    def _follow_store(self) -> None:
        """A state that took the place of ours may hold changes of jobs of which no entry has told here. For use within a read."""
        if self._replacements != self._context.store.replacements:
            self._replacements = self._context.store.replacements
            self._catalog.clear()
            self._plain_revisions.clear()

    def _look_at(self, tables: Tables, job: int) -> log_pb2.JobRecord | None:
        record = self._catalog.record(tables, job)
        if record is not None and not record.secrets:
            if job not in self._plain_revisions and len(self._plain_revisions) >= PLAIN_JOBS_MAX:
                self._plain_revisions.clear()
            self._plain_revisions[job] = record.revision
        return record

    def _send_heartbeats(self) -> None:
        heartbeats, self._heartbeats = self._heartbeats, {}
        if heartbeats:
            round_number = next(self._round_numbers)
            self._rounds[round_number] = heartbeats
            self._rounds.pop(round_number - ROUNDS_KEPT, None)
            self._context.submit(Inbox(heartbeats=[(round_number, list(heartbeats))]))

    def _report(self, reported: list[Reported]) -> None:
        self._reported += reported
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        """One flush at a time: what comes in meanwhile goes together into the next one, and never overtakes."""
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="flush")

    async def _flush(self) -> None:
        try:
            while self._reported:
                # One turn of the loop, so that everything that came in with it goes together.
                await asyncio.sleep(0)
                reported, self._reported = self._reported, []
                for batch in batches(reported):
                    task = asyncio.create_task(self._settle(batch))
                    self._settling.add(task)
                    task.add_done_callback(self._settling.discard)
        finally:
            self._flushing = None

    async def _settle(self, reported: list[Reported]) -> None:
        """Proposes outcomes until the cluster has said what became of each."""
        with self._context.store.read() as tables:
            self._follow_store()
            reported = [entry for entry in reported if self._is_own(tables, entry)]
            delays = [self._retry_delay_ms(tables, entry) for entry in reported]
        if not reported:
            return
        command = log_pb2.Command(complete=pack_outcomes(reported, delays))
        while True:
            try:
                result = await self._context.proposals.propose(command, PROPOSE_SECONDS)
                break
            except ProposalError as error:
                log.info("outcomes wait for a leader", count=len(reported), error=str(error))
                await asyncio.sleep(PROPOSE_AGAIN_SECONDS)
        recorded, wake_followers = CompletionStatus.RECORDED, self._outputs.wake_followers
        for (session, outcome, held), status in zip(reported, result.numbers, strict=True):
            execution, attempt = outcome.execution, outcome.attempt
            acks = session.acks
            if acks is None:
                acks = session.acks = worker_pb2.ResultAcks()
                self._acknowledge_soon(session)
            line = acks.recorded if status == recorded else acks.lease_lost
            line.add(execution=execution, attempt=attempt, fencing_token=outcome.fencing_token)
            if held is not None and session.attempts.get(execution) is held:
                del session.attempts[execution]
                wake_followers(execution, attempt)

    def _acknowledge_soon(self, session: WorkerSession) -> None:
        if session.draining or self._context.is_draining:
            asyncio.get_running_loop().call_soon(session.acknowledge)
        else:
            asyncio.get_running_loop().call_later(ACK_SECONDS, session.acknowledge)

    def _is_own(self, tables: Tables, entry: Reported) -> bool:
        """A worker may report only what it was given. Outcomes under an old token go on: refusing them is on the record."""
        session, outcome, held = entry
        if held is not None:
            return True
        self.conduct.judge(tables, session.caller, session.worker, _id_of(outcome), Offence.FOREIGN_RESULT)
        raw = tables.execution.get(U64.pack(outcome.execution))
        execution = Execution.unpack(raw) if raw is not None else None
        if execution is None or execution.token != outcome.fencing_token or execution.session == session.number:
            return True
        session.send(Response(result_acks=worker_pb2.ResultAcks(lease_lost=[_id_of(outcome)])))
        return False

    def _retry_delay_ms(self, tables: Tables, entry: Reported) -> int:
        outcome = entry[1]
        if outcome.outcome == worker_pb2.AttemptResult.OUTCOME_SUCCEEDED:
            return 0
        raw = tables.execution.get(U64.pack(outcome.execution))
        execution = Execution.unpack(raw) if raw is not None else None
        record = self._catalog.record(tables, execution.job) if execution is not None else None
        if execution is None or record is None:
            return NO_RETRY
        attempts = outcome.attempt - execution.attempt_base
        return retry_delay_ms(outcome, record.job.retry, attempts, self._context.randomness)


def _running(tables: Tables, session: int) -> list[tuple[int, int, int, int, int, int, int]]:
    found = []
    for key, _ in tables.running.scan(PAIR.pack(session, 0)):
        owner, number = PAIR.unpack(key)
        if owner != session:
            break
        raw = tables.execution.get(U64.pack(number))
        execution = Execution.unpack(raw) if raw is not None else None
        if execution is not None and execution.state == ExecutionState.RUNNING:
            found.append(
                (session, number, execution.job, execution.attempt, execution.due_ms, execution.token, execution.flags)
            )
    return found


def _output_key(tables: Tables, number: int, token: int) -> OutputKey | None:
    """None for an attempt that is over: nobody refers to what it still prints."""
    raw = tables.execution.get(U64.pack(number))
    execution = Execution.unpack(raw) if raw is not None else None
    if execution is None or execution.token != token:
        return None
    return OutputKey(number, execution.attempt, execution.assign_ms)


def _repeat_cancellations(session: WorkerSession, running: list[tuple[int, int, int, int, int, int, int]]) -> None:
    """A cancellation that came while the session's stream was away would be lost: nobody else says it again."""
    ids = [
        worker_pb2.AttemptId(execution=number, attempt=attempt, fencing_token=token)
        for _, number, _, attempt, _, token, flags in running
        if flags & (ExecutionFlag.CANCEL_REQUESTED | ExecutionFlag.TIME_IS_UP)
    ]
    if ids:
        session.send(Response(cancellation=worker_pb2.Cancellation(attempts=ids)))


def _definition(record: log_pb2.JobRecord) -> worker_pb2.Definition:
    return worker_pb2.Definition(
        job=record.id,
        job_name=record.job.name,
        action=record.job.action,
        timeout=record.job.timeout,
        grace=record.job.grace,
        max_attempts=record.job.retry.max_attempts,
        etag=str(record.revision),
        labels=record.job.labels,
        output_bytes_max=record.job.output_bytes_max,
    )


def _add_secrets(tables: Tables, record: log_pb2.JobRecord, assignment: worker_pb2.Assignment) -> None:
    """The values as they are now.

    One that is not there any more can only be a deleted job's. The attempt goes out without it: its template cannot be rendered
    then, which ends it with an error that names the secret, where an empty value would let it run and do something else.
    """
    for id_ in record.secrets:
        secret = find_secret(tables, secret_name(record.job.name, id_))
        if secret is not None:
            assignment.secrets[id_] = secret.value.decode()


def _id_of(outcome: worker_pb2.AttemptResult) -> worker_pb2.AttemptId:
    return worker_pb2.AttemptId(
        execution=outcome.execution, attempt=outcome.attempt, fencing_token=outcome.fencing_token
    )
