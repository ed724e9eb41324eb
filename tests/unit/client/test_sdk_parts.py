"""The SDK's pure parts: names, words, the context, the table of errors, the decisions about retries, the builders."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_cluster import failure

from horologe.client import cluster_context, errors, jobs, names, words
from horologe.client.channel import CallPolicy, Cluster, to_error
from horologe.v1 import job_pb2
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import Job


@pytest.mark.parametrize(
    ("convert", "given", "full"),
    [
        (names.job_name, "nightly", "namespaces/default/jobs/nightly"),
        (names.job_name, "prod/nightly", "namespaces/prod/jobs/nightly"),
        (names.job_name, "namespaces/prod/jobs/nightly", "namespaces/prod/jobs/nightly"),
        (names.namespace_name, "", "namespaces/default"),
        (names.namespace_name, "-", "namespaces/-"),
        (names.namespace_name, "namespaces/prod", "namespaces/prod"),
        (names.execution_name, "417", "namespaces/-/jobs/-/executions/417"),
        (names.execution_name, 417, "namespaces/-/jobs/-/executions/417"),
        (names.execution_name, "namespaces/a/jobs/b/executions/1", "namespaces/a/jobs/b/executions/1"),
        (names.executions_parent, "", "namespaces/default/jobs/-"),
        (names.executions_parent, "namespaces/-/jobs/-", "namespaces/-/jobs/-"),
        (names.executions_parent, "nightly", "namespaces/default/jobs/nightly"),
        (names.worker_name, "w1", "workers/w1"),
        (names.worker_name, "workers/w1", "workers/w1"),
    ],
)
def test_names(convert: Callable[[Any], str], given: str | int, full: str) -> None:
    assert convert(given) == full


@pytest.mark.parametrize(
    ("convert", "given"),
    [
        (names.job_name, "Nightly"),
        (names.job_name, ""),
        (names.job_name, "a-"),
        (names.job_name, "a" * 64),
        (names.job_name, "a\n"),
        (names.job_name, "x/y/z"),
        (names.job_name, "-/a"),
        (names.namespace_name, "Ä"),
        (names.execution_name, "abc"),
        (names.execution_name, "-1"),
        (names.execution_name, "٣"),
        (names.worker_name, ""),
        (names.worker_name, "a/b"),
    ],
)
def test_names_that_are_refused(convert: Callable[[Any], str], given: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        convert(given)
    assert caught.value.violations[0].field in ("name", "namespace")


def test_parts_of_names() -> None:
    name = "namespaces/prod/jobs/nightly/executions/7"
    assert (names.namespace_id(name), names.job_id(name), names.execution_number(name)) == ("prod", "nightly", 7)
    assert (names.namespace_id("x"), names.job_id("x"), names.execution_number("x")) == ("", "x", 0)


def test_words_both_ways() -> None:
    assert words.known(Execution.State)["completed"] == Execution.STATE_COMPLETED
    for word, number in words.known(job_pb2.CronSchedule.GapPolicy).items():
        assert words.parse(job_pb2.CronSchedule.GapPolicy, word) == number
        assert words.render(job_pb2.CronSchedule.GapPolicy, number) == word
    assert words.render(Job.State, 0) == ""
    assert words.render(Job.State, 99) == "unknown_99"
    assert words.parse(job_pb2.CronSchedule.GapPolicy, "Run-After") == job_pb2.CronSchedule.GAP_POLICY_RUN_AFTER
    with pytest.raises(ValueError, match=r"'laest' is not known; allowed: latest, .* \(did you mean 'latest'\?\)"):
        words.parse(job_pb2.CatchupPolicy, "laest")


def test_context_from_arguments_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_context.load() == cluster_context.ClusterContext(("127.0.0.1:7400",), "default")
    file = tmp_path / "context.toml"
    file.write_text('addresses = ["127.0.0.1:1", "127.0.0.1:2"]\nnamespace = "prod"\n')
    monkeypatch.setenv("HOROLOGE_CONTEXT", str(file))
    assert cluster_context.load() == cluster_context.ClusterContext(("127.0.0.1:1", "127.0.0.1:2"), "prod")
    assert cluster_context.load("h:1,h:2,h:1", "dev") == cluster_context.ClusterContext(("h:1", "h:2"), "dev")
    assert cluster_context.load(["[::1]:7400"]).addresses == ("[::1]:7400",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("addresses = 3", "addresses must be a list"),
        ("addresses = []", "addresses must be a list"),
        ("adresses = []", "unknown key 'adresses'"),
        ("addresses = ['nowhere']", "'nowhere' is not an address"),
        ("addresses = ['h:99999']", "is not an address"),
        ("namespace = 'Ä'", "namespace must be a name"),
        ("x =", "is not TOML"),
    ],
)
def test_contexts_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "context.toml"
    file.write_text(text)
    with pytest.raises(errors.InvalidContext, match=said):
        cluster_context.load(context_file=file)
    with pytest.raises(errors.InvalidContext, match="cannot be read: No such file"):
        cluster_context.load(context_file=tmp_path / "absent")


def test_the_table_of_errors() -> None:
    assert errors.error_class("UNAVAILABLE", "OUTCOME_UNKNOWN") is errors.OutcomeUnknown
    assert errors.error_class("UNAVAILABLE", "NEW_REASON") is errors.Unavailable
    assert errors.error_class("NEW_STATUS") is errors.HorologeError
    tree = errors.__doc__ or ""
    for kind in {*errors.REASONS.values(), *errors.STATUSES.values()}:
        assert f"── {kind.__name__} " in tree
        assert issubclass(kind, errors.HorologeError)


class Failure:
    """A failed attempt."""

    def __init__(self, status: str, reason: str = "", details: str = "no", retry_after: str = "") -> None:
        self._code = grpc.StatusCode[status]
        self._details = details
        self._trailers = ()
        if reason or retry_after:
            packed = failure(status, reason, details, retry_after=retry_after).SerializeToString()
            self._trailers = (("grpc-status-details-bin", packed),)  # type: ignore[assignment]

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers


REFUSED = Failure("UNAVAILABLE", details="failed to connect to all addresses; last error: Connection refused")
BROKEN = Failure("UNAVAILABLE", details="Socket closed")
LATE = Failure("DEADLINE_EXCEEDED", details="Deadline Exceeded")


def policy(nodes: int = 3, *, is_write: bool = False, **options: Any) -> CallPolicy:
    cluster = Cluster([f"n{index}:1" for index in range(nodes)])
    request_id = "r" if is_write else ""
    return CallPolicy(cluster, 0.0, 30.0, request_id, is_write=is_write, jitter=random.Random(1), **options)


def test_each_node_is_asked_once_before_waiting() -> None:
    call = policy()
    assert [call.failed(REFUSED, 0.0) for _ in range(2)] == [0.0, 0.0]
    assert call.address_index == 2
    waits = [call.failed(REFUSED, 0.0) for _ in range(10)]
    assert 0.0 < waits[0] <= 0.1
    assert max(waits) <= 2.0
    assert waits[-1] >= 1.0


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    call = policy()
    assert 0.5 <= call.failed(Failure("UNAVAILABLE", "NO_LEADER", retry_after="500ms"), 0.0) <= 0.6
    assert 0.5 <= call.failed(Failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after="500ms"), 0.0) <= 0.6
    assert call.address_index == 1  # A full queue is full on every node.


@pytest.mark.parametrize("reason", ["", "QUEUE_FULL"])
def test_a_limit_without_a_time_is_not_retried(reason: str) -> None:
    with pytest.raises(errors.ResourceExhausted):
        policy().failed(Failure("RESOURCE_EXHAUSTED", reason), 0.0)


def test_an_attempt_is_cut_short_only_where_there_are_other_nodes() -> None:
    assert policy(1).attempt_timeout(10.0) == 20.0
    call = policy(2)
    assert call.attempt_timeout(0.0) == 2.0
    assert call.failed(LATE, 2.0) == 0.0
    assert call.address_index == 1
    assert call.attempt_timeout(2.0) == 4.0
    assert call.attempt_timeout(29.0) == 1.0


def test_the_deadline_ends_it() -> None:
    with pytest.raises(errors.Unavailable, match="no node answers at n0:1, n1:1, n2:1: Connection refused"):
        policy().failed(REFUSED, 30.0)
    with pytest.raises(errors.DeadlineExceeded):
        policy().failed(LATE, 30.0)
    with pytest.raises(errors.DeadlineExceeded):
        policy(1).failed(LATE, 1.0)
    with pytest.raises(errors.Unavailable) as caught:
        policy().failed(Failure("UNAVAILABLE", "NO_LEADER"), 30.0)
    assert caught.value.reason == "NO_LEADER"


def test_a_name_that_nobody_knows_is_said_and_nothing_was_sent() -> None:
    said = "errors resolving n:1: [field:hostname lookup error:address lookup failed for n:1: Domain name not found]"
    with pytest.raises(errors.Unavailable, match=r"no node answers at n0:1: Domain name not found$"):
        policy(1, is_write=True).failed(Failure("UNAVAILABLE", details=said), 30.0)


def test_a_call_that_a_stopping_node_ends_goes_to_another_one() -> None:
    ended = Failure("CANCELLED", details="CANCELLED")
    call = policy(2, is_write=True)
    assert call.failed(ended, 0.0) == 0.0
    assert call.address_index == 1
    with pytest.raises(errors.OutcomeUnknown):
        call.failed(REFUSED, 30.0)
    here = Failure("CANCELLED", details="Locally cancelled by application!")
    with pytest.raises(errors.HorologeError, match="Locally"):
        policy(2).failed(here, 0.0)


@pytest.mark.parametrize("cut", [BROKEN, LATE, Failure("UNAVAILABLE", "OUTCOME_UNKNOWN")])
def test_a_write_that_may_have_happened_says_so(cut: Failure) -> None:
    call = policy(is_write=True)
    call.failed(cut, 0.0)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        call.failed(REFUSED, 30.0)
    assert caught.value.request_id == "r"


def test_a_write_that_never_left_did_not_happen() -> None:
    with pytest.raises(errors.Unavailable):
        policy(is_write=True).failed(REFUSED, 30.0)


def test_nobody_there_is_told_early_when_asked_for() -> None:
    call = policy(2, unreachable_seconds=3.0)
    call.failed(REFUSED, 5.0)  # The other node has not been asked yet.
    with pytest.raises(errors.Unavailable):
        call.failed(REFUSED, 5.0)
    answered = policy(2, unreachable_seconds=3.0)
    answered.failed(Failure("UNAVAILABLE", "NO_LEADER"), 1.0)
    answered.failed(REFUSED, 5.0)
    answered.failed(REFUSED, 6.0)


def test_details_that_cannot_be_read_do_not_hide_the_error() -> None:
    cut = Failure("NOT_FOUND", details="gone")
    cut._trailers = (("other", "x"), ("grpc-status-details-bin", b"\xff\xff"))  # type: ignore[assignment]
    assert type(to_error(cut)) is errors.NotFound
    assert str(to_error(cut)) == "gone"


def test_builders() -> None:
    job = jobs.job(
        "report",
        [jobs.cron("0 2 * * *", time_zone="Europe/Berlin", dst_gap="skip"), jobs.every(timedelta(minutes=5))],
        jobs.http("post", "http://x", json={"a": 1}, expect=[200]),
        retry=jobs.retry(max_attempts=5, backoff="fixed", base="10s"),
        timeout="10m",
        overlap="allow",
        on_lease_loss="fail",
        priority=0,
    )
    assert job.schedules[0].cron.dst_gap == job_pb2.CronSchedule.GAP_POLICY_SKIP
    assert job.schedules[1].interval.every.seconds == 300
    assert job.action.http.method == "POST"
    assert job.action.http.headers == {"Content-Type": "application/json"}
    assert job.retry.base.seconds == 10
    assert job.overlap == job_pb2.OVERLAP_POLICY_ALLOW
    assert job.HasField("priority")
    assert jobs.shell("echo hi").shell.script == "echo hi"
    assert jobs.once(datetime(2027, 1, 1, tzinfo=UTC)).once.time.seconds == 1798761600
    assert jobs.after_delay("10m").once.delay.seconds == 600
    assert jobs.sql("db", "select :x", {"x": 1}).sql.parameters["x"] == 1
    assert not jobs.python("handler").python.HasField("payload")


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: jobs.every("soon"), "every"),
        (lambda: jobs.once("soon"), "once"),
        (lambda: jobs.once(datetime(2027, 1, 1)), "once"),
        (lambda: jobs.retry(backoff="sometimes"), "backoff"),
        (lambda: jobs.http("GET", "http://x", body="a", json=1), "json"),
        (lambda: jobs.http("GET", "http://x", json={1, 2}), "json"),
    ],
)
def test_builders_refuse_what_they_cannot_read(build: Callable[[], object], field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        build()
    assert caught.value.violations[0].field == field


def test_payloads_must_be_json() -> None:
    with pytest.raises(errors.InvalidArgument, match="not a JSON value"):
        jobs.python("handler", {"a": object()})
