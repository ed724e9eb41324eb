"""What commands may do: users, privileges, limits and interpreters, as the worker's owner says; a job only asks for less.

As root everything is tried out. Anybody else has nothing to give up, and is told so where it cannot become another user.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gateway import FakeGateway, Result, Serve, Stream, assignment, definition

from horologe.client.executors.shell import ShellExecutor
from horologe.client.executors.shell_rules import ShellRules
from horologe.client.worker import Worker
from horologe.v1 import job_pb2

Shell = job_pb2.ShellAction
IS_ROOT = os.geteuid() == 0


async def run(gateway: FakeGateway, serve: Serve, action: Shell, **rules: Any) -> tuple[Result, Stream]:
    worker = Worker(gateway.address, insecure=True)
    worker.add_executor("shell", ShellExecutor(worker.lease, rules=ShellRules(**rules)))
    stream = await serve(worker)
    stream.assign(assignment(7, token=42), definitions=[definition(shell=action)])
    (result,) = await stream.until_results()
    return result, stream


def status_of(text: str) -> dict[str, str]:
    """The lines of /proc/self/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


STATUS = Shell(argv=["cat", "/proc/self/status"])
OWN_STATUS = status_of(Path("/proc/self/status").read_text())


async def test_no_privileges_and_no_way_to_them(gateway: FakeGateway, serve: Serve) -> None:
    _, stream = await run(gateway, serve, STATUS)
    status = status_of(stream.text())
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    if IS_ROOT:
        assert int(status["CapBnd"], 16) == 0


async def test_privileges_that_the_owner_allows(gateway: FakeGateway, serve: Serve) -> None:
    _, stream = await run(gateway, serve, STATUS, new_privileges=True, root_capabilities=True)
    status = status_of(stream.text())
    assert [status[name] for name in ("NoNewPrivs", "CapEff")] == [
        OWN_STATUS[name] for name in ("NoNewPrivs", "CapEff")
    ]


async def test_only_three_descriptors_are_open(gateway: FakeGateway, serve: Serve) -> None:
    script = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.getsid(0) == os.getpgid(0) == os.getpid())"
    _, stream = await run(gateway, serve, Shell(argv=[sys.executable, "-c", script]))
    assert stream.text() == "[0, 1, 2] True\n"


async def test_another_user_for_all_jobs(gateway: FakeGateway, serve: Serve, tmp_path: Path) -> None:
    """Who has no capability of root either, and cannot read what the worker keeps to itself."""
    if not IS_ROOT:
        with pytest.raises(ValueError, match="only a worker that is root can run jobs as 'nobody'"):
            ShellRules(run_as_user="nobody")
        return
    key = tmp_path / "key.pem"
    key.write_text("the worker's own")
    key.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    script = f"id -un; id -G; echo $HOME; touch mine && echo written; cat {key}; cat /proc/$PPID/environ; cat /proc/self/status"
    action = Shell(script=script)
    result, stream = await run(gateway, serve, action, run_as_user="nobody", root_capabilities=True)
    assert result.outcome == Result.OUTCOME_SUCCEEDED
    name, groups, home, written, *rest = stream.text().splitlines()
    status = status_of("\n".join(rest))
    assert (name, home, written) == ("nobody", "/nonexistent", "written")
    assert "0" not in groups.split()
    assert (status["CapEff"], status["CapPrm"]) == ("0" * 16, "0" * 16)
    assert stream.text(2).count("Permission denied") == 2 and "the worker's own" not in stream.text()


async def test_root_only_if_that_is_meant(gateway: FakeGateway, serve: Serve) -> None:
    with pytest.raises(ValueError, match=r"'root' is root; set shell\.allow_root if"):
        ShellRules(run_as_user="root")
    result, _ = await run(gateway, serve, Shell(argv=["id"], user="root"), users=["root"])
    reason = "it is root (shell.allow_root)" if IS_ROOT else "the worker is not root"
    assert (result.permanent, result.error) == (True, f"cannot run as 'root' here: {reason}")
    if IS_ROOT:
        assert ShellRules(run_as_user="root", allow_root=True).account_for("") is not None


def test_users_and_limits_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="this machine knows no user 'no-such-user'"):
        ShellRules(run_as_user="no-such-user")
    with pytest.raises(ValueError, match="'memory' is no limit of a process; use as, core"):
        ShellRules(rlimits={"memory": 1})


@pytest.mark.parametrize(
    ("name", "line", "value"),
    [
        ("cpu", "Max cpu time", 1000),
        ("as", "Max address space", 1 << 40),
        ("fsize", "Max file size", 1 << 30),
        ("nofile", "Max open files", 100),
        ("nproc", "Max processes", 5000),
    ],
)
@pytest.mark.parametrize(("wanted", "expected"), [(None, 0), (-10, -10), (0, 0), (10, 0)])
async def test_a_job_can_only_ask_for_less(
    gateway: FakeGateway, serve: Serve, name: str, line: str, value: int, wanted: int | None, expected: int
) -> None:
    rlimits = {} if wanted is None else {name: value + wanted}
    _, stream = await run(
        gateway, serve, Shell(argv=["cat", "/proc/self/limits"], rlimits=rlimits), rlimits={name: value}
    )
    (found,) = [text for text in stream.text().splitlines() if text.startswith(line)]
    assert found[len(line) :].split()[:2] == [str(value + expected)] * 2


async def test_no_job_gets_a_core_dump(gateway: FakeGateway, serve: Serve) -> None:
    _, stream = await run(gateway, serve, Shell(argv=["sh", "-c", "ulimit -c"], rlimits={"core": 1 << 20}))
    assert stream.text() == "0\n"


async def test_limits_stop_a_job_that_breaks_them(gateway: FakeGateway, serve: Serve) -> None:
    script = "head -c 100000 /dev/zero > large; wc -c < large"
    _, stream = await run(gateway, serve, Shell(script=script), rlimits={"fsize": 1000})
    assert stream.text() == "1000\n"


@pytest.mark.parametrize(
    ("interpreter", "allowed", "may"),
    [
        ([], ["sh"], True),
        (["sh", "-e"], ["sh"], True),
        (["/bin/sh"], ["sh"], True),
        (["/bin/sh"], ["/bin/sh"], True),
        (["/usr/bin/sh"], ["/bin/sh"], False),
        (["bash"], ["sh"], False),
        ([], ["python3"], False),
        (["sh"], [], False),
    ],
)
async def test_interpreters(
    gateway: FakeGateway, serve: Serve, interpreter: list[str], allowed: list[str], may: bool
) -> None:
    action = Shell(script="echo done", interpreter=interpreter)
    result, stream = await run(gateway, serve, action, interpreters=allowed)
    assert (result.outcome == Result.OUTCOME_SUCCEEDED, stream.text()) == ((True, "done\n") if may else (False, ""))
    if not may:
        assert "this worker reads no scripts with" in result.error
