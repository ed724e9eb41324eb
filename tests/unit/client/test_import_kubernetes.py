"""CronJobs to jobs: what is carried over, what is listed, what is refused."""

from __future__ import annotations

import json

import pytest
import yaml

from horologe.client import jobs, kubernetes
from horologe.client.errors import InvalidFile
from horologe.client.imports import Imported, Options
from horologe.v1.job_pb2 import Job

MANIFEST = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: nightly.report
  namespace: prod
  labels: {team: data, App.Kubernetes.io/Name: x}
spec:
  schedule: "0 2 * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 200
  suspend: true
  successfulJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 600
      template:
        spec:
          restartPolicy: OnFailure
          serviceAccountName: reporter
          containers:
          - name: report
            image: registry/report:1
            command: [report, "--to=$(TO)", "$$HOME"]
            args: [fast]
            workingDir: /srv
            env:
            - {name: TO, value: ada}
            - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}
            volumeMounts: [{name: v, mountPath: /v}]
          - name: sidecar
            image: envoy
---
apiVersion: v1
kind: Service
metadata: {name: web}
"""

SMALL = """\
kind: CronJob
metadata: {name: x}
spec:
  schedule: "@daily"
  jobTemplate: {spec: {activeDeadlineSeconds: 5, template: {spec: {containers: [{command: [a]}]}}}}
"""


def load(text: str, **options: str) -> Imported:
    return kubernetes.loads(text.encode(), "f.yaml", Options(**options))


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def test_everything_that_is_carried_over() -> None:
    imported = load(MANIFEST)
    expected = jobs.job(
        "namespaces/prod/jobs/nightly-report",
        jobs.cron("0 2 * * *", time_zone="Europe/Berlin", dialect="kubernetes"),
        jobs.shell(["report", "--to=ada", "$HOME", "fast"], env={"TO": "ada"}, cwd="/srv"),
        retry=jobs.retry(max_attempts=3, backoff="exponential", base="10s", factor=2, cap="6m", jitter="none"),
        timeout="10m",
        execution_timeout="10m",
        deadline="200s",
        catchup_window="200s",
        overlap="skip",
        labels={"team": "data"},
        description="Imported from f.yaml",
    )
    expected.state, expected.pause_reason = Job.STATE_PAUSED, "suspended in Kubernetes"
    assert imported.jobs == [expected]
    assert [(found.file, found.line) for found in imported.found] == [("f.yaml", 1)]


def test_what_is_not_is_listed_by_line() -> None:
    assert [str(notice) for notice in load(MANIFEST).notices] == [
        "f.yaml:1: 'nightly.report' is called 'nightly-report' here",
        "f.yaml:6: label 'App.Kubernetes.io/Name' is not carried over: it cannot be called that here",
        "f.yaml:13: spec: `successfulJobsHistoryLimit` is not carried over",
        "f.yaml:21: the Pod: `serviceAccountName` is not carried over",
        "f.yaml:24: the image registry/report:1 is not carried over: the worker's machine runs the command",
        "f.yaml:30: TOKEN is not carried over: its value comes from elsewhere; set it on the worker",
        "f.yaml:31: the container: `volumeMounts` is not carried over",
        "f.yaml:32: only the first container is carried over",
        "f.yaml:35: Service is no CronJob, and left out",
    ]


def test_defaults_are_those_of_kubernetes() -> None:
    imported = load(SMALL.replace("activeDeadlineSeconds: 5, ", ""), time_zone="Asia/Tokyo", namespace="n", prefix="k-")
    job = imported.jobs[0]
    assert job.name == "namespaces/n/jobs/k-x"
    assert job.schedules[0].cron.time_zone == "Asia/Tokyo"
    assert job.retry.max_attempts == 7
    assert job.overlap == jobs.job("x", (), jobs.workflow(), overlap="allow").overlap
    assert not job.HasField("deadline")
    assert "has no activeDeadlineSeconds: it may run for 1h here" in str(imported.notices[0])


def test_lists_and_json_are_read() -> None:
    document = {"kind": "List", "items": [yaml.safe_load(SMALL), {"kind": "Secret"}]}
    imported = load(json.dumps(document))
    assert [job.name for job in imported.jobs] == ["namespaces/default/jobs/x"]


@pytest.mark.parametrize(
    ("expression", "schedule"),
    [
        ("CRON_TZ=Asia/Tokyo 0 2 * * *", jobs.cron("0 2 * * *", time_zone="Asia/Tokyo", dialect="kubernetes")),
        ("@every 1h30m", jobs.every("90m")),
        ("@hourly", jobs.cron("@hourly", dialect="kubernetes")),
    ],
)
def test_schedules(expression: str, schedule: object) -> None:
    assert list(load(SMALL.replace("@daily", expression)).jobs[0].schedules) == [schedule]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('  schedule: "@daily"\n', "", "f.yaml:1:1: CronJob: `spec.schedule` is missing"),
        ("@daily", "@every soon", "f.yaml:4:13: spec.schedule: 'soon' is not a duration"),
        ("metadata: {name: x}", "metadata: {}", "f.yaml:1:1: CronJob: `metadata.name` is missing"),
        ("{name: x}", "{name: x, namespace: X_Y}", "metadata.namespace: 'X_Y'"),
        ("spec:\n", "spec:\n  timeZone: Mars/Base\n", "spec.timeZone: 'Mars/Base' is not a time zone"),
        (
            "spec:\n",
            "spec:\n  concurrencyPolicy: Never\n",
            "f.yaml:4:22: spec.concurrencyPolicy: 'Never' is not one of",
        ),
        ("spec:\n", "spec:\n  suspend: maybe\n", "spec.suspend must be true or false"),
        ("spec:\n", "spec:\n  startingDeadlineSeconds: -1\n", "must be from 0 to"),
        ("activeDeadlineSeconds: 5", "parallelism: 3", "the Job: `parallelism`: one execution is one run here"),
        ("{command: [a]}", "", "CronJob: the Pod has no `containers`"),
        ("{command: [a]}", "{image: busybox}", "the container has no `command`"),
        ("[a]", "[5]", "command[0] must be text"),
        (
            "{command: [a]}",
            "{command: [$(A)], env: [{name: A, valueFrom: {x: y}}]}",
            "$(A): its value comes from elsewhere",
        ),
        ("kind: CronJob", "kind: Deployment", "holds nothing that could be imported"),
    ],
)
def test_what_stands_in_the_way_is_named(old: str, new: str, said: str) -> None:
    assert old in SMALL
    assert said in " ".join(problems_of(SMALL.replace(old, new)))


def test_all_problems_of_a_file_are_listed_and_nothing_is_imported() -> None:
    text = (
        SMALL
        + "---\n"
        + SMALL.replace("@daily", "@every x")
        + "---\n"
        + SMALL.replace("[a]", "[]").replace("{name: x}", "{}")
    )
    assert [problem.partition(": ")[0] for problem in problems_of(text)] == ["f.yaml:10:13", "f.yaml:13:1"]


def test_variables_that_contain_each_other_have_an_end() -> None:
    env = ["{name: A0, value: xxxxxxxx}"]
    env += [f"{{name: A{n}, value: $(A{n - 1})$(A{n - 1})$(A{n - 1})$(A{n - 1})}}" for n in range(1, 30)]
    text = SMALL.replace("{command: [a]}", f"{{command: [a], env: [{', '.join(env)}]}}")
    assert "characters with its variables in it" in problems_of(text)[0]
