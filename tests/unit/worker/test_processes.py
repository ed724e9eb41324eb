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


def stuffed(processes: Processes) -> socket.socket:
    """The supervisor's end of a socket that takes no more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    processes._channel = ours
    asyncio.get_running_loop().add_reader(ours, processes._receive)
    with suppress(BlockingIOError):
        while True:
            ours.send(b"{}")
    return theirs


async def waiting_for_its_turn(processes: Processes, output: int) -> asyncio.Future[Process]:
    """A process that is asked for while the socket takes no more."""
    starting = asyncio.ensure_future(processes.spawn(Command(["true"], {}, "/", "/"), output, output))
    while processes._room is None:  # noqa: ASYNC110 - what it waits for is not ours to set
        await asyncio.sleep(0)
    return starting


async def test_what_is_cancelled_while_it_waits_for_its_turn_never_starts() -> None:
    processes = Processes(Lease())
    theirs = stuffed(processes)
    output = os.open(os.devnull, os.O_WRONLY)
    starting = await waiting_for_its_turn(processes, output)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            assert theirs.recv(100) == b"{}"
    assert not processes._processes
    await processes.close()
    theirs.close()
    os.close(output)


async def test_a_supervisor_that_dies_while_its_socket_is_full_keeps_nobody_waiting() -> None:
    processes = Processes(Lease())
    theirs = stuffed(processes)
    output = os.open(os.devnull, os.O_WRONLY)
    starting = await waiting_for_its_turn(processes, output)
    theirs.close()
    with pytest.raises(NotStartedError, match="the supervisor of processes ended"):
        await asyncio.wait_for(starting, 60)
    os.close(output)
