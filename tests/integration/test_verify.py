"""`horologe verify` against a real node: a whole account, and every kind of hole in it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from one_node import OneNode, one_node

from horologe.chaos.cluster import eventually
from horologe.chaos.verify import verify
from horologe.client import jobs
from horologe.raft.model import LedgerOutcome, Reason
from horologe.raft.records import LEDGER_KEY, U64, LedgerEntry
from horologe.raft.sealed import seal

GRACE_MS = 2_000
RUNS = 6


async def _run_command(here: OneNode, *options: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        "from horologe.client.cli.main import main; main()",
        "--insecure",
        "verify",
        "--grace",
        f"{GRACE_MS}ms",
        "--address",
        here.client.addresses[0],
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def _look(here: OneNode) -> dict[str, Any]:
    _, said = await _run_command(here, "-o", "json")
    found: dict[str, Any] = json.loads(said)
    return found


async def _ran(here: OneNode, job: str, count: int) -> None:
    async def often() -> bool:
        return (await here.ledger(job))["RAN"] >= count

    await eventually(often, 60, f"{count} runs of {job}")


async def test_a_whole_account_and_holes_in_it(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        tick = await here.client.create_job(jobs.job("tick", jobs.every("1s"), jobs.shell("true")))
        await here.client.create_job(jobs.job("often", jobs.cron("* * * * *"), jobs.shell("true")))
        await here.client.create_job(jobs.job("by-hand", jobs.manual(), jobs.shell("true")))
        await here.client.create_job(jobs.job("trailing", jobs.fixed_delay("1s"), jobs.shell("true")))
        await here.client.create_job(jobs.job("gone", jobs.every("1s"), jobs.shell("true")))
        await here.client.create_job(jobs.job("napping", jobs.every("1s"), jobs.shell("true")))
        await _ran(here, "napping", 2)
        await here.client.pause_job("napping")
        await here.client.delete_job("gone")
        for _ in range(3):
            await here.client.run_job("tick", force=True)
            await here.client.run_job("by-hand", force=True)
        await _ran(here, "tick", RUNS + GRACE_MS // 1000 + 3)
        code, said = await _run_command(here)
        assert code == 0, said
        assert "Every due time is accounted for exactly once, and all members agree." in said
        found = await _look(here)
        assert found["sound"] and found["complete"]
        assert (found["job_count"], found["paused_job_count"]) == (5, 1)
        trailing = {
            "job": "namespaces/default/jobs/trailing",
            "reason": "its due times follow from the ends of its executions",
        }
        assert found["unjudged"] == [trailing]
        assert found["due_count"] >= RUNS
        assert [(member["name"], len(member["digest"])) for member in found["members"]] == [("n1", 64)]

        # Planted: one row less, and one due time accounted for twice.
        assert here.node is not None
        store = here.node.context.store
        since_ms = tick.update_time.ToMilliseconds() + GRACE_MS
        with store.read() as tables:
            keys = [LEDGER_KEY.unpack(key) for key, _ in tables.ledger.scan(LEDGER_KEY.pack(1, since_ms, 0))]
        _, missing_ms, _ = next(key for key in keys if key[0] == 1 and not key[2])
        doubled_ms = missing_ms + 3_000
        _change(here, LEDGER_KEY.pack(1, missing_ms, 0), None)
        row = LedgerEntry(LedgerOutcome.COALESCED, Reason.CATCHUP_LATEST, 0, doubled_ms - 1_000, 2)
        _change(here, LEDGER_KEY.pack(1, doubled_ms, 0), row.pack())
        code, said = await _run_command(here)
        assert code == 1
        assert "Not accounted for exactly once: 1 double, 1 missing" in said
        assert "namespaces/default/jobs/tick" in said
        found = await _look(here)
        assert found["wrong"] == {"double": 1, "missing": 1}
        assert {(finding["kind"], finding["count"]) for finding in found["findings"]} == {("missing", 1), ("double", 1)}


def _change(here: OneNode, key: bytes, value: bytes | None) -> None:
    """Beside the log, which no node would do."""
    assert here.node is not None
    store = here.node.context.store
    with store._environment.begin(write=True) as transaction:
        database = store._databases["ledger"]
        if value is None:
            assert transaction.delete(key, db=database)
        else:
            transaction.put(key, seal("ledger", key, value), db=database)


async def test_a_job_that_is_due_and_does_not_fire_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer is gone, so nobody will ever fire it."""
    monkeypatch.setattr("horologe.chaos.verify.LOOK_AGAIN_SECONDS", 0.1)
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("tick", jobs.every("1s"), jobs.shell("true")))
        await here.client.create_job(jobs.job("tock", jobs.every("1s"), jobs.shell("true")))
        await _ran(here, "tock", 2)
        assert here.node is not None
        store = here.node.context.store

        async def disarmed() -> bool:
            """Whether it stays away: a due time that is on its way brings the next one."""
            with store._environment.begin(write=True) as transaction:
                cursor = transaction.cursor(db=store._databases["timer"])
                found = [(key, value) for key, value in cursor.iternext() if value[9:17] == U64.pack(1)]
                for key, value in found:
                    assert transaction.delete(key, value, db=store._databases["timer"])
                return not found

        await eventually(disarmed, 60, "the timer gone", poll_seconds=1.0)
        stopped_at = (await here.ledger("tick"))["RAN"]
        await _ran(here, "tock", 5 + GRACE_MS // 1000 + 2)
        found = await verify(here.client, GRACE_MS)
        assert not found.is_sound
        assert set(found.wrong) == {"late"}
        assert found.wrong["late"] >= 2
        assert [audit.name for audit in found.unsound] == ["namespaces/default/jobs/tick"]
        assert (await here.ledger("tick"))["RAN"] <= stopped_at + 1
