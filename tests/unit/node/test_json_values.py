"""How deeply JSON values may be nested: every node must be able to read from the log what a request has said."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Value
from support import commands

from horologe.client import jobs
from horologe.client.errors import InvalidArgument
from horologe.client.json_value import NESTING_MAX as CLIENT_NESTING_MAX
from horologe.client.json_value import from_python
from horologe.log.v1 import log_pb2
from horologe.node.actions import action_violations, payload_violations
from horologe.node.json_values import NESTING_MAX
from horologe.node.outcomes import pack_outcomes
from horologe.node.sessions import WorkerSession
from horologe.v1 import job_pb2, worker_pb2, worker_service_pb2


def objects(levels: int) -> Value:
    """So many objects inside each other: the costliest of all nestings."""
    value = Value(string_value="in the middle")
    for _ in range(levels):
        outer = Value()
        outer.struct_value.fields["a"].CopyFrom(value)
        value = outer
    return value


def actions(levels: int) -> list[job_pb2.Action]:
    python, sql = job_pb2.Action(), job_pb2.Action()
    python.python.handler = "h"
    python.python.payload.CopyFrom(objects(levels))
    sql.sql.connection, sql.sql.statement = "c", "select :a"
    sql.sql.parameters.fields["a"].CopyFrom(objects(levels))
    return [python, sql]


def complete(levels: int) -> log_pb2.Complete:
    """What the log gets of a result."""
    result = worker_pb2.AttemptResult(execution=1, attempt=1, fencing_token=1)
    result.outcome = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED
    result.result.CopyFrom(objects(levels))
    return pack_outcomes([(WorkerSession(1, "w1"), result, None)], [0])


def test_what_is_taken_can_be_read_from_the_log() -> None:
    entry = log_pb2.Entry()
    for action in actions(NESTING_MAX):
        assert action_violations(action, "action") == []
        job = commands.job()
        job.action.CopyFrom(action)
        entry.commands.append(commands.put(commands.CREATE, commands.draft(job)))
    assert payload_violations(objects(NESTING_MAX), "payload") == []
    payload = objects(NESTING_MAX)
    selection = log_pb2.DeadLetterSelection(payload=payload)
    for command in (
        log_pb2.Command(run_job=log_pb2.RunJob(payload=payload)),
        log_pb2.Command(redrive_dead_letter=log_pb2.RedriveDeadLetter(payload=payload)),
        log_pb2.Command(start_operation=log_pb2.StartOperation(redrive=selection)),
        log_pb2.Command(complete=complete(NESTING_MAX)),
    ):
        entry.commands.append(command)
    assert log_pb2.Entry.FromString(entry.SerializeToString()) == entry
    assert complete(NESTING_MAX).details[0].result == payload


@pytest.mark.parametrize("levels", [NESTING_MAX + 1, NESTING_MAX + 10])
def test_what_is_nested_deeper_is_refused(levels: int) -> None:
    fields = [found.field for action in actions(levels) for found in action_violations(action, "action")]
    assert fields == ["action.python.payload", "action.sql.parameters['a']"]
    found = payload_violations(objects(levels), "payload")
    assert "more than 20 lists and objects inside each other" in found[0].description
    (detail,) = complete(levels).details
    assert not detail.HasField("result") and "inside each other" in detail.error


def test_a_worker_sends_nothing_that_no_node_reads() -> None:
    assert CLIENT_NESTING_MAX == NESTING_MAX
    value: object = 1
    for _ in range(NESTING_MAX):
        value = {"a": value}
    request = worker_service_pb2.ConnectRequest()
    request.results.results.add().result.CopyFrom(from_python(value))
    assert worker_service_pb2.ConnectRequest.FromString(request.SerializeToString()) == request
    for deeper in ([value], {"a": value}, (value,)):
        with pytest.raises(ValueError, match="more than 20 lists and objects inside each other"):
            from_python(deeper)
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="inside each other"):
        from_python(endless)


def test_a_client_says_so_before_it_sends() -> None:
    value: object = 1
    for _ in range(NESTING_MAX):
        value = [value]
    assert action_violations(jobs.python("h", value), "action") == []
    with pytest.raises(InvalidArgument, match="payload has more than 20 lists and objects inside each other"):
        jobs.python("h", [value])
