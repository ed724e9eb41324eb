"""What Prometheus gets: values that are true, labels that end somewhere, and only for those who may see it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

from metrics_harness import scraper
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from secure_harness import Role, SecureNode
from service_harness import FakeNode, interval_job

from horologe.node.metrics_catalog import NAMESPACES_MAX, QUEUES_MAX
from horologe.raft.commands import Outcome
from horologe.raft.model import Effects, LedgerOutcome
from horologe.v1 import job_service_pb2 as jobs

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


async def create(node: FakeNode, name: str = "hello", queue: str = "", namespace: str = "default") -> int:
    """The job's number."""
    job = interval_job()
    job.queue = queue
    job.retry.max_attempts = 1
    await node.jobs.CreateJob(jobs.CreateJobRequest(parent=f"namespaces/{namespace}", job=job, job_id=name))
    return node.counters().last_job


async def test_what_happened_is_counted(node: FakeNode) -> None:
    node.context.observations.begin(node.clock.now_ms)
    session, job = node.open_session(), await create(node)
    node.complete(node.fire(job, session))
    node.clock.now_ms += 67_000
    node.complete(node.fire(job, session), Outcome.FAILED)
    waiting = node.fire(job)
    node.clock.now_ms = node.execution(waiting).due_ms + 30_000
    async with scraper(node) as prometheus:
        page = await prometheus.scrape()
    assert page.value("horologe_attempts_started_total") == 2
    assert page.value("horologe_executions_ended_total", namespace="default", state="completed") == 1
    assert page.value("horologe_executions_ended_total", namespace="default", state="dead") == 1
    assert page.value("horologe_executions_created_total") == 3
    assert page.value("horologe_executions", state="queued") == 1
    assert page.value("horologe_executions", state="running") == 0
    assert page.value("horologe_dead_letters") == 1
    assert page.value("horologe_late_starts_total") == 1
    assert page.value("horologe_start_delay_seconds_bucket", le="0.005") == 1
    assert page.value("horologe_start_delay_seconds_bucket", le="5.0") == 1
    assert page.value("horologe_start_delay_seconds_bucket", le="10.0") == 2
    assert page.value("horologe_start_delay_seconds_count") == 2
    assert page.value("horologe_start_delay_seconds_sum") == 7
    assert page.value("horologe_queue_waiting_executions", queue="default") == 1
    assert page.value("horologe_queue_oldest_age_seconds", queue="default") == 30
    assert page.value("horologe_namespace_jobs", namespace="default") == 1
    assert page.value("horologe_jobs") == 1
    assert page.value("horologe_entry_executions_sum") == 4


async def test_the_node_itself(node: FakeNode) -> None:
    ends = datetime(2027, 2, 1, tzinfo=UTC)
    node.store.around_commit = node.context.metrics.timed_commit(node.clock.monotonic)
    node.context.metrics.stepped(1.0, 1.5, wrote=True)
    node.context.metrics.stepped(1.5, 9.5, wrote=False)
    node.open_session()
    async with scraper(node, SimpleNamespace(files=SimpleNamespace(expires=ends))) as prometheus:
        page = await prometheus.scrape()
    assert page.value("horologe_raft_term") == 3
    assert page.value("horologe_raft_is_leader") == 1
    assert page.value("horologe_raft_voters") == page.value("horologe_raft_reachable_voters") == 1
    assert page.value("horologe_raft_applied_index") == node.index
    assert page.value("horologe_gateway_sessions") == 2
    assert page.value("horologe_certificate_expiry_timestamp_seconds", holder="node") == ends.timestamp()
    assert page.value("horologe_step_duration_seconds_count") == 1
    assert page.value("horologe_step_duration_seconds_sum") == 0.5
    assert page.value("horologe_fsync_duration_seconds_count") == 1
    pages, free = page.value("horologe_store_pages"), page.value("horologe_store_free_pages")
    assert 0 <= free < pages
    assert page.value("horologe_store_file_bytes") >= page.value("horologe_store_page_bytes") * 2
    assert page.value("process_resident_memory_bytes") > 0


async def test_a_follower_tells_no_lag(node: FakeNode) -> None:
    async with scraper(node) as prometheus:
        assert (await prometheus.scrape()).labels("horologe_raft_lag_entries", "member") == {"n2"}
        node.leader = "n2"
        page = await prometheus.scrape()
        assert page.labels("horologe_raft_lag_entries", "member") == set()
        assert page.value("horologe_raft_is_leader") == 0
        assert page.value("horologe_raft_has_leader") == 1


async def test_labels_end_somewhere(node: FakeNode) -> None:
    for number in range(QUEUES_MAX + 20):
        await create(node, f"j{number}", f"queue-{number:03}", f"team-{number:03}")
    ended = [(number, namespace, 4) for number, namespace in enumerate(range(1, NAMESPACES_MAX + 21))]
    node.context.observations.note([Effects(ended=ended, not_run=[(3, LedgerOutcome.MISSED, 9)])])
    async with scraper(node) as prometheus:
        page = await prometheus.scrape()
    assert len(page.labels("horologe_queue_waiting_executions", "queue")) == QUEUES_MAX + 1
    namespaces = page.labels("horologe_namespace_jobs", "namespace")
    assert len(namespaces) == NAMESPACES_MAX + 1
    assert page.value("horologe_namespace_jobs", namespace="other") == QUEUES_MAX + 20 - NAMESPACES_MAX
    assert page.value("horologe_executions_ended_total", namespace="other", state="completed") == 20
    assert page.labels("horologe_executions_ended_total", "namespace") == namespaces
    assert page.value("horologe_due_times_not_run_total", namespace="team-002", outcome="missed") == 9


async def test_queues_with_lanes_are_one_queue(node: FakeNode) -> None:
    for number, labels in enumerate(({}, {"zone": "a"}, {"zone": "b"})):
        made = interval_job()
        made.worker_labels.update(labels)
        await node.jobs.CreateJob(jobs.CreateJobRequest(parent="namespaces/default", job=made, job_id=f"j{number}"))
        node.fire(node.counters().last_job)
    async with scraper(node) as prometheus:
        page = await prometheus.scrape()
    assert page.labels("horologe_queue_waiting_executions", "queue") == {"default"}
    assert page.value("horologe_queue_waiting_executions", queue="default") == 3


async def test_calls_and_requests_are_counted_by_what_they_are(node: FakeNode) -> None:
    async with scraper(node) as prometheus:
        for path in ("/readyz", "/readyz", "/nowhere", "/nowhere-else", "/static/none", "/v1/namespaces"):
            await prometheus.get(path)
        page = await prometheus.scrape()
        assert page.value("horologe_http_requests_total", route="/readyz", method="GET", code="200") == 2
        assert page.value("horologe_http_requests_total", route="other", method="GET", code="404") == 2
        assert page.value("horologe_http_requests_total", route="/static/{path:path}", method="GET", code="404") == 1
        assert page.value("horologe_http_requests_total", route="/v1", method="GET", code="200") == 1
        assert page.value("horologe_http_request_duration_seconds_count", route="/readyz") == 2
        name = {"method": "ClusterService.GetClusterStatus"}
        assert page.value("horologe_api_calls_total", **name, code="OK") == 1
        assert page.value("horologe_api_call_duration_seconds_count", **name) == 1


async def test_both_formats_are_spoken(node: FakeNode) -> None:
    async with scraper(node) as prometheus:
        plain, open_ = await prometheus.get(), await prometheus.get(accept=OPEN_METRICS)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_open(open_.text)}
    assert "horologe_start_delay_seconds" in names
    assert "horologe_attempts_started" in names


async def test_who_may_read_it(tmp_path) -> None:
    async with SecureNode(tmp_path).serve() as node:
        viewer = dict(node.somebody("ann", Role.ROLE_VIEWER))["authorization"].removeprefix("Bearer ")
        nobody = node.token("ben")
        async with scraper(node) as prometheus:
            unknown = await prometheus.get()
            assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
            assert "horologe_" not in unknown.text
            assert (await prometheus.get(token="hlg_0123_made-up")).status_code == 401
            denied = await prometheus.get(token=nobody)
            assert (denied.status_code, "PERMISSION_DENIED" in denied.text) == (403, True)
            answer = await prometheus.get(token=viewer)
            assert answer.status_code == 200
            assert "horologe_audit_records_waiting" in answer.text
            # What was refused is counted, and comes into the audit log.
            assert 'code="UNAUTHENTICATED"' in answer.text
        assert any(record.reason == "PERMISSION_DENIED" for record in await node.denied())


async def test_it_may_be_open(tmp_path) -> None:
    async with SecureNode(tmp_path, metrics_open=True).serve() as node, scraper(node) as prometheus:
        assert (await prometheus.get()).status_code == 200
