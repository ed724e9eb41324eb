"""The audit chain in the replicated state: what is recorded of a command, and that the chain holds whatever goes in or out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import commands
from support.audit_invariants import check_chain
from support.driver import START_MS, Driver
from support.tables import dump

from horologe.log.v1 import log_pb2
from horologe.node import errors
from horologe.node.retention import REST_SECONDS, ROWS_PER_WALK, WALK_SECONDS, Retention
from horologe.raft.audit import (
    FIRST_HASH,
    OBJECTS_MAX,
    REASONS,
    Record,
    base_of,
    hash_before,
    hash_of,
    head_of,
    records,
)
from horologe.raft.audit_subjects import objects_of
from horologe.raft.history import AUDIT_RECORDS_PER_ENTRY
from horologe.raft.model import Code, Result
from horologe.v1 import access_pb2

JOB = "namespaces/default/jobs/tick"
SECRET = "namespaces/default/secrets/password"
DAY_MS = 86_400_000
ADMINS_TOKEN = "0123456789abcdef"
Command = log_pb2.Command


def by(command: Command, principal: str = "ann", method: str = "") -> Command:
    token = ADMINS_TOKEN if principal == "admin" else "ab" * 8
    command.actor.CopyFrom(log_pb2.Actor(principal=principal, token=token, source="10.0.0.1:5", method=method))
    return command


class Chain:
    """A driver, and a look at what it has recorded."""

    def __init__(self) -> None:
        self.driver = Driver()

    def do(self, command: Command) -> Record:
        """The record that the command makes: exactly one."""
        count = self.driver.counters.last_audit
        self.driver.do(command)
        assert self.driver.counters.last_audit == count + 1
        return self.records()[-1]

    def records(self) -> list[Record]:
        return list(records(self.driver.tables, 0, 1 << 62))

    def check(self) -> None:
        check_chain(self.driver.tables)


@pytest.fixture
def chain() -> Iterator[Chain]:
    made = Chain()
    yield made
    made.check()


def admin() -> Command:
    token = log_pb2.PutToken(id=ADMINS_TOKEN, hash=b"h" * 32, principal="admin")
    return Command(begin_security=log_pb2.BeginSecurity(admin=token))


def test_a_command_that_is_done_is_recorded_with_who_what_and_when(chain: Chain) -> None:
    made = chain.do(by(commands.create(JOB), method="JobService.CreateJob"))
    assert (made.sequence, made.revision, made.time.ToMilliseconds()) == (1, 1, START_MS)
    assert (made.principal, made.token, made.source) == ("ann", "ab" * 8, "10.0.0.1:5")
    assert (made.method, list(made.objects), made.object_count) == ("JobService.CreateJob", [JOB], 1)
    assert (made.allowed, made.reason, made.before, made.after) == (True, "", "", "1")
    assert made.hash == hash_of(FIRST_HASH, made) == head_of(chain.driver.tables)


def test_the_kind_of_the_command_stands_for_a_method_that_is_not_named(chain: Chain) -> None:
    assert chain.do(by(commands.create(JOB))).method == "put_jobs"


def test_a_refusal_is_recorded_with_the_reason_that_the_caller_gets(chain: Chain) -> None:
    refused = chain.do(by(commands.delete(JOB)))
    assert (refused.allowed, refused.reason, list(refused.objects)) == (False, "JOB_NOT_FOUND", [JOB])
    assert not refused.before and not refused.after


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK and code in errors._RESULTS])
def test_reasons_are_those_of_errors(code: Code) -> None:
    assert REASONS.get(code, code.name) == errors._RESULTS[code][0]


def test_a_change_is_told_by_etags(chain: Chain) -> None:
    chain.do(by(commands.create(JOB)))
    paused = chain.do(by(commands.pause(JOB)))
    assert (paused.before, paused.after) == ("1", "2")
    deleted = chain.do(by(commands.delete(JOB)))
    assert (deleted.before, deleted.after) == ("2", "")


def test_of_a_batch_so_many_objects_are_named_and_all_are_counted(chain: Chain) -> None:
    names = [f"namespaces/default/jobs/j{number}" for number in range(OBJECTS_MAX + 5)]
    made = chain.do(by(commands.put(commands.CREATE, *(commands.draft(commands.job(name)) for name in names))))
    assert (list(made.objects), made.object_count) == (names[:OBJECTS_MAX], len(names))
    assert not made.before and not made.after
    changed = chain.do(by(commands.put(commands.APPLY, commands.draft(commands.job(JOB)), deletions=[(names[0], 0)])))
    assert (list(changed.objects), changed.object_count) == ([JOB, names[0]], 2)


def test_a_run_is_recorded_with_the_execution_that_it_made(chain: Chain) -> None:
    chain.do(by(commands.create(JOB)))
    assert list(chain.do(by(commands.run(JOB))).objects) == [JOB, "executions/1"]
    assert list(chain.do(by(commands.cancel(1))).objects) == ["executions/1"]


def test_a_secret_is_told_by_its_version_and_never_by_its_value(chain: Chain) -> None:
    for version in (1, 2):
        value = f"marker-{version}".encode()
        made = chain.do(by(Command(set_secret=log_pb2.SetSecret(name=SECRET, value=value))))
        assert (list(made.objects), made.after) == ([SECRET], f"version {version}")
        assert b"marker" not in made.SerializeToString()
    assert made.before == "version 1"


def test_a_grant_is_told_by_its_role_and_verbs(chain: Chain) -> None:
    chain.do(admin())
    grant = access_pb2.Grant(subject="ann", namespace="shop", role=access_pb2.ROLE_VIEWER, verbs=["job.run"])
    made = chain.do(by(Command(set_grant=log_pb2.SetGrant(grant=grant)), "admin"))
    assert (list(made.objects), made.before, made.after) == (["grants/ann/shop"], "", "viewer, job.run")
    gone = chain.do(by(Command(delete_grant=log_pb2.DeleteGrant(subject="ann", namespace="shop")), "admin"))
    assert (gone.before, gone.after) == ("viewer, job.run", "")
    out = chain.do(by(Command(set_principal=log_pb2.SetPrincipal(name="ann", disabled=True)), "admin"))
    assert (list(out.objects), out.before, out.after) == (["principals/ann"], "enabled", "disabled")


def test_the_beginning_of_security_is_the_first_record(chain: Chain) -> None:
    chain.driver.do(commands.create(JOB))
    first = chain.do(admin())
    assert (first.sequence, first.principal, first.token) == (1, "admin", "0123456789abcdef")
    assert (first.method, list(first.objects), first.allowed) == ("begin_security", ["tokens/0123456789abcdef"], True)
    chain.driver.do(admin())
    assert len(chain.records()) == 1, "the other nodes of a new cluster propose it as well"


def test_what_nobody_asked_for_is_not_recorded(chain: Chain) -> None:
    chain.driver.apply(commands.bootstrap("cluster"), commands.create(JOB), Command(barrier=log_pb2.Barrier()))
    assert chain.records() == []


def test_a_repetition_is_not_recorded_twice_but_another_request_under_its_id_is(chain: Chain) -> None:
    request = by(commands.create(JOB))
    request.request_id, request.request_digest = b"r" * 16, b"digest"
    chain.do(request)
    chain.driver.do(request)
    assert len(chain.records()) == 1
    request.request_digest = b"another"
    assert chain.do(request).reason == "REQUEST_ID_REUSED"


def test_a_command_that_cannot_be_read_is_recorded_without_what_is_in_it(chain: Chain) -> None:
    made = chain.do(by(commands.delete("x" * 10_000)))
    assert (made.reason, list(made.objects), made.object_count) == ("INTERNAL", [], 0)


def test_what_nodes_refused_is_recorded_with_their_time(chain: Chain) -> None:
    found = Record(principal="worker:w1", method="WorkerService.Attach", reason="PERMISSION_DENIED", repeat_count=7)
    found.time.FromMilliseconds(START_MS - 5)
    chain.driver.do(Command(note_denied=log_pb2.NoteDenied(records=[found, found])))
    first, second = chain.records()
    assert (first.sequence, second.sequence, first.repeat_count) == (1, 2, 7)
    assert first.time.ToMilliseconds() == START_MS - 5
    assert second.hash == hash_of(first.hash, second)


NAMELESS = {
    *("plan", "complete", "prune", "bootstrap", "barrier", "checkpoint"),
    *("note_token_uses", "note_denied", "note_notices", "note_deliveries", "note_quorum"),
}
"""Commands of the cluster's own, or about no object."""


@pytest.mark.parametrize("kind", [field.name for field in Command.DESCRIPTOR.oneofs_by_name["kind"].fields])
def test_every_command_of_a_caller_names_what_it_is_about(kind: str) -> None:
    command = Command()
    getattr(command, kind).SetInParent()
    if kind == "put_jobs":
        command.put_jobs.deletions.add(name=JOB)
    names, count = objects_of(Driver().tables, command, Result(Code.OK), OBJECTS_MAX)
    assert len(names) == count == (kind not in NAMELESS)


def many(chain: Chain, count: int) -> None:
    for _ in range(count):
        chain.driver.do(by(commands.delete(JOB)))


def test_dropped_records_leave_the_rest_verifiable(chain: Chain) -> None:
    many(chain, 5)
    third = chain.records()[2]
    chain.driver.do(Command(prune=log_pb2.Prune(audit_before=4)))
    assert [record.sequence for record in chain.records()] == [4, 5]
    assert (base_of(chain.driver.tables).sequence, base_of(chain.driver.tables).hash) == (4, third.hash)
    assert hash_before(chain.driver.tables, 4) == third.hash
    assert hash_before(chain.driver.tables, 6) == head_of(chain.driver.tables)
    assert hash_before(chain.driver.tables, 3) is hash_before(chain.driver.tables, 7) is None
    chain.check()
    chain.driver.do(Command(prune=log_pb2.Prune(audit_before=2)))
    assert len(chain.records()) == 2, "what is gone already changes nothing"
    chain.driver.do(Command(prune=log_pb2.Prune(audit_before=1 << 60)))
    assert chain.records() == []
    chain.check()
    assert chain.do(by(commands.delete(JOB))).sequence == 6, "numbers go on"


def test_one_entry_drops_a_bounded_number(chain: Chain) -> None:
    many(chain, AUDIT_RECORDS_PER_ENTRY + 3)
    chain.driver.do(Command(prune=log_pb2.Prune(audit_before=1 << 60)))
    assert len(chain.records()) == 3


def test_the_leader_drops_what_is_too_old_in_steps(chain: Chain) -> None:
    old_count = ROWS_PER_WALK + 10
    many(chain, old_count)
    chain.driver.now_ms += 10 * DAY_MS
    many(chain, 3)
    retention = Retention(1e9, audit_retention_seconds=5 * 86_400.0)
    seconds, proposals = 0.0, []
    for _ in range(4):
        seconds += REST_SECONDS + WALK_SECONDS
        plan = retention.plan(chain.driver.tables, seconds, chain.driver.now_ms)
        if plan is not None:
            proposals.append(plan.audit_before)
            chain.driver.do(Command(prune=plan))
    assert proposals == [ROWS_PER_WALK + 1, old_count + 1]
    assert [record.sequence for record in chain.records()] == [old_count + 1, old_count + 2, old_count + 3]
    assert Retention(1e9).plan(chain.driver.tables, seconds, chain.driver.now_ms) is None, "a year by default"


def test_all_nodes_have_the_same_chain(chain: Chain) -> None:
    chain.do(admin())
    chain.do(by(commands.create(JOB)))
    other = Driver()
    for index, entry in chain.driver.entries:
        other.now_ms = entry.time_ms
        other.apply(*entry.commands, index=index)
    assert dump(other.tables) == dump(chain.driver.tables)
