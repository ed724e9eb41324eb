"""Commands that no correct program writes are refused, all in the same way, and stop nobody."""

from __future__ import annotations

import random
import struct

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from support import commands
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.raft.commands import (
    ASSIGN,
    CALL,
    DEADLINE,
    EXECUTION_TIMEOUT,
    FIRE,
    OUTCOME,
    REARM,
    RETRY,
    SESSION,
    TIMEOUT,
    UNPARK,
)
from horologe.raft.malformed import CURSOR_BYTES_MAX, fault_of
from horologe.raft.model import Code

KINDS = [field.name for field in log_pb2.Command.DESCRIPTOR.oneofs_by_name["kind"].fields]
NUMBERS = (0, 1, -1, 2, 7, 10, 300, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
TEXTS = ("", "a", "tick", "l1", "\0", "namespaces/default/jobs/tick", "x" * 600, "€" * 300)
BITS = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}


@pytest.mark.parametrize(
    "command",
    [
        log_pb2.Command(plan=log_pb2.Plan(fires=b"\0" * (FIRE.size + 1))),
        log_pb2.Command(plan=log_pb2.Plan(advance_to_ms=-1)),
        log_pb2.Command(complete=log_pb2.Complete(outcomes=b"\0")),
        log_pb2.Command(prune=log_pb2.Prune(executions=b"\0" * 9)),
        log_pb2.Command(put_jobs=log_pb2.PutJobs(jobs=[log_pb2.JobDraft()])),
        commands.create(overlap=-1),
        commands.create(catchup=256),
        log_pb2.Command(
            plan=log_pb2.Plan(operation_steps=[log_pb2.OperationStep(cursor=b"x" * (CURSOR_BYTES_MAX + 1))])
        ),
        log_pb2.Command(delete_job=log_pb2.DeleteJob(name="x" * 600)),
        log_pb2.Command(pause_job=log_pb2.PauseJob(name="tick", skipped_count=-1)),
        log_pb2.Command(open_session=log_pb2.OpenSession(worker="w1", queues=[""])),
        log_pb2.Command(close_session=log_pb2.CloseSession(session=-1)),
        log_pb2.Command(set_queue=log_pb2.SetQueue(name="a\0b=c")),
        log_pb2.Command(plan=log_pb2.Plan(unparks=UNPARK.pack(1, 1, 0, 0, 1 << 60, 0))),
        log_pb2.Command(change_membership=log_pb2.ChangeMembership(refusal=99)),
        log_pb2.Command(run_job=log_pb2.RunJob(name="tick"), request_id=b"x" * 600),
        log_pb2.Command(note_notices=log_pb2.NoteNotices(start=log_pb2.EventPlace(position=1))),
        log_pb2.Command(
            note_deliveries=log_pb2.NoteDeliveries(
                deliveries=[log_pb2.NoteDelivery(rule=1, outcome=log_pb2.NoteDelivery.OUTCOME_DELIVERED)]
            )
        ),
    ],
    ids=lambda command: command.WhichOneof("kind"),
)
def test_broken_forms_are_refused_and_leave_no_trace(command: log_pb2.Command) -> None:
    driver = Driver()
    assert fault_of(command)
    assert driver.do(command).code == Code.MALFORMED
    assert driver.counters.jobs == 0
    driver.check()


@pytest.mark.parametrize("field", ["priority", "retry.max_attempts"])
def test_a_job_that_no_execution_could_be_made_of_is_refused(field: str) -> None:
    command = commands.create("tick")
    job = command.put_jobs.jobs[0].job
    if field == "priority":
        job.priority = 10
    else:
        job.retry.max_attempts = 60_000
    assert Driver().do(command).code == Code.MALFORMED


def test_due_times_with_an_unknown_fate_are_accounted_for_and_counted() -> None:
    """However many: a count is no reason to stop."""
    driver = Driver()
    driver.apply(commands.create("tick", next_due_ms=driver.now_ms + 60_000))
    for _ in range(2):
        state = driver.job_state()
        due_ms, count = state.next_due_ms, 2**32 - 1
        fire = FIRE.pack(1, state.revision, 0, due_ms + 60_000, due_ms + 60_000, 0, due_ms, due_ms, count, 200, 0)
        assert driver.do(log_pb2.Command(plan=log_pb2.Plan(fires=fire)), after_ms=60_000).code == Code.OK
    assert driver.job_state().missed == 2 * (2**32 - 1)
    assert [row[3:5] for row in driver.ledger()] == [("MISSED", "")] * 2


def test_an_instant_that_no_record_can_hold_never_comes() -> None:
    driver = Driver()
    driver.do(commands.create("tick", START_MS))
    driver.do(commands.plan(fires=[commands.fire(1, 1, START_MS, 2**64 - 1)]))
    assert driver.job_state().next_due_ms == 0
    assert driver.do(commands.pause("tick")).code == Code.OK


@pytest.mark.parametrize("seed", range(60))
def test_no_command_of_a_known_kind_raises(seed: int) -> None:
    """Extreme values everywhere, over a state that has jobs, sessions and executions."""
    dice = random.Random(seed)
    driver = Driver()
    for _ in range(60):
        driver.now_ms += 1_000
        driver.apply(_nonsense(dice) if dice.random() < 0.5 else _sense(dice))


def _sense(dice: random.Random) -> log_pb2.Command:
    return dice.choice(
        (
            commands.connect("w1"),
            commands.create("tick", START_MS, limits=["l1"]),
            commands.create("a", every_ms=0, is_workflow=True),
            commands.create("l1", every_ms=0, workflow="a"),
            commands.run(dice.choice(("tick", "a")), force=True),
            commands.set_limit("l1", 1),
            commands.set_secret("s1"),
            commands.delete_secret("s1"),
            commands.set_notification("n1", signing_secret=dice.choice(("", "s1"))),
            commands.delete_notification("n1"),
            commands.pause_scope(dice.choice(("", "default"))),
            commands.resume_scope(dice.choice(("", "default"))),
            commands.backfill(1, START_MS - 60_000, START_MS),
            commands.redrive_all(rate=1.0),
        )
    )


def _nonsense(dice: random.Random) -> log_pb2.Command:
    command = log_pb2.Command()
    kind = dice.choice(KINDS)
    getattr(command, kind).SetInParent()
    _fill(getattr(command, kind), dice, 1)
    if kind in ("raise_version", "bootstrap"):
        # To stop at a version that it cannot apply is what a program must do: see test_cluster_version.py.
        getattr(command, kind).version = dice.choice((-1, 0, 1, 2**31 - 1 if kind == "raise_version" else 1))
    if dice.random() < 0.2:
        command.request_id = dice.randbytes(dice.choice((0, 16, 600)))
    return command


def _fill(message: Message, dice: random.Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if dice.random() < 0.3 or is_map or depth > 5:
            continue
        for _ in range(dice.randrange(3) if field.is_repeated else 1):
            if field.message_type is None:
                value = _value(field, dice)
                if field.is_repeated:
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)
            else:
                part = getattr(message, field.name)
                part = part.add() if field.is_repeated else part
                part.SetInParent()
                _fill(part, dice, depth + 1)


def _value(field: FieldDescriptor, dice: random.Random) -> object:
    if field.cpp_type in BITS:
        limit = 2 ** (BITS[field.cpp_type] - 1)
        return max(-limit, min(dice.choice(NUMBERS), limit - 1))
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_UINT64:
            return dice.choice((0, 1, 2**64 - 1))
        case FieldDescriptor.CPPTYPE_STRING:
            return _records(dice) if field.type == FieldDescriptor.TYPE_BYTES else dice.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice(field.enum_type.values).number
        case _:
            return dice.choice((0.0, -1e300, float("inf")))


def _records(dice: random.Random) -> bytes:
    """Packed records: of the right size or not, with small numbers that may name something, or noise."""
    form: struct.Struct = dice.choice(
        (ASSIGN, CALL, DEADLINE, EXECUTION_TIMEOUT, FIRE, OUTCOME, REARM, RETRY, SESSION, TIMEOUT, UNPARK)
    )
    if dice.random() < 0.3:
        return dice.randbytes(dice.choice((form.size, 2 * form.size, form.size + 1)))
    return b"".join(form.pack(*(dice.randrange(4) for _ in form.unpack(bytes(form.size)))) for _ in range(2))
