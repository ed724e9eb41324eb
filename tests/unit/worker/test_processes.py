"""The worker's side of the supervisor, with a supervisor that dies at a moment of our choice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress

import pytest

from horologe.client.executors.processes import Command, NotStartedError, Process, Processes
from horologe.client.lease import Lease


async def test_what_a_supervisor_had_only_forked_when_it_was_killed_is_killed_too() -> None:
    """It had no time to say that the process has started; the process itself has."""
    processes = Processes(Lease())
    process = processes._processes[1] = Process(processes, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    processes._channel = ours
    asyncio.get_running_loop().add_reader(ours, processes._receive)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as survivor:  # noqa: ASYNC220
        theirs.send(json.dumps({"forked": 1, "pid": survivor.pid}).encode())
        theirs.close()
        assert await process.started == survivor.pid
        assert await process.exited == -signal.SIGKILL
        assert await asyncio.to_thread(survivor.wait) == -signal.SIGKILL


async def test_a_supervisor_that_dies_while_its_socket_is_full_keeps_nobody_waiting() -> None:
    processes = Processes(Lease())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    processes._channel = ours
    asyncio.get_running_loop().add_reader(ours, processes._receive)
    with suppress(BlockingIOError):
        while True:
            ours.send(b"{}")
    output = os.open(os.devnull, os.O_WRONLY)
    starting = asyncio.ensure_future(processes.start(Command(["true"], {}, "/", "/"), output, output))
    while processes._room is None:  # noqa: ASYNC110 - what it waits for is not ours to set
        await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(NotStartedError, match="the supervisor of processes ended"):
        await asyncio.wait_for(starting, 60)
    os.close(output)
