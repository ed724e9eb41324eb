"""What a node refuses reaches the audit log: merged, bounded, and once."""

from __future__ import annotations

import pytest
from secure_harness import SecureNode

from horologe.node.callers import Caller, CallerKind
from horologe.node.denials import DETAILS_BURST, KINDS_MAX, OBJECTS_MAX, OMITTED, RECORDS_PER_COMMAND_MAX
from horologe.node.proposals import NoLeaderError, OutcomeUnknownError


@pytest.fixture
def node(tmp_path):
    node = SecureNode(tmp_path)
    yield node
    node.outputs.close()
    node.store.close()


def caller(principal: str = "ann", method: str = "JobService.DeleteJob") -> Caller:
    return Caller(CallerKind.CLIENT, principal, source="10.0.0.1", method=method)


async def test_equal_ones_are_counted_together(node):
    for _ in range(3):
        node.denials.note(caller(), "PERMISSION_DENIED", ["namespaces/a/jobs/b"])
    node.denials.note(caller(), "PERMISSION_DENIED", ["namespaces/a/jobs/c"])
    records = await node.denied()
    assert [(list(record.objects), record.repeat_count) for record in records] == [
        (["namespaces/a/jobs/b"], 3),
        (["namespaces/a/jobs/c"], 1),
    ]
    assert {record.time.ToMilliseconds() for record in records} == {node.clock.now_ms}
    assert await node.denied() == []


async def test_a_command_has_so_many_and_the_rest_waits(node):
    for number in range(RECORDS_PER_COMMAND_MAX + 1):
        node.denials.note(caller(f"p{number}"), "PERMISSION_DENIED")
    await node.denials.flush()
    assert len(node.commands[-1].note_denied.records) == RECORDS_PER_COMMAND_MAX
    await node.denials.flush()
    assert len(node.commands[-1].note_denied.records) == 1


async def test_what_does_not_fit_is_counted(node):
    for number in range(KINDS_MAX + 7):
        node.denials.note(caller(f"p{number}"), "PERMISSION_DENIED")
    records = await node.denied()
    assert len(records) == KINDS_MAX + 1
    assert [record.repeat_count for record in records if record.reason == OMITTED] == [7]


async def test_a_record_names_so_many_objects(node):
    node.denials.note(caller(), "PERMISSION_DENIED", [f"o{number}" * 200 for number in range(OBJECTS_MAX + 5)])
    [record] = await node.denied()
    assert (len(record.objects), record.object_count) == (OBJECTS_MAX, OBJECTS_MAX + 5)
    assert max(map(len, record.objects)) == 200


async def test_names_that_somebody_makes_up_do_not_fill_the_log(node):
    for number in range(int(DETAILS_BURST) + 100):
        node.denials.note(caller(), "PERMISSION_DENIED", [f"namespaces/a/jobs/j{number}"])
    records = await node.denied()
    assert len(records) == DETAILS_BURST + 1
    assert [record.repeat_count for record in records if not record.objects] == [100]


@pytest.mark.parametrize("error", [NoLeaderError, OutcomeUnknownError])
async def test_what_did_not_get_through_comes_again_under_the_same_id(node, error):
    node.denials.note(caller(), "PERMISSION_DENIED")
    node.failures.append(error("away"))
    count = len(node.commands)
    await node.denials.flush()
    assert len(node.commands) == count
    first = node.denials._under_way.request_id
    node.denials.note(caller("bob"), "PERMISSION_DENIED")
    await node.denials.flush()
    assert node.commands[-1].request_id == first
    assert [record.principal for record in node.commands[-1].note_denied.records] == ["ann"]
    assert [record.principal for record in await node.denied()] == ["bob"]
