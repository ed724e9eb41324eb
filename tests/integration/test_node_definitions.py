"""Definitions as code on a real node: a plan, what it does, versions, and everything that importers make."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_node import one_node

from horologe.client import dkron, jobfile, jobs, kubernetes, quartz, systemd
from horologe.client.errors import Conflict, FailedPrecondition, InvalidArgument
from horologe.client.imports import Options
from horologe.v1.definition_service_pb2 import JobChange
from horologe.v1.job_pb2 import Job

FILE = """
workflows:
- name: etl
  apply_set: shop
  schedule: {cron: "0 3 * * *", time_zone: Europe/Berlin}
  jobs:
  - {name: extract, apply_set: shop, action: {shell: {argv: ["true"]}}}
  - {name: load, apply_set: shop, schedule: {after: [extract]}, action: {shell: {argv: ["true"]}}}
jobs:
- name: poll
  apply_set: shop
  schedule: {interval: 5m, anchor: 2027-01-01T00:00:00Z}
  action: {http: {url: "https://example.org", read_timeout: 5s}}
  overlap: queue_all
  queue_max: 3
  catchup: all
  catchup_max: 5
  deadline: 2m
  jitter: 10s
  owner: ada
"""
OPTIONS = Options(time_zone="Europe/Berlin")
CRON_JOB = b"""
kind: CronJob
metadata: {name: nightly, labels: {team: data}}
spec:
  schedule: "0 2 * * 1-5"
  concurrencyPolicy: Replace
  startingDeadlineSeconds: 100
  suspend: true
  jobTemplate: {spec: {backoffLimit: 2, activeDeadlineSeconds: 60, template: {spec: {containers: [{command: ["true"]}]}}}}
"""
DKRON = b"""[
{"name": "parent", "schedule": "0 */5 1,15 * * 1-5", "executor": "shell", "executor_config": {"command": "true"}, "retries": 1},
{"name": "child", "parent_job": "parent", "executor": "http", "executor_config": {"url": "http://example.org"}}]"""
QUARTZ = b"""<job-scheduling-data><schedule>
<job><name>r</name><job-class>com.acme.Report</job-class></job>
<trigger><cron><name>t</name><job-name>r</job-name><cron-expression>0 0 2 ? * MON-FRI</cron-expression></cron></trigger>
<trigger><simple><name>u</name><job-name>r</job-name><start-time>2030-01-01T00:00:00</start-time>
<repeat-count>3</repeat-count><repeat-interval>60000</repeat-interval></simple></trigger>
</schedule></job-scheduling-data>"""
TIMER = b"[Timer]\nOnCalendar=Mon *-*-01..07 02:30\nOnCalendar=*-*~01 04:00\nPersistent=true\nRandomizedDelaySec=5min\n"
SERVICE = b"[Service]\nType=oneshot\nExecStart=/bin/true\nTimeoutStopSec=5\n"


async def test_a_folder_of_definitions_is_what_the_cluster_holds(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        wanted = [entry.job for entry in jobfile.loads(FILE)]
        plan = await here.client.plan_jobs(wanted, prune_set="shop")
        assert {change.kind for change in plan} == {JobChange.KIND_CREATE}
        await here.client.apply_plan(plan)
        plan = await here.client.plan_jobs(wanted, prune_set="shop")
        assert {change.kind for change in plan} == {JobChange.KIND_KEEP}, "what was applied is what is wanted"

        stored = {job.name.rpartition("/")[2]: job async for job in here.client.list_jobs()}
        assert sorted(stored) == ["etl", "extract", "load", "poll"]
        for job in stored.values():
            again = jobfile.loads(str(jobfile.to_mapping(job)).replace("None", "null"))[0].job
            assert (await here.client.plan_jobs([again]))[0].kind == JobChange.KIND_KEEP, (
                "as a job file it says the same"
            )

        fewer = [job for job in wanted if not job.name.endswith("/poll")]
        fewer[0].description = "changed"
        plan = await here.client.plan_jobs(fewer, prune_set="shop")
        await here.client.pause_job("poll")
        with pytest.raises(Conflict):
            await here.client.apply_plan(plan)
        assert (await here.client.get_job("etl")).description == "", "nothing of it was done"
        await here.client.apply_plan(await here.client.plan_jobs(fewer, prune_set="shop"))
        assert [job.name.rpartition("/")[2] async for job in here.client.list_jobs()] == ["etl", "extract", "load"]
        versions = [version async for version in here.client.list_job_versions("etl")]
        assert [version.job.description for version in versions] == ["changed", ""]


async def test_a_plan_keeps_the_rules_for_dependencies(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        one = jobs.job("one", jobs.manual(), jobs.shell(["true"]), apply_set="s")
        two = jobs.job("two", jobs.after("one"), jobs.shell(["true"]), apply_set="s")
        other = jobs.job("other", jobs.manual(), jobs.shell(["true"]), apply_set="s")
        await here.client.apply_plan(await here.client.plan_jobs([one, two]))
        plan = await here.client.plan_jobs([other], prune_set="s")
        without_two = [change for change in plan if not change.before.name.endswith("/two")]
        with pytest.raises(FailedPrecondition, match="two"):
            await here.client.apply_plan(without_two)
        await here.client.apply_plan(plan)
        assert [job.name.rpartition("/")[2] async for job in here.client.list_jobs()] == ["other"]


async def test_everything_that_importers_make_is_taken(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        for imported in (
            kubernetes.loads(CRON_JOB, "k", OPTIONS),
            dkron.loads(DKRON, "d", OPTIONS),
            quartz.loads(QUARTZ, "q", OPTIONS),
            systemd.loads(TIMER, "backup.timer", SERVICE, OPTIONS),
        ):
            await here.client.batch_create_jobs(imported.jobs)
        found = {job.name.rpartition("/")[2]: job async for job in here.client.list_jobs()}
        assert sorted(found) == ["backup", "child", "nightly", "parent", "r-t", "r-u"]
        assert found["nightly"].state == Job.STATE_PAUSED
        assert (await here.client.resume_job("nightly")).state == Job.STATE_ACTIVE
        bad = quartz.loads(QUARTZ.replace(b"MON-FRI", b"NEVER"), "q", Options(prefix="bad-"))
        with pytest.raises(InvalidArgument) as caught:
            await here.client.batch_create_jobs(bad.jobs)
        assert caught.value.violations[0].field == "jobs[0].schedules[0].cron.expression"
