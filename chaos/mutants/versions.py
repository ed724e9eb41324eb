"""Mutants of the cluster's version: members run programs of two releases, and the log holds what both can apply."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest.mock import patch

from horologe.chaos.mutants.ground import NODE_STOPPED, Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.observer import WatchedMachine
from horologe.chaos.sim.world import WorldOptions
from horologe.log.v1 import log_pb2
from horologe.raft.cluster_version import KINDS, RELEASES, Program
from horologe.raft.model import Code, Result
from horologe.raft.state import State
from horologe.raft.step import Inbox
from horologe.raft.version_gate import VersionGate

NO_WORKERS = WorldOptions(workers=0)
LATER_KIND = b"\x9a\x06\x00"
"""Field 99: this program knows no such kind."""
LATER_VERSION = max(RELEASES) + 1


class LaterMachine(WatchedMachine):
    """The next release: it knows one kind more, which the log may hold since the next version of the cluster."""

    program = Program({**RELEASES, LATER_VERSION: "next"}, {**KINDS, LATER_VERSION: frozenset({None})})

    def _dispatch(self, state: State, command: log_pb2.Command) -> Result:
        if command.WhichOneof("kind") is None:
            return Result(Code.OK)
        return super()._dispatch(state, command)


# --- worlds -----------------------------------------------------------------------------------------------------------


def a_newer_leader_has_something_new(ground: Ground) -> None:
    """n1 and n2 run the next release, n3 does not yet; n1 leads, and is asked for what only the next release knows."""
    ground.begin("n1")
    for name in ("n1", "n2"):
        ground.nodes[name].make_machine = LaterMachine
        ground.restart(name)
        ground.wait(ground.is_converged, f"{name} is back")
    ground.wait(lambda: _leads(ground, "n1"), "n1 leads")
    command = log_pb2.Command.FromString(LATER_KIND)
    command.origin = "n1"
    ground.submit("n1", Inbox(commands=[command]))
    ground.propose("n1", 3)
    ground.run(1.0 + ground.random.random())
    ground.wait(ground.is_converged, "all agree")


def _leads(ground: Ground, name: str) -> bool:
    """Whether it does; if not, the leader is asked to hand over."""
    leader = ground.leader()
    if leader not in (None, name):
        ground.submit(leader or "", Inbox(transfer_to=name))
    return ground.leads(name)


def a_new_cluster_of_two_releases(ground: Ground) -> None:
    """A cluster begins; n1, which leads first, runs the next release, and the others do not."""
    ground.nodes["n1"].make_machine = LaterMachine
    ground.begin("n1")
    ground.propose("n1", 3)
    ground.run(1.0 + ground.random.random())
    ground.wait(ground.is_converged, "all agree")


# --- mutants ----------------------------------------------------------------------------------------------------------


def admit_everything(ground: Ground) -> AbstractContextManager[object]:
    """What a program knows may be in the log, whatever the cluster's version is."""
    del ground
    return patch.object(VersionGate, "admit", lambda gate, commands: (commands, []))


def begin_with_the_own_version(ground: Ground) -> AbstractContextManager[object]:
    """A leader gives the cluster the newest version that its own program can apply."""
    del ground
    return patch.object(VersionGate, "decide", lambda gate, commands, waits_for: (commands, []))


NEWER_LEADER = Course("a newer leader has something new", a_newer_leader_has_something_new, NO_WORKERS)
NEW_CLUSTER = Course("a new cluster of two releases", a_new_cluster_of_two_releases, NO_WORKERS)
MUTANTS = (
    Mutant(
        "newer_commands_wait",
        "A leader appends what its program knows, whether the cluster's version allows it or not",
        NEWER_LEADER,
        (NODE_STOPPED,),
        patch=admit_everything,
    ),
    Mutant(
        "versions_wait_for_members",
        "A leader gives a new cluster the newest version that its own program can apply, whatever the members run",
        NEW_CLUSTER,
        (NODE_STOPPED,),
        patch=begin_with_the_own_version,
    ),
)
