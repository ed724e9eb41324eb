"""`horologe cluster backup --schedule`: the job that it makes, and what could only go wrong in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_cluster import FakeCluster
from typer.testing import Result

Run = Callable[..., Result]
SCHEDULED = ("cluster", "backup", "--schedule", "0 3 * * *")


def test_the_job_runs_the_same_command_with_what_it_is_given(fake: FakeCluster, run: Run) -> None:
    options = ["--keep", "14", "--key-file", "/etc/horologe/backup.key", "--node", "n2", "--queue", "backups"]
    env = [
        "--env",
        "HOROLOGE_CONTEXT=/etc/horologe/backup.toml",
        "--env",
        'HOROLOGE_TOKEN={{ secrets["backup-token"] }}',
    ]
    done = run(*SCHEDULED, "--to", "s3://ours/horologe/", *options, *env)
    assert done.exit_code == 0, done.output
    (job,) = fake.requests("ApplyJobs")[0].jobs
    assert (job.name, job.queue) == ("namespaces/default/jobs/cluster-backup", "backups")
    assert job.schedules[0].cron.expression == "0 3 * * *"
    told = "horologe cluster backup --to s3://ours/horologe/ --key-file /etc/horologe/backup.key --keep 14 --node n2"
    assert " ".join(job.action.shell.argv) == told
    assert job.action.shell.env["HOROLOGE_TOKEN"] == '{{ secrets["backup-token"] }}'
    assert done.stdout == f"namespaces/default/jobs/cluster-backup created: {told}\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--to", "backups/"], "--to backups: a job works in a folder of its own, which is deleted after it"),
        (["--to", "/backups", "--key-file", "backup.key"], "--key-file backup.key: a job works in a folder of its own"),
        (["--to", "/backups", "--passphrase-file", "p"], "--passphrase-file p: a job works in a folder of its own"),
        (["--to", "/backups/monday.backup"], "--schedule makes many backups: give a folder in --to"),
        (["--to", "/backups", "--env", "TOKEN"], "--env TOKEN: give NAME=VALUE"),
    ],
)
def test_what_a_job_could_not_do_well_is_refused(
    fake: FakeCluster, run: Run, options: list[str], complaint: str
) -> None:
    done = run(*SCHEDULED, *options)
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert fake.received == []


def test_what_only_a_job_has_is_refused_without_one(fake: FakeCluster, run: Run) -> None:
    done = run("cluster", "backup", "--to", "/backups", "--env", "A=b")
    assert done.exit_code == 2
    assert "--env is for the job that --schedule makes" in done.stderr
