"""Whose time it is when the members' wall clocks differ."""

from __future__ import annotations

import pytest

from horologe.raft.clocks import WINDOW_SECONDS, PeerClocks

HOUR_MS = 3_600_000
VOTERS = ("b", "c", "d", "e")


def clocks(**offsets_ms: int) -> PeerClocks:
    """Heard from peers whose clocks are so far ahead of ours, at time 0."""
    found = PeerClocks(1_000)
    found.tell(0.0, HOUR_MS)
    for peer, offset_ms in offsets_ms.items():
        found.hear(peer, HOUR_MS + offset_ms, 0.0, HOUR_MS)
    return found


@pytest.mark.parametrize(
    ("offsets_ms", "correction_ms", "successor"),
    [
        ({}, 0, None),
        ({"b": 3, "c": -4}, 0, None),
        ({"b": HOUR_MS, "c": 0}, 0, None),
        ({"b": -HOUR_MS, "c": -HOUR_MS + 5}, -HOUR_MS + 5, "b"),
        ({"b": HOUR_MS, "c": HOUR_MS + 7}, HOUR_MS, "b"),
        ({"b": 900, "c": 950}, 0, None),
        # Two that disagree: the earlier one.
        ({"b": -HOUR_MS}, -HOUR_MS, None),
        ({"b": HOUR_MS}, 0, None),
        # Two of five are wrong.
        ({"b": HOUR_MS, "c": HOUR_MS, "d": 0, "e": 1}, 0, None),
        ({"b": HOUR_MS, "c": HOUR_MS, "d": HOUR_MS, "e": 1}, HOUR_MS, "b"),
    ],
)
def test_whose_time_counts(offsets_ms: dict[str, int], correction_ms: int, successor: str | None) -> None:
    found = clocks(**offsets_ms)
    assert found.correction_ms(VOTERS, 0.0) == correction_ms
    assert found.successor(VOTERS, 0.0) == successor


def test_a_jump_of_our_own_clock_counts_at_once() -> None:
    found = clocks(b=0, c=0)
    found.tell(0.1, HOUR_MS + 100 + HOUR_MS)
    assert found.correction_ms(VOTERS, 0.1) == -HOUR_MS
    found.tell(0.2, HOUR_MS + 200)
    assert found.correction_ms(VOTERS, 0.2) == 0


def test_who_was_not_heard_for_a_while_does_not_count() -> None:
    found = clocks(b=HOUR_MS, c=HOUR_MS)
    assert found.correction_ms(VOTERS, WINDOW_SECONDS) == HOUR_MS
    assert found.correction_ms(VOTERS, WINDOW_SECONDS + 0.1) == 0


def test_members_without_a_vote_do_not_count() -> None:
    assert clocks(b=HOUR_MS, c=HOUR_MS, x=0).correction_ms(("x",), 0.0) == 0


def test_slow_messages_do_not_make_a_clock_look_late() -> None:
    found = clocks(b=0, c=0)
    for tenth in range(1, 300):
        now = tenth / 10
        wall_ms = HOUR_MS + tenth * 100
        found.tell(now, wall_ms)
        for peer in "bc":
            # Most take five seconds; one in fifty is quick.
            travel_ms = 1 if tenth % 50 == 0 else 5_000
            found.hear(peer, wall_ms - travel_ms, now, wall_ms)
        assert found.correction_ms(VOTERS, now) == 0
