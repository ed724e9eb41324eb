"""Scenarios 38 to 40: what stands in the log is more than a node can take: broken, unknown, or very much."""

from __future__ import annotations

import pytest
from support.story import Story

from horologe.chaos.sim.observer import WatchedMachine
from horologe.client import jobs
from horologe.log.v1 import log_pb2
from horologe.node import planner
from horologe.raft.cluster_version import KINDS, RELEASES, Program, UnfitProgramError
from horologe.raft.commands import FIRE
from horologe.raft.machine import cluster_id_of
from horologe.raft.model import Code, Effects, Result
from horologe.raft.state import State
from horologe.raft.step import Inbox
from horologe.raft.tables import Tables
from horologe.raft.version_gate import VersionGate

POISON = [
    log_pb2.Command(plan=log_pb2.Plan(fires=b"\0" * (FIRE.size - 1))),
    log_pb2.Command(plan=log_pb2.Plan(advance_to_ms=-1)),
    log_pb2.Command(complete=log_pb2.Complete(outcomes=b"half a record")),
    log_pb2.Command(run_job=log_pb2.RunJob(name="")),
    log_pb2.Command(delete_job=log_pb2.DeleteJob(name="x" * 1_000)),
    log_pb2.Command(close_session=log_pb2.CloseSession(session=-1)),
    log_pb2.Command(open_session=log_pb2.OpenSession(worker="w1", queues=[""])),
]
OF_A_LATER_PROGRAM = log_pb2.Command.FromString(b"\x9a\x06\x00")
"""Field 99: this program knows no such kind."""


class LaterMachine(WatchedMachine):
    """A program that knows one kind more, which the log may hold since version 2."""

    program = Program({**RELEASES, 2: "0.2"}, {**KINDS, 2: frozenset({None})})

    def _dispatch(self, state: State, command: log_pb2.Command) -> Result:
        if command.WhichOneof("kind") is None:
            return Result(Code.OK, text="understood")
        return super()._dispatch(state, command)


class MuchLaterMachine(WatchedMachine):
    """A program that cannot apply the first version any more."""

    program = Program({**RELEASES, 2: "0.2", 3: "0.3"})


class OlderMachine(WatchedMachine):
    """A program that claims the later one's version, and knows no more than this one."""

    program = LaterMachine.program


def everything_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VersionGate, "admit", lambda gate, commands: (commands, []))


def upgrade(story: Story, *names: str) -> None:
    for name in names:
        story.nodes[name].make_machine = LaterMachine
        story.restart(name)
        story.run_until(story.is_converged)


def versions(story: Story) -> set[int]:
    return {node.status.cluster_version for node in story.nodes.values() if node.status is not None}


def is_named(story: Story) -> bool:
    """Whether the nodes that are up know their cluster's name, and so its version."""
    return all(story.look(cluster_id_of, name) for name in story.up())


def test_scenario_38_poison_in_the_log() -> None:
    """Commands that no program of ours would write, proposed by a broken one: refused on every node in the same way, and the
    cluster goes on. (Only a contradiction in the state itself stops a node.)"""
    with Story() as story:
        story.begin()
        story.create("tick", jobs.every("1s"))
        for position, command in enumerate(POISON):
            node = list(story.nodes)[position % len(story.nodes)]
            assert story.propose(node, command).code == Code.MALFORMED
        story.run(3.0)
        assert story.up() == list(story.nodes)
        assert len(story.starts()) >= 3
        story.run_until(story.is_converged)
        story.check()


@pytest.mark.parametrize("leader", ["n1", "n3"])
def test_scenario_39_a_newer_kind_of_command_in_a_rolling_upgrade(leader: str) -> None:
    """A kind that one member's program does not know gets into no log, whoever leads. When all have run the later program for a
    while the version goes up, and then it does."""
    with Story(version_settle_seconds=5.0) as story:
        story.begin()
        story.create("tick", jobs.every("1s"))
        upgrade(story, "n1", "n2")
        story.lead(leader)
        for name in story.nodes:
            assert story.propose(name, OF_A_LATER_PROGRAM).code is Code.VERSION_TOO_LOW
        story.run(10.0)
        assert story.up() == list(story.nodes) and versions(story) == {1}
        upgrade(story, "n3")
        story.run(3.0)
        assert versions(story) == {1}, "one that was upgraded in vain can still go back"
        story.run_until(lambda: versions(story) == {2}, what="the version goes up")
        for name in story.nodes:
            assert story.propose(name, OF_A_LATER_PROGRAM).text == "understood"
        story.check_no_gaps(1_000)
        story.check()


def test_scenario_39_back_to_the_older_program_and_no_further_when_the_version_has_gone_up() -> None:
    """While the version is held, members go back to the program of before. Afterwards that one does not start any more; the
    others go on."""
    with Story(version_settle_seconds=1.0) as story:
        story.begin()
        story.create("tick", jobs.every("1s"))
        assert story.propose("n2", log_pb2.Command(hold_version=log_pb2.HoldVersion(held=True))).code is Code.OK
        upgrade(story, "n1", "n2", "n3")
        story.run(10.0)
        assert versions(story) == {1}
        story.nodes["n3"].make_machine = WatchedMachine
        story.restart("n3")
        story.run_until(story.is_converged)
        finalize = log_pb2.Command(raise_version=log_pb2.RaiseVersion(version=2, asked=True))
        refused = story.propose("n2", finalize)
        assert (refused.code, refused.text) == (
            Code.VERSION_NOT_READY,
            "n3 cannot apply version 2, or is not connected",
        )
        upgrade(story, "n3")
        assert story.propose("n2", finalize).code is Code.OK
        story.run_until(lambda: versions(story) == {2}, what="the version goes up")
        story.nodes["n3"].make_machine = WatchedMachine
        story.restart("n3")
        story.run_until(lambda: not story.nodes["n3"].is_up, what="the older program stops")
        assert isinstance(story.nodes["n3"].failure, UnfitProgramError)
        assert "the state is of cluster version 2" in str(story.nodes["n3"].failure)
        before = len(story.starts())
        story.run(3.0)
        assert len(story.starts()) >= before + 2


@pytest.mark.parametrize("older", [(), ("n3",), ("n1", "n2")])
def test_scenario_39_a_new_cluster_of_two_releases(older: tuple[str, ...]) -> None:
    """It begins with a version that all its members can apply, whoever leads first."""
    with Story(seed=3) as story:
        for name, node in story.nodes.items():
            node.make_machine = WatchedMachine if name in older else LaterMachine
        story.begin()
        story.create("tick", jobs.every("1s"))
        story.run(5.0)
        assert story.up() == list(story.nodes)
        assert versions(story) == ({1} if older else {2})
        story.run_until(story.is_converged)
        story.check()


def test_scenario_39_a_new_cluster_does_not_guess_what_an_absent_member_runs() -> None:
    """A majority that runs the later program waits a little for the third one, begins without it, and leaves it its place."""
    with Story() as story:
        for name in ("n1", "n2"):
            story.nodes[name].make_machine = LaterMachine
            story.nodes[name].start()
        story.workers["w1"].start()
        story.run_until(lambda: is_named(story), what="the cluster has a name")
        assert versions(story) == {1}
        story.nodes["n3"].start()
        story.run_until(story.is_converged)
        story.create("tick", jobs.every("1s"))
        story.run(3.0)
        assert story.up() == list(story.nodes) and len(story.starts()) >= 2
        story.run_until(story.is_converged)
        story.check()


def test_scenario_39_members_of_a_new_cluster_that_come_one_after_the_other_are_waited_for() -> None:
    """The time runs from the first leader on, not from when the first node began to wait for others."""
    with Story() as story:
        for node in story.nodes.values():
            node.make_machine = LaterMachine
            node.start()
            story.run(1.5)
        story.run_until(lambda: is_named(story), what="the cluster has a name")
        assert versions(story) == {2}


def test_scenario_39_nodes_restart_before_their_new_cluster_has_a_version() -> None:
    """Their program cannot apply the first version, and what they hold is of none yet."""
    with Story() as story:
        both = [story.nodes[name] for name in ("n1", "n2")]
        for node in both:
            node.make_machine = MuchLaterMachine
            node.start()
        story.run_until(lambda: all(node.status and node.status.revision for node in both), what="the log has begun")
        for name in ("n1", "n2"):
            story.restart(name)
        story.run_until(lambda: is_named(story), what="the cluster has a name")
        assert versions(story) == {2}


def test_scenario_39_unknown_kind_of_command_stops_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one got into the log although the version forbids it: a node whose program does not know it stops there, also after a
    restart, and never skips it; the others go on. With the later program it takes up the log at that very entry."""
    everything_is_admitted(monkeypatch)
    with Story() as story:
        story.nodes["n1"].make_machine = story.nodes["n2"].make_machine = LaterMachine
        story.nodes["n3"].make_machine = OlderMachine
        story.begin()
        story.create("tick", jobs.every("1s"))
        story.lead("n1")
        assert story.propose("n1", OF_A_LATER_PROGRAM).text == "understood"
        story.run_until(lambda: not story.nodes["n3"].is_up, what="the older node stops")
        assert "does not know" in str(story.nodes["n3"].failure)
        before = len(story.starts())
        story.restart("n3")
        story.run(3.0)
        assert not story.nodes["n3"].is_up, "it stops at the same entry again"
        assert story.leader() == "n1" and len(story.starts()) >= before + 2
        story.nodes["n3"].make_machine = LaterMachine
        story.restart("n3")
        story.run_until(story.is_converged)
        story.check_no_gaps(1_000)
        story.check()


def test_scenario_39_unknown_kind_of_command_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above. Whoever has to apply it stops, rather than go on with a gap; the last one has no majority any more. With a
    program that knows it all come back to the same state."""
    everything_is_admitted(monkeypatch)
    with Story() as story:
        story.begin()
        story.create("task")
        leader = story.node_of(story.the_leader())
        story.process_of(story.the_leader()).deliver(
            lambda: leader.context.submit(Inbox(commands=[OF_A_LATER_PROGRAM]))
        )
        story.run_until(lambda: len(story.up()) == 1, what="the majority stops")
        [last] = story.up()
        assert all("does not know" in str(story.nodes[name].failure) for name in story.others(last))
        story.run(5.0)
        assert story.leader() is None
        for name, node in story.nodes.items():
            node.make_machine = LaterMachine
            story.restart(name)
        story.run_until(story.is_converged)
        assert story.counters().jobs == 1
        story.check()


JOBS = 2_000
TIMERS_PER_PLAN = 100
"""A plan takes 4,000 timers; here a fortieth of that, for a fortieth of 80,000 timers that are due at once."""
STEP_SECONDS = (0.05, 0.05)
"""What a step with a full plan costs, in the time of this world."""


def test_scenario_40_very_many_timers_due_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes were down while 2,000 jobs fell due. They come in batches of 100 at most, one entry each, between which
    heartbeats go on: nobody starts an election, and every due time runs once, late, and known to be so."""
    batches: list[int] = []

    class CountingMachine(WatchedMachine):
        def apply(self, tables: Tables, index: int, entry: log_pb2.Entry) -> tuple[list[Result], Effects]:
            batches.append(sum(len(command.plan.fires) // FIRE.size for command in entry.commands))
            return super().apply(tables, index, entry)

    monkeypatch.setattr(planner, "TIMERS_PER_PLAN", TIMERS_PER_PLAN)
    with Story(workers=2, slots=200) as story:
        story.begin()
        due = jobs.every("1h", phase="30s")
        for first in range(0, JOBS, 250):
            made = [jobs.job(f"job-{number}", due, jobs.python("work")) for number in range(first, first + 250)]
            story.ask("create jobs", lambda sdk, id_, made=made: sdk.batch_create_jobs(made, request_id=id_))
        for name in story.nodes:
            story.crash(name)
        assert story.now_ms() < 30_000
        story.run(45.0 - story.timeline.now)
        for name, node in story.nodes.items():
            node.make_machine = CountingMachine
            node.disk.commit_seconds = STEP_SECONDS
            story.restart(name)
        story.run_until(story.is_converged)
        elections = story.observer.counts["elections won"]
        story.run_until(lambda: story.counters().completed == JOBS, 120.0, what="all have run")
        assert max(batches) == TIMERS_PER_PLAN
        assert story.observer.counts["elections won"] == elections
        assert len(story.starts()) == JOBS
        assert min(mark.delay_ms for mark in story.starts()) > 14_000
        story.settle()
