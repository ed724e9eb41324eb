"""The worker's side of the supervisor, with a supervisor that dies at a moment of our choice."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess

from horologe.client.executors.processes import Process, Processes
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
