"""The step of a single node: what may end it and what must not; its planner's turns; the state that takes another's place."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import commands

from horologe.log.v1 import log_pb2
from horologe.peer.v1 import peer_service_pb2
from horologe.raft import snapshot
from horologe.raft.cipher import in_memory
from horologe.raft.core import CoreSettings, RaftCore
from horologe.raft.journal import HardState, Journal
from horologe.raft.machine import StateMachine
from horologe.raft.model import Code
from horologe.raft.records import U64
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox
from horologe.raft.store import Store, StoreError

WALL_MS = 1_800_000_000_000


class Idle:
    """A planner that finds nothing, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def lead(self, tables, now, wall_ms):
        pass

    def follow(self):
        pass

    def observe(self, effects):
        pass

    def plan(self, tables, now, wall_ms):
        self.asked += 1

    def prune(self, tables, now, wall_ms):
        pass

    def renew(self, sessions, tables, now):
        return list(sessions), []

    def next_wakeup_ms(self, tables, wall_ms):
        return wall_ms + 250


class Busy(Idle):
    """Finds something each time, and history that cannot wait."""

    def plan(self, tables, now, wall_ms):
        self.asked += 1
        return log_pb2.Plan(advance_to_ms=wall_ms)

    def prune(self, tables, now, wall_ms):
        return log_pb2.Prune(executions=U64.pack(1))


class Alone:
    """A cluster of one node that leads."""

    def __init__(self, folder: Path, *, planner: Idle | None = None, apply_bytes_max: int = 32 << 10) -> None:
        self.planner = planner or Idle()
        self.store = Store(folder, "n1", bytes_max=1 << 26)
        settings = CoreSettings(name="n1", members=("n1",), apply_bytes_max=apply_bytes_max)
        self.replica = Replica(self.store, settings, self.planner, random.Random(1), 0.0)
        self.now = 0.0
        while not self.replica.status.may_serve:
            self.step()

    def step(self, *commands: log_pb2.Command, wall_ms: int = WALL_MS) -> Outbox:
        self.now += 0.05
        return self.replica.step(Inbox(commands=list(commands)), self.now, wall_ms)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    made = Alone(tmp_path / "state")
    yield made
    made.store.close()


def test_a_command_that_fits_no_entry_is_refused_and_nothing_stops(alone: Alone) -> None:
    large = log_pb2.Command(origin="n1", origin_id=7, bootstrap=log_pb2.Bootstrap(cluster_id="x" * (5 << 20)))
    small = log_pb2.Command(origin="n1", origin_id=8, bootstrap=log_pb2.Bootstrap(cluster_id="c"))
    outbox = alone.step(large, small)
    outbox.results += alone.step().results
    assert outbox.refused == [(7, True)]
    assert [origin_id for origin_id, _ in outbox.results] == [8]


def test_what_is_kept_for_the_next_pulse_wakes_no_step(alone: Alone) -> None:
    bootstrap = log_pb2.Command(origin="n1", origin_id=7, bootstrap=log_pb2.Bootstrap(cluster_id="c"))
    outcomes = Inbox(commands=[log_pb2.Command(origin="n1", origin_id=8, complete=log_pb2.Complete())])
    forwarded = peer_service_pb2.Propose(commands=outcomes.commands)
    of_another_node = Inbox(messages=[("n2", peer_service_pb2.PeerMessage(propose=forwarded))])
    alone.step(bootstrap)
    for inbox in (outcomes, of_another_node):
        assert alone.replica.can_wait(inbox, alone.now + 0.01)
        assert not alone.replica.can_wait(inbox, alone.now + 0.03), "the pulse is due"
    assert not alone.replica.can_wait(Inbox(commands=[bootstrap]), alone.now + 0.01), "somebody waits for it"


def test_acknowledgements_of_what_is_committed_wake_no_step(alone: Alone) -> None:
    last_index = alone.replica.status.last_index

    def can_wait(next_index: int, *, reset: bool = False) -> bool:
        reply = peer_service_pb2.AppendReply(next_index=next_index, round=1, reset=reset, success=not reset)
        message = peer_service_pb2.PeerMessage(append_reply=reply)
        return alone.replica.can_wait(Inbox(messages=[("n2", message)]), alone.now)

    assert can_wait(last_index + 1)
    assert not can_wait(last_index), "it lacks an entry"
    assert not can_wait(last_index + 1, reset=True)


def test_a_clock_that_is_set_back_does_not_put_off_the_planner(alone: Alone) -> None:
    alone.step()
    alone.step()
    asked = alone.planner.asked
    alone.step(wall_ms=WALL_MS + 1)
    assert alone.planner.asked == asked
    alone.step(wall_ms=WALL_MS - 3_600_000)
    assert alone.planner.asked == asked + 1
    alone.step(wall_ms=WALL_MS - 3_600_000)
    assert alone.planner.asked == asked + 1


def test_history_that_cannot_wait_is_dropped_beside_due_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not instead of it; and the next plan is made when both are applied."""
    applied: list[str | None] = []

    class Watched(StateMachine):
        def apply(self, tables, index, entry):
            applied.extend(command.WhichOneof("kind") for command in entry.commands)
            return super().apply(tables, index, entry)

    monkeypatch.setattr("horologe.raft.replica.StateMachine", Watched)
    alone = Alone(tmp_path / "state", planner=Busy())
    applied.clear()
    for _ in range(4):
        alone.step()
    assert applied == ["plan", "prune"] * 4
    alone.store.close()


def test_whose_removal_is_committed_is_disconnected_to_be_told_so(alone: Alone) -> None:
    def change(**what: object) -> log_pb2.Command:
        return log_pb2.Command(change_membership=log_pb2.ChangeMembership(**what))  # type: ignore[arg-type]

    def step(inbox: Inbox) -> Outbox:
        alone.now += 0.2
        return alone.replica.step(inbox, alone.now, WALL_MS)

    learner = log_pb2.Member(name="n2", role=log_pb2.Member.ROLE_LEARNER)
    while "n2" not in alone.replica.status.configuration.by_name:
        step(Inbox(commands=[change(put=learner)]))
    step(Inbox(connected=[("n2", 1)]))
    dropped = step(Inbox(commands=[change(remove="n2")])).dropped
    while alone.replica.status.removed != ("n2",):
        assert dropped == []
        dropped = step(Inbox()).dropped
    assert dropped == ["n2"]
    assert step(Inbox()).dropped == []


@pytest.mark.parametrize(
    ("actor", "code"),
    [
        (log_pb2.Actor(principal="ada"), Code.PERMISSION_DENIED),
        (log_pb2.Actor(principal=""), Code.MALFORMED),
        (log_pb2.Actor(principal="admin", token="lost"), Code.PERMISSION_DENIED),
        (log_pb2.Actor(principal="admin", token="first"), Code.OK),
    ],
)
def test_nobody_changes_the_members_without_the_right_to(alone: Alone, actor: log_pb2.Actor, code: Code) -> None:
    """The configuration would be in force before the entry is applied."""
    alone.step(commands.begin_security())
    for _ in range(10):
        alone.step()
    learner = log_pb2.Member(name="n2", role=log_pb2.Member.ROLE_LEARNER)
    change = log_pb2.ChangeMembership(put=learner)
    results = alone.step(log_pb2.Command(origin="n1", origin_id=9, actor=actor, change_membership=change)).results
    members = set(alone.replica.status.configuration.by_name)
    while not results:
        results = alone.step().results
        members |= set(alone.replica.status.configuration.by_name)
    assert [result.code for _, result in results] == [code]
    assert ("n2" in members) is (code is Code.OK)


def test_a_copy_that_has_gone_does_not_become_an_empty_state(alone: Alone, tmp_path: Path) -> None:
    copy = tmp_path / "incoming" / "1"
    alone.store.copy_to(copy)
    position = snapshot.position_of(copy, in_memory())
    shutil.rmtree(copy)
    with pytest.raises(StoreError, match=f"stands at entry 1, not at {position.index} any more"):
        snapshot.make_own(copy, "n2", "", position, HardState(0, None), in_memory())


def test_readers_wait_while_the_files_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    store = Store(tmp_path / "state", "n1", bytes_max=1 << 26)
    Journal(store)
    store.tables.meta.put(b"a", b"1")
    store.commit()
    store.copy_to(copy)
    replacing, go_on, found = threading.Event(), threading.Event(), []
    take_files = store._take_files

    def slowly(folder: Path) -> None:
        replacing.set()
        assert go_on.wait(60)
        take_files(folder)

    def read() -> None:
        with store.read() as tables:
            found.append(tables.meta.get(b"a"))

    monkeypatch.setattr(store, "_take_files", slowly)
    threads = [threading.Thread(target=store.replace_with, args=(copy,)), threading.Thread(target=read)]
    threads[0].start()
    assert replacing.wait(60)
    threads[1].start()
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [b"1"]
    store.close()
    with pytest.raises(StoreError, match="is closed"), store.read():
        pass


def test_a_plan_is_still_on_its_way_after_a_while_without_a_majority(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that is not answered for the shortest election timeout serves no more, and may serve again in the same term."""
    alone.replica._plan_pieces = 1
    monkeypatch.setattr(RaftCore, "may_serve", False)
    alone.step()
    monkeypatch.undo()
    asked = alone.planner.asked
    alone.step()
    assert alone.replica.status.may_serve
    assert alone.planner.asked == asked


def test_what_a_leader_takes_before_it_serves_counts_as_on_its_way(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a new term what lay in the log before counts no more; what this leader appends counts from its first entry on."""
    alone.replica._lead_term -= 1
    alone.replica._backlog.size_bytes = 123
    # Each has an entry of its own, and one tick applies no more than one.
    filler = "x" * (36 << 10)
    commands = [
        log_pb2.Command(origin="n1", origin_id=7 + number, bootstrap=log_pb2.Bootstrap(cluster_id=filler))
        for number in range(3)
    ]
    monkeypatch.setattr(RaftCore, "may_serve", False)
    alone.step(*commands)
    monkeypatch.undo()
    alone.step()
    assert alone.replica.status.may_serve
    assert alone.replica.status.last_index - alone.replica.status.revision == 1
    assert alone.replica._backlog.size_bytes > len(filler), "one is still to be applied"
    alone.step()
    assert alone.replica._backlog.size_bytes == 0


def test_a_command_that_is_on_its_way_is_not_taken_again(alone: Alone) -> None:
    """It is sent again while the leader is slow; two copies in the log would make it slower."""
    replica = alone.replica
    # One tick applies one entry of this size.
    fillers = [
        log_pb2.Command(origin="n2", origin_id=number, bootstrap=log_pb2.Bootstrap(cluster_id="x" * (36 << 10)))
        for number in (1, 2, 3)
    ]
    alone.step(*fillers, *fillers)
    assert replica.status.last_index - replica.status.revision == 2
    last_index = replica.status.last_index
    alone.step(fillers[2])
    assert replica.status.last_index == last_index
    assert replica.status.last_index - replica.status.revision == 1
    # What was applied is recognised by the state machine, if it has a request id.
    alone.step(fillers[2])
    assert replica.status.last_index == last_index + 1


def test_a_piece_of_a_plan_from_an_earlier_term_is_none_of_the_plan_of_this_one(alone: Alone) -> None:
    replica = alone.replica
    of_before = log_pb2.Command(origin="n1", origin_id=replica._plan_id, plan=log_pb2.Plan())
    replica._plan_pieces = 1
    replica._lead_term -= 1
    alone.step(of_before)
    assert replica._plan_pieces == 0
    asked = alone.planner.asked
    alone.step()
    assert alone.planner.asked == asked + 1


def test_who_stands_in_line_makes_neither_more_entries_nor_more_steps(alone: Alone) -> None:
    """While the log takes no more of what callers ask for, what nobody waits for still goes by the pulse."""
    replica, intake = alone.replica, alone.replica.intake
    intake.window_bytes = replica._backlog.size_bytes = 1
    intake._credit_bytes, intake._looked_at = -1, 1e9
    asked = log_pb2.Command(origin="n1", origin_id=7, run_job=log_pb2.RunJob())
    alone.step(asked)
    assert replica._held == [asked]
    assert replica.wait_seconds(alone.now, WALL_MS) == pytest.approx(0.02), (
        "nothing is tried again before the next pulse"
    )
    before = replica.status.last_index
    for number in range(8):
        ended = log_pb2.Command(origin="n1", origin_id=100 + number, complete=log_pb2.Complete())
        replica.step(Inbox(commands=[ended]), alone.now + 0.002 * number, WALL_MS)
    assert replica.status.last_index == before
    alone.step()
    assert replica.status.last_index == before + 1
    assert replica._held == [asked]
    replica._backlog.size_bytes = 0
    outbox = alone.step()
    outbox.results += alone.step().results
    assert replica._held == []
    assert 7 in [origin_id for origin_id, _ in outbox.results]
