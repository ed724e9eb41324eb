"""Shell attempts: what a process gets, what it may do, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_gateway import FakeGateway, Result, Serve, Stream, assignment, attempt_id, definition
from support.timers import hold_timeouts

from horologe.client.executors.processes import Processes
from horologe.client.executors.shell import ShellExecutor
from horologe.client.executors.shell_rules import ShellRules
from horologe.client.runner import Runner
from horologe.client.worker import Worker
from horologe.v1 import job_pb2, worker_pb2

Shell = job_pb2.ShellAction


def shell_worker(gateway: FakeGateway, *users: str) -> Worker:
    worker = Worker(gateway.address, insecure=True)
    worker.add_executor("shell", ShellExecutor(worker.lease, rules=ShellRules(users=users)))
    return worker


async def run(gateway: FakeGateway, serve: Serve, action: Shell, *users: str, **limits: float) -> tuple[Result, Stream]:
    stream = await serve(shell_worker(gateway, *users))
    stream.assign(assignment(7, token=42, attempt=2), definitions=[definition(shell=action, **limits)])
    (result,) = await stream.until_results()
    return result, stream


async def test_a_trace_goes_on_in_the_process(gateway: FakeGateway, serve: Serve) -> None:
    given = f"00-{7:032x}-{9:016x}-01"
    stream = await serve(shell_worker(gateway))
    shell = Shell(script="echo trace=$TRACEPARENT")
    traced = assignment(7)
    traced.traceparent = given
    stream.assign(traced, assignment(8), definitions=[definition(shell=shell)])
    await stream.until_results(2)
    assert sorted(stream.text().splitlines()) == ["trace=", f"trace={given}"]


def scratch_folders() -> set[str]:
    return {str(path) for path in Path(tempfile.gettempdir()).glob("horologe-*")}


async def gone(*pids: int) -> None:
    """Waits until these processes have exited, whoever their parent is."""
    loop = asyncio.get_running_loop()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        exited = asyncio.Event()
        loop.add_reader(descriptor, exited.set)
        await exited.wait()
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_argv_gets_the_variables_of_its_attempt_and_nothing_of_the_worker(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_SECRET", "hidden")
    result, stream = await run(gateway, serve, Shell(argv=["env"], env={"COLOUR": "blue", "HOROLOGE_JOB": "forged"}))

    lines = dict(line.split("=", 1) for line in stream.text().splitlines())
    assert (result.outcome, result.exit_code) == (Result.OUTCOME_SUCCEEDED, 0)
    assert {name: text for name, text in lines.items() if name.startswith("HOROLOGE_")} == {
        "HOROLOGE_NAMESPACE": "default",
        "HOROLOGE_JOB": "report",
        "HOROLOGE_EXECUTION": "7",
        "HOROLOGE_ATTEMPT": "2",
        "HOROLOGE_DUE_TIME": "2027-01-01T00:00:00.250Z",
        "HOROLOGE_IDEMPOTENCY_KEY": "c1-7",
        "HOROLOGE_FENCING_TOKEN": "42",
    }
    assert lines["COLOUR"] == "blue"
    assert lines["PATH"]
    assert "WORKER_SECRET" not in lines


async def test_argv_is_never_read_by_a_shell(gateway: FakeGateway, serve: Serve) -> None:
    _, stream = await run(gateway, serve, Shell(argv=["echo", "$HOME; id"]))
    assert stream.text() == "$HOME; id\n"


async def test_script_runs_in_a_scratch_folder_that_is_removed(gateway: FakeGateway, serve: Serve) -> None:
    script = "pwd; umask; ulimit -c; touch left-over; cat; echo trouble >&2; exit 3"
    action = Shell(script=script, stdin=b"from stdin\n", success_codes=[3])
    result, stream = await run(gateway, serve, action)

    folder, umask, core_limit, stdin = stream.text().splitlines()
    assert (result.outcome, result.exit_code) == (Result.OUTCOME_SUCCEEDED, 3)
    assert (umask, core_limit, stdin) == ("0077", "0", "from stdin")
    assert stream.text(2) == "trouble\n"
    assert folder not in scratch_folders()


async def test_interpreter_and_folder_are_taken_from_the_action(
    gateway: FakeGateway, serve: Serve, tmp_path: Path
) -> None:
    action = Shell(script="import os; print(os.getcwd())", interpreter=[sys.executable, "-I"], cwd=str(tmp_path))
    _, stream = await run(gateway, serve, action)
    assert stream.text() == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("action", "exit_code", "error"),
    [
        (Shell(argv=["sh", "-c", "exit 7"]), 7, "exit code 7"),
        (Shell(script="kill -9 $$"), 137, "killed by signal 9"),
        (Shell(argv=["horologe-no-such-command"]), None, "command not found: 'horologe-no-such-command'"),
        (Shell(argv=["/etc"]), None, "permission denied: '/etc' is not executable for this worker"),
        (
            Shell(argv=["true"], cwd="/no/such/folder"),
            None,
            "cannot start in the folder '/no/such/folder': No such file or directory",
        ),
        (Shell(argv=["a\0b"]), None, "cannot start 'a\\x00b': embedded null byte"),
    ],
)
async def test_failures_are_one_clear_line(
    gateway: FakeGateway, serve: Serve, action: Shell, exit_code: int | None, error: str
) -> None:
    result, _ = await run(gateway, serve, action)
    assert (result.outcome, result.error, result.permanent) == (Result.OUTCOME_FAILED, error, False)
    assert (result.exit_code if result.HasField("exit_code") else None) == exit_code
    assert result.error_kind == ("not_started" if exit_code is None else "exit")


TREE = """
echo $$; sh -c 'echo $$; sleep 1000' & sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' &
while :; do sleep 1000; done
"""


async def tree_pids(stream: Stream, gateway: FakeGateway, count: int = 3) -> list[int]:
    await gateway.until(lambda: len(stream.text().split()) >= count)
    return [int(word) for word in stream.text().split()]


async def test_cancel_ends_the_whole_process_group(gateway: FakeGateway, serve: Serve) -> None:
    """One child even ignores SIGTERM: it is killed after the grace."""
    stream = await serve(shell_worker(gateway))
    work = assignment()
    stream.assign(work, definitions=[definition(shell=Shell(script=TREE), grace_seconds=0.1)])
    pids = await tree_pids(stream, gateway)
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(work)]))
    (result,) = await stream.until_results()

    assert (result.outcome, result.exit_code) == (Result.OUTCOME_CANCELLED, 143)
    await gone(*pids)


async def test_timeout_leaves_time_to_clean_up(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_timeouts(monkeypatch, lambda: gateway.streams[0].until_output("begun"))
    script = "trap 'echo cleaned; exit 5' TERM; echo begun; while :; do sleep 0.01; done"
    result, stream = await run(gateway, serve, Shell(script=script), timeout_seconds=0.1)

    assert (result.outcome, result.exit_code, result.error) == (Result.OUTCOME_TIMED_OUT, 5, "timed out after 0.1 s")
    assert result.error_kind == "timeout"
    assert stream.text() == "begun\ncleaned\n"


class Words:
    """What supervisors say to workers of this process: nobody hears it before `let_hear`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._receive = Processes._receive
        self._heard = False
        self._waiting: list[Processes] = []
        monkeypatch.setattr(Processes, "_receive", lambda processes: self._hear(processes))

    def _hear(self, processes: Processes) -> None:
        if self._heard:
            self._receive(processes)
        else:
            asyncio.get_running_loop().remove_reader(processes._channel)
            self._waiting.append(processes)

    def are_heard_after_the_stop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stop = Runner.stop

        def stop_and_let_hear(*arguments: Any) -> None:
            stop(*arguments)
            # After the task was told.
            asyncio.get_running_loop().call_soon(self.let_hear)

        monkeypatch.setattr(Runner, "stop", stop_and_let_hear)

    async def are_there(self) -> None:
        while not self._waiting:  # noqa: ASYNC110 - what it waits for is not ours to set
            await asyncio.sleep(0)

    def let_hear(self) -> None:
        self._heard = True
        for processes in self._waiting:
            asyncio.get_running_loop().add_reader(processes._channel, self._receive, processes)


async def test_a_command_has_its_grace_also_before_its_worker_knows_that_it_runs(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words(monkeypatch)
    words.are_heard_after_the_stop(monkeypatch)
    stream = await serve(shell_worker(gateway))
    work = assignment()
    script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    stream.assign(work, definitions=[definition(shell=Shell(script=script), grace_seconds=60)])
    await stream.until_output("ready")
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(work)]))
    (result,) = await stream.until_results()
    assert (result.outcome, result.exit_code) == (Result.OUTCOME_CANCELLED, 5)
    assert stream.text() == "ready\ncleaned\n"


async def test_a_command_that_lost_its_lease_is_killed_also_before_its_worker_knows_that_it_runs(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words(monkeypatch)
    stream = await serve(shell_worker(gateway))
    work = assignment()
    stream.assign(work, definitions=[definition(shell=Shell(script=f"trap '' TERM\n{TREE}"), grace_seconds=60)])
    pids = await tree_pids(stream, gateway)
    gateway.revoked = [attempt_id(work)]
    stream.end()
    await gone(*pids)
    words.let_hear()


async def test_what_was_told_to_end_and_could_not_start_has_ended(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words(monkeypatch)
    words.are_heard_after_the_stop(monkeypatch)
    stream = await serve(shell_worker(gateway))
    work = assignment()
    stream.assign(work, definitions=[definition(shell=Shell(argv=["/no/such/program"]))])
    await words.are_there()
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(work)]))
    (result,) = await stream.until_results()
    assert result.outcome == Result.OUTCOME_CANCELLED


async def test_left_overs_of_a_finished_process_are_killed(gateway: FakeGateway, serve: Serve) -> None:
    result, stream = await run(gateway, serve, Shell(script="sleep 1000 & echo $!"))

    assert result.outcome == Result.OUTCOME_SUCCEEDED
    await gone(int(stream.text()))


async def test_lost_lease_kills_processes_without_grace(gateway: FakeGateway, serve: Serve) -> None:
    """The term is long until the processes are there, and short from then on."""
    gateway.lease_ms, gateway.heartbeat_ms = 3_600_000, 50
    worker = shell_worker(gateway)
    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(shell=Shell(script=f"trap '' TERM\n{TREE}"))])
    pids = await tree_pids(stream, gateway)
    gateway.acknowledges_heartbeats = gateway.welcomes = False
    worker.lease.begin(1.0, worker.lease.clock())
    await gone(*pids)

    gateway.acknowledges_heartbeats = gateway.welcomes = True
    second = await gateway.another(stream)
    second.assign(assignment(2, token=50), definitions=[definition(shell=Shell(argv=["echo", "again"]))])
    await second.until_results()
    assert [result.execution for result in stream.results + second.results] == [2]


async def test_many_processes_at_a_time(gateway: FakeGateway, serve: Serve) -> None:
    stream = await serve(shell_worker(gateway))
    stream.assign(
        *(assignment(number) for number in range(1, 41)),
        definitions=[definition(shell=Shell(argv=["sh", "-c", "echo $HOROLOGE_EXECUTION"]))],
    )
    results = await stream.until_results(40)

    assert {result.outcome for result in results} == {Result.OUTCOME_SUCCEEDED}
    assert sorted(int(line) for line in stream.text().split()) == list(range(1, 41))


PROGRAM = """
from horologe.client.executors.shell import ShellExecutor
from horologe.client.worker import Worker
import sys
worker = Worker(sys.argv[1], insecure=True)
worker.add_executor("shell", ShellExecutor(worker.lease))
worker.run()
"""


@pytest.fixture
def program(gateway: FakeGateway) -> Callable[[], subprocess.Popen[bytes]]:
    """Starts a worker as a process of its own."""
    return lambda: subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), gateway.address], stdout=subprocess.DEVNULL
    )


async def test_nothing_survives_a_worker_that_is_killed(
    gateway: FakeGateway, program: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """Not even a process that left the group and the session."""
    with program() as process:
        stream = await gateway.stream()
        script = f"setsid sh -c 'echo $$; sleep 1000' &\n{TREE}"
        stream.assign(assignment(), definitions=[definition(shell=Shell(script=script))])
        pids = await tree_pids(stream, gateway, 4)
        process.kill()
        await gone(*pids)


async def test_nothing_outlives_the_lease_of_a_worker_that_is_stopped(
    gateway: FakeGateway, program: Callable[[], subprocess.Popen[bytes]]
) -> None:
    # Halfway through the term it would look for another node.
    gateway.lease_ms, gateway.heartbeat_ms = 6_000, 100
    with program() as process:
        try:
            stream = await gateway.stream()
            stream.assign(assignment(), definitions=[definition(shell=Shell(script=TREE))])
            pids = await tree_pids(stream, gateway)
            process.send_signal(signal.SIGSTOP)
            await gone(*pids)
            process.send_signal(signal.SIGCONT)
            second = await gateway.stream(2)

            assert stream.results == []
            assert not second.hello.held_attempts
            assert second.hello.incarnation != stream.hello.incarnation
        finally:
            process.kill()


async def test_attempts_fail_when_the_supervisor_is_killed(gateway: FakeGateway, serve: Serve) -> None:
    """The worker goes on, with a new supervisor."""
    stream = await serve(shell_worker(gateway))
    stream.assign(assignment(), definitions=[definition(shell=Shell(script=f"echo $PPID; {TREE}"))])
    supervisor, *pids = await tree_pids(stream, gateway, 4)
    os.kill(supervisor, signal.SIGKILL)
    (result,) = await stream.until_results()
    await gone(*pids)
    assert (result.outcome, result.error) == (Result.OUTCOME_FAILED, "killed by signal 9")

    stream.assign(assignment(2, job=2), definitions=[definition(2, shell=Shell(argv=["true"]))])
    results = await stream.until_results(2)
    assert results[1].outcome == Result.OUTCOME_SUCCEEDED


async def test_limits_of_a_process(gateway: FakeGateway, serve: Serve) -> None:
    action = Shell(argv=["sh", "-c", "ulimit -n; ulimit -c"], rlimits={"nofile": 77})
    _, stream = await run(gateway, serve, action)
    assert stream.text().split() == ["77", "0"]


async def test_a_limit_that_cannot_be_set_is_a_failure_with_its_reason(gateway: FakeGateway, serve: Serve) -> None:
    result, _ = await run(gateway, serve, Shell(argv=["true"], rlimits={"nofile": 1 << 62}))
    assert (result.outcome, "cannot start 'true'" in result.error) == (Result.OUTCOME_FAILED, True)


async def test_nobody_else_without_permission(gateway: FakeGateway, serve: Serve) -> None:
    result, _ = await run(gateway, serve, Shell(argv=["id", "-un"], user="nobody"))
    assert (result.outcome, result.permanent) == (Result.OUTCOME_FAILED, True)
    assert "this worker runs nothing as 'nobody'" in result.error


async def test_another_user_if_the_worker_may(gateway: FakeGateway, serve: Serve) -> None:
    """As root it becomes that user, with a folder to work in; as anybody else it says that it cannot."""
    script = "id -un; echo $USER; touch mine; stat -c %U mine"
    result, stream = await run(gateway, serve, Shell(script=script, user="nobody"), "nobody", "no-such-user")
    if os.geteuid() == 0:
        assert (result.outcome, stream.text().split()) == (Result.OUTCOME_SUCCEEDED, ["nobody"] * 3)
    else:
        assert "cannot run as 'nobody' here" in result.error


async def test_a_user_that_this_machine_does_not_know(gateway: FakeGateway, serve: Serve) -> None:
    result, _ = await run(gateway, serve, Shell(argv=["true"], user="no-such-user"), "no-such-user")
    assert "cannot run as 'no-such-user' here" in result.error


async def test_output_of_a_job_has_its_own_cap(gateway: FakeGateway, serve: Serve) -> None:
    stream = await serve(shell_worker(gateway))
    one = definition(shell=Shell(argv=["sh", "-c", "echo 0123456789; echo more"]))
    one.output_bytes_max = 5
    stream.assign(assignment(7, token=42), definitions=[one])
    (result,) = await stream.until_results()
    assert (stream.text(), result.output_truncated) == ("01234", True)
