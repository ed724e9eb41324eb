"""`horologe plan` and `apply`, and the history of a job, against a fake node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fake_cluster import FakeCluster
from typer.testing import Result

from horologe.client import jobfile, jobs, portable
from horologe.v1.queue_service_pb2 import Queue

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them further down, and things that are no job files."""
    root = tmp_path / "defs"
    (root / "deep" / "down").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config.yaml").write_text("nonsense")
    (root / "README.md").write_text("nonsense")
    (root / "a.yaml").write_text("name: alpha\nschedule: {interval: 5m}\naction: {shell: {script: one}}\n")
    (root / "deep" / "down" / "b.json").write_text(
        '{"jobs": [{"name": "beta", "schedule": {"manual": true}, "action": {"shell": {"argv": ["x"]}}}]}'
    )
    return root


def test_an_export_goes_to_standard_output_also_by_its_usual_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        portable, "export", lambda _: [portable.Definition(portable.KINDS["queue"], Queue(name="queues/q"))]
    )
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    shown = run("cluster", "export").stdout
    assert "queues/q" in shown
    assert run("cluster", "export", "-").stdout == shown
    assert sorted(tmp_path.iterdir()) == before
    assert run("cluster", "export", "saved.jsonl").stdout == ""
    assert (tmp_path / "saved.jsonl").read_text() == shown


def test_an_import_that_cannot_be_read_says_so_as_other_commands_do(
    fake: FakeCluster, run: Run, tmp_path: Path
) -> None:
    result = run("cluster", "import", "nope.jsonl")
    assert (result.exit_code, result.stderr) == (2, "Error: nope.jsonl cannot be read: No such file or directory\n")
    (tmp_path / "latin").write_bytes(b"\xe4")
    assert "is not UTF-8 text (byte 0)" in run("cluster", "import", str(tmp_path / "latin")).stderr
    assert fake.received == []


def test_a_plan_shows_every_change_and_changes_nothing(fake: FakeCluster, run: Run, folder: Path) -> None:
    fake.add_job("alpha", apply_set="shop")
    fake.add_job("old", apply_set="shop")
    result = run("plan", "-f", str(folder), "--prune", "--set", "shop")
    assert result.exit_code == 0, result.output
    assert (
        result.stdout
        == """\
~ alpha  updated
    - schedule.interval: 1m
    + schedule.interval: 5m
    - action.shell.argv: ["echo", "alpha"]
    + action.shell.script: one
+ beta  created
    + schedule: {"manual": true}
    + action: {"shell": {"argv": ["x"]}}
    + apply_set: shop
- old  deleted
1 created, 1 updated, 0 unchanged, 1 deleted
"""
    )
    assert fake.requests("ApplyPlan") == []


def test_apply_does_what_was_shown(fake: FakeCluster, run: Run, folder: Path) -> None:
    fake.add_job("alpha", apply_set="shop")
    fake.add_job("old", apply_set="shop")
    result = run("apply", "-f", str(folder), "--prune", "--set", "shop", "--yes", "--request-id", "r")
    assert result.exit_code == 0, result.output
    assert "1 created, 1 updated, 0 unchanged, 1 deleted\nDone.\n" in result.stdout
    request = fake.requests("ApplyPlan")[0]
    assert request.request_id == "r"
    assert [(job.name.rpartition("/")[2], job.etag) for job in request.jobs] == [("alpha", "etag-1"), ("beta", "")]
    assert [(each.name.rpartition("/")[2], each.etag) for each in request.deletions] == [("old", "etag-2")]
    assert sorted(fake.jobs) == ["namespaces/default/jobs/alpha", "namespaces/default/jobs/beta"]
    again = run("apply", "-f", str(folder), "--prune", "--set", "shop", "-o", "json")
    assert [entry["outcome"] for entry in json.loads(again.stdout)] == ["unchanged", "unchanged"]
    assert len(fake.requests("ApplyPlan")) == 1, "nothing to do is not done"
    metadata = next(found for name, _, found in fake.received if name == "ApplyPlan")
    assert "@" in metadata["horologe-author"]


def test_nobody_to_ask(fake: FakeCluster, run: Run, folder: Path) -> None:
    result = run("apply", "-f", str(folder))
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert fake.jobs == {}


def test_a_plan_that_is_out_of_date_is_refused_as_a_whole(fake: FakeCluster, run: Run, folder: Path) -> None:
    from fake_cluster import failure

    fake.failures["ApplyPlan"].append(failure("ABORTED", "ETAG_MISMATCH", "alpha was changed"))
    result = run("apply", "-f", str(folder), "--yes")
    assert result.exit_code == 4
    assert "alpha was changed" in result.stderr
    assert "Done" not in result.stdout


def test_what_the_cluster_refuses_is_named_by_file_and_line(fake: FakeCluster, run: Run, folder: Path) -> None:
    from fake_cluster import failure

    wrong = failure("INVALID_ARGUMENT", "INVALID_FIELD", "no", {"jobs[1].action.shell": "is empty"})
    fake.failures["PlanJobs"].append(wrong)
    result = run("plan", "-f", str(folder))
    assert result.exit_code == 2
    assert "down/b.json:1:78: beta.action.shell: is empty" in result.stderr


@pytest.mark.parametrize("arguments", [["--prune"], ["--prune", "--set", ""]])
def test_prune_needs_a_set(fake: FakeCluster, run: Run, folder: Path, arguments: list[str]) -> None:
    result = run("plan", "-f", str(folder), *arguments)
    assert result.exit_code == 2
    assert "--set NAME" in result.stderr


def test_a_set_in_the_files_is_one_set(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    text = "- {name: a, apply_set: one, schedule: {manual: true}, action: {shell: {argv: [x]}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert run("plan", "-f", str(tmp_path / "a.yaml"), "--prune").exit_code == 0
    assert fake.requests("PlanJobs")[0].prune_set == "one"
    result = run("plan", "-f", str(tmp_path / "a.yaml"), "--set", "two")
    assert result.exit_code == 2
    assert "a.yaml:1: says apply_set 'one', and --set says 'two'" in result.stderr


# History


def with_history(fake: FakeCluster) -> None:
    fake.add_job("alpha")
    fake.add_job("alpha", description="second")
    fake.add_job("alpha", description="third", queue="q")
    fake.add_job("other")


def test_history(fake: FakeCluster, run: Run) -> None:
    with_history(fake)
    lines = run("job", "history", "alpha").stdout.splitlines()
    assert lines[0].split() == ["REVISION", "WRITTEN", "BY", "CHANGED"]
    assert lines[1].split() == ["3", "2027-01-01T00:00:00.000Z", "ada@home", "description,", "queue"]
    assert lines[2].split()[3:] == ["description"]
    assert lines[3].split()[3:] == ["created"]


def test_diff(fake: FakeCluster, run: Run) -> None:
    with_history(fake)
    assert (
        run("job", "diff", "alpha").stdout
        == """\
from revision 2 to 3
- description: second
+ description: third
+ queue: q
"""
    )
    assert run("job", "diff", "alpha", "--to", "2").stdout == "from revision 1 to 2\n+ description: second\n"
    data = json.loads(run("job", "diff", "alpha", "--from", "3", "--to", "1", "-o", "json").stdout)
    assert data == [
        {"field": "queue", "before": "q", "after": None},
        {"field": "description", "before": "third", "after": None},
    ]
    assert run("job", "diff", "alpha", "--from", "9").exit_code == 3
    assert run("job", "diff", "nobody").exit_code == 3


def test_an_empty_folder_does_not_delete_a_whole_set(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    fake.add_job("old", apply_set="shop")
    (tmp_path / "empty").mkdir()
    for command in (["plan"], ["apply", "--yes"]):
        refused = run(*command, "-f", str(tmp_path / "empty"), "--prune", "--set", "shop")
        assert refused.exit_code == 2
        assert "--prune would delete every job of the set" in refused.stderr
        assert "`horologe job delete` deletes the last jobs of a set" in refused.stderr
    assert len(fake.jobs) == 1
    assert "--prune" not in run("plan", "-f", str(tmp_path / "empty")).stderr


def test_revert(fake: FakeCluster, run: Run) -> None:
    with_history(fake)
    # Without a terminal nobody is asked.
    result = run("job", "revert", "alpha")
    assert result.exit_code == 0, result.output
    assert "- description: third\n+ description: second\n" in result.stdout
    request = fake.requests("UpdateJob")[0]
    assert (request.job.description, request.job.queue, request.job.etag) == ("second", "", "etag-3")
    assert list(request.update_mask.paths) == ["*"]
    assert run("job", "revert", "alpha", "--to", "1", "--yes", "-o", "json").exit_code == 0
    assert fake.jobs["namespaces/default/jobs/alpha"].description == ""
    assert "nothing to do" in run("job", "revert", "alpha", "--to", "1", "--yes").stderr
    assert run("job", "revert", "other", "--yes").exit_code == 4


def test_export(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    with_history(fake)
    exported = run("job", "export")
    assert [entry.job.name.rpartition("/")[2] for entry in jobfile.loads(exported.stdout)] == ["alpha", "other"]
    assert "uid" not in exported.stdout
    assert list(yaml.safe_load(exported.stdout)) == ["jobs"]
    assert [entry["name"] for entry in json.loads(run("job", "export", "other", "-o", "json").stdout)["jobs"]] == [
        "other"
    ]
    target = tmp_path / "out"
    assert run("job", "export", "--dir", str(target)).exit_code == 0
    found = jobfile.load(target / "default" / "alpha.yaml")[0].job
    assert found == jobs.job(
        "namespaces/default/jobs/alpha", jobs.every("1m"), jobs.shell(["echo", "alpha"]), queue="q", description="third"
    )
    refused = run("job", "export", "--dir", str(target))
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert run("job", "export", "--dir", str(target), "--force").exit_code == 0
    plan = run("plan", "-f", str(target))
    assert plan.stdout == "0 created, 0 updated, 2 unchanged, 0 deleted\n"
