"""Actions that are commands or scripts: processes with a clean environment and their output captured.

The processes belong to the supervisor (see `supervisor.py`), which kills them when the worker is gone or lost its lease.
What they may do is said by the worker's owner (`shell_rules.py`). Control groups and system call filters are not made here: a
worker that runs the scripts of people who must not harm it belongs into a container of its own.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from horologe.client.attempts import Attempt, Outcome, StopReason
from horologe.client.context import Context
from horologe.client.executors.processes import Command, NotStartedError, Process, Processes
from horologe.client.executors.shell_rules import RefusedCommandError, ShellRules
from horologe.client.executors.supervisor import Confinement
from horologe.client.lease import Lease
from horologe.client.outbox import STANDARD_ERROR, STANDARD_OUTPUT, Output
from horologe.v1 import job_pb2, worker_pb2

# What a process gets of the worker's own environment; nothing else, so that no secret of the worker leaks into a job.
INHERITED_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_INTERPRETER = ("/bin/sh",)

# A process that left the group may hold the pipes open for ever; the attempt does not wait for it.
LAST_OUTPUT_SECONDS_MAX = 1.0


class ShellExecutor:
    """Runs commands and scripts, each in a process group of its own."""

    def __init__(
        self, lease: Lease, environment: Mapping[str, str] | None = None, *, rules: ShellRules | None = None
    ) -> None:
        self._rules = rules or ShellRules()
        self._processes = Processes(lease)
        source = os.environ if environment is None else environment
        self._environment = {"PATH": DEFAULT_PATH} | {
            name: source[name] for name in INHERITED_VARIABLES if name in source
        }

    async def run(self, attempt: Attempt, output: Output) -> Outcome:
        """Starts the command and waits for its end; its exit code decides."""
        action = attempt.action.shell
        if bool(action.argv) == bool(action.script):
            return Outcome.failed("a shell action needs either argv or script", permanent=True)
        scratch = tempfile.mkdtemp(prefix="horologe-")
        try:
            command = self._command(attempt, action, Path(scratch))
            return await self._run_command(attempt, command, output, set(action.success_codes) or {0})
        except RefusedCommandError as error:
            return Outcome.failed(str(error), permanent=True)
        except NotStartedError as error:
            if attempt.stop_reason is not None:
                return attempt.stopped_outcome()
            return Outcome.failed(str(error), kind="not_started")
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True))

    def _command(self, attempt: Attempt, action: job_pb2.ShellAction, scratch: Path) -> Command:
        account = self._rules.account_for(action.user)
        argv = list(action.argv)
        if action.script:
            interpreter = action.interpreter or DEFAULT_INTERPRETER
            self._rules.check_interpreter(interpreter[0])
            script = scratch / "script"
            script.touch(mode=0o700)
            script.write_text(action.script, encoding="utf-8")
            argv = [*interpreter, str(script)]
        own = {} if account is None else _variables_of(account)
        environment = self._environment | own | dict(action.env) | _attempt_variables(attempt)
        if account is not None:
            for path in (scratch, *scratch.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        folder = action.cwd or str(scratch)
        confinement = confinement_of(self._rules, account, action.rlimits)
        bubblewrap = self._rules.bubblewrap
        if bubblewrap is not None:
            if "TMPDIR" not in action.env:
                # The worker's may lie where there is nothing now.
                environment.pop("TMPDIR", None)
            _check_startable(argv, folder, environment)
            argv, confinement = bubblewrap.wrap(argv, folder, str(scratch), confinement)
        return Command(
            argv,
            environment,
            folder,
            str(scratch),
            action.stdin,
            confinement=confinement,
            wrapped=bubblewrap is not None,
        )

    async def _run_command(
        self, attempt: Attempt, command: Command, output: Output, success_codes: set[int]
    ) -> Outcome:
        stdout, stderr = await _Capture.open(output, STANDARD_OUTPUT), await _Capture.open(output, STANDARD_ERROR)
        try:
            process = await self._processes.spawn(command, stdout.write_end, stderr.write_end)
            attempt.kill = process.kill
            stdout.close_write_end()
            stderr.close_write_end()
            exit_code = await self._wait(attempt, process)
            await asyncio.wait({stdout.ended, stderr.ended}, timeout=LAST_OUTPUT_SECONDS_MAX)
        finally:
            stdout.close()
            stderr.close()
        if attempt.stop_reason is not None:
            return attempt.stopped_outcome(_as_shells_count(exit_code))
        return _outcome(exit_code, success_codes)

    async def _wait(self, attempt: Attempt, process: Process) -> int:
        """Its exit code. What is told to end before it is known to have begun has its grace like any other."""
        try:
            return await _exit_code(process)
        except asyncio.CancelledError:
            if attempt.stop_reason in (None, StopReason.FENCED):
                process.kill()
            else:
                process.stop(attempt.definition.grace_seconds)
        try:
            return await _exit_code(process)
        except asyncio.CancelledError:
            process.kill()
            raise

    async def close(self) -> None:
        """Ends the supervisor."""
        await self._processes.close()


async def _exit_code(process: Process) -> int:
    """Once it has ended. NotStartedError says why there is no process."""
    await asyncio.shield(process.started)
    return await asyncio.shield(process.exited)


def confinement_of(rules: ShellRules, account: pwd.struct_passwd | None, rlimits: Mapping[str, int]) -> Confinement:
    """What a process of this account may do."""
    return {
        "user": None if account is None else account.pw_uid,
        "group": 0 if account is None else account.pw_gid,
        "groups": [] if account is None else os.getgrouplist(account.pw_name, account.pw_gid),
        "rlimits": rules.rlimits_for(rlimits),
        "capabilities": rules.root_capabilities and (account is None or account.pw_uid == 0),
        "new_privileges": rules.new_privileges,
    }


def _check_startable(argv: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """What makes the namespaces says less clearly what is wrong with a command. NotStartedError."""
    if not Path(folder).is_dir():
        raise NotStartedError(f"cannot start in the folder {folder!r}: No such file or directory")
    if any("\0" in word for word in argv):
        raise NotStartedError(f"cannot start {argv[0]!r}: embedded null byte")
    # As it will be looked for: from the folder it starts in.
    program = str(Path(folder, argv[0])) if "/" in argv[0] else argv[0]
    if shutil.which(program, path=environment["PATH"]) is None:
        if "/" in program and Path(program).exists():
            raise NotStartedError(f"permission denied: {argv[0]!r} is not executable for this worker")
        raise NotStartedError(f"command not found: {argv[0]!r}")


def _variables_of(account: pwd.struct_passwd) -> dict[str, str]:
    return {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or DEFAULT_INTERPRETER[0],
    }


def _attempt_variables(attempt: Attempt) -> dict[str, str]:
    context = Context(attempt)
    return {
        "HOROLOGE_NAMESPACE": context.namespace,
        "HOROLOGE_JOB": context.job,
        "HOROLOGE_EXECUTION": str(context.execution),
        "HOROLOGE_ATTEMPT": str(context.attempt),
        "HOROLOGE_DUE_TIME": context.due_time_text,
        "HOROLOGE_IDEMPOTENCY_KEY": context.idempotency_key,
        "HOROLOGE_FENCING_TOKEN": str(context.fencing_token),
        **({"TRACEPARENT": context.traceparent} if context.traceparent else {}),
    }


def _outcome(exit_code: int, success_codes: set[int]) -> Outcome:
    if exit_code in success_codes:
        return Outcome(exit_code=exit_code)
    error = f"exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"
    return Outcome(
        kind=worker_pb2.AttemptResult.OUTCOME_FAILED,
        error=error,
        error_kind="exit",
        exit_code=_as_shells_count(exit_code),
    )


def _as_shells_count(exit_code: int) -> int:
    """A signal is 128 and its number."""
    return exit_code if exit_code >= 0 else 128 - exit_code


class _Capture(asyncio.Protocol):
    """One pipe from a process to the attempt's output. Reading pauses while the network is slower than the process."""

    def __init__(self, output: Output, stream: int, write_end: int) -> None:
        self._output = output
        self._stream = stream
        self._transport: asyncio.ReadTransport | None = None
        self._write_end_open = True
        self.write_end = write_end
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, output: Output, stream: int) -> _Capture:
        """Makes the pipe and begins to read."""
        read_end, write_end = os.pipe()
        capture = cls(output, stream, write_end)
        file = os.fdopen(read_end, "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: capture, file)
        return capture

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the base class.
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._output.write(self._stream, data)
        assert self._transport is not None
        if not self._output.when_writable(self._transport.resume_reading):
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def close_write_end(self) -> None:
        """The process has its own copy by now."""
        if self._write_end_open:
            self._write_end_open = False
            os.close(self.write_end)

    def close(self) -> None:
        """Stops reading."""
        self.close_write_end()
        if self._transport is not None:
            self._transport.close()
