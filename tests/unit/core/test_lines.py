"""Turns, rates and lanes: the arithmetic that decides who starts next, beside the state machine that uses it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support import commands
from support.driver import START_MS, Driver
from support.tables import DictTable

from horologe.raft.lanes import Lane
from horologe.raft.model import Code, Overlap
from horologe.raft.overlap import ROWS_LOOKED_AT_MAX
from horologe.raft.priorities import RANK, in_order
from horologe.raft.rates import QueueRule

MINUTE = 60_000

ranks = st.tuples(st.integers(0, 9), st.integers(0, 5_000), st.integers(1, 30))


# Turns


@given(st.lists(ranks, max_size=40, unique_by=lambda rank: rank[2]), st.sampled_from([0, 1, 100, 600]))
def test_turns_are_those_of_a_sort(rows: list[tuple[int, int, int]], aging_ms: int) -> None:
    table = DictTable()
    for rank in rows:
        table.put(b"line" + RANK.pack(*rank), b"")
    for neighbour in (b"lind", b"linf"):
        table.put(neighbour + RANK.pack(3, 3, 99), b"")

    def turn(rank: tuple[int, int, int]) -> tuple[int, ...]:
        return (rank[0] * aging_ms + rank[1], rank[2]) if aging_ms else rank

    assert list(in_order(table, b"line", aging_ms)) == [number for *_, number in sorted(rows, key=turn)]


# Rates


@given(
    count=st.integers(1, 50),
    per_ms=st.integers(100, 5_000),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 30)), max_size=40),
)
def test_no_span_sees_more_starts_than_its_burst_and_its_share(
    count: int, per_ms: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    rule = QueueRule()
    rule.set_rate(count, per_ms, burst, 0)
    now_ms, started = 0, [0]
    times = [0]
    for passed_ms, wanted in steps:
        now_ms += passed_ms
        taken = 0
        while taken < wanted and rule.starts(now_ms):
            rule.take(now_ms)
            taken += 1
        if taken < wanted:
            next_ms = rule.next_start_ms(now_ms)
            assert next_ms > now_ms and rule.starts(next_ms) and not rule.starts(next_ms - 1)
        times.append(now_ms)
        started.append(started[-1] + taken)
        assert QueueRule.unpack(rule.pack()) == rule
    for first, from_ms in enumerate(times):
        for last in range(first + 1, len(times)):
            share = (times[last] - from_ms) * count / per_ms
            assert started[last] - started[first] <= burst + share + 1e-9


def test_a_clock_that_goes_back_brings_no_tokens() -> None:
    rule = QueueRule()
    rule.set_rate(1, 1_000, 1, 10_000)
    rule.take(10_000)
    assert not rule.starts(5_000)
    assert not rule.starts(10_999)
    assert rule.starts(11_000)


# Lanes

labels = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9._/-]{0,9}", fullmatch=True),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    max_size=3,
)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), labels)
def test_a_lane_is_found_again_by_its_key(queue: str, wanted: dict[str, str]) -> None:
    lane = Lane(queue, wanted)
    assert Lane.from_key(lane.key) == lane
    assert lane.is_served_with({**wanted, "more": "x"} if "more" not in wanted else wanted)
    for name in wanted:
        assert not lane.is_served_with({**wanted, name: wanted[name] + "x"})


# Bounds


def test_replacing_looks_back_as_far_as_the_last_replacement(machine: Driver) -> None:
    """A run that does not end, however often it is asked: each due time after it costs one row, not all since it began."""
    machine.do(commands.connect("w1"))
    machine.do(commands.create("tick", START_MS + MINUTE, overlap=Overlap.REPLACE))
    due_ms, revision, session = START_MS + MINUTE, machine.job_state().revision, 1
    for _ in range(5):
        machine.do(commands.plan(fires=[commands.fire(1, revision, due_ms, due_ms + MINUTE, session)]))
        due_ms += MINUTE
    assert [machine.state(number) for number in range(1, 6)] == [
        "RUNNING",
        "SKIPPED",
        "SKIPPED",
        "SKIPPED",
        "SCHEDULED",
    ]
    cancelled = machine.effects.cancelled
    assert cancelled == [], "it was asked before, and is not asked again"
    machine.check()


def test_replacing_asks_a_bounded_number(machine: Driver) -> None:
    machine.do(commands.create("tick", every_ms=0, overlap=Overlap.ALLOW))
    for _ in range(ROWS_LOOKED_AT_MAX + 5):
        machine.now_ms += 1
        machine.do(commands.run("tick"))
    machine.do(commands.update("tick", every_ms=0, overlap=Overlap.REPLACE))
    assert machine.do(commands.run("tick"), after_ms=1).code is Code.OK
    assert machine.job_state().cancelled == ROWS_LOOKED_AT_MAX
    assert machine.job_state().unfinished == 6
    machine.check()


# Limits


def test_what_runs_counts_by_the_first_limit_of_its_job(machine: Driver) -> None:
    """Whoever bounds a job because too much of it runs does not want one more."""
    machine.apply(commands.connect(), commands.set_limit("db", 2))
    machine.do(commands.create(every_ms=0, overlap=Overlap.ALLOW))
    for number in (1, 2):
        machine.apply(commands.run(), commands.plan(assigns=[(number, 1)]))
    machine.do(commands.update(every_ms=0, overlap=Overlap.ALLOW, max_running=3, limits=["db"]))
    machine.apply(commands.run(), commands.plan(assigns=[(3, 1)]))
    assert [machine.state(number) for number in (1, 2, 3)] == ["RUNNING", "RUNNING", "QUEUED"]
    machine.check()
    machine.do(commands.complete(commands.outcome(1, machine.execution(1).token)))
    machine.apply(commands.plan(assigns=[(3, 1)]))
    assert machine.state(3) == "RUNNING"
    machine.check()
