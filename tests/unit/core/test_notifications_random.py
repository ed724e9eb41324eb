"""Random histories in which there is much to tell: jobs fail and recover, workers are lost, receivers answer or do not.

Together with all else notifications are in test_machine_random.py; there, most histories have little to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from support import commands
from support.driver import Driver
from support.random_notifications import SENT, RandomNotifications
from support.tables import dict_tables, dump

from horologe.log.v1 import log_pb2
from horologe.raft import notices
from horologe.raft.commands import SESSION, Outcome
from horologe.raft.machine import StateMachine

SECOND, MINUTE = 1_000, 60_000
JOBS = [f"namespaces/default/jobs/{id_}" for id_ in "abcd"]


@pytest.fixture(scope="module", autouse=True)
def few_groups() -> Iterator[None]:
    """Histories are short, and should come to the bound all the same."""
    with patch.object(notices, "GROUPS_MAX", 3):
        yield


class NotificationHistory(RandomNotifications):
    """One log; all that happens is worth telling."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.session = 0

    def apply(self, *some: log_pb2.Command) -> None:
        self.driver.apply(*some)

    @initialize()
    def begin(self) -> None:
        self.apply(commands.set_secret("s1"))
        self.apply(commands.set_notification("n1", "FAILED", "RECOVERED", signing_secret="s1", max_per_hour=2))
        self.apply(
            commands.set_notification(
                "n1", "FAILED", "WORKER_LOST", scope="", group_window_ms=3 * SECOND, max_per_hour=1
            )
        )
        self.apply(*(commands.create(name, max_attempts=1) for name in JOBS))
        self.a_worker_is_lost()

    @rule(
        names=st.lists(st.sampled_from(JOBS), min_size=1, max_size=15),
        well=st.sampled_from([False, False, True]),
        is_noticed=st.sampled_from([True, True, False]),
    )
    def executions_end(self, names: list[str], well: bool, is_noticed: bool) -> None:
        for name in names:
            number = self.driver.do(commands.run(name, force=True)).numbers[0]
            self.apply(commands.plan(assigns=[(number, self.session)]))
            token = self.driver.execution(number).token
            self.apply(
                commands.complete(commands.outcome(number, token, 1, Outcome.SUCCEEDED if well else Outcome.FAILED))
            )
        if is_noticed:
            self.the_leader_looks_for_news(writes_down=True)

    @rule()
    def a_worker_is_lost(self) -> None:
        if self.session:
            self.apply(log_pb2.Command(plan=log_pb2.Plan(expired_sessions=SESSION.pack(self.session))))
        self.session = self.driver.do(commands.connect("w1", slot_count=1_000)).numbers[0]

    @rule(passed_ms=st.sampled_from([1, SECOND, 3 * SECOND, MINUTE, notices.HOUR_MS]), sent=st.lists(SENT, max_size=3))
    def time_passes(self, passed_ms: int, sent: list[Any]) -> None:
        self.driver.now_ms += passed_ms
        for outcome in sent:
            self.the_leader_sends(outcome, SECOND, writes_down=True)

    @rule(name=st.sampled_from(["s1", "s2"]), deletes=st.booleans())
    def secrets_come_and_go(self, name: str, deletes: bool) -> None:
        self.apply(commands.delete_secret(name) if deletes else commands.set_secret(name))

    @invariant()
    def the_state_holds_together(self) -> None:
        self.driver.check()

    def teardown(self) -> None:
        copy = dict_tables()
        for index, entry in self.driver.entries:
            StateMachine().apply(copy, index, log_pb2.Entry.FromString(entry.SerializeToString()))
        assert dump(copy) == dump(self.driver.tables)


TestNotificationHistory = NotificationHistory.TestCase
TestNotificationHistory.settings = settings(max_examples=60, stateful_step_count=40)
