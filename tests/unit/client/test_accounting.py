"""The account of due times: what is missing, what is double."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from horologe.client.accounting import account
from horologe.v1 import execution_service_pb2, job_pb2

START = datetime(2027, 1, 1, tzinfo=UTC)
Row = execution_service_pb2.LedgerRow


def row(first_second: int, last_second: int, outcome: int, execution: str = "") -> Row:
    made = Row(outcome=outcome, execution=execution)
    made.due_time.FromDatetime(START + timedelta(seconds=first_second))
    made.last_due_time.FromDatetime(START + timedelta(seconds=last_second))
    return made


class Cluster:
    """One job that is due every second."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    async def list_jobs(self):
        job = job_pb2.Job(name="tick", schedules=[job_pb2.Schedule()])
        job.update_time.FromDatetime(START)
        yield job

    async def preview_schedule(self, schedule, start, count, job):
        assert job == "tick"
        times = [
            SimpleNamespace(ToDatetime=lambda zone, n=n: start + timedelta(seconds=n)) for n in range(1, count + 1)
        ]
        return SimpleNamespace(due_times=times)

    async def list_ledger(self, name):
        for made in self._rows:
            yield made

    async def list_executions(self, name):
        for made in ():
            yield made


async def test_a_long_ledger_with_a_hole_and_a_double():
    seconds = 5_000
    rows = [row(1, 10, Row.OUTCOME_COALESCED)]
    rows += [row(second, second, Row.OUTCOME_RAN, f"e{second}") for second in range(11, seconds + 1) if second != 77]
    rows.append(row(20, 21, Row.OUTCOME_SKIPPED))
    (found,) = await account(Cluster(rows), START + timedelta(seconds=seconds))  # type: ignore[arg-type]
    assert found.due == seconds
    assert found.missing == [START + timedelta(seconds=77)]
    assert found.double == [START + timedelta(seconds=20), START + timedelta(seconds=21)]
    assert found.outcomes == {"coalesced": 10, "ran": seconds - 11, "skipped": 2}
