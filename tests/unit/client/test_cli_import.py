"""`horologe job import` for every form but crontabs, against a fake node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, failure
from test_import_dkron import EXPORT
from test_import_kubernetes import MANIFEST
from test_import_quartz import DOCUMENT
from test_import_systemd import SERVICE, TIMER
from typer.testing import Result

from horologe.v1.job_pb2 import Job

Run = Callable[..., Result]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of each form; that of systemd is a folder."""
    folder = tmp_path / "units"
    folder.mkdir()
    texts = {"kubernetes": MANIFEST, "dkron": EXPORT, "quartz": DOCUMENT}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (folder / "backup.timer").write_text(TIMER)
    (folder / "backup.service").write_text(SERVICE)
    return {name: tmp_path / name for name in texts} | {"systemd": folder}


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("kubernetes", ["nightly-report"]),
        ("dkron", ["job1", "child"]),
        ("quartz", ["native", "report-t1", "report-t2"]),
        ("systemd", ["backup"]),
    ],
)
def test_all_jobs_are_created_at_once(
    fake: FakeCluster, run: Run, files: dict[str, Path], form: str, names: list[str]
) -> None:
    dry = run("job", "import", form, str(files[form]), "--tz", "UTC", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "would be created" in dry.stdout
    assert "is not carried over" in dry.stderr
    assert fake.jobs == {}
    result = run("job", "import", form, str(files[form]), "--tz", "UTC", "--prefix", "new-", "-o", "json")
    assert result.exit_code == 0, result.output
    sent = fake.requests("BatchCreateJobs")[0].jobs
    assert [job.name.rpartition("/")[2] for job in sent] == [f"new-{name}" for name in names]
    assert [entry["outcome"] for entry in json.loads(result.stdout)] == ["created"] * len(names)
    again = run("job", "import", form, str(files[form]), "--tz", "UTC", "--prefix", "new-")
    assert again.exit_code == 4
    assert "--update changes jobs that are there already" in again.stderr
    updated = run("job", "import", form, str(files[form]), "--tz", "UTC", "--prefix", "new-", "--update")
    assert updated.exit_code == 0
    assert "updated" in updated.stdout


def test_what_was_paused_there_begins_paused(fake: FakeCluster, run: Run, files: dict[str, Path]) -> None:
    result = run("job", "import", "kubernetes", str(files["kubernetes"]))
    assert "paused" in result.stdout
    assert fake.requests("BatchCreateJobs")[0].jobs[0].state == Job.STATE_PAUSED


def test_what_is_wrong_is_named_by_line_and_nothing_is_stored(fake: FakeCluster, run: Run) -> None:
    result = run("job", "import", "kubernetes", "-", input="kind: CronJob\nspec: 5\n")
    assert result.exit_code == 2
    assert "<stdin>:2:7: CronJob.spec must be a mapping" in result.stderr
    assert "nothing was changed" in result.stderr
    assert fake.received == []
    assert run("job", "import", "dkron", "/nowhere").exit_code == 2
    assert run("job", "import", "quartz", "-", "--tz", "Mars/Base", input="<a/>").exit_code == 2


def test_what_the_cluster_refuses_is_named_by_line(fake: FakeCluster, run: Run, files: dict[str, Path]) -> None:
    wrong = failure("INVALID_ARGUMENT", "INVALID_FIELD", "no", {"jobs[1].schedules[0].cron.expression": "is bad"})
    fake.failures["BatchCreateJobs"].append(wrong)
    fake.failures["ApplyJobs"].append(wrong)
    dry = run("job", "import", "quartz", str(files["quartz"]), "--tz", "UTC", "--dry-run")
    assert "quartz:13: report-t1.schedules[0].cron.expression: is bad" in dry.stderr
    result = run("job", "import", "quartz", str(files["quartz"]), "--tz", "UTC")
    assert result.exit_code == 2
    assert "quartz:13: report-t1.schedules[0].cron.expression: is bad" in result.stderr


def test_a_dry_run_needs_no_cluster(fake: FakeCluster, run: Run, files: dict[str, Path]) -> None:
    dry = run("job", "import", "quartz", str(files["quartz"]), "--tz", "UTC", "--dry-run", "--address", "127.0.0.1:1")
    assert dry.exit_code == 0
    assert "Not checked by a cluster: no node answers" in dry.stderr
    assert "would be created" in dry.stdout
