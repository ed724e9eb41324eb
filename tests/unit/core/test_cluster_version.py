"""The cluster's version: what a log may hold, which states a program takes, and when the version goes up
(raft/cluster_version.py, raft/version_gate.py)."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path

import pytest
from support import commands
from support.tables import dict_tables

from horologe.log.v1 import log_pb2
from horologe.raft.cluster_version import (
    FIELDS,
    KINDS,
    RELEASES,
    THIS_PROGRAM,
    Program,
    UnfitProgramError,
    VersionRange,
    is_held,
    version_of,
)
from horologe.raft.machine import StateMachine
from horologe.raft.membership import Configuration, Member
from horologe.raft.model import Code, Counters, Result
from horologe.raft.reconfiguration import LOOK_SECONDS, Introduction
from horologe.raft.state import InvariantError
from horologe.raft.tables import Tables
from horologe.raft.version_gate import VersionGate, WaitsFor, waits_for
from horologe.v1 import job_pb2

Command = log_pb2.Command
RELEASES_2 = {1: "0.1", 2: "0.2"}
LATER = Program(
    RELEASES_2,
    {1: KINDS[1] - {"set_secret"}, 2: frozenset({"set_secret"})},
    {2: frozenset({"put_jobs.jobs.job.description", "put_jobs.deletions.cancel_running", "plan.rearms"})},
)
MUCH_LATER = Program({**RELEASES_2, 3: "0.3"})


def put(job: job_pb2.Job) -> Command:
    return Command(put_jobs=log_pb2.PutJobs(jobs=[log_pb2.JobDraft(job=job)]))


class LaterMachine(StateMachine):
    program = LATER


def raising(version: int, *, asked: bool = False) -> Command:
    return Command(raise_version=log_pb2.RaiseVersion(version=version, asked=asked))


def holding(held: bool) -> Command:
    return Command(hold_version=log_pb2.HoldVersion(held=held))


def naming(version: int) -> Command:
    return Command(bootstrap=log_pb2.Bootstrap(cluster_id="c", version=version))


def in_the_way(*names: str) -> WaitsFor:
    return lambda version, *, also_absent=True: names


def applied(tables: Tables, *asked: Command, machine: StateMachine | None = None) -> list[Result]:
    index = Counters.load(tables).revision + 1
    return (machine or LaterMachine()).apply(tables, index, log_pb2.Entry(time_ms=1, commands=asked))[0]


def test_every_kind_of_command_has_the_version_since_when_it_exists() -> None:
    """Whoever adds a kind says here since which version of the cluster the log may hold it."""
    known = [kind for kinds in KINDS.values() for kind in kinds]
    assert sorted(known) == sorted(field.name for field in Command.DESCRIPTOR.oneofs_by_name["kind"].fields)
    assert KINDS.keys() | FIELDS.keys() <= RELEASES.keys()
    assert list(RELEASES) == list(range(1, len(RELEASES) + 1))


@pytest.mark.parametrize("program", [THIS_PROGRAM, LATER])
def test_every_field_that_came_later_is_one(program: Program) -> None:
    for path in (path for paths in program.fields.values() for path in paths):
        message = Command.DESCRIPTOR
        for name in path.split("."):
            message = message.fields_by_name[name].message_type


def test_the_newest_version_is_that_of_this_release() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    minor = tuple(int(part) for part in project["version"].split(".")[:2])
    assert minor >= tuple(int(part) for part in RELEASES[max(RELEASES)].split("."))


def test_a_program_applies_its_own_version_and_the_one_before() -> None:
    assert [program.versions for program in (LATER, MUCH_LATER)] == [VersionRange(1, 2), VersionRange(2, 3)]
    assert str(VersionRange(1, 2)) == "versions 1 to 2"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (put(commands.job(description="x")), "put_jobs.jobs.job.description is there since cluster version 2"),
        (put(commands.job()), ""),
        (
            Command(put_jobs=log_pb2.PutJobs(deletions=[log_pb2.DeleteJob(cancel_running=True)])),
            "cancel_running is there",
        ),
        (Command(put_jobs=log_pb2.PutJobs(deletions=[log_pb2.DeleteJob(name="j")])), ""),
        (Command(plan=log_pb2.Plan(rearms=b"x")), "plan.rearms is there"),
        (Command(plan=log_pb2.Plan(fires=b"x")), ""),
        (
            Command(set_secret=log_pb2.SetSecret()),
            "set_secret is there since cluster version 2, and the cluster is at 1",
        ),
        (Command.FromString(b"\x9a\x06\x00"), "of a kind that the leader's program does not know"),
        (Command(barrier=log_pb2.Barrier()), ""),
    ],
)
def test_what_a_log_may_hold(command: Command, said: str) -> None:
    found = LATER.fault_of(command, 1)
    assert (said in found) if said else not found
    assert ("does not know" in said) == bool(LATER.fault_of(command, 2))


def test_the_version_goes_up_one_step_at_a_time_and_is_remembered() -> None:
    tables = dict_tables()
    assert (version_of(tables), is_held(tables)) == (1, False)
    assert [result.code for result in applied(tables, raising(3), raising(1))] == [Code.VERSION_NOT_READY, Code.OK]
    assert version_of(tables) == 1
    assert applied(tables, raising(2), raising(2)) == [Result(Code.OK, (2,))] * 2
    assert version_of(tables) == 2


def test_what_is_held_goes_up_only_when_somebody_asks() -> None:
    tables = dict_tables()
    held, refused, asked = applied(tables, holding(True), raising(2), raising(2, asked=True))
    assert (held.code, refused.code, asked) == (Code.OK, Code.VERSION_NOT_READY, Result(Code.OK, (2,)))
    assert (version_of(tables), is_held(tables)) == (2, False)
    tables = dict_tables()
    assert [result.code for result in applied(tables, holding(True), holding(False), raising(2))] == [Code.OK] * 3


def test_a_program_stops_at_a_version_that_it_cannot_apply() -> None:
    tables = dict_tables()
    with pytest.raises(InvariantError, match="this program can apply version 1: upgrade this node"):
        applied(tables, raising(2), machine=StateMachine())


def test_a_new_cluster_begins_with_the_version_of_the_program_that_named_it() -> None:
    tables = dict_tables()
    applied(tables, naming(2))
    assert version_of(tables) == 2
    # Whoever comes second names nothing.
    applied(tables, Command(bootstrap=log_pb2.Bootstrap(cluster_id="d", version=1)))
    assert version_of(tables) == 2


def test_which_states_a_program_takes() -> None:
    tables = dict_tables()
    # One that says nothing of itself yet is for any.
    MUCH_LATER.check(tables)
    applied(tables, Command(barrier=log_pb2.Barrier()))
    MUCH_LATER.check(tables)
    applied(tables, naming(1))
    with pytest.raises(UnfitProgramError, match=r"a release was left out; run horologe 0\.2 on all nodes first"):
        MUCH_LATER.check(tables)
    LATER.check(tables)
    applied(tables, raising(2))
    LATER.check(tables)
    MUCH_LATER.check(tables)
    with pytest.raises(UnfitProgramError, match="a newer program wrote it"):
        THIS_PROGRAM.check(tables)
    with pytest.raises(UnfitProgramError):
        VersionGate(THIS_PROGRAM, tables, 0.0)


def introduced(name: str, newest: int) -> Introduction:
    return Introduction(name, name, "", VersionRange(1, newest))


def test_whom_a_version_waits_for() -> None:
    members = Configuration((Member("n1"), Member("n2"), Member("n3", is_voter=False)))
    more = members.with_member(Member("n4", is_voter=False))
    known = {name: introduced(name, newest) for name, newest in {"n1": 2, "n2": 1, "n3": 2}.items()}
    assert waits_for(2, [members], known, {"n1", "n2", "n3"}) == ["n2"]
    assert waits_for(1, [members], known, {"n1", "n2", "n3"}) == []
    assert waits_for(1, [members, more], known, {"n1", "n2", "n3"}) == ["n4"], "nobody knows what it runs"
    assert waits_for(2, [members], known, {"n1", "n2"}) == ["n2", "n3"], "what it said may not be so any more"


def test_the_version_is_raised_when_all_could_apply_the_next_one_for_long_enough() -> None:
    missing: list[str] = ["n3"]
    tables = dict_tables()
    gate = VersionGate(LATER, tables, 10.0)
    times = (0.0, 5.0, 14.0, 14.0 + LOOK_SECONDS / 2)
    assert [gate.next(lambda version, **_: missing, now) for now in times] == [None] * 4
    missing.clear()
    assert [gate.next(lambda version, **_: missing, now) for now in (20.0, 25.0)] == [None] * 2
    missing.append("n2")
    assert gate.next(lambda version, **_: missing, 29.0) is None
    missing.clear()
    assert [gate.next(lambda version, **_: missing, now) for now in (31.0, 40.0)] == [None] * 2
    assert gate.next(lambda version, **_: missing, 41.0) == raising(2)
    # Who did not lead meanwhile counts anew.
    gate.next(lambda version, **_: missing, 42.0)
    gate.follow()
    assert [gate.next(lambda version, **_: missing, now) for now in (60.0, 69.0)] == [None] * 2
    applied(tables, raising(2))
    gate.load(tables)
    assert [gate.next(lambda version, **_: missing, now) for now in (80.0, 99.0)] == [None] * 2


def test_the_gate_lets_others_of_one_batch_pass() -> None:
    tables = dict_tables()
    gate = VersionGate(LATER, tables, 0.0)
    barrier, secret = Command(barrier=log_pb2.Barrier()), Command(set_secret=log_pb2.SetSecret())
    admitted, refused = gate.admit([barrier, secret, barrier])
    assert admitted == [barrier, barrier]
    assert [(command, result.code) for command, result in refused] == [(secret, Code.VERSION_TOO_LOW)]
    admitted, refused = gate.decide([barrier, raising(2, asked=True)], in_the_way("n3"))
    assert (admitted, [result.text for _, result in refused]) == (
        [barrier],
        ["n3 cannot apply version 2, or is not connected"],
    )
    assert gate.decide([raising(2)], in_the_way()) == ([raising(2)], [])
    assert gate.decide([raising(1)], in_the_way("n3")) == ([raising(1)], []), "it changes nothing"


def test_a_new_cluster_does_not_begin_with_what_a_member_cannot_apply() -> None:
    """Whoever leads first proposes what its own program can do. Who is not there is not waited for with the older version."""
    members = Configuration((Member("n1"), Member("n2"), Member("n3")))
    gate = VersionGate(LATER, dict_tables(), 0.0)
    barrier = Command(barrier=log_pb2.Barrier())

    def decided(version: int, **ranges: tuple[int, int]) -> tuple[bool, str]:
        known = {name: Introduction(name, name, "", VersionRange(*range_)) for name, range_ in ranges.items()}
        asked = [barrier, naming(version)]
        admitted, refused = gate.decide(asked, partial(waits_for, configurations=[members], known=known, present=known))
        assert [*admitted, *(command for command, _ in refused)] == asked
        return len(admitted) == 2, "".join(result.text for _, result in refused)

    assert decided(2, n1=(1, 2), n2=(1, 2), n3=(1, 2)) == (True, "")
    assert decided(2, n1=(1, 2), n2=(1, 2)) == (False, "n3 cannot apply version 2, or is not connected")
    assert decided(2, n1=(1, 2), n2=(1, 2), n3=(1, 1)) == (False, "n3 cannot apply version 2, or is not connected")
    assert decided(1, n1=(1, 2), n2=(1, 2)) == (True, "")
    assert decided(1, n1=(1, 2), n2=(1, 1), n3=(1, 1)) == (True, "")
    # The program of one that is there is newer than ours.
    assert decided(1, n1=(1, 2), n2=(2, 3)) == (False, "n2 cannot apply version 1, or is not connected")
    assert decided(2, n1=(1, 2), n2=(2, 3), n3=(2, 3)) == (True, "")
    # An older leader, asked by a newer node that led until just now.
    assert decided(2, n1=(1, 1), n2=(1, 2), n3=(1, 2)) == (False, "n1 cannot apply version 2, or is not connected")
