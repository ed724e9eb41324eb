"""`horologe queue`, `limit` and `namespace`, against a fake node."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fake_cluster import FakeCluster, failure
from typer.testing import Result

from horologe.client import AsyncClient, Client
from horologe.client.errors import FailedPrecondition, InvalidArgument

Run = Callable[..., Result]


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()[1:]]


def test_a_limit_is_set_listed_and_deleted(fake: FakeCluster, run: Run) -> None:
    assert rows(run("limit", "set", "db", "5")) == [["db", "0/5", "0", "0"]]
    assert rows(run("limit", "list")) == [["db", "0/5", "0", "0"]]
    assert run("-n", "other", "limit", "list").stderr == "There are no limits.\n"
    (found,) = json.loads(run("limit", "list", "-o", "json").stdout)
    assert (found["name"], found["namespace"], found["max_running"]) == ("db", "default", 5)
    deleted = run("limit", "delete", "db", "-o", "json")
    assert json.loads(deleted.stdout) == {"name": "namespaces/default/limits/db", "outcome": "deleted"}
    assert fake.limits == {}
    assert [request.name for request in fake.requests("SetLimit")] == ["namespaces/default/limits/db"]


def test_a_limit_in_use_is_refused_with_a_hint(fake: FakeCluster, run: Run) -> None:
    fake.failures["DeleteLimit"].append(failure("FAILED_PRECONDITION", "LIMIT_IN_USE"))
    result = run("limit", "delete", "db")
    assert result.exit_code == 4
    assert "horologe limit list" in result.stderr


def test_settings_of_a_queue(fake: FakeCluster, run: Run) -> None:
    run("queue", "set", "reports", "--start-rate", "100/1h", "--burst", "7")
    assert rows(run("queue", "get", "reports"))[0][-4:] == ["-", "100/1h", "0s", "-"]
    run("queue", "set", "reports", "--aging", "5m")
    assert rows(run("queue", "list")) == [["reports", "active", "0", "0", "-", "100/1h", "5m", "-"]]
    masks = [list(request.update_mask.paths) for request in fake.requests("UpdateQueue")]
    assert masks == [["start_rate"], ["aging"]]
    run("queue", "set", "reports", "--start-rate", "none")
    assert not fake.queues["queues/reports"].HasField("start_rate")


@pytest.mark.parametrize("text", ["10", "ten/s", "10/x", "-1/s", "12345678/s", "1.5/s"])
def test_a_rate_that_nobody_can_read(run: Run, text: str) -> None:
    result = run("queue", "set", "reports", f"--start-rate={text}")
    assert result.exit_code == 2
    assert "start_rate" in result.stderr


def test_a_change_that_names_nothing(run: Run) -> None:
    assert run("queue", "set", "reports").exit_code == 2
    assert "--burst goes with a --start-rate" in run("queue", "set", "reports", "--burst", "3").stderr


def test_a_queue_is_paused_and_resumed(fake: FakeCluster, run: Run) -> None:
    result = run("queue", "pause", "reports", "--reason", "the database moves")
    assert result.stdout.splitlines()[1].endswith("ada@home: the database moves")
    assert rows(run("queue", "resume", "reports"))[0][1] == "active"


def test_a_namespace_gets_a_limit(fake: FakeCluster, run: Run) -> None:
    shop = [["shop", "0", "-", "0", "20", "-", "0", "0", "default", "-", "default"]]
    assert rows(run("namespace", "set", "shop", "--max-running", "20")) == shop
    assert rows(run("namespace", "list")) == shop
    assert rows(run("namespace", "get", "shop")) == shop
    run("namespace", "set", "shop", "--max-running", "0")
    assert list(fake.requests("UpdateNamespace")[-1].update_mask.paths) == ["max_running"]
    assert run("namespace", "set", "shop").exit_code == 2


def test_a_namespace_keeps_its_history_as_it_likes(fake: FakeCluster, run: Run) -> None:
    words = ("--history", "14d", "--history-count", "100000", "--dead-letters", "60d")
    assert rows(run("namespace", "set", "shop", *words))[0][-3:] == ["14d", "100000", "60d"]
    asked = fake.requests("UpdateNamespace")[-1]
    assert list(asked.update_mask.paths) == ["history_count_max", "history_retention", "dead_letter_retention"]
    found = json.loads(run("namespace", "set", "shop", "--history", "default", "-o", "json").stdout)
    assert found["history_retention"] == "default"
    assert run("namespace", "set", "shop", "--history", "forever").exit_code == 2


def test_a_namespace_has_quotas(fake: FakeCluster, run: Run) -> None:
    quotas = ("--job-count-max", "100", "--start-rate", "10/s", "--burst", "3")
    assert rows(run("namespace", "set", "shop", *quotas))[0][:6] == ["shop", "0", "100", "0", "-", "10/1s"]
    asked = fake.requests("UpdateNamespace")[-1]
    assert list(asked.update_mask.paths) == ["job_count_max", "start_rate"]
    assert asked.namespace.start_rate.burst == 3
    run("namespace", "set", "shop", "--start-rate", "none")
    asked = fake.requests("UpdateNamespace")[-1]
    assert list(asked.update_mask.paths) == ["start_rate"] and not asked.namespace.HasField("start_rate")
    assert "--burst goes with a --start-rate" in run("namespace", "set", "shop", "--burst", "3").stderr


def test_the_sdk_raises_what_it_means(fake: FakeCluster) -> None:
    fake.failures["PauseQueue"].append(failure("FAILED_PRECONDITION", "QUEUE_PAUSED"))
    with Client(fake.address, insecure=True) as client:
        with pytest.raises(FailedPrecondition):
            client.pause_queue("reports")
        with pytest.raises(InvalidArgument):
            client.update_queue("reports", aging="soon")
        with pytest.raises(InvalidArgument):
            client.set_limit("namespaces/-/limits/db", 1)
        with pytest.raises(InvalidArgument):
            client.get_queue("a/b")


async def test_the_async_client_has_the_same_methods(fake: FakeCluster) -> None:
    async with AsyncClient(fake.address, insecure=True) as client:
        await client.set_limit("db", 3)
        assert (await client.get_limit("db")).max_running == 3
        await client.update_queue("reports", start_rate="10/s", aging="1m")
        (queue,) = [found async for found in client.list_queues()]
        assert (queue.start_rate.count, queue.start_rate.per.seconds, queue.aging.seconds) == (10, 1, 60)
        await client.update_namespace(max_running=4)
        assert (await client.get_namespace()).name == "namespaces/default"
