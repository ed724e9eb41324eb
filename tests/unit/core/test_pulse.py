"""What shares a log entry: how the pulse follows what steps take, and how a plan and a row of commands are cut."""

from __future__ import annotations

from struct import Struct

import pytest

from horologe.log.v1 import log_pb2
from horologe.raft.commands import ASSIGN, DEADLINE, EXECUTION_TIMEOUT, FIRE, RETRY, TIMEOUT
from horologe.raft.pulse import ENTRY_BYTES_MAX, PULSE_SECONDS_MAX, RECORDS_PER_PIECE, Pulse, in_entries, in_pieces


def pulse_after(worked_seconds: float, pulses: int = 50) -> float:
    """The last of so many, each with two steps that take so long together."""
    pulse, now = Pulse(0.0, 0.02), 0.0
    for _ in range(pulses):
        now = pulse.at
        pulse.step_took(now, worked_seconds / 2)
        pulse.step_took(now, worked_seconds / 2)
        pulse.begin(now)
    return pulse.at - now


def test_the_pulse_is_short_while_half_of_the_time_is_free() -> None:
    assert round(pulse_after(0.0), 3) == 0.02
    assert round(pulse_after(0.0099), 3) == 0.02


def test_the_pulse_grows_with_what_its_steps_take_and_is_bounded() -> None:
    assert 0.055 < pulse_after(0.03) <= 0.06
    assert round(pulse_after(0.5), 3) == PULSE_SECONDS_MAX


def test_one_slow_step_does_not_make_a_long_pulse_for_long() -> None:
    pulse = Pulse(0.0, 0.02)
    pulse.step_took(0.0, 0.2)
    lengths = []
    for now in range(12):
        pulse.begin(float(now))
        lengths.append(round(pulse.at - now, 3))
    assert lengths[0] > 0.05 and lengths[-1] == 0.02


def test_what_an_idle_leader_does_between_two_due_times_makes_no_pulse_longer() -> None:
    """It steps for heartbeats, some forty times a second; what falls due once a minute must not wait longer for that."""
    pulse, lengths = Pulse(0.0, 0.02), []
    for minute in range(1, 20):
        for step in range(60 * 40):
            pulse.step_took(60 * (minute - 1) + 0.3 + step / 41, 0.000_25)
        now = 60.0 * minute
        for _ in ("fired", "assigned", "completed"):
            pulse.begin(now)
            pulse.step_took(now, 0.001)
            lengths.append(round(pulse.at - now, 3))
            now = pulse.at
    assert set(lengths) == {0.02}


def put(size_bytes: int) -> log_pb2.Command:
    return log_pb2.Command(request_id=b"x" * size_bytes)


def test_commands_share_entries_in_their_order_and_a_large_one_is_alone() -> None:
    commands = [
        put(100),
        put(ENTRY_BYTES_MAX * 2),
        put(200),
        put(300),
        put(ENTRY_BYTES_MAX // 2),
        put(ENTRY_BYTES_MAX // 2),
    ]
    entries = list(in_entries(commands))
    assert [command for entry in entries for command in entry] == commands
    assert [len(entry) for entry in entries] == [1, 1, 3, 1]
    assert list(in_entries([])) == []


def test_a_small_plan_stays_whole() -> None:
    fires, step = b"f" * FIRE.size * (RECORDS_PER_PIECE - 1), log_pb2.OperationStep(operation=3)
    plan = log_pb2.Plan(advance_to_ms=5, fires=fires, assigns=b"a" * ASSIGN.size, calls=b"c", operation_steps=[step])
    assert list(in_pieces(plan)) == [plan]


def test_a_large_plan_comes_in_pieces_that_hold_the_same_in_the_same_order() -> None:
    fires = b"".join(FIRE.pack(job, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1) for job in range(1_234))
    assigns = b"".join(ASSIGN.pack(number, 7) for number in range(777))
    plan = log_pb2.Plan(advance_to_ms=5, expired_sessions=b"12345678", fires=fires, assigns=assigns, calls=b"c")
    pieces = list(in_pieces(plan))
    assert b"".join(piece.fires for piece in pieces) == fires
    assert b"".join(piece.assigns for piece in pieces) == assigns
    assert [(len(piece.assigns) // ASSIGN.size, len(piece.fires) // FIRE.size) for piece in pieces] == [
        (500, 0), (277, 223), (0, 500), (0, 500), (0, 11),
    ]  # fmt: skip
    first, *between, last = pieces
    assert (first.advance_to_ms, first.expired_sessions, first.calls) == (5, b"12345678", b"")
    assert not any(piece.advance_to_ms or piece.expired_sessions or piece.calls for piece in between)
    assert (last.advance_to_ms, last.expired_sessions, last.calls) == (0, b"", b"c"), (
        "who fires comes before who is called"
    )
    assert plan.fires == fires, "the plan itself is left as it was"


@pytest.mark.parametrize(
    ("field", "record"),
    [
        ("timeouts", TIMEOUT),
        ("execution_timeouts", EXECUTION_TIMEOUT),
        ("deadlines", DEADLINE),
        ("assigns", ASSIGN),
        ("retries", RETRY),
        ("fires", FIRE),
    ],
)
def test_whatever_there_may_be_thousands_of_is_cut(field: str, record: Struct) -> None:
    """After an outage thousands of retries or time limits are due at once, as due times are."""
    records = bytes(range(250)) * record.size * 20
    plan = log_pb2.Plan(fires=b"f" * FIRE.size)
    setattr(plan, field, records)
    pieces = list(in_pieces(plan))
    assert b"".join(getattr(piece, field) for piece in pieces) == records
    assert {len(getattr(piece, field)) // record.size for piece in pieces[:10]} == {RECORDS_PER_PIECE}
    assert pieces[-1].fires, "what is fired comes last"
