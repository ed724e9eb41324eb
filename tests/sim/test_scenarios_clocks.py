"""Scenarios 17 to 20: wall clocks that are wrong, and zone data that differ.

Starts are judged on the world's true clock, which no node can see. Leases are another matter: their clocks never jump.
"""

from __future__ import annotations

import asyncio

import pytest
from support.story import Story

from horologe.chaos.sim.clocks import START_MS
from horologe.client import jobs
from horologe.node import cron

HOUR_MS = 3_600_000
A_REQUEST = "0c4c3a5e-5d0c-4a5e-8f55-6f3b1f6e7d20"


def _jump(story: Story, jump_ms: int) -> None:
    """The clock of the leader jumps while a job falls due every second."""
    story.begin()
    story.create("tick", jobs.every("1s"))
    leader = story.the_leader()
    story.run(3.0)
    story.nodes[leader].clock.wall_error_ms += jump_ms
    story.run_until(lambda: story.leader() not in (None, leader), what="another leader")
    story.run(10.0)
    assert abs(story.counters().log_time_ms - START_MS - story.timeline.now * 1000) < 1_500
    assert [row[1] for row in story.ledger()] == ["RAN"] * len(story.ledger())
    assert len(story.starts()) == len(story.ledger()) >= 12
    story.check_no_gaps(1_000)
    story.nodes[leader].clock.wall_error_ms -= jump_ms
    story.run(5.0)
    story.check_no_gaps(1_000)
    assert max(mark.delay_ms for mark in story.starts()) < 2_000, "each starts in its time"
    story.check()


def test_scenario_17_clock_of_the_leader_jumps_an_hour_ahead() -> None:
    """It fires nothing of that hour, does not push the time of the log ahead, and hands over to a node that has the time."""
    with Story() as story:
        _jump(story, HOUR_MS)


def test_scenario_18_clock_of_the_leader_jumps_an_hour_back() -> None:
    """It goes by the others' clocks at once and hands over; nothing is late and no due time comes twice."""
    with Story() as story:
        _jump(story, -HOUR_MS)


def test_scenario_18_all_clocks_jump_back() -> None:
    """Nobody knows better: firing pauses, and the time of the log stands still, but never goes back. When the clocks are right
    again the missed due times are a matter of the catch-up policy, and none comes twice."""
    with Story() as story:
        story.begin()
        story.create("tick", jobs.every("1s"))
        story.run(5.0)
        for node in story.nodes.values():
            node.clock.wall_error_ms -= 60_000
        story.run(1.0)
        before, log_time_ms = len(story.starts()), story.counters().log_time_ms
        story.run(20.0)
        assert len(story.starts()) == before
        assert story.counters().log_time_ms == log_time_ms
        for node in story.nodes.values():
            node.clock.wall_error_ms += 60_000
        story.run(5.0)
        assert [row[1:3] for row in story.ledger() if row[3] > 1] == [("COALESCED", "catchup_latest")]
        story.check_no_gaps(1_000)
        assert len(story.starts()) == len([row for row in story.ledger() if row[1] == "RAN"])
        story.check()


def test_scenario_19_clocks_strobe() -> None:
    """Clocks jump by up to 200 ms in both directions all the time: starts are off by as much, and nothing comes twice."""
    with Story() as story:
        story.skew_ms = 200
        story.begin()
        story.create("tick", jobs.every("1s"))
        for _ in range(100):
            for node in story.nodes.values():
                node.clock.wall_error_ms = story.random.choice((-200, 200))
            story.run(0.2)
        story.check_no_gaps(1_000)
        delays = sorted(mark.delay_ms for mark in story.starts())
        assert len(delays) == len(story.ledger()) >= 18
        assert delays[0] >= -200 and delays[-1] <= 500
        assert story.observer.counts["elections won"] == 1, "clocks within the allowed skew depose nobody"
        story.check()


def test_scenario_20_nodes_with_different_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A due time is an instant, computed by whoever proposes it and carried in the log: nodes that disagree over a zone agree on
    every due time. Which data counted is a matter of who proposed; nothing comes twice, and nobody diverges."""
    with Story() as story:
        right = cron._shared_next_due_ms

        def next_due_ms(rule: cron.CronRule, after_ms: int) -> int | None:
            """On the odd node Berlin keeps the time of Athens, an hour ahead."""
            if asyncio._get_running_loop() is story.process_of(odd).loop:
                rule = rule._replace(time_zone="Europe/Athens")
            return right(rule, after_ms)

        monkeypatch.setattr(cron, "_shared_next_due_ms", next_due_ms)
        story.begin()
        odd = story.the_leader()
        sane = story.others(odd)[0]
        story.lead(sane)
        # It is 9 o'clock in Berlin.
        morning = jobs.job("morning", jobs.cron("* 9 * * *", time_zone="Europe/Berlin"), jobs.python("work"))
        story.ask_node(sane, "create morning", lambda sdk: sdk.create_job(morning, request_id=A_REQUEST))
        assert story.next_due() == dict.fromkeys(story.nodes, 60000)
        story.lead(odd)
        story.run_until(lambda: bool(story.ends()), 70.0)
        # The odd leader has fired what the sane one had written down, and believes that Berlin's 9 o'clock is over for today.
        tomorrow_ms = 23 * HOUR_MS
        story.run(1.0)
        assert story.next_due() == dict.fromkeys(story.nodes, tomorrow_ms)
        story.lead(sane)
        story.run(5.0)
        assert story.next_due() == dict.fromkeys(story.nodes, tomorrow_ms)
        assert [row[:2] for row in story.ledger()] == [(60_000, "RAN")]
        assert len(story.starts()) == 1
        story.check()
