"""What must hold of dead letters and operations after every entry."""

from __future__ import annotations

from collections import Counter

from horologe.log.v1 import log_pb2
from horologe.raft.dead_letters import DEAD_KEY
from horologe.raft.model import FINAL_STATES, Counters, ExecutionFlag, ExecutionState, Trigger
from horologe.raft.records import PAIR, U64, Execution
from horologe.raft.tables import Tables

Record = log_pb2.OperationRecord


def check_dead_letters(tables: Tables, counters: Counters, executions: dict[int, Execution]) -> None:
    rows = [DEAD_KEY.unpack(key) for key, _ in tables.dead.scan()]
    flagged = {number: one for number, one in executions.items() if one.flags & ExecutionFlag.DEAD_LETTER}
    assert rows == sorted((one.namespace, one.end_ms, number) for number, one in flagged.items())
    assert all(one.state == ExecutionState.DEAD for one in flagged.values())
    assert counters.dead_letters == len(rows)
    beside = [PAIR.unpack(key) for key, _ in tables.beside.scan()]
    assert beside == sorted(
        (one.job, number)
        for number, one in executions.items()
        if one.state not in FINAL_STATES and (one.trigger == Trigger.BACKFILL or one.attempt_base)
    )


def check_operations(tables: Tables, counters: Counters, executions: dict[int, Execution]) -> None:
    records = {U64.unpack(key)[0]: Record.FromString(value) for key, value in tables.operation.scan()}
    unfinished = Counter(one.operation for one in executions.values() if one.state not in FINAL_STATES)
    del unfinished[0]
    assert unfinished == Counter({number: one.unfinished for number, one in records.items() if one.unfinished})
    assert all(number <= counters.last_operation for number in records)
    for number, record in records.items():
        story = f"operation {number}: {record}"
        assert record.id == number, story
        assert (record.end_time_ms > 0) == (record.state != Record.STATE_RUNNING), story
        assert record.done <= record.looked_at, story
        if record.start.HasField("backfill"):
            assert record.done == record.unfinished + record.completed + record.failed, story
            if record.state == Record.STATE_RUNNING:
                assert record.unfinished <= record.start.backfill.max_running, story
        if record.state == Record.STATE_DONE:
            assert record.exhausted and not record.unfinished, story
        if record.state == Record.STATE_RUNNING:
            assert not record.exhausted or record.unfinished, f"{story} is over and does not know it"
