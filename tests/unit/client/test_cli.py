"""The command line against a fake node: what it sends, what it prints, how it fails."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fake_cluster import DUE, FakeCluster, failure
from typer.testing import CliRunner, Result

from horologe.client.cli import main, membership
from horologe.client.cli.failures import printable, printable_json
from horologe.v1.cluster_service_pb2 import Member
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.execution_service_pb2 import LedgerRow, WatchExecutionsResponse
from horologe.v1.job_pb2 import Job
from horologe.v1.output_service_pb2 import (
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    OutputLine,
    OutputMatch,
    SearchOutputResponse,
)
from horologe.v1.worker_pb2 import Worker

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (failure("INVALID_ARGUMENT", "INVALID_FIELD", "bad", {"job.queue": "too long"}), 2, "job.queue: too long"),
        (failure("NOT_FOUND", "JOB_NOT_FOUND", "gone"), 3, "`horologe job list`"),
        (failure("ALREADY_EXISTS", "JOB_EXISTS", "taken"), 4, "`horologe job apply -f NAME.yaml`"),
        (failure("ABORTED", "ETAG_MISMATCH", "changed"), 4, "read it again"),
        (failure("FAILED_PRECONDITION", "OVERLAP", "running"), 4, "--force"),
        (failure("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "full", retry_after="1h"), 5, "try again in 3600 s"),
        (failure("UNAVAILABLE", "OUTCOME_UNKNOWN", "cut", retry_after="1h"), 5, "--request-id r"),
        (failure("INTERNAL", "INTERNAL", "\x1b[2Jbroken"), 1, "a defect of the cluster"),
    ],
)
def test_failures_are_one_line_a_hint_and_an_exit_code(
    fake: FakeCluster, run: Run, status: Any, code: int, hint: str
) -> None:
    fake.failures["RunJob"].append(status)
    result = run("job", "run", "hello", "--request-id", "r")
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert hint in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stdout == ""


def test_reading_jobs(fake: FakeCluster, run: Run) -> None:
    fake.add_job("alpha", labels={"team": "data"})
    fake.add_job("beta", state=Job.STATE_PAUSED)
    table = run("job", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "SCHEDULE", "ACTION", "STATE", "NEXT", "DUE"]
    assert table[1].split() == [
        "alpha", "every", "1m", "shell:", "echo", "alpha", "active", "2027-01-01T00:00:00.000Z"
    ]  # fmt: skip
    assert "LABELS" in run("job", "list", "-o", "wide").stdout
    listed = json.loads(run("job", "list", "-o", "json", "--limit", "1").stdout)
    assert [(job["name"], job["state"], job["labels"]) for job in listed] == [("alpha", "active", {"team": "data"})]
    assert run("job", "list", "--prefix", "z").stderr == "No jobs.\n"
    assert json.loads(run("job", "list", "--prefix", "z", "-o", "json").stdout) == []
    run("job", "list", "-A", "--state", "paused", "--label", "team=data")
    request = fake.requests("ListJobs")[-1]
    assert (request.parent, request.state, request.labels) == ("namespaces/-", Job.STATE_PAUSED, {"team": "data"})
    assert yaml.safe_load(run("job", "get", "alpha", "-o", "yaml").stdout)["action"]["shell"]["argv"] == [
        "echo",
        "alpha",
    ]
    described = run("job", "describe", "alpha").stdout
    assert "Retry:" in described
    assert "3 attempts, exponential backoff from 5s to 1h, factor 2, jitter full" in described
    assert json.loads(run("job", "describe", "beta", "-o", "json").stdout)["next_due_times"] == []
    assert run("job", "next", "alpha", "--count", "1").stdout.splitlines()[0].split() == ["DUE", "TIME", "LOCAL"]
    [due] = json.loads(run("job", "next", "alpha", "--from", "2026-01-01T00:00:00Z", "-o", "json").stdout)
    assert due.keys() == {"due_time", "local_time"}
    assert run("job", "next", "alpha", "--from", "noon").exit_code == 2


def test_changing_jobs(fake: FakeCluster, run: Run) -> None:
    fake.add_job("alpha")
    assert "paused" in run("job", "pause", "alpha", "--reason", "repair").stdout
    assert run("job", "pause", "alpha").exit_code == 4
    assert "active" in run("job", "resume", "alpha").stdout
    deleted = run("job", "delete", "alpha", "--cancel-running")
    assert deleted.stdout == "deleted namespaces/default/jobs/alpha\n"
    assert fake.requests("DeleteJob")[0].cancel_running
    assert run("job", "delete", "alpha").exit_code == 3


def test_deleting_asks_a_person(fake: FakeCluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.cli.session.Session.is_interactive", lambda session: True)
    fake.add_job("alpha")
    refused = run("job", "delete", "alpha", input="n\n")
    assert refused.exit_code == 1
    assert "Nothing was deleted" in refused.stderr
    assert len(fake.jobs) == 1
    assert run("job", "delete", "alpha", "--yes").exit_code == 0


@pytest.mark.parametrize(("outcome", "code"), [(Execution.STATE_COMPLETED, 0), (Execution.STATE_DEAD, 1)])
def test_running_and_waiting(fake: FakeCluster, run: Run, outcome: Any, code: int) -> None:
    fake.add_job("alpha")
    fake.outcome = outcome
    fake.output = [(OUTPUT_STREAM_STDOUT, b"out\n"), (OUTPUT_STREAM_STDERR, b"err\n")]
    result = run("job", "run", "alpha", "--wait", "--payload", "[1]")
    assert result.exit_code == code
    assert result.stdout == "out\n"
    assert result.stderr.startswith("err\nexecution 1: ")
    fake.ends_by_itself = True
    waited = run("job", "run", "alpha", "--wait", "-o", "json")
    assert waited.exit_code == code
    assert json.loads(waited.stdout)["id"] == 2
    assert json.loads(run("job", "run", "alpha", "-o", "json").stdout)["trigger"] == "manual"


def test_what_no_worker_takes_is_warned_of(fake: FakeCluster, run: Run) -> None:
    fake.add_job("alpha", queue="reports")
    assert run("job", "run", "alpha").stderr == ""
    assert not fake.requests("ListWorkers")
    fake.has_free_slot = False
    fake.workers = [
        Worker(name="workers/w1", state=Worker.STATE_READY, queues=["default"]),
        Worker(name="workers/w2", state=Worker.STATE_DRAINING, queues=["reports"]),
    ]
    alone = run("job", "run", "alpha")
    assert alone.stderr == "No connected worker takes from queue reports: it waits until one does.\n"
    assert alone.exit_code == 0
    assert run("job", "run", "alpha", "-o", "json").stderr == ""
    fake.failures["ListWorkers"].append(failure("PERMISSION_DENIED", "PERMISSION_DENIED"))
    untold = run("job", "run", "alpha")
    assert (untold.exit_code, untold.stderr) == (0, "")
    fake.workers[1].state = Worker.STATE_READY
    assert run("job", "run", "alpha").stderr == ""


def test_executions(fake: FakeCluster, run: Run) -> None:
    fake.add_job("alpha")
    execution = fake.add_execution("alpha", Execution.STATE_RUNNING)
    execution.start_time.CopyFrom(DUE)
    execution.start_time.nanos = 12_000_000
    execution.attempts.add(number=1, state=Attempt.STATE_RUNNING, worker="w1", fencing_token=7, exit_code=0)
    fake.add_execution("alpha", Execution.STATE_QUEUED, reason="waits")
    listed = json.loads(run("execution", "list", "-o", "json").stdout)
    assert [record["id"] for record in listed] == [2, 1]
    assert listed[1] | {"attempts": len(listed[1]["attempts"])} == {
        "name": "namespaces/default/jobs/alpha/executions/1",
        "id": 1,
        "job": "alpha",
        "namespace": "default",
        "state": "running",
        "trigger": "schedule",
        "root": None,
        "due_time": "2027-01-01T00:00:00.000Z",
        "create_time": None,
        "start_time": "2027-01-01T00:00:00.012Z",
        "end_time": None,
        "start_delay_ms": 12,
        "next_attempt_time": None,
        "queue": "",
        "priority": 0,
        "waits_for": "",
        "cancel_requested": False,
        "reason": "",
        "idempotency_key": "",
        "result": None,
        "attempts": 1,
    }
    attempt = listed[1]["attempts"][0]
    assert (attempt["state"], attempt["exit_code"], attempt["http_status"]) == ("running", 0, None)
    assert [line.split()[0] for line in run("execution", "list", "alpha").stdout.splitlines()] == ["ID", "2", "1"]
    assert run("execution", "list", "--state", "queued", "--limit", "1").stdout.splitlines()[1].startswith("2")
    assert "12ms" in run("execution", "get", "1").stdout
    assert run("execution", "get", "1", "-o", "yaml").exit_code == 0
    fake.executions[1].attempts[0].MergeFrom(Attempt(output_bytes=7, output_copies=2, output_truncated=True))
    assert "7 bytes in 2 copies, cut" in run("execution", "get", "1", "-o", "wide").stdout
    assert run("execution", "get", "99").exit_code == 3
    assert run("execution", "get", "x").exit_code == 2
    assert "cancelled" in run("execution", "cancel", "1", "--reason", "enough", "--wait").stdout
    assert run("execution", "cancel", "1").exit_code == 4


def test_logs_of_a_job(fake: FakeCluster, run: Run) -> None:
    line = OutputLine(stream=OUTPUT_STREAM_STDERR, text="disk \x1b[31m full")
    name = "namespaces/default/jobs/alpha/executions/12"
    found = OutputMatch(execution=name, attempt=2, lines=[line], omitted_line_count=7)
    fake.found = [
        SearchOutputResponse(matches=[found], execution_count=60, next_page_token="1"),
        SearchOutputResponse(execution_count=40, unreachable_nodes=["n3"], next_page_token="2"),
    ]
    result = run("job", "logs", "alpha", "--grep", "full", "-i")
    assert result.stdout.startswith("12.2  disk ")
    assert "\x1b" not in result.stdout
    assert "7 lines before these" in result.stderr
    assert "could not be asked: n3; others have what they keep" in result.stderr
    first, second = fake.requests("SearchOutput")
    assert (first.parent, first.text, first.ignore_case) == ("namespaces/default/jobs/alpha", "full", True)
    assert (first.page_size, second.page_size, second.page_token) == (100, 40, "1")
    [record] = json.loads(run("job", "logs", "alpha", "--last", "60", "-o", "json").stdout)
    assert (record["id"], record["attempt"], record["lines"][0]["stream"]) == (12, 2, "stderr")
    fake.found = [SearchOutputResponse(execution_count=3)]
    nothing = run("job", "logs", "alpha", "--grep", "x")
    assert (nothing.exit_code, nothing.stderr) == (1, "No such lines.\n")
    nothing = run("job", "logs", "alpha")
    assert (nothing.exit_code, nothing.stderr) == (0, "No output.\n")
    fake.found = [SearchOutputResponse(matches=[found], unreachable_nodes=["n3"], unread_attempt_count=2)]
    result = run("job", "logs", "alpha", "--grep", "full")
    assert result.exit_code == 2
    assert "the output of 2 attempts is kept only there" in result.stderr


def test_logs_and_watch(fake: FakeCluster, run: Run) -> None:
    execution = fake.add_execution("alpha", Execution.STATE_RUNNING, reason="\x1b[31m")
    fake.output = [(OUTPUT_STREAM_STDOUT, b"\xff\n"), (OUTPUT_STREAM_STDERR, b"err\n")]
    result = run("execution", "logs", "1", "--attempt", "1", "-f")
    assert result.stdout_bytes == b"\xff\n"
    assert result.stderr_bytes == b"err\n"
    fake.changes = [WatchExecutionsResponse(executions=[execution, execution], dropped_count=3)]
    assert [json.loads(line)["id"] for line in run("execution", "watch", "-o", "json").stdout.splitlines()] == [1, 1]
    watched = run("execution", "watch", "-A")
    assert "alpha  1" in watched.stdout
    assert "\x1b" not in watched.stdout
    assert "3 changes were left out" in watched.stderr
    assert next(yaml.safe_load_all(run("execution", "watch", "-o", "yaml").stdout))["id"] == 1
    assert fake.requests("WatchExecutions")[1].parent == "namespaces/-/jobs/-"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(membership, "SAY_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_add_waits_until_the_new_member_votes_and_says_how_far_it_is(fake: FakeCluster, run: Run) -> None:
    fake.members = [Member(name="n1", role=Member.ROLE_LEADER, match_index=100, reachable=True)]

    def becomes(**fields: Any) -> Callable[[], None]:
        return lambda: fake.members[-1].MergeFrom(Member(**fields))

    fake.member_changes = [
        becomes(reachable=True),
        becomes(match_index=40),
        becomes(role=Member.ROLE_FOLLOWER),
    ]
    result = run("cluster", "add", "n4", "--peer-address", "h:7504", "-o", "json")
    assert json.loads(result.stdout)["role"] == "follower"
    said = result.stderr.splitlines()
    assert "not connected at h:7504: start it there, with `join = true`" in said[0]
    assert said[1:] == ["n4 is connected and gets the state", "n4 catches up: entry 40 of 100"]


@pytest.mark.usefixtures("quick")
def test_add_need_not_wait_and_does_not_wait_for_ever(fake: FakeCluster, run: Run) -> None:
    assert "learner" in run("cluster", "add", "n4", "--peer-address", "h:1", "--no-wait").stdout
    assert "learner" in run("cluster", "add", "n5", "--peer-address", "h:1", "--learner").stdout
    assert [member.promote for member in fake.members] == [True, False]
    late = run("cluster", "add", "n4", "--peer-address", "h:1", "--timeout", "5ms")
    assert late.exit_code == 5
    assert "run this again to wait" in late.stderr
    fake.member_changes = [lambda: None, fake.members.clear]
    gone = run("cluster", "add", "n4", "--peer-address", "h:1")
    assert gone.exit_code == 4
    assert "removed meanwhile" in gone.stderr


@pytest.mark.usefixtures("quick")
def test_replace_can_be_run_again(fake: FakeCluster, run: Run) -> None:
    fake.members = [Member(name="n1", role=Member.ROLE_LEADER), Member(name="n2", role=Member.ROLE_FOLLOWER)]
    command = ("cluster", "replace", "n2", "n3", "--peer-address", "h:1", "--timeout", "5ms")
    assert run(*command).exit_code == 5
    assert [member.name for member in fake.members] == ["n1", "n2", "n3"]
    fake.members[-1].role = Member.ROLE_FOLLOWER
    assert "n3 has replaced n2" in run(*command).stdout
    assert [member.name for member in fake.members] == ["n1", "n3"]
    again = json.loads(run(*command, "-o", "json").stdout)
    assert (again["added"]["name"], again["removed"]) == ("n3", "n2")
    assert len(fake.requests("RemoveMember")) == 1
    assert run("cluster", "replace", "n8", "n9", "--peer-address", "h:1").exit_code == 3
    assert run("cluster", "replace", "n3", "n3", "--peer-address", "h:1").exit_code == 2


def test_promote_remove_and_leave(fake: FakeCluster, run: Run) -> None:
    fake.members = [Member(name=f"n{index}", role=index, id="ab12", promote=True) for index in (1, 2, 3)]  # type: ignore[arg-type]
    assert json.loads(run("cluster", "promote", "n3", "-o", "json").stdout)["role"] == "follower"
    wide = run("cluster", "members", "-o", "wide").stdout
    assert "PROMOTE" in wide
    assert "ab12" in wide
    assert run("cluster", "remove", "n3", "--yes").stdout == "removed n3; its data folder can be deleted\n"
    assert run("cluster", "remove", "n3", "--yes").exit_code == 3
    several = run("cluster", "leave", "--address", f"{fake.address},127.0.0.1:1")
    assert several.exit_code == 2
    assert "say which node leaves" in several.stderr
    assert json.loads(run("cluster", "leave", "-o", "json").stdout) == {"name": "n1", "outcome": "removed"}
    assert "removed n2" in run("cluster", "leave", "--node", "n2").stdout
    assert run("cluster", "add", "n4", "--peer-address", "h:1", "--timeout", "soon").exit_code == 2


def test_the_ledger(fake: FakeCluster, run: Run) -> None:
    fake.ledger = [
        LedgerRow(due_time=DUE, last_due_time=DUE, count=3, outcome=LedgerRow.OUTCOME_MISSED, reason="down"),
        LedgerRow(due_time=DUE, last_due_time=DUE, count=1, outcome=LedgerRow.OUTCOME_RAN, execution="a/executions/1"),
    ]
    rows = json.loads(run("job", "ledger", "alpha", "-o", "json").stdout)
    assert [(row["count"], row["outcome"]) for row in rows] == [(3, "missed"), (1, "ran")]
    last = run("job", "ledger", "alpha", "--limit", "1").stdout.splitlines()
    assert (len(last), " ran " in last[1]) == (2, True)
    missed = json.loads(run("job", "ledger", "alpha", "--outcome", "missed", "-o", "json").stdout)
    assert [row["outcome"] for row in missed] == ["missed"]
    assert fake.requests("ListLedger")[-1].outcomes == [LedgerRow.OUTCOME_MISSED]


def test_workers_and_cluster(fake: FakeCluster, run: Run) -> None:
    fake.workers = [Worker(name="workers/w1", state=Worker.STATE_READY, slot_count=4, queues=["default"])]
    fake.members = [Member(name=f"n{index}", role=index, address="h:1") for index in (1, 2, 3)]  # type: ignore[arg-type]
    assert "0/4" in run("worker", "list").stdout
    assert json.loads(run("worker", "drain", "w1", "-o", "json").stdout)["state"] == "draining"
    assert run("worker", "drain", "w2").exit_code == 3
    members = json.loads(run("cluster", "members", "-o", "json").stdout)
    assert [(member["name"], member["role"]) for member in members] == [
        ("n1", "leader"), ("n2", "follower"), ("n3", "learner")
    ]  # fmt: skip
    assert members[0]["address"] == "h:1"
    assert json.loads(run("cluster", "status", "-o", "json").stdout)["leader"] == "n1"
    fake.members[0].reachable = fake.members[2].reachable = True
    status = run("cluster", "status").stdout
    assert "Leader:" in status
    assert [line.split() for line in status.splitlines() if "reachable" in line] == [
        ["Members:", "2", "of", "3", "reachable"]
    ]
    fake.failures["ListMembers"].append(failure("PERMISSION_DENIED", "PERMISSION_DENIED"))
    assert "Members:" not in run("cluster", "status").stdout
    assert run("cluster", "transfer-leader").stdout == "n2 leads in term 4\n"
    assert json.loads(run("cluster", "transfer-leader", "n3", "-o", "json").stdout) == {"leader": "n3", "term": 4}
    fake.has_quorum = False
    assert run("cluster", "status").exit_code == 1


JOBS = "jobs:\n- name: a\n  schedule: {interval: 5s}\n  action: {shell: {argv: [x]}}\n"
JOBS += "- name: b\n  schedule: {cron: '0 0 31 2 *'}\n  action: {shell: {argv: [x]}}\n"


def test_apply(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(JOBS)
    fake.add_job("a")
    applied = json.loads(run("job", "apply", "-f", str(file), "-o", "json").stdout)
    assert [(entry["name"], entry["outcome"]) for entry in applied] == [("a", "updated"), ("b", "created")]
    assert run("job", "apply", "-f", "-", "-n", "prod", input=JOBS).exit_code == 0
    assert "namespaces/prod/jobs/a" in fake.jobs
    assert run("job", "apply", "-f", str(tmp_path), "--dry-run").stderr == "Dry run: nothing was stored.\n"
    assert fake.requests("ApplyJobs")[-1].validate_only


def test_apply_names_the_line_that_the_cluster_refused(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(JOBS)
    field = "jobs[1].schedules[0].cron.expression"
    fake.failures["ApplyJobs"].append(failure("INVALID_ARGUMENT", "INVALID_FIELD", "bad", {field: "never comes"}))
    result = run("job", "apply", "-f", str(file))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{file}:6:20: b.schedules[0].cron.expression: never comes",
        "Error: 1 problem; nothing was changed",
    ]


def test_what_others_lack_is_named_by_line_and_keeps_its_exit_code(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(JOBS)
    missing = failure("NOT_FOUND", "LIMIT_NOT_FOUND", "limits/db does not exist", {"jobs[0].limits[0]": "names it"})
    fake.failures["ApplyJobs"].append(missing)
    result = run("job", "apply", "-f", str(file))
    assert result.exit_code == 3
    assert result.stderr.splitlines()[:2] == [f"{file}:2:3: a.limits[0]: names it", "Error: limits/db does not exist"]


def test_apply_reports_the_mistakes_of_all_files(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOBS)
    (tmp_path / "b.yaml").write_text("name: 5\n")
    (tmp_path / "c.json").write_text(json.dumps(yaml.safe_load(JOBS)))
    result = run("job", "apply", "-f", str(tmp_path), "-f", "absent")
    assert result.exit_code == 2
    assert f"{tmp_path}/b.yaml:1:7: name must be text" in result.stderr
    assert f"namespaces/default/jobs/a is also in {tmp_path}/a.yaml:2" in result.stderr
    assert "absent: cannot be read" in result.stderr
    assert fake.requests("ApplyJobs") == []
    (tmp_path / "empty").mkdir()
    assert "holds no .yaml" in run("job", "apply", "-f", str(tmp_path / "empty")).stderr
    assert "not UTF-8" in run("job", "apply", "-f", "-", input=b"\xff").stderr


CRONTAB = "MAILTO=me\nCRON_TZ=Asia/Tokyo\n@daily /opt/backup.sh\n*/5 * * * * cat%hi\n"


def test_import_crontab(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text(CRONTAB)
    dry = run("job", "import", "crontab", str(file), "--dry-run")
    assert dry.exit_code == 0
    assert "would be created" in dry.stdout
    assert fake.jobs == {} and fake.requests("ApplyJobs")[0].validate_only
    result = run("job", "import", "crontab", str(file))
    assert result.stderr.startswith(f"{file}:1: MAILTO is not carried over")
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        ["3", "backup", "@daily"], ["4", "cat", "*/5"]
    ]  # fmt: skip
    assert len(fake.requests("BatchCreateJobs")) == 1
    again = run("job", "import", "crontab", str(file))
    assert again.exit_code == 4
    assert "Nothing was imported" in again.stderr
    assert run("job", "import", "crontab", str(file), "--dry-run").stdout.count("is there already") == 2
    assert run("job", "import", "crontab", str(file), "--dry-run", "--update").stdout.count("would be updated") == 2
    updated = json.loads(run("job", "import", "crontab", "-", "--update", "-o", "json", input=CRONTAB).stdout)
    assert [(entry["line"], entry["outcome"]) for entry in updated] == [(3, "updated"), (4, "updated")]


def test_nothing_is_half_imported(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text("@daily good\n@reboot bad\n61 * * * * worse\n")
    result = run("job", "import", "crontab", str(file))
    assert result.exit_code == 2
    assert [line.split(": ")[0] for line in result.stderr.splitlines()[:2]] == [f"{file}:2", f"{file}:3"]
    assert fake.received == []
    file.write_text("@daily good\n0 0 31 2 * never\n")
    refused = failure(
        "INVALID_ARGUMENT", "INVALID_FIELD", "bad", {"jobs[1].schedules[0].cron.expression": "never comes"}
    )
    fake.failures["BatchCreateJobs"].append(refused)
    assert (
        f"{file}:2: never.schedules[0].cron.expression: never comes"
        in run("job", "import", "crontab", str(file)).stderr
    )
    assert run("job", "import", "crontab", str(file), "--tz", "Mars").exit_code == 2


def test_options_stand_before_or_behind_the_command(fake: FakeCluster, run: Run) -> None:
    fake.add_job("namespaces/prod/jobs/alpha")
    assert "alpha" in run("--address", f"127.0.0.1:1,{fake.address}", "-n", "prod", "job", "list").stdout
    assert "alpha" in run("job", "list", "--address", fake.address, "-n", "prod").stdout
    assert json.loads(run("-o", "json", "job", "list").stdout) == []
    assert run("job", "create", "x", "--manual", "--shell", "\udcff").exit_code == 2
    assert run("--context", "absent", "job", "list").exit_code == 2
    assert run("--call-timeout", "soon", "job", "list").exit_code == 2
    assert run("--linearizable", "job", "list").exit_code == 0
    assert fake.received[-1][2]["horologe-read"] == "linearizable"


def test_nobody_there(fake: FakeCluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.cli.session.UNREACHABLE_SECONDS", 0.1)
    fake.stop()
    result = run("job", "list")
    assert result.exit_code == 5
    assert result.stderr.splitlines()[0] == f"Error: no node answers at {fake.address}: Connection refused"
    assert "`horologe dev`" in result.stderr


def test_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("horologe.client.cli.session.Session.print_list", interrupt)
    assert run("job", "list").exit_code == 130


def test_tables_on_a_terminal(fake: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from horologe.client.cli.output import Column, _print_rich

    _print_rich([Column("NAME", "name")], [["[bold]a"], ["completed"]])
    assert "[bold]a" in capsys.readouterr().out


def test_a_plug_in_that_fails_is_named_and_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = value = "broken"

        def load(self) -> Callable[[typer.Typer], None]:
            raise ImportError("no such thing")

    class Good(Point):
        name = value = "good"

        def load(self) -> Callable[[typer.Typer], None]:
            return lambda app: app.command("extra")(lambda: typer.echo("it runs"))  # type: ignore[return-value]

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point(), Good()])
    runner = CliRunner()
    app = main.build()
    assert runner.invoke(app, ["extra"]).stdout == "it runs\n"
    assert runner.invoke(app, ["--version"]).stdout.startswith("horologe ")


def test_the_start_loads_nothing_heavy() -> None:
    code = "import importlib.metadata as m; m.entry_points = lambda group: []\n"
    code += "import sys, horologe.client.cli.main\n"
    code += (
        "print([name for name in ('grpc', 'yaml', 'httpx', 'sqlalchemy', 'google.protobuf') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_no_text_steers_the_terminal_or_turns_the_line_around() -> None:
    text = "a\x1b[2J\x9b31m\u202egnp\u2066\nb"
    assert printable(text) == "a [2J 31m gnp  b"
    written = printable_json(json.dumps(text, ensure_ascii=False))
    assert written.isprintable() and json.loads(written) == text
