"""Commands in namespaces of their own, where bubblewrap works; what a worker says and does where it does not.

`make chaos-tools` installs bubblewrap as root on Debian. Elsewhere the tests of the first kind find out that a worker which must
have it refuses to start.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from fake_gateway import FakeGateway, Result, Serve, Stream, assignment, attempt_id, definition
from structlog.testing import capture_logs
from support.certificates import TestAuthority

from horologe.client.cli.worker_run import build_worker
from horologe.client.errors import InvalidArgument
from horologe.client.executors import bubblewrap
from horologe.client.executors.processes import NO_PRIVILEGES
from horologe.client.executors.shell import ShellExecutor
from horologe.v1 import job_pb2, worker_pb2

Shell = job_pb2.ShellAction
PROGRAM = bubblewrap.find()
WORKS = PROGRAM is not None and not bubblewrap.probe(PROGRAM, NO_PRIVILEGES)


def configuration(folder: Path, *lines: str) -> Path:
    path = folder / "worker.toml"
    path.write_text("\n".join(["[shell]", *lines, ""]))
    return path


async def serve_it(gateway: FakeGateway, serve: Serve, folder: Path, *lines: str) -> Stream | None:
    """A worker that must have bubblewrap, or None where it does not work: then it does not start."""
    path = configuration(folder, 'sandbox = "bubblewrap"', *lines)
    if not WORKS:
        with pytest.raises(InvalidArgument, match=r"shell\.sandbox is bubblewrap, which does not work here"):
            build_worker(path, [gateway.address], insecure=True)
        return None
    return await serve(build_worker(path, [gateway.address], insecure=True))


async def run(stream: Stream, action: Shell, **limits: Any) -> Result:
    stream.assign(assignment(7, token=42), definitions=[definition(shell=action, **limits)])
    (result,) = await stream.until_results()
    return result


USERS = ["", *(["nobody"] if os.geteuid() == 0 else [])]


@pytest.mark.parametrize("user", USERS)
async def test_what_a_command_sees(gateway: FakeGateway, serve: Serve, tmp_path: Path, user: str) -> None:
    """Its own processes, an empty /tmp, a folder to work in, the system as it is, and nothing of the worker's own."""
    stream = await serve_it(gateway, serve, tmp_path, f'run_as_user = "{user}"')
    if stream is None:
        return
    here = tmp_path / "worker.toml"
    script = f"""
    ls /proc | grep -c '^[0-9]'
    test -d /proc/{os.getpid()} || echo 'no worker'
    touch "$PWD/mine" && echo written
    ls /tmp /var/tmp | grep -vxe "${{PWD#/tmp/}}" -e /tmp: -e /var/tmp: -e '' -e 'pytest-of-.*'
    touch /usr/x /etc/x /bin/x || true
    cat {here} 2>/dev/null
    grep -e NoNewPrivs -e CapPrm -e CapEff /proc/self/status
    echo done; exit 3
    """
    result = await run(stream, Shell(script=script, success_codes=[3]))
    assert (result.outcome, result.exit_code) == (Result.OUTCOME_SUCCEEDED, 3)
    count, *rest = stream.text().splitlines()
    assert int(count) < 8
    privileges = ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert rest == ["no worker", "written", *privileges, "done"]
    assert stream.text(2).count("Read-only file system") == 3


async def test_the_network_and_other_folders_are_those_of_the_machine(
    gateway: FakeGateway, serve: Serve, tmp_path: Path
) -> None:
    """The folder that a job names is there, also below /tmp."""
    stream = await serve_it(gateway, serve, tmp_path)
    if stream is None:
        return
    folder = tmp_path / "work"
    folder.mkdir()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port})); open('left', 'w').write('here')"
        result = await run(stream, Shell(script=script, interpreter=["python3"], cwd=str(folder)))
    assert (result.outcome, (folder / "left").read_text()) == (Result.OUTCOME_SUCCEEDED, "here")


async def test_files_that_are_hidden(gateway: FakeGateway, serve: Serve, tmp_path: Path) -> None:
    for name in ("keys", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "keys" / "key.pem").write_text("private")
    (tmp_path / "folder" / "token").write_text("private")
    hidden = f'hidden = ["{tmp_path}/keys", "{tmp_path}/folder/token"]'
    stream = await serve_it(gateway, serve, tmp_path, hidden)
    if stream is None:
        return
    # Its folder makes the file visible in the first place.
    await run(stream, Shell(script=f"ls {tmp_path}/keys; cat token; ls", cwd=str(tmp_path / "folder")))
    assert stream.text() == "token\n"


def test_a_worker_hides_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration, the context and the certificate; wherever the user keeps contexts, too."""
    own = TestAuthority().write(tmp_path / "own")
    (tmp_path / "context.toml").write_text('addresses = ["127.0.0.1:1"]\n')
    monkeypatch.setenv("HOROLOGE_CONTEXT", str(tmp_path / "context.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    worker = build_worker(configuration(tmp_path), ["127.0.0.1:1"], tls_dir=own)
    shell = worker._executors["shell"]
    assert isinstance(shell, ShellExecutor)
    assert (shell._rules.bubblewrap is not None) == WORKS
    if shell._rules.bubblewrap is not None:
        names = {str(path.relative_to(tmp_path)) for path in shell._rules.bubblewrap.hidden}
        assert names == {"worker.toml", "context.toml", "own", "home/horologe"}


async def test_a_command_may_clean_up_when_it_is_cancelled(gateway: FakeGateway, serve: Serve, tmp_path: Path) -> None:
    stream = await serve_it(gateway, serve, tmp_path)
    if stream is None:
        return
    script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    work = assignment()
    stream.assign(work, definitions=[definition(shell=Shell(script=script), grace_seconds=60)])
    await stream.until_output("ready")
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(work)]))
    (result,) = await stream.until_results()
    assert (result.outcome, result.exit_code) == (Result.OUTCOME_CANCELLED, 5)
    assert stream.text() == "ready\ncleaned\n"


def alive(mark: str) -> bool:
    """Whether a process has this word in its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text().split("\0"):
                return True
        except OSError:
            continue
    return False


async def test_what_leaves_its_group_ends_with_the_command(gateway: FakeGateway, serve: Serve, tmp_path: Path) -> None:
    """Without namespaces it would live until the end of the lease."""
    stream = await serve_it(gateway, serve, tmp_path)
    if stream is None:
        return
    mark = f"1000.{os.getpid()}"
    await run(stream, Shell(script=f"setsid sleep {mark} > /dev/null 2>&1 < /dev/null & echo started; sleep 0.1"))
    assert stream.text() == "started\n"
    async with asyncio.timeout(60):
        while alive(mark):  # noqa: ASYNC110 - the kernel tells nobody but its parent
            await asyncio.sleep(0.01)


async def test_programs_are_looked_for_from_the_folder(
    gateway: FakeGateway, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a temporary folder of the worker's own is none of theirs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "program").write_text('#!/bin/sh\necho "ran with ${TMPDIR-none}"\n')
    (tmp_path / "here" / "program").chmod(0o755)
    stream = await serve_it(gateway, serve, tmp_path)
    if stream is None:
        return
    await run(stream, Shell(argv=["./program"], cwd=str(tmp_path / "here")))
    assert stream.text() == "ran with none\n"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Shell(argv=["horologe-no-such-command"]), "command not found: 'horologe-no-such-command'"),
        (Shell(argv=["/etc"]), "permission denied: '/etc' is not executable for this worker"),
        (Shell(argv=["true"], cwd="/no/such"), "cannot start in the folder '/no/such': No such file or directory"),
        (Shell(argv=["true", "a\0b"]), "cannot start 'true': embedded null byte"),
    ],
)
async def test_failures_are_told_as_without_it(
    gateway: FakeGateway, serve: Serve, tmp_path: Path, action: Shell, error: str
) -> None:
    stream = await serve_it(gateway, serve, tmp_path)
    if stream is None:
        return
    result = await run(stream, action)
    assert (result.error, result.error_kind) == (error, "not_started")


@pytest.mark.parametrize("broken", [False, True])
def test_without_it_a_worker_says_so_and_goes_on_unless_it_must_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """It is not there, or the kernel forbids what it needs."""
    reason = "bubblewrap is not installed"
    folder = tmp_path / "programs"
    folder.mkdir()
    if broken:
        reason = "No permissions to create a new namespace"
        (folder / "bwrap").write_text(f"#!/bin/sh\necho '{reason}' >&2; exit 1\n")
        (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with capture_logs() as logs:
        build_worker(configuration(tmp_path), ["127.0.0.1:1"], insecure=True)
    (entry,) = logs
    assert entry["sandbox"] == f"off: they see all processes and files ({reason})"
    with pytest.raises(InvalidArgument, match=f"shell.sandbox is bubblewrap, which does not work here: {reason}"):
        build_worker(configuration(tmp_path, 'sandbox = "bubblewrap"'), ["127.0.0.1:1"], insecure=True)


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_a_worker_says_what_is_in_force(tmp_path: Path, sandbox: str) -> None:
    with capture_logs() as logs:
        build_worker(
            configuration(tmp_path, f'sandbox = "{sandbox}"', "rlimits = { nofile = 64 }"),
            ["127.0.0.1:1"],
            insecure=True,
        )
    (entry,) = logs
    assert (entry["event"], entry["new_privileges"], entry["rlimits"]) == ("shell jobs", "none", "core=0 nofile=64")
    assert (entry["sandbox"] == "bubblewrap") == (sandbox == "auto" and WORKS)
    assert ("capabilities" in entry) == (os.geteuid() == 0)
