"""The settings of queues: paused, how fast executions start, how age makes up for priority.

A queue is there when a job or a worker names it; only one with settings has a record. What its settings mean to a start is in
rates.py.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Result
from horologe.raft.rates import QueueRule
from horologe.raft.state import State


def set_queue(state: State, command: log_pb2.SetQueue) -> Result:
    """Changes what the command names, and leaves the rest. Answers (queue,)."""
    record = read_queue(state, command.name)
    rule = _rule(state, command.name)
    if command.HasField("start_rate"):
        rate = command.start_rate
        if rate.count:
            record.start_rate.CopyFrom(rate)
            rule.set_rate(rate.count, rate.per_ms, rate.burst, state.now_ms)
        else:
            record.ClearField("start_rate")
            rule.set_rate(0, 0, 0, state.now_ms)
    if command.HasField("aging_ms"):
        record.aging_ms = rule.aging_ms = command.aging_ms
    return _write(state, command.name, record, rule)


def pause_queue(state: State, command: log_pb2.PauseQueue) -> Result:
    """While it is paused nothing of it starts. Due times fire and wait; what runs goes on."""
    record = read_queue(state, command.name)
    if record.paused == command.paused:
        return Result(Code.QUEUE_PAUSED if command.paused else Code.QUEUE_NOT_PAUSED, text=command.name)
    record.paused = command.paused
    record.pause_reason, record.paused_by = command.reason, command.who
    record.pause_time_ms = state.now_ms if command.paused else 0
    rule = _rule(state, command.name)
    rule.paused = int(command.paused)
    return _write(state, command.name, record, rule)


def read_queue(state: State, name: str) -> log_pb2.QueueRecord:
    raw = state.tables.queue_setting.get(name.encode())
    return log_pb2.QueueRecord() if raw is None else log_pb2.QueueRecord.FromString(bytes(raw))


def _rule(state: State, name: str) -> QueueRule:
    return state.rules.of_queue(state.lane_number(name)) or QueueRule()


def _write(state: State, name: str, record: log_pb2.QueueRecord, rule: QueueRule) -> Result:
    number = state.lane_number(name)
    record.update_time_ms = state.now_ms
    state.tables.queue_setting.put(name.encode(), record.SerializeToString(deterministic=True))
    state.rules.put(number, rule)
    return Result(Code.OK, (number,))
