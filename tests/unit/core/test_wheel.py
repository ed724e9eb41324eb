"""The timing wheel against a sorted list, and where it puts what."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from support.tables import DictSetTable

from horologe.raft import wheel
from horologe.raft.tables import SetTable
from horologe.raft.wheel import BUCKET, BUCKET_BITS, LEVEL_BITS, LEVEL_COUNT, LOOKAHEAD_MS, TIMER, Timer

NOW_MS = 1_798_761_600_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
YEAR = 365 * DAY

PLACES = """
    deadline   from cursor   level  bucket starts, ms before the deadline
    now        +0 ms         0      0
    soon       +1 ms         0      1
    soon       +1023 ms      0      1023
    soon       +1024 ms      0      0
    a minute   +60000 ms     0      608
    last of 0  +65535 ms     0      1023
    first of 1 +65536 ms     1      0
    an hour    +3600000 ms   1      61056
    first of 2 +4194304 ms   2      0
    a day      +86400000 ms  2      2513920
    3.1 days   +268435456 ms 3      0
    a month    +2592000000 ms 3     176080896
    199 days   +17179869184 ms 4    0
    34.9 years +1099511627776 ms 5  0
    200 years  +6307200000000 ms 5  809641861120
    past       -1 ms         0      1023
    past       -5000 ms      0      120
    past       -31536000000 ms 0    0
"""


@pytest.mark.parametrize("line", PLACES.strip().splitlines()[1:])
def test_places(line: str) -> None:
    """The cursor stands at the very start of a bucket of every level, so that the table's borders are exact."""
    cursor_ms = 1 << 41
    offset_text, level_text, before_text = line.replace(" ms", "").rsplit(maxsplit=2)
    deadline_ms = cursor_ms + int(offset_text.split()[-1])
    level, start_ms = BUCKET.unpack(wheel.bucket_key(deadline_ms, cursor_ms))
    assert (level, deadline_ms - start_ms) == (int(level_text), int(before_text))


@given(
    deadline_ms=st.integers(0, 1 << 45),
    cursor_ms=st.integers(0, 1 << 45),
)
def test_a_bucket_holds_its_deadline_and_is_never_behind_the_cursor(deadline_ms: int, cursor_ms: int) -> None:
    level, start_ms = BUCKET.unpack(wheel.bucket_key(deadline_ms, cursor_ms))
    assert start_ms <= deadline_ms < start_ms + (1 << BUCKET_BITS + LEVEL_BITS * level)
    assert level == 0 or start_ms > cursor_ms


def test_arming_twice_and_disarming_what_is_not_there() -> None:
    table = DictSetTable()
    wheel.arm(table, NOW_MS, NOW_MS + DAY, 1, 7)
    wheel.arm(table, NOW_MS, NOW_MS + DAY, 1, 7)
    assert len(list(table.scan())) == 1
    assert not wheel.disarm(table, NOW_MS + DAY, 2, 7)
    assert not wheel.disarm(table, NOW_MS + DAY, 1, 8)
    assert wheel.disarm(table, NOW_MS + DAY, 1, 7)
    assert not wheel.disarm(table, NOW_MS + DAY, 1, 7)
    assert list(table.scan()) == []


def test_an_empty_wheel_needs_nobody() -> None:
    table = DictSetTable()
    assert wheel.next_attention_ms(table) is None
    assert wheel.due(table, NOW_MS, 10) == []
    assert not wheel.has_arrived(table, NOW_MS)
    assert wheel.advance(table, NOW_MS, 0)


def test_an_advance_that_is_cut_short_goes_on_where_it_was() -> None:
    table = DictSetTable()
    for number in range(25):
        wheel.arm(table, NOW_MS, NOW_MS + DAY, 1, number)
    then_ms = NOW_MS + DAY - SECOND
    steps = 0
    while not wheel.advance(table, then_ms, 10):
        steps += 1
    assert steps == 2
    assert wheel.due(table, NOW_MS + DAY, 100) == [(NOW_MS + DAY, 1, number) for number in range(25)]


offsets = st.one_of(
    st.integers(-2 * MINUTE, 2 * MINUTE),
    st.integers(-YEAR, 0),
    st.integers(0, 6 * HOUR),
    st.integers(0, 60 * DAY),
    st.integers(0, 300 * YEAR),
)


@given(
    timers=st.lists(st.tuples(offsets, st.integers(1, 2), st.integers(1, 50)), max_size=60, unique=True),
    budget=st.integers(1, 20),
)
@settings(max_examples=150)
def test_sleeping_until_attention_misses_no_deadline(timers: list[tuple[int, int, int]], budget: int) -> None:
    """The planner's loop: look when the wheel says so, and every timer is found at its deadline to the millisecond."""
    table = DictSetTable()
    waiting = sorted((NOW_MS + offset, kind, id_) for offset, kind, id_ in timers)
    for deadline_ms, kind, id_ in waiting:
        wheel.arm(table, NOW_MS, deadline_ms, kind, id_)
    now_ms, found, moves = NOW_MS, [], 0
    while (attention_ms := wheel.next_attention_ms(table)) is not None:
        assert attention_ms <= waiting[len(found)][0]
        now_ms = max(now_ms, attention_ms)
        while wheel.has_arrived(table, now_ms):
            before = len(list(table.scan()))
            moves += 1
            wheel.advance(table, now_ms, budget)
            assert len(list(table.scan())) == before
        for timer in wheel.due(table, now_ms, 10):
            assert timer[0] == now_ms or timer[0] <= NOW_MS
            assert wheel.disarm(table, *timer)
            found.append(timer)
    assert found == waiting
    assert moves <= len(timers) * (LEVEL_COUNT - 1)


class WheelMachine(RuleBasedStateMachine):
    """Random use, compared with a set of timers. The cursor follows the rule of the state machine."""

    armed = Bundle("armed")

    def __init__(self) -> None:
        super().__init__()
        self.table: SetTable = DictSetTable()
        self.model: set[Timer] = set()
        self.moves: Counter[Timer] = Counter()
        self.now_ms = NOW_MS
        self.cursor_ms = 0

    @rule(target=armed, offset=offsets, kind=st.integers(1, 2), ids=st.lists(st.integers(1, 9), max_size=4))
    def arm(self, offset: int, kind: int, ids: list[int]) -> object:
        timers = [(max(self.now_ms + offset, 0), kind, id_) for id_ in ids]
        for timer in timers:
            if timer not in self.model:
                wheel.arm(self.table, max(self.cursor_ms, self.now_ms), *timer)
                self.model.add(timer)
                self.moves[timer] = 0
        return multiple(*timers)

    @rule(timer=armed)
    def disarm(self, timer: Timer) -> None:
        assert wheel.disarm(self.table, *timer) == (timer in self.model)
        self.model.discard(timer)

    @rule(
        jump=st.one_of(st.integers(0, 3 * SECOND), st.integers(0, DAY), st.integers(0, 50 * YEAR)),
        entries=st.integers(1, 3),
    )
    def advance(self, jump: int, entries: int) -> None:
        self.now_ms += jump
        for _ in range(entries):
            levels = self._levels()
            done = wheel.advance(self.table, self.now_ms, 5)
            after = self._levels()
            moved = [timer for timer, level in levels.items() if after[timer] != level]
            assert all(after[timer] < levels[timer] for timer in moved), "timers only move down"
            assert len(moved) <= 5
            self.moves.update(moved)
            if done:
                self.cursor_ms = max(self.cursor_ms, self.now_ms)
                assert not wheel.has_arrived(self.table, self.now_ms)
                return

    @rule(count_max=st.integers(1, 5))
    def take_due(self, count_max: int) -> None:
        """Everything due is found in order, once all that has arrived is spread."""
        while not wheel.advance(self.table, self.now_ms, 50):
            pass
        self.cursor_ms = max(self.cursor_ms, self.now_ms)
        wanted = sorted(timer for timer in self.model if timer[0] <= self.now_ms)[:count_max]
        assert wheel.due(self.table, self.now_ms, count_max) == wanted
        for timer in wanted:
            assert wheel.disarm(self.table, *timer)
            self.model.discard(timer)

    @invariant()
    def every_timer_is_there_once(self) -> None:
        assert sorted(self._levels()) == sorted(self.model)
        assert all(count <= LEVEL_COUNT - 1 for count in self.moves.values())

    @invariant()
    def never_found_early(self) -> None:
        assert all(timer[0] <= self.now_ms for timer in wheel.due(self.table, self.now_ms, 1_000))

    @invariant()
    def attention_is_never_late(self) -> None:
        attention_ms = wheel.next_attention_ms(self.table)
        assert (attention_ms is None) == (not self.model)
        if attention_ms is not None:
            assert attention_ms <= min(self.model)[0]
            later = attention_ms - 1
            assert not wheel.has_arrived(self.table, later) and not wheel.due(self.table, later, 1)

    def _levels(self) -> dict[Timer, int]:
        pairs = [(TIMER.unpack(value), key[0]) for key, value in self.table.scan()]
        assert len(pairs) == len(dict(pairs)), "a timer is in two buckets"
        return dict(pairs)


TestWheelMachine = WheelMachine.TestCase
TestWheelMachine.settings = settings(max_examples=60, stateful_step_count=30)


def test_buckets_are_spread_before_their_time() -> None:
    """A timer at the very start of a bucket of level 1 is in level 0 when it is due."""
    table = DictSetTable()
    deadline_ms = (NOW_MS >> 16 << 16) + 3 * (1 << 16)
    wheel.arm(table, NOW_MS, deadline_ms, 1, 1)
    assert wheel.next_attention_ms(table) == deadline_ms - LOOKAHEAD_MS
    assert wheel.advance(table, deadline_ms - LOOKAHEAD_MS, 10)
    assert wheel.next_attention_ms(table) == deadline_ms
    assert wheel.due(table, deadline_ms - 1, 10) == []
    assert wheel.due(table, deadline_ms, 10) == [(deadline_ms, 1, 1)]
