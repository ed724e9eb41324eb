"""Secrets in the state: set, counted by the jobs that name them, and deleted when no job does."""

from __future__ import annotations

import pytest
from support.commands import APPLY, CREATE, delete, delete_secret, draft, job, put, set_secret
from support.driver import Driver

from horologe.log.v1 import log_pb2
from horologe.raft import secrets
from horologe.raft.model import Code, Result
from horologe.raft.secrets import VALUE_BYTES_MAX, find_secret

DB = "namespaces/default/secrets/db"


def naming(*ids: str, name: str = "tick", **fields: object) -> log_pb2.Command:
    return put(APPLY, draft(job(name, **fields), secrets=ids))


def count(machine: Driver, name: str = DB) -> int:
    record = find_secret(machine.tables, name)
    assert record is not None
    return record.job_count


def test_a_secret_gets_another_value(machine: Driver) -> None:
    first = machine.do(set_secret("db", "one"))
    second = machine.do(set_secret("db", "two"), after_ms=5_000)
    assert (first.numbers, second.numbers) == ((1, machine.now_ms - 5_000), (2, machine.now_ms))
    record = find_secret(machine.tables, DB)
    assert record is not None
    assert (record.value, record.version) == (b"two", 2)
    assert (record.create_time_ms, record.update_time_ms) == (machine.now_ms - 5_000, machine.now_ms)


def test_jobs_that_name_a_secret_are_counted(machine: Driver) -> None:
    machine.apply(set_secret("db"), set_secret("api"))
    machine.do(naming("api", "db"))
    machine.do(naming("db", name="tock"))
    assert (count(machine), list(machine.job().secrets)) == (2, ["api", "db"])
    machine.do(naming("api", description="changed"))
    assert (count(machine), list(machine.job().secrets)) == (1, ["api"])
    machine.do(delete("tock"))
    assert count(machine) == 0
    assert machine.do(delete_secret("db")).code is Code.OK
    assert find_secret(machine.tables, DB) is None


def test_a_secret_that_a_job_names_stays(machine: Driver) -> None:
    machine.apply(set_secret("db"), naming("db"))
    assert machine.do(delete_secret("db")) == Result(Code.SECRET_IN_USE, (1,), DB)
    assert machine.do(delete_secret("other")) == Result(Code.SECRET_NOT_FOUND, (), "namespaces/default/secrets/other")
    assert count(machine) == 1


def test_a_deleted_job_holds_no_secret_and_goes_on_naming_it(machine: Driver) -> None:
    machine.apply(set_secret("db"), naming("db"), delete("tick"), delete_secret("db"))
    assert list(machine.job().secrets) == ["db"], "what still runs of it says what is missing"


def test_jobs_that_name_what_is_not_there_are_refused_as_a_whole(machine: Driver) -> None:
    machine.do(set_secret("db"))
    good, bad = draft(job("good"), secrets=["db"]), draft(job("bad"), secrets=["db", "lost"])
    lost = "namespaces/default/secrets/lost"
    assert machine.do(put(CREATE, good, bad)) == Result(Code.SECRET_NOT_FOUND, (), lost)
    assert (machine.counters.jobs, count(machine)) == (0, 0)


def test_a_job_cannot_name_the_secret_of_another_namespace(machine: Driver) -> None:
    machine.do(set_secret("db", namespace="payments"))
    shop = draft(job("namespaces/shop/jobs/tick"), secrets=["db"])
    assert machine.do(put(CREATE, shop)) == Result(Code.SECRET_NOT_FOUND, (), "namespaces/shop/secrets/db")
    own = draft(job("namespaces/payments/jobs/tick"), secrets=["db"])
    assert machine.do(put(CREATE, own)).code is Code.OK


def test_a_namespace_holds_so_many_and_no_more(machine: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "SECRETS_PER_NAMESPACE_MAX", 2)
    machine.apply(set_secret("x", namespace="aaa"), set_secret("x", namespace="zzz"))
    assert [machine.do(set_secret(name)).code for name in ("b", "a", "c", "a")] == [
        Code.OK,
        Code.OK,
        Code.QUOTA_EXCEEDED,
        Code.OK,
    ]
    machine.do(delete_secret("a"))
    assert machine.do(set_secret("c")).code is Code.OK


@pytest.mark.parametrize("value", [b"", b"x" * (VALUE_BYTES_MAX + 1), b"a\0b", b"\xff"])
def test_values_that_no_process_can_be_given_are_refused(machine: Driver, value: bytes) -> None:
    command = log_pb2.Command(set_secret=log_pb2.SetSecret(name=DB, value=value))
    result = machine.do(command)
    assert result.code is Code.MALFORMED
    assert find_secret(machine.tables, DB) is None


@pytest.mark.parametrize("value", [b"x", b"x" * VALUE_BYTES_MAX, "ключ\n".encode()])
def test_values_up_to_the_limits_are_taken(machine: Driver, value: bytes) -> None:
    machine.do(log_pb2.Command(set_secret=log_pb2.SetSecret(name=DB, value=value)))
    record = find_secret(machine.tables, DB)
    assert record is not None
    assert record.value == value
