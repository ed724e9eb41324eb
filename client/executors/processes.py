"""The worker's side of the supervisor: processes that are started, signalled and awaited through it.

Why processes have an owner of their own, and what it promises, is told in `supervisor.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from horologe.client import own_program
from horologe.client.executors import supervisor
from horologe.client.lease import NEVER, Lease

log = structlog.get_logger(__name__)

SUPERVISOR_ENDED = "the supervisor of processes ended; look at the system log"


NO_PRIVILEGES: supervisor.Confinement = {
    "user": None, "group": 0, "groups": [], "rlimits": {"core": 0}, "capabilities": False, "new_privileges": False
}  # fmt: skip
"""The worker's own user with nothing beyond that."""


class NotStartedError(Exception):
    """The process could not be started; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, completely: nothing is inherited from the worker."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    scratch: str
    """The attempt's own folder; the supervisor removes it when the worker cannot any more."""
    stdin: bytes = b""
    confinement: supervisor.Confinement = field(default_factory=lambda: NO_PRIVILEGES.copy())
    wrapped: bool = False
    """Whether `argv` begins with a program that makes namespaces for the rest."""


class Process:
    """A process group of an attempt."""

    def __init__(self, processes: Processes, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._processes = processes
        self.number = number
        self.pid = 0
        self.started: asyncio.Future[int] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM to the whole group; SIGKILL to what is left of it after the grace."""
        self._processes.tell({"stop": self.number, "grace_seconds": grace_seconds})

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self._processes.tell({"signal": self.number, "number": int(signal.SIGKILL)})


class Processes:
    """All processes of this worker. The supervisor is started with the first one."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        lease.listeners.append(self._announce_lease)
        self._channel: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._processes: dict[int, Process] = {}
        self._last_number = 0
        self._send_turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        """What the one who has the turn waits for while the socket is full."""

    async def spawn(self, command: Command, stdout: int, stderr: int) -> Process:
        """Asks for a process whose output goes to these descriptors, of which it gets copies.

        Its `started` says when it is there, or raises NotStartedError, which says why it is not. It can be told to end at once.
        Whoever is cancelled here has asked for nothing.
        """
        self._last_number += 1
        process = self._processes[self._last_number] = Process(self, self._last_number)
        try:
            await self._send_spawn(process.number, command, stdout, stderr)
        except BaseException:
            self._processes.pop(process.number, None)
            raise
        return process

    async def _send_spawn(self, number: int, command: Command, stdout: int, stderr: int) -> None:
        channel = self._open()
        description = json.dumps(
            {
                "argv": list(command.argv),
                "env": dict(command.env),
                "cwd": command.cwd,
                "scratch": command.scratch,
                "confinement": command.confinement,
                "wrapped": command.wrapped,
            }
        )
        # Files in memory: the environment may hold secrets, and input of any size needs nobody who writes it to a pipe.
        with _file_in_memory(description.encode()) as text, _file_in_memory(command.stdin) as stdin:
            descriptors = [text.fileno(), stdin.fileno(), stdout, stderr]
            packet = json.dumps({"spawn": number}).encode()
            async with self._send_turn:
                while True:
                    try:
                        socket.send_fds(channel, [packet], descriptors)
                        return
                    except BlockingIOError:
                        await self._wait_for_room(channel)
                    except OSError as error:
                        raise NotStartedError(SUPERVISOR_ENDED) from error

    async def _wait_for_room(self, channel: socket.socket) -> None:
        """Until the socket takes more, or is closed: then the next try finds that out."""
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(channel, self._has_room)
        try:
            await self._room
        finally:
            self._room = None
            if channel.fileno() >= 0:
                loop.remove_writer(channel)

    def _has_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Sends a message without descriptors, if there is a supervisor."""
        channel = self._channel
        if channel is None:
            return
        try:
            channel.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            # Hundreds of messages wait already. The supervisor is alive, so this one gets its turn.
            asyncio.get_running_loop().call_later(0.01, self.tell, message)
        except OSError:
            # It is gone; the reader of the socket finds out and deals with its processes.
            return

    def _open(self) -> socket.socket:
        if self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._program = subprocess.Popen(
                own_program.run_file(supervisor.__file__, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)
        self._announce_lease(self._lease.ends_at)
        return ours

    def _announce_lease(self, ends_at: float) -> None:
        if ends_at != NEVER:
            self.tell({"lease_ends_at": ends_at})

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            packet = self._channel.recv(supervisor.PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._supervisor_gone()
            return
        message = json.loads(packet)
        if "forked" in message:
            self._processes[message["forked"]].pid = message["pid"]
        elif "started" in message:
            process = self._processes[message["started"]]
            process.started.set_result(message["pid"])
        elif "refused" in message:
            process = self._processes.pop(message["refused"])
            process.started.set_exception(NotStartedError(message["error"]))
        else:
            process = self._processes.pop(message["exited"])
            process.exited.set_result(message["code"])

    def _supervisor_gone(self) -> None:
        self._close_channel()
        if self._program is not None:
            # It closed its socket, so it is dead or dying; this only takes the remains away.
            self._program.kill()
            self._program.wait()
        processes, self._processes = self._processes, {}
        if processes:
            log.error("the supervisor of processes ended; its attempts are killed", count=len(processes))
        for process in processes.values():
            if process.pid:
                # Leaders died with the supervisor; this is for the rest of their groups.
                _kill_group(process.pid)
                if not process.started.done():
                    process.started.set_result(process.pid)
                process.exited.set_result(-signal.SIGKILL)
            else:
                process.started.set_exception(NotStartedError(SUPERVISOR_ENDED))
                # Whoever is still sending the command hears it from the socket.
                process.started.exception()

    def _close_channel(self) -> None:
        if self._channel is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._channel)
            loop.remove_writer(self._channel)
            self._channel.close()
            self._channel = None
            self._has_room()

    async def close(self) -> None:
        """Ends the supervisor, and with it everything that still runs."""
        self._close_channel()
        program, self._program = self._program, None
        if program is not None:
            await asyncio.to_thread(program.wait)


def _file_in_memory(content: bytes) -> Any:
    file = os.fdopen(os.memfd_create("horologe", os.MFD_CLOEXEC), "r+b", buffering=0)
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    file.seek(0)
    return file


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
