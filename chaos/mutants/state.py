"""Mutants of the replicated state: requests, due times, the clock that they go by, and what is read back from a disk."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from horologe.chaos.evidence import Kind
from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.clocks import START_MS
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.world import WorldOptions
from horologe.client import jobs
from horologe.log.v1 import log_pb2
from horologe.node import peers
from horologe.node.barriers import Barriers
from horologe.raft import executions, machine, sealed
from horologe.raft.clocks import PeerClocks
from horologe.raft.commands import FIRE
from horologe.raft.executions import OpenSessions
from horologe.raft.journal import CorruptLogError
from horologe.raft.model import Result
from horologe.raft.state import State
from horologe.raft.store import StoreError
from horologe.v1.job_pb2 import Job

NO_WORKERS = WorldOptions(workers=0)
ONE_WORKER = WorldOptions(workers=1)
SHORT_LOG = WorldOptions(workers=0, node_options={"log_entries_kept": 100})
STALE_READ = "a linearizable read sees what was acknowledged"
DONE_TWICE = "C8 DONE_TWICE"
RAN_WHILE_PAUSED = "C5 RAN_WHILE_PAUSED"
TOO_EARLY = "C5 TOO_EARLY"
OTHER_STATE = "same state everywhere"
TEXT = "written-once-and-never-changed"
HOUR_MS = 3_600_000
SKEW_MS = 1_500


# --- worlds -----------------------------------------------------------------------------------------------------------


def a_request_is_sent_again(ground: Ground) -> None:
    """A caller has heard no answer and asks again, under the same request id."""
    ground.begin()
    ground.job("once", jobs.manual(), 0.1)
    request_id = ground.add_client("caller-2").new_request_id()
    numbers = {ground.run_job("once", request_id) for _ in range(2)}
    if len(numbers) > 1:
        raise InvariantBrokenError(DONE_TWICE, f"one request has made the executions {sorted(numbers)}")


def pauses_race_with_due_times(ground: Ground) -> None:
    """A job is paused just before it is due, while the entry that pauses it needs its time to be committed."""
    ground.begin("n1")
    ground.job("tick", jobs.every(timedelta(seconds=1)), 0.0, overlap="allow")
    for other in ("n2", "n3"):
        ground.network.slow_down("n1", other, 0.03)
        ground.network.slow_down(other, "n1", 0.03)
    for _ in range(8):
        ground.run(1.0)
        due_ms = max(mark.due_ms for mark in ground.marks) + 1000
        wait_ms = due_ms - START_MS - ground.timeline.now * 1000 - ground.random.uniform(0, 120)
        ground.run(max(wait_ms, 0) / 1000)
        ground.ask(lambda sdk: sdk.pause_job("tick"))
        paused_ms = START_MS + ground.timeline.now * 1000
        ground.run(2.5)
        late = [mark for mark in ground.marks if mark.kind == Kind.STARTED and mark.due_ms > paused_ms + SKEW_MS]
        if late:
            raise InvariantBrokenError(RAN_WHILE_PAUSED, f"paused at {paused_ms:.0f}: {late[0]}")
        ground.ask(lambda sdk: sdk.resume_job("tick"))


def the_leader_is_an_hour_ahead(ground: Ground) -> None:
    """The wall clock of the leader jumps ahead by an hour."""
    ground.begin("n1")
    ground.job("tick", jobs.every(timedelta(seconds=20)), 0.0)
    ground.run(1.0 + ground.random.random())
    ground.nodes["n1"].clock.wall_error_ms += HOUR_MS
    ground.run(30.0)
    for mark in ground.marks:
        if mark.kind == Kind.STARTED and -mark.delay_ms > SKEW_MS:
            raise InvariantBrokenError(TOO_EARLY, f"{-mark.delay_ms:.0f} ms before its time: {mark}")


def bytes_flip_on_a_disk(ground: Ground) -> None:
    """While n3 is down, one bit of a record on its disk changes."""
    ground.stops_expected = (StoreError, CorruptLogError)
    _keep_a_text(ground)
    ground.crash("n3")
    path = ground.data_file("n3")
    path.write_bytes(_spoil(path.read_bytes()))
    ground.restart("n3")
    ground.run(3.0)
    ground.compare_states()


def snapshots_arrive_damaged(ground: Ground) -> None:
    """n3 is far behind, and a bit of every snapshot that is sent to it changes on the way."""
    ground.begin("n1")
    ground.crash("n3")
    _write_a_text(ground)
    ground.rpc.perhaps_damaged = _spoil  # type: ignore[method-assign]
    ground.restart("n3")
    ground.run(5.0)
    ground.compare_states()


def a_reader_at_a_node_that_hears_nothing(ground: Ground) -> None:
    """n3 hears nobody. A caller changes a job at the others, and another one reads it at n3, and asks for what is current."""
    ground.begin("n1")
    ground.job("read", jobs.manual(), 0.0, description="before")
    ground.run(1.0)
    ground.network.isolate(["n1", "n2"], ["n3"], one_way=True)
    for direction in (("caller", "n3"), ("n3", "caller")):
        ground.network.block(*direction)
    change = Job(name="read", description="after")
    ground.ask(lambda sdk: sdk.update_job(change, update_mask=["description"]))
    reader = SimClient(ground, "reader", ["n3:7400"], ground.new_clock(), random.Random(ground.random.getrandbits(64)))
    read: list[str] = []

    async def look(client: SimClient) -> None:
        job = await client.ask("read", "read", client.sdk.linearizable().get_job("read"))
        read.append("" if job is None else job.description)

    reader.run(look)
    ground.wait(lambda: bool(read), "the reader is answered", seconds=40.0)
    if read == ["before"]:
        raise InvariantBrokenError(STALE_READ, "a change was acknowledged, and a read after it did not see it")


def _keep_a_text(ground: Ground) -> None:
    ground.begin("n1")
    _write_a_text(ground)
    ground.run(1.0)


def _write_a_text(ground: Ground) -> None:
    """A text that is in the state, in a key, which nobody encrypts; and no longer in the log."""
    ground.job("kept", jobs.manual(), 0.0, labels={"kept": TEXT})
    ground.propose("n1", 120)
    ground.run(0.5)
    for node in ("n1", "n2", "n3"):
        if ground.nodes[node].is_up:
            ground.core(node).compact(ground.core(node).applied_index)
            ground.poke(node)
    ground.propose("n1", 2)


def _spoil(data: bytes) -> bytes:
    text = TEXT.encode()
    return data.replace(text, bytes([text[0] ^ 1]) + text[1:])


# --- mutants ----------------------------------------------------------------------------------------------------------


def remember_no_requests(ground: Ground) -> AbstractContextManager[object]:
    """A request that was seen before is a new one."""
    del ground

    def first_answer(state: State, command: log_pb2.Command) -> Result | None:
        del state, command
        return None

    return patch.object(machine, "first_answer", first_answer)


def fire_whatever_the_state(ground: Ground) -> AbstractContextManager[object]:
    """What a plan found due fires, whatever has become of the job meanwhile."""
    del ground

    def fire(state: State, records: bytes, sessions: OpenSessions) -> None:
        for record in FIRE.iter_unpack(records):
            job, _, due_ms, next_ms, _, session, *_ = record
            job_state = state.job_state(job)
            if job_state is not None:
                state.arm_fire(job, job_state, next_ms)
                executions._fire_one(state, job, job_state, (due_ms, due_ms), session, sessions)
                state.put_job_state(job, job_state)

    return patch.object(executions, "fire", fire)


def believe_ones_own_clock(ground: Ground) -> AbstractContextManager[object]:
    """A node goes by its own clock, however far it is from the others'."""
    del ground
    return patch.object(PeerClocks, "correction_ms", lambda *arguments: 0)


def check_no_records(ground: Ground) -> AbstractContextManager[object]:
    """Records are read without a look at their checksums."""
    del ground

    def get_unchecked(table: Any, key: bytes) -> bytes | None:
        stored = table._read(key)
        return None if stored is None else stored[: -sealed.CHECKSUM_BYTES]

    stack = ExitStack()
    stack.enter_context(patch.object(sealed.SealedTable, "get", get_unchecked))
    stack.enter_context(patch.object(sealed.SealedTable, "_opened", _opened_unchecked))
    return stack


def _opened_unchecked(table: Any, pairs: Any) -> Any:
    del table
    for key, stored in pairs:
        yield key, stored[: -sealed.CHECKSUM_BYTES]


def believe_every_snapshot(ground: Ground) -> AbstractContextManager[object]:
    """A snapshot is taken as it comes, without a look at its digest or at the checksums of its records."""
    stack = ExitStack()
    receive = peers._receive_file

    async def receive_file(stream: AsyncIterable[Any], path: Path) -> tuple[bool, bytes]:
        _, keys = await receive(stream, path)
        return True, keys

    stack.enter_context(patch.object(peers, "_receive_file", receive_file))
    stack.enter_context(check_no_records(ground))
    return stack


def read_without_a_barrier(ground: Ground) -> AbstractContextManager[object]:
    """A linearizable read is answered at once, from what the node has."""
    del ground

    async def passed(barriers: Barriers) -> None:
        del barriers

    return patch.object(Barriers, "passed", passed)


AGAIN = Course("a request is sent again", a_request_is_sent_again, NO_WORKERS)
PAUSES = Course("pauses race with due times", pauses_race_with_due_times, ONE_WORKER)
AHEAD = Course("the leader is an hour ahead", the_leader_is_an_hour_ahead, ONE_WORKER)
FLIPPED = Course("bytes flip on a disk", bytes_flip_on_a_disk, SHORT_LOG)
DAMAGED = Course("snapshots arrive damaged", snapshots_arrive_damaged, SHORT_LOG)


DEAF_READ = Course("a reader at a node that hears nothing", a_reader_at_a_node_that_hears_nothing, NO_WORKERS)
MUTANTS = (
    Mutant(
        "reads_wait_for_barriers",
        "A linearizable read is answered from what the node has",
        DEAF_READ,
        (STALE_READ,),
        patch=read_without_a_barrier,
    ),
    Mutant(
        "request_ids",
        "A request that was seen before is a new one",
        AGAIN,
        (DONE_TWICE,),
        patch=remember_no_requests,
    ),
    Mutant(
        "due_times_compared",
        "A plan fires what it found due whatever has become of the job since; and whether the due time is accounted for",
        PAUSES,
        (RAN_WHILE_PAUSED,),
        patch=fire_whatever_the_state,
    ),
    Mutant(
        "clock_guard",
        "A leader goes by its own wall clock, however far it is from the others'",
        AHEAD,
        (TOO_EARLY,),
        patch=believe_ones_own_clock,
    ),
    Mutant(
        "record_checksums",
        "Records are read without a look at their checksums",
        FLIPPED,
        (OTHER_STATE,),
        patch=check_no_records,
    ),
    Mutant(
        "snapshot_digest",
        "A snapshot is taken as it arrives; and records are read without a look at their checksums, which would hide it",
        DAMAGED,
        (OTHER_STATE,),
        patch=believe_every_snapshot,
    ),
)
