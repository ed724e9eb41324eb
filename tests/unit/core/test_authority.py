"""What each kind of command needs, and that nothing else is enough. The stories are in tests/scenarios."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from support import commands
from support.commands import by
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.raft import audit
from horologe.raft.access import EVERYWHERE, ROLE_VERBS, Verb
from horologe.raft.authority import NEEDS, OWN_KINDS, SHARED_KINDS, may_change_members
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.model import Code, Result
from horologe.v1 import access_pb2, calendar_pb2

Command = log_pb2.Command
KINDS = frozenset(field.name for field in Command.DESCRIPTOR.oneofs_by_name["kind"].fields)
A, B = "namespaces/team-a/jobs/", "namespaces/team-b/jobs/"

RUNNING, DEAD, FLOW, FOREIGN = 1, 2, 3, 5
"""Executions that the driver below has; FLOW is a run that has failed, with one node."""


RULES = "namespaces/team-a/"
"""Where the rules of a namespace are."""


def secured() -> Driver:
    """A cluster with security, whose `admin` owns two namespaces with something of each kind in the first."""
    driver = Driver()
    driver.apply(commands.begin_security(), commands.connect(slot_count=20))
    ours = [
        commands.put(
            commands.CREATE, *(commands.draft(commands.job(A + id_, max_attempts=1)) for id_ in ("one", "two"))
        ),
        commands.put(
            commands.CREATE,
            commands.draft(commands.job(A + "flow", every_ms=0, is_workflow=True)),
            commands.draft(commands.job(A + "node", every_ms=0, workflow="flow", max_attempts=1)),
        ),
        commands.put(commands.CREATE, commands.draft(commands.job(B + "other", max_attempts=1))),
        *(commands.run(name) for name in (A + "one", A + "two", A + "flow", B + "other")),
        Command(set_calendar=log_pb2.SetCalendar(calendar=calendar_pb2.Calendar(name="namespaces/team-a/calendars/c"))),
        Command(set_limit=log_pb2.SetLimit(name="namespaces/team-a/limits/l", max_running=1)),
        Command(set_secret=log_pb2.SetSecret(name="namespaces/team-a/secrets/s", value=b"hush")),
        commands.set_notification("n", scope=RULES),
        commands.set_notification("n", scope=""),
        commands.set_grant("carl", "team-a", "viewer"),
        commands.put_token("carls", "carl"),
        commands.in_namespace("team-a", commands.backfill(1, START_MS, START_MS + 1)),
    ]
    for command in ours:
        assert driver.do(by("admin", command)).code is Code.OK, command
    assigned = [(number, 1) for number in (RUNNING, DEAD, FLOW + 1, FOREIGN)]
    driver.do(commands.plan(assigns=assigned))
    failed = [
        commands.outcome(number, driver.execution(number).token, outcome=Outcome.FAILED, retry_delay_ms=NO_RETRY)
        for number in (DEAD, FLOW + 1, FOREIGN)
    ]
    driver.do(commands.complete(*failed))
    driver.check()
    return driver


def selected(kind: str, **selection: object) -> Command:
    start = log_pb2.StartOperation(namespace="team-a", **{kind: log_pb2.DeadLetterSelection(**selection)})  # type: ignore[arg-type]
    return Command(start_operation=start)


NEEDED: list[tuple[str, Command, str, str]] = [
    # What it is, the command, and the right without which it is refused.
    ("create", commands.create(A + "new"), "job.write", "team-a"),
    ("update", commands.update(A + "one", priority=7), "job.write", "team-a"),
    ("delete in a batch", commands.put(commands.APPLY, deletions=[(A + "one", 0)]), "job.write", "team-a"),
    ("delete", commands.delete(A + "one"), "job.write", "team-a"),
    ("pause", commands.pause(A + "one"), "job.pause", "team-a"),
    ("run", commands.run(A + "one", force=True), "job.run", "team-a"),
    ("run with a payload", commands.run(A + "one", force=True, payload="x"), "job.run", "team-a"),
    ("cancel", commands.cancel(RUNNING), "job.cancel", "team-a"),
    ("rerun", commands.rerun(FLOW), "job.run", "team-a"),
    ("redrive", commands.redrive(DEAD), "job.run", "team-a"),
    ("redrive with a payload", commands.redrive(DEAD, "x"), "job.run", "team-a"),
    ("purge", commands.purge(DEAD), "dead_letter.purge", "team-a"),
    ("redrive many", selected("redrive"), "job.run", "team-a"),
    ("purge many", selected("purge"), "dead_letter.purge", "team-a"),
    ("backfill", commands.in_namespace("team-a", commands.backfill(1, START_MS, START_MS + 1)), "job.run", "team-a"),
    ("cancel an operation", commands.cancel_operation(1), "job.cancel", "team-a"),
    ("pause a namespace", commands.pause_scope("team-a"), "job.pause", "team-a"),
    ("pause all", commands.pause_scope(), "job.pause", EVERYWHERE),
    (
        "set a calendar",
        Command(set_calendar=log_pb2.SetCalendar(calendar=calendar_pb2.Calendar(name="namespaces/team-a/calendars/d"))),
        "calendar.write",
        "team-a",
    ),
    (
        "delete a calendar",
        Command(delete_calendar=log_pb2.DeleteCalendar(name="namespaces/team-a/calendars/c")),
        "calendar.write",
        "team-a",
    ),
    (
        "set a limit",
        Command(set_limit=log_pb2.SetLimit(name="namespaces/team-a/limits/m", max_running=1)),
        "limit.write",
        "team-a",
    ),
    (
        "delete a limit",
        Command(delete_limit=log_pb2.DeleteLimit(name="namespaces/team-a/limits/l")),
        "limit.write",
        "team-a",
    ),
    (
        "set a secret",
        Command(set_secret=log_pb2.SetSecret(name="namespaces/team-a/secrets/t", value=b"x")),
        "secret.write",
        "team-a",
    ),
    (
        "delete a secret",
        Command(delete_secret=log_pb2.DeleteSecret(name="namespaces/team-a/secrets/s")),
        "secret.write",
        "team-a",
    ),
    ("set a namespace", commands.set_namespace("team-a", 5), "namespace.write", "team-a"),
    ("set a queue", commands.set_queue("default", aging_ms=1), "queue.write", EVERYWHERE),
    ("pause a queue", commands.pause_queue("default"), "queue.write", EVERYWHERE),
    ("drain", commands.drain(), "worker.drain", EVERYWHERE),
    ("checkpoint", Command(checkpoint=log_pb2.Checkpoint()), "cluster.write", EVERYWHERE),
    ("raise", Command(raise_version=log_pb2.RaiseVersion(version=1, asked=True)), "cluster.write", EVERYWHERE),
    ("hold", Command(hold_version=log_pb2.HoldVersion(held=True)), "cluster.write", EVERYWHERE),
    ("a token for others", commands.put_token("t1", "nobody"), "access.write", EVERYWHERE),
    ("revoke another's token", Command(revoke_token=log_pb2.RevokeToken(id="carls")), "access.write", EVERYWHERE),
    ("give rights", commands.set_grant("carl", "team-a"), "access.write", "team-a"),
    ("set a notification", commands.set_notification("m", scope=RULES), "notification.write", "team-a"),
    ("set one of the cluster", commands.set_notification("m", scope=""), "notification.write", EVERYWHERE),
    ("name a secret in one", commands.set_notification("m", scope=RULES, signing_secret="s"), "secret.use", "team-a"),
    ("delete a notification", commands.delete_notification("n", scope=RULES), "notification.write", "team-a"),
    ("delete one of the cluster", commands.delete_notification("n", scope=""), "notification.write", EVERYWHERE),
    ("give a right", commands.set_grant("carl", "team-a", "job.run"), "job.run", "team-a"),
    ("take rights away", commands.delete_grant("carl", "team-a"), "access.write", "team-a"),
    (
        "disable somebody",
        Command(set_principal=log_pb2.SetPrincipal(name="carl", disabled=True)),
        "access.write",
        EVERYWHERE,
    ),
]
IDS = [what for what, *_ in NEEDED]


def test_each_kind_is_a_callers_or_the_clusters() -> None:
    """Whoever adds a kind of command says here what a caller needs for it, or that none may make it."""
    assert NEEDS.keys() | OWN_KINDS == KINDS
    assert not NEEDS.keys() & OWN_KINDS
    assert NEEDS.keys() >= SHARED_KINDS
    told = {command.WhichOneof("kind") for _, command, *_ in NEEDED}
    assert told == NEEDS.keys() - {"change_membership"}, "a test of its own is below"


def test_a_rule_of_the_cluster_needs_the_secret_of_its_namespace_too() -> None:
    driver = secured()
    command = by("ada", commands.set_notification("m", scope="", url_secret="namespaces/team-a/secrets/s"))
    driver.do(by("admin", commands.set_grant("ada", EVERYWHERE, "notification.write")))
    text = "ada may not secret.use in namespaces/team-a"
    assert driver.do(command) == Result(Code.PERMISSION_DENIED, text=text)
    driver.do(by("admin", commands.set_grant("ada", "team-a", "secret.use")))
    assert driver.do(command).code is Code.OK


@pytest.mark.parametrize(("command", "verb", "namespace"), [row[1:] for row in NEEDED], ids=IDS)
def test_one_right_is_missing(command: Command, verb: str, namespace: str) -> None:
    """All other rights, there and elsewhere, are not enough; with that one it is done."""
    driver = secured()
    others = sorted(set(Verb) - {verb})
    for place in ("team-a", "team-b", EVERYWHERE):
        driver.do(by("admin", commands.set_grant("ada", place, *others)))
    where = "everywhere" if namespace == EVERYWHERE else f"in namespaces/{namespace}"
    assert driver.do(by("ada", command)) == Result(Code.PERMISSION_DENIED, text=f"ada may not {verb} {where}")
    driver.do(by("admin", commands.set_grant("ada", "team-b", verb)))
    assert driver.do(by("ada", command)).code is Code.PERMISSION_DENIED
    driver.do(by("admin", commands.set_grant("ada", namespace, *others, verb)))
    assert driver.do(by("ada", command)).code is Code.OK
    driver.check()


@pytest.mark.parametrize("command", [row[1] for row in NEEDED], ids=IDS)
def test_nobody_and_strangers_do_nothing(command: Command) -> None:
    driver = secured()
    before = driver.counters
    kind = command.WhichOneof("kind")
    if kind not in SHARED_KINDS:
        assert driver.do(command).code is Code.PERMISSION_DENIED
    for stranger in ("eve", "worker:w1", "node:n1", "group:team-a"):
        expected = Code.MALFORMED if stranger.startswith("group:") else Code.PERMISSION_DENIED
        assert driver.do(by(stranger, command)).code is expected
    after = driver.counters
    assert (after.jobs, after.last_execution, after.queued) == (before.jobs, before.last_execution, before.queued)
    driver.check()


@pytest.mark.parametrize("kind", sorted(OWN_KINDS))
def test_what_is_the_clusters_own_no_caller_does(kind: str) -> None:
    driver = secured()
    command = Command()
    getattr(command, kind).SetInParent()
    if kind == "begin_security":
        command = commands.begin_security("eve")
    if kind == "open_session":
        command = commands.connect("w9")
    assert driver.do(by("admin", command)).code is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    "command",
    [
        selected("redrive", executions=[FOREIGN]),
        selected("purge", executions=[DEAD, FOREIGN]),
        selected("redrive", job=5),
        commands.in_namespace("team-a", commands.backfill(5, START_MS, START_MS + 1)),
        commands.put(commands.APPLY, commands.draft(commands.job(A + "new")), deletions=[(B + "other", 0)]),
        commands.put(commands.APPLY, commands.draft(commands.job(A + "new")), commands.draft(commands.job(B + "new"))),
        commands.cancel(FOREIGN),
        commands.redrive(FOREIGN),
    ],
)
def test_each_object_inside_counts(command: Command) -> None:
    """Whatever the request says around them."""
    driver = secured()
    driver.do(by("admin", commands.set_grant("ada", "team-a", "admin")))
    found = driver.do(by("ada", command))
    assert found.code is Code.PERMISSION_DENIED and found.text.endswith("in namespaces/team-b")


def test_an_operation_does_nothing_outside_its_namespace() -> None:
    """Not even for somebody who may do it there as well."""
    driver = secured()
    operation = driver.do(by("admin", selected("redrive", executions=[DEAD, FOREIGN]))).numbers[0]
    driver.do(commands.operation_step(operation, 0, [DEAD, FOREIGN], exhausted=True))
    assert (driver.state(DEAD), driver.state(FOREIGN)) == ("QUEUED", "DEAD")
    assert driver.operation(operation).done == 1


def test_who_began_an_operation_ends_it() -> None:
    driver = secured()
    for name in ("ada", "bob"):
        driver.do(by("admin", commands.set_grant(name, "team-a", "editor")))
    operation = driver.do(by("ada", selected("redrive"))).numbers[0]
    assert driver.operation(operation).started_by == "ada"
    assert driver.do(by("bob", commands.cancel_operation(operation))).code is Code.PERMISSION_DENIED
    assert driver.do(by("ada", commands.cancel_operation(operation))).code is Code.OK


def test_an_answer_is_for_whoever_asked() -> None:
    driver = secured()
    for name in ("ada", "bob"):
        driver.do(by("admin", commands.set_grant(name, "team-a", "operator")))
    asked = commands.requested(commands.run(A + "one", force=True), b"r")
    first = driver.do(by("ada", asked))
    assert first.code is Code.OK
    assert driver.do(by("ada", asked)) == first
    assert driver.do(by("bob", asked)).code is Code.REQUEST_ID_REUSED
    # What has been done has been done, whatever she may do now; but not for a token that is good no longer.
    driver.do(by("ada", commands.put_token("adas", "ada")))
    driver.do(by("admin", commands.delete_grant("ada", "team-a")))
    assert driver.do(by("ada", asked, "adas")) == first
    driver.do(by("admin", Command(revoke_token=log_pb2.RevokeToken(id="adas"))))
    assert driver.do(by("ada", asked, "adas")) == Result(Code.PERMISSION_DENIED, text="token adas was revoked")


def test_a_refusal_is_an_answer_too() -> None:
    """A copy of the command that comes late must not do what its caller was told is not done."""
    driver = secured()
    asked = commands.requested(commands.create(A + "new"), b"r")
    refused = driver.do(by("ada", asked))
    assert refused.code is Code.PERMISSION_DENIED
    driver.do(by("admin", commands.set_grant("ada", "team-a", "editor")))
    assert driver.do(by("ada", asked)) == refused
    driver.check()


def test_members_are_the_leaders_to_decide() -> None:
    """Before the change is appended, because it is in force from then on; the state only passes on the answer."""
    driver = secured()
    driver.do(by("admin", commands.set_grant("ada", "team-a", "admin")))
    driver.do(by("admin", commands.put_token("short", "admin", expire_time_ms=START_MS + 1)))
    actors: dict[str, Callable[[], bool]] = {
        name: lambda name=name: may_change_members(
            driver.tables, log_pb2.Actor(principal=name.partition("/")[0], token=name.partition("/")[2]), START_MS + 1
        )
        for name in ("admin", "admin/first", "ada", "eve", "admin/short", "admin/lost")
    }
    assert [name for name, may in actors.items() if may()] == ["admin", "admin/first"]
    change = log_pb2.ChangeMembership(remove="n2", refusal=int(Code.PERMISSION_DENIED))
    text = "ada may not cluster.write everywhere"
    assert driver.do(by("ada", Command(change_membership=change))) == Result(Code.PERMISSION_DENIED, text=text)
    # Revoked between the leader's question and this entry: the change is in force, and the answer says so.
    driver.do(by("admin", commands.put_token("gone", "admin")))
    driver.do(by("admin", Command(revoke_token=log_pb2.RevokeToken(id="gone"))))
    change = log_pb2.ChangeMembership(remove="n2", configuration=log_pb2.Configuration())
    assert driver.do(by("admin", Command(change_membership=change), "gone")).code is Code.OK
    [*_, record] = audit.records(driver.tables, 1, 1 << 63)
    assert (record.objects[:], record.allowed, record.token) == (["members/n2"], True, "gone")


def test_without_security_nobody_is_asked() -> None:
    driver = Driver()
    driver.do(by("eve", commands.create("tick")))
    assert driver.job().run_as == "" and driver.job_state().run_as == 0
    assert driver.do(commands.delete("tick")).code is Code.OK


def test_jobs_from_before_security_go_on() -> None:
    driver = Driver()
    driver.do(commands.create("tick", START_MS))
    driver.do(commands.begin_security())
    driver.do(commands.plan(fires=[commands.fire(1, 1, START_MS, START_MS + 60_000)]))
    assert driver.state() == "QUEUED"
    driver.check()


def test_a_node_of_an_owner_without_rights_is_skipped() -> None:
    """The run goes on; by name such a job is not run again."""
    driver = secured()
    driver.do(by("admin", commands.set_grant("ada", "team-a", "editor")))
    driver.do(by("ada", commands.update(A + "node", every_ms=0, workflow="flow", priority=7)))
    driver.do(by("admin", commands.delete_grant("ada", "team-a")))
    refused = driver.do(by("admin", commands.rerun(FLOW + 1)))
    assert refused.text == "ada, in whose name it runs, may not job.run in namespaces/team-a"
    number = driver.do(by("admin", commands.run(A + "flow"))).numbers[0]
    assert (driver.state(number + 1), driver.detail(number + 1).reason) == ("SKIPPED", "not_permitted")
    dead = driver.do(by("admin", commands.redrive(FLOW + 1)))
    assert (dead.code, dead.text) == (refused.code, refused.text)
    driver.check()


def test_more_rights_never_mean_less() -> None:
    """Each role has all verbs of the one before it."""
    roles = [ROLE_VERBS[role] for role in sorted(ROLE_VERBS)]
    assert all(lower <= higher for lower, higher in itertools.pairwise(roles))
    assert sorted(ROLE_VERBS) == sorted(access_pb2.Role.values())
