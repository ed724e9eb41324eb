"""Events, blocks and facets: what the random histories cannot show, because it takes many executions or much time."""

from __future__ import annotations

import pytest
from support import commands
from support.driver import Driver

from horologe.raft import events, facets, search
from horologe.raft.commands import Outcome
from horologe.raft.events import EventKind, floor_of, rows_from
from horologe.raft.model import AttemptState, ExecutionState
from horologe.raft.records import U64

MINUTE = 60_000


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.do(commands.create("namespaces/default/jobs/tick", every_ms=0))
    return driver


def run(driver: Driver) -> int:
    return driver.do(commands.run("namespaces/default/jobs/tick", force=True)).numbers[0]


def told(driver: Driver, revision: int = 0) -> list[tuple[str, str, str, str, int]]:
    """Kind, states before and after, the attempt's state and its number."""
    return [
        (
            EventKind(event.kind).name,
            ExecutionState(event.before).name if event.before else "",
            ExecutionState(event.after).name if event.after else "",
            AttemptState(event.attempt_state).name,
            event.attempt,
        )
        for row in rows_from(driver.tables, revision)
        for event in row.events
    ]


def test_the_life_of_an_execution_and_its_job(driver: Driver) -> None:
    session = driver.do(commands.connect()).numbers[0]
    number = run(driver)
    driver.do(commands.plan(assigns=[(number, session)]))
    failed = commands.outcome(number, driver.index, 1, Outcome.FAILED, retry_delay_ms=5_000)
    driver.do(commands.complete(failed))
    driver.do(commands.plan(retries=[(number, driver.now_ms + 5_000, session)]), after_ms=5_000)
    token = driver.index
    driver.do(commands.cancel(number))
    driver.do(commands.complete(commands.outcome(number, token, 2, Outcome.CANCELLED)))
    name = "namespaces/default/jobs/tick"
    for command in (commands.pause(name), commands.resume(name), commands.update(name, every_ms=MINUTE)):
        driver.do(command)
    driver.do(commands.delete(name))
    assert told(driver) == [
        ("JOB_CREATED", "", "", "NONE", 0),
        ("EXECUTION_MOVED", "", "QUEUED", "NONE", 0),
        ("EXECUTION_MOVED", "QUEUED", "RUNNING", "RUNNING", 1),
        ("EXECUTION_MOVED", "RUNNING", "SCHEDULED", "FAILED", 1),
        ("EXECUTION_MOVED", "SCHEDULED", "RUNNING", "RUNNING", 2),
        ("CANCEL_REQUESTED", "RUNNING", "RUNNING", "RUNNING", 2),
        ("EXECUTION_MOVED", "RUNNING", "CANCELLED", "CANCELLED", 2),
        ("JOB_PAUSED", "", "", "NONE", 0),
        ("JOB_RESUMED", "", "", "NONE", 0),
        ("JOB_UPDATED", "", "", "NONE", 0),
        ("JOB_DELETED", "", "", "NONE", 0),
    ]
    assert driver.job_state().retries == 1
    driver.check()


def test_an_attempt_that_was_taken_back_is_no_retry(driver: Driver) -> None:
    session = driver.do(commands.connect()).numbers[0]
    number = run(driver)
    driver.do(commands.plan(assigns=[(number, session)]))
    driver.do(commands.complete(commands.outcome(number, driver.index, 1, Outcome.FAILED)))
    driver.do(commands.plan(assigns=[(number, session)]))
    assert driver.job_state().retries == 1
    driver.do(commands.close(session))
    assert (driver.state(number), driver.job_state().retries) == ("QUEUED", 0)
    driver.check()


def test_the_window_of_events_is_bounded_in_number(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 40)
    for _ in range(200):
        run(driver)
        driver.check()
        assert driver.counters.events <= 40 + events.ENTRIES_PER_LOOK
    first = next(rows_from(driver.tables, 0))
    assert floor_of(driver.tables) == first.revision - 1 > 1


def test_the_window_of_events_is_bounded_in_age(driver: Driver) -> None:
    run(driver)
    kept_from = driver.index + 1
    driver.now_ms += events.WINDOW_MS + 1
    for _ in range(events.ENTRIES_PER_LOOK):
        run(driver)
    assert next(rows_from(driver.tables, 0)).revision == kept_from
    assert floor_of(driver.tables) == kept_from - 1


def test_blocks_count_what_is_in_them_until_it_is_forgotten(driver: Driver) -> None:
    size = 1 << search.BLOCK_BITS
    driver.apply(*[commands.run("namespaces/default/jobs/tick", force=True) for _ in range(size + 10)])
    driver.apply(*[commands.cancel(number) for number in range(1, size + 1)])
    driver.check()
    first, second = (search.Block.unpack(value) for _, value in driver.tables.block.scan())
    assert first.counts[ExecutionState.CANCELLED] == size - 1
    assert (second.counts[ExecutionState.CANCELLED], second.counts[ExecutionState.QUEUED]) == (1, 10)
    driver.do(commands.prune(driver.now_ms + 2, executions=range(1, size)), after_ms=1)
    assert [U64.unpack(key)[0] for key, _ in driver.tables.block.scan()] == [1]
    driver.check()


def test_facets_name_jobs_in_the_order_of_their_names(driver: Driver) -> None:
    for name in ("c", "a", "b"):
        driver.do(commands.create(f"namespaces/default/jobs/{name}", owner="ann", labels={"team": "data"}))
    driver.do(commands.delete("namespaces/default/jobs/b"))
    driver.do(commands.update("namespaces/default/jobs/c", labels={"team": "web"}))

    def found(facet: facets.Facet, text: str, *, deleted: bool = False) -> list[int]:
        prefix = facets.prefix_of(facet, text, "namespaces/default/", deleted=deleted)
        keys = [key for key, _ in driver.tables.facet.scan(prefix) if key.startswith(prefix)]
        return [facets.job_of(key) for key in keys]

    assert found(facets.Facet.LABEL, "team=data") == [3]
    assert found(facets.Facet.LABEL, "team=web") == [2]
    assert found(facets.Facet.OWNER, "ann") == [3]
    assert found(facets.Facet.LABEL, "team=data", deleted=True) == found(facets.Facet.NAME, "", deleted=True) == [4]
    driver.check()


def test_workflows_are_found_among_other_jobs(driver: Driver) -> None:
    for name in ("c", "a", "b"):
        driver.do(commands.create(f"namespaces/default/jobs/{name}", is_workflow=name != "b"))
    prefix = facets.prefix_of(facets.Facet.WORKFLOW, "", "namespaces/default/")
    keys = [key for key, _ in driver.tables.facet.scan(prefix) if key.startswith(prefix)]
    assert [facets.job_of(key) for key in keys] == [3, 2]
    driver.check()


def test_names_and_labels_that_no_key_can_hold_stop_nobody(driver: Driver) -> None:
    driver.do(commands.create("n" * 500, owner="o" * 1_000, labels={"k": "v" * 1_000}))
    driver.do(commands.create("namespaces/default/jobs/long", owner="o" * 1_000))
    assert [facets.job_of(key) for key, _ in driver.tables.facet.scan()] == [3]
