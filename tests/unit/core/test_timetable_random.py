"""Random histories of what makes jobs due and holds them back: bounds, calendars, deadlines, pauses; nothing owed is forgotten.

The rules of test_machine_random.py go on beside these.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from support import commands
from support.timetable_words import draft_of, set_times
from test_machine_random import MINUTE, SECOND, RandomHistory, fields, names

from horologe.log.v1 import log_pb2
from horologe.node.pending import Pending, read_pending
from horologe.raft.store import Store
from horologe.v1.calendar_pb2 import Calendar

times = st.fixed_dictionaries(
    {},
    optional={
        "deadline": st.sampled_from(["3s", "20s", "2m"]),
        "jitter": st.sampled_from(["2s", "30s"]),
        "max_executions": st.sampled_from(["1", "3"]),
        "catchup_max": st.sampled_from(["1", "3"]),
        "start_time": st.sampled_from(["30s", "5m"]),
        "end_time": st.sampled_from(["2m", "20m"]),
        "fixed_delay": st.sampled_from(["1s", "7s", "2m"]),
        "once": st.sampled_from(["10s", "1m,3m", "10m"]),
        "calendars": st.sampled_from(["c1", "c2", "c1,c2"]),
        "on_exclusion": st.sampled_from(["skip", "next_open"]),
        "delete_when_finished": st.just("1"),
    },
)
scopes = st.sampled_from(["", "default"])


class TimetableHistory(RandomHistory):
    """One log in which all kinds of schedules come and go."""

    def pending(self, name: str) -> Pending | None:
        key = self.driver.tables.job_name.get(name.encode())
        record = None if key is None else self.driver.job(int.from_bytes(key, "big"))
        return None if record is None else read_pending(self.driver.tables, record)

    def proposed_at_ms(self, lag_ms: int) -> int:
        return self.driver.now_ms - (0 if self.clocks_agree else lag_ms)

    @rule(
        mode=st.sampled_from([commands.CREATE, commands.APPLY, commands.APPLY]),
        name=names,
        wanted=fields,
        when=times,
        lag_ms=st.integers(0, 20 * SECOND),
    )
    def put_with_times(
        self, mode: log_pb2.PutJobs.Mode.ValueType, name: str, wanted: dict, when: dict[str, str], lag_ms: int
    ) -> None:
        job = commands.job(name, **wanted)
        set_times(job, when)
        self.apply(commands.put(mode, draft_of(self.driver, job, self.proposed_at_ms(lag_ms))))

    @rule(name=names, passed_ms=st.sampled_from([0, 0, 7 * SECOND]))
    def delete_with_its_account(self, name: str, passed_ms: int) -> None:
        """`passed_ms`: between the count and the entry."""
        pending = self.pending(name)
        if pending is not None:
            command = commands.delete(name)
            command.delete_job.pending.CopyFrom(pending.count(self.driver.now_ms))
            self.driver.now_ms += passed_ms
            self.apply(command)

    @rule(name=names, catchup=st.booleans(), passed_ms=st.sampled_from([0, 0, 7 * SECOND]))
    def resume_with_its_account(self, name: str, catchup: bool, passed_ms: int) -> None:
        pending = self.pending(name)
        if pending is not None:
            command = pending.resume(self.driver.now_ms, catchup=catchup)
            self.driver.now_ms += passed_ms
            self.apply(log_pb2.Command(pause_job=command))

    @rule(scope=scopes)
    def pause_a_scope(self, scope: str) -> None:
        self.apply(commands.pause_scope(scope, reason="why not"))

    @rule(scope=scopes, catchup=st.booleans())
    def resume_a_scope(self, scope: str, catchup: bool) -> None:
        self.apply(commands.resume_scope(scope, catchup=catchup))

    @rule(name=st.sampled_from(["c1", "c2"]), start=st.integers(0, 40), minutes=st.integers(0, 20))
    def set_a_calendar(self, name: str, start: int, minutes: int) -> None:
        calendar = Calendar(name=f"namespaces/default/calendars/{name}", time_zone="UTC")
        if minutes:
            end = min(start + minutes, 59)
            setattr(calendar.hours.add(to=f"00:{end:02}"), "from", f"00:{start:02}")
        self.apply(log_pb2.Command(set_calendar=log_pb2.SetCalendar(calendar=calendar)))

    @rule(name=st.sampled_from(["c1", "c2"]))
    def delete_a_calendar(self, name: str) -> None:
        command = log_pb2.DeleteCalendar(name=f"namespaces/default/calendars/{name}")
        self.apply(log_pb2.Command(delete_calendar=command))

    def teardown(self) -> None:
        self.nothing_owed_is_forgotten()
        super().teardown()

    def nothing_owed_is_forgotten(self) -> None:
        """When all pauses are over and a leader has had its time, no active job has anything pending from long ago."""
        for scope in ("", "default"):
            self.apply(commands.resume_scope(scope))
        self.another_node_leads()
        self.time_passes(MINUTE, 200)
        for name in ("a", "b", "c"):
            pending = self.pending(name)
            if pending is not None and not pending.record.paused:
                assert pending.first_ms == 0 or pending.state.next_fire_ms > self.driver.now_ms, (name, pending)


class TimetableHistoryOfDisagreeingClocks(TimetableHistory):
    """The proposers of changes are behind the leader by up to 20 s."""

    clocks_agree = False


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One LMDB folder for all histories; what they write is never committed."""
    RandomHistory.store = Store(tmp_path_factory.mktemp("histories") / "data", "n1", bytes_max=1 << 26)
    yield
    RandomHistory.store.close()


TestTimetableHistory = TimetableHistory.TestCase
TestTimetableHistory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestTimetableHistoryOfDisagreeingClocks = TimetableHistoryOfDisagreeingClocks.TestCase
TestTimetableHistoryOfDisagreeingClocks.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
