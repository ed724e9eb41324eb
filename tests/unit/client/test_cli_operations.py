"""`horologe dead-letter`, `operation` and `backfill`, and their methods in the SDK, against a fake node."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fake_cluster import FakeCluster, failure
from typer.testing import Result

from horologe.client import AsyncClient, Client
from horologe.client.errors import FailedPrecondition, InvalidArgument
from horologe.v1.backfill_service_pb2 import BackfillJobRequest
from horologe.v1.execution_pb2 import Execution
from horologe.v1.operation_pb2 import Operation

Run = Callable[..., Result]
HEX = "8f0e1d2c3b4a5968"


@pytest.fixture(autouse=True)
def dead(fake: FakeCluster) -> None:
    """Two dead letters of one job."""
    fake.add_dead_letter(fake.add_execution("report", Execution.STATE_DEAD), "disk full", HEX)
    fake.add_dead_letter(fake.add_execution("report", Execution.STATE_DEAD), "out of memory", "0" * 16)


def lines(result: Result, exit_code: int = 0) -> list[str]:
    assert result.exit_code == exit_code, result.output
    return result.stdout.splitlines()


def test_dead_letters_are_listed(fake: FakeCluster, run: Run) -> None:
    header, first, second = lines(run("dead-letter", "list"))
    assert header.split() == ["ID", "JOB", "DUE", "TIME", "DIED", "FINGERPRINT", "ERROR"]
    assert first.split()[:2] == ["1", "report"] and first.endswith(f"{HEX}  disk full")
    assert second.endswith("out of memory")
    assert lines(run("dlq", "list", "--limit", "1"))[1:] == [first]
    run("dead-letter", "list", "report", "--fingerprint", HEX, "--since", "2027-01-01T00:00:00Z")
    wanted = fake.requests("ListDeadLetters")[-1].filter
    assert (wanted.job, wanted.fingerprint) == ("namespaces/default/jobs/report", HEX)
    assert wanted.start_time.ToJsonString() == "2027-01-01T00:00:00Z"
    assert not wanted.HasField("end_time")
    assert run("dead-letter", "list", "--until", "yesterday").exit_code == 2
    (first_record, _) = json.loads(run("dead-letter", "list", "-o", "json").stdout)
    assert (first_record["id"], first_record["error"], first_record["fingerprint"]) == (1, "disk full", HEX)


def test_dead_letters_are_counted_by_error(run: Run) -> None:
    result = run("dead-letter", "groups")
    _, first, _ = lines(result)
    assert first.split()[0] == "3" and first.endswith("1       disk full")
    assert "only the latest ones" in result.stderr


def test_one_dead_letter_is_shown(run: Run) -> None:
    shown = run("dead-letter", "show", "1").stdout
    assert "Error:" in shown and "disk full" in shown and HEX in shown


def test_one_is_driven_again_at_once(fake: FakeCluster, run: Run) -> None:
    assert "queued" in lines(run("dead-letter", "redrive", "1", "--payload", '{"a": 1}'))[1]
    (request,) = fake.requests("RedriveDeadLetter")
    assert request.payload.struct_value["a"] == 1
    assert request.request_id
    assert list(fake.dead) == ["namespaces/-/jobs/-/executions/2"]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Execution.STATE_FAILED, "execution 3 is FAILED, which is no dead letter: `horologe job run nightly` runs it"),
        (Execution.STATE_RUNNING, "perhaps it was driven again"),
    ],
)
def test_what_is_no_dead_letter_is_not_driven_again(
    fake: FakeCluster, run: Run, state: Execution.State.ValueType, text: str
) -> None:
    fake.add_execution("nightly", state)
    fake.failures["RedriveDeadLetter"].append(
        failure("NOT_FOUND", "DEAD_LETTER_NOT_FOUND", "execution 3 is not there; perhaps it was driven again")
    )
    result = run("dead-letter", "redrive", "3")
    assert (result.exit_code, result.stdout) == (3, "")
    assert text in result.stderr


def test_many_are_driven_again_by_an_operation(fake: FakeCluster, run: Run) -> None:
    result = run("dead-letter", "redrive", "1", "2", "--rate", "5")
    assert "drive again" in result.stdout and "running" in result.stdout
    assert fake.requests("RedriveDeadLetters")[0].rate == 5
    assert len(fake.requests("RedriveDeadLetters")[0].names) == 2
    lines(run("dead-letter", "redrive", "--all", "--job", "report", "--wait"))
    assert fake.requests("RedriveDeadLetters")[1].filter.job == "namespaces/default/jobs/report"


@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("1", "--job", "report")])
def test_what_is_to_be_driven_again_is_said_one_way(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("dead-letter", "redrive", *arguments).exit_code == 2


def test_dead_letters_are_purged(fake: FakeCluster, run: Run) -> None:
    assert lines(run("dead-letter", "purge", "1")) == ["purged 1"]
    assert "purge" in run("dead-letter", "purge", "--all", "--fingerprint", HEX).stdout
    assert fake.requests("PurgeDeadLetters")[0].filter.fingerprint == HEX


def test_a_backfill_is_tried_begun_and_waited_for(fake: FakeCluster, run: Run) -> None:
    span = ("--from", "2026-11-01T00:00:00", "--to", "2026-12-01T00:00:00", "--tz", "Europe/Berlin")
    shown = run("backfill", "report", *span, "--dry-run").stdout
    assert "12" in shown and "and 2 more" in shown and "2026-10-31T23:00:00" in shown
    assert json.loads(run("backfill", "report", *span, "--dry-run", "-o", "json").stdout)["wanted_count"] == 12
    result = run(
        "backfill", "report", *span, "--order", "backwards", "--only", "failed", "--max-running", "3", "--wait"
    )
    lines(result)
    assert "0/30 looked at" in result.stderr
    request = fake.requests("BackfillJob")[-1]
    assert (request.order, request.only, request.max_running) == (
        BackfillJobRequest.ORDER_BACKWARDS,
        BackfillJobRequest.ONLY_FAILED,
        3,
    )
    fake.operation_end = Operation.STATE_FAILED
    assert run("backfill", "report", *span, "--wait").exit_code == 1
    assert run("backfill", "report", "--from", "then", "--to", "now").exit_code == 2
    assert run("backfill", "report", "--from", "-2d", "--to", "-1d", "--dry-run").exit_code == 0
    fake.failures["BackfillJob"].append(failure("INVALID_ARGUMENT", "INVALID_FIELD", "no", {"end_time": "is ahead"}))
    assert "Invalid value for --to: is ahead" in run("backfill", "report", *span).stderr
    assert "allowed: missing, failed, all" in run("backfill", "report", *span, "--only", "some").stderr


def test_operations_are_listed_shown_and_cancelled(fake: FakeCluster, run: Run) -> None:
    run("dead-letter", "redrive", "1", "2")
    run("backfill", "report", "--from", "2026-11-01T00:00:00Z", "--to", "2026-12-01T00:00:00Z")
    _, first, second = lines(run("operation", "list"))
    assert first.split()[:5] == ["2", "backfill", "report", "running", "0/30"]
    assert second.split()[:2] == ["1", "redrive"]
    assert json.loads(run("operation", "cancel", "1", "--reason", "enough", "-o", "json").stdout)["reason"] == "enough"
    assert run("operation", "get", "1", "--wait").exit_code == 1
    fake.failures["CancelOperation"].append(failure("FAILED_PRECONDITION", "OPERATION_FINISHED", "over"))
    assert run("operation", "cancel", "1").exit_code == 4
    assert run("operation", "get", "one").exit_code == 2


async def test_the_sdk(fake: FakeCluster) -> None:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    with Client(fake.address, insecure=True) as client:
        assert [letter.error for letter in client.list_dead_letters()] == ["disk full", "out of memory"]
        assert not client.group_dead_letters().is_complete
        assert client.redrive_dead_letters(job="report", rate=2.0, payload=[1]).kind == Operation.KIND_REDRIVE
        assert client.get_operation(1).state == Operation.STATE_DONE
        with pytest.raises(InvalidArgument, match="forwards, backwards"):
            client.backfill_job("report", start, end, order="sideways")
        fake.failures["CancelOperation"].append(failure("FAILED_PRECONDITION", "OPERATION_FINISHED", "over"))
        with pytest.raises(FailedPrecondition):
            client.cancel_operation(1)
    async with AsyncClient(fake.address, insecure=True) as client:
        assert (await client.backfill_job("report", start, end)).operation.total_count == 30
        assert [one.name.rpartition("/")[2] async for one in client.list_operations()] == ["2", "1"]
        await client.purge_dead_letter(2)
