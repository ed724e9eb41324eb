"""A small program that owns the processes of shell attempts, so that they never outlive the worker's lease.

The worker starts one, when it first needs it, and gives it a socket. It imports nothing but the standard library, has
one thread and no event loop: it does its duty while the worker is stopped, stuck or dead.

- Every attempt's process is the leader of a session and process group of its own, with PR_SET_PDEATHSIG = SIGKILL (safe
  here, because this program has only one thread): should the supervisor itself be killed, the leaders die with it.
- The socket ends when the worker dies: everything is killed, and the supervisor ends.
- The worker tells it when the lease ends, on CLOCK_BOOTTIME, which both read: past that moment everything is killed, also
  while the worker itself is stopped by SIGSTOP and cannot.
- It is a subreaper: what an attempt leaves behind becomes its child, and is killed with the rest at the end of the lease.
- When a leader exits, what is left in its group is killed at once. Where the attempt was asked to stop, the rest of the
  group may use the grace as well.
- A process begins confined: as its user, within its limits, without capabilities and without a way to new privileges, as the
  command says.

Messages are JSON, one per packet. To it: {"spawn": id} with four descriptors (the command as JSON, standard input, output
and error), {"signal": id, "number"}, {"stop": id, "grace_seconds"}, {"lease_ends_at"}. From it: {"forked": id, "pid"},
{"started": id, "pid"}, {"refused": id, "error"}, {"exited": id, "code"}.
"""

import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_NUMBERS = range(64)
CAPABILITY_VERSION = 0x20080522
PACKET_BYTES_MAX = 64 * 1024
DESCRIPTOR_COUNT = 4
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NEVER = float("inf")


class Confinement(TypedDict):
    """What a process may do."""

    user: int | None
    """Whom it runs as; None for the supervisor's own user, with the groups that it has."""
    group: int
    groups: list[int]
    rlimits: dict[str, int]
    """By the names of setrlimit(2) in lower case."""
    capabilities: bool
    """Whether it keeps capabilities, if its user has any."""
    new_privileges: bool
    """Whether setuid programs may give it more."""


class Child:
    """One attempt's process group."""

    def __init__(self, number: int, pid: int, scratch: str, *, wrapped: bool = False) -> None:
        self.number = number
        self.scratch = scratch
        self.wrapped = wrapped
        """Its leader is no code of the job, but what made its namespaces: it ends with the job, and the job with it."""
        self.pid = pid
        self.kill_at = NEVER
        self.exit_code: int | None = None

    def send_signal(self, number: int) -> None:
        """To the whole group. Its leader is not reaped before its group is gone, so the number cannot be another's."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # Nobody left, or somebody who changed their user: the end of the lease is the same for them as for us.
            return

    def ask_to_end(self) -> None:
        """SIGTERM to the whole group, but for a leader that would take the others with it before they could clean up."""
        others = [pid for pid in members_of_group(self.pid) if pid != self.pid] if self.wrapped else []
        if not others:
            # It is the job itself, or nothing of the job has begun.
            self.send_signal(signal.SIGTERM)
        for pid in others:
            try:
                os.kill(pid, signal.SIGTERM)
            except (ProcessLookupError, PermissionError):
                continue

    def has_members(self) -> bool:
        """Whether children of ours are left in the group. What an attempt leaves behind becomes our child."""
        try:
            os.waitid(os.P_PGID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True


class Supervisor:
    """Starts, signals and reaps; one instance per process."""

    def __init__(self, channel: socket.socket, wakeups: int) -> None:
        self.channel = channel
        self.wakeups = wakeups
        self.children: dict[int, Child] = {}
        self.lease_ends_at = NEVER
        self.fenced = False
        self.outgoing: deque[bytes] = deque()

    def run(self) -> None:
        """Until the worker is gone."""
        poll = select.poll()
        poll.register(self.wakeups, select.POLLIN)
        while True:
            # Never waits for the worker to read: it may be stopped, and that is when the deadline matters most.
            poll.register(self.channel, select.POLLIN | (select.POLLOUT if self.outgoing else 0))
            ready = dict(poll.poll(self.wait_milliseconds()))
            self.check_deadlines()
            if self.wakeups in ready:
                os.read(self.wakeups, 4096)
            self.reap()
            events = ready.get(self.channel.fileno(), 0)
            if events & select.POLLIN and not self.receive():
                return
            if events & (select.POLLHUP | select.POLLERR) and not events & select.POLLIN:
                return
            self.send_queued()

    def wait_milliseconds(self) -> float | None:
        """Until the next deadline."""
        deadlines = [child.kill_at for child in self.children.values()]
        if not self.fenced:
            deadlines.append(self.lease_ends_at)
        nearest = min(deadlines, default=NEVER)
        if nearest == NEVER:
            return None
        # Sleep is not counted by poll but by the clock, so look again now and then.
        return min(max(nearest - time.clock_gettime(CLOCK), 0.0) * 1000 + 1, 1000)

    def check_deadlines(self) -> None:
        """Kills what has run out of time."""
        now = time.clock_gettime(CLOCK)
        if now >= self.lease_ends_at and not self.fenced:
            self.fenced = True
            self.kill_everything()
        for child in list(self.children.values()):
            if now >= child.kill_at:
                child.kill_at = NEVER
                child.send_signal(signal.SIGKILL)
                if child.exit_code is not None:
                    self.report_exit(child)

    def kill_everything(self) -> None:
        """All groups, and whatever escaped from its group and became our child."""
        for child in self.children.values():
            child.send_signal(signal.SIGKILL)
        for pid in own_children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def end(self) -> None:
        """The worker is gone: nothing may survive it. Killing processes makes new orphans of ours, until none is left."""
        scratch_folders = [child.scratch for child in self.children.values()]
        self.kill_everything()
        while True:
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            self.children.pop(pid, None)
            self.kill_everything()
        for folder in scratch_folders:
            shutil.rmtree(folder, ignore_errors=True)

    # From the worker

    def receive(self) -> bool:
        """Handles one message; False when the worker is gone."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self.channel, PACKET_BYTES_MAX, DESCRIPTOR_COUNT)
        except ConnectionError:
            return False
        if not packet:
            return False
        message = json.loads(packet)
        try:
            if "spawn" in message:
                self.spawn(message["spawn"], descriptors)
            elif "lease_ends_at" in message:
                self.lease_ends_at = message["lease_ends_at"]
                self.fenced = False
            else:
                self.control(message)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def spawn(self, number: int, descriptors: list[int]) -> None:
        """Starts a process as the leader of its own session and group."""
        if time.clock_gettime(CLOCK) >= self.lease_ends_at:
            self.tell({"refused": number, "error": "the worker's lease has ended"})
            return
        with os.fdopen(os.dup(descriptors[0]), "rb") as file:
            command = json.load(file)
        try:
            process = subprocess.Popen(
                command["argv"],
                env=command["env"],
                cwd=command["cwd"],
                stdin=descriptors[1],
                stdout=descriptors[2],
                stderr=descriptors[3],
                start_new_session=True,
                umask=0o077,
                preexec_fn=prepare_child(os.getpid(), self.channel, number, command["confinement"]),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.tell({"refused": number, "error": explain(error, command["argv"], command["cwd"])})
            return
        # Reaping is done here for all of them, so the object must not believe that it is responsible.
        process.returncode = 0
        self.children[process.pid] = Child(number, process.pid, command["scratch"], wrapped=command["wrapped"])
        self.tell({"started": number, "pid": process.pid})

    def control(self, message: dict[str, Any]) -> None:
        """A signal, or the request to stop within a grace."""
        number = message.get("signal", message.get("stop"))
        for child in self.children.values():
            if child.number == number:
                if "stop" in message:
                    child.ask_to_end()
                    child.kill_at = time.clock_gettime(CLOCK) + message["grace_seconds"]
                else:
                    child.send_signal(message["number"])

    # To the worker

    def tell(self, message: dict[str, Any]) -> None:
        """Queues a message."""
        self.outgoing.append(json.dumps(message).encode())

    def send_queued(self) -> None:
        """Sends what the worker takes now."""
        while self.outgoing:
            try:
                self.channel.send(self.outgoing[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except ConnectionError:
                # The next poll finds the worker gone.
                self.outgoing.clear()
                return
            self.outgoing.popleft()

    # Reaping

    def reap(self) -> None:
        """Buries all that is dead, leaders and what they left behind."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if dead is None:
                break
            child = self.children.get(dead.si_pid)
            if child is not None and child.kill_at == NEVER:
                # While the leader is not buried its number belongs to its group and to nobody else.
                child.send_signal(signal.SIGKILL)
            _, status = os.waitpid(dead.si_pid, 0)
            if child is not None:
                child.exit_code = os.waitstatus_to_exitcode(status)
        for child in list(self.children.values()):
            if child.exit_code is not None and (child.kill_at == NEVER or not child.has_members()):
                self.report_exit(child)

    def report_exit(self, child: Child) -> None:
        """The attempt's process is gone, and its group with it."""
        del self.children[child.pid]
        self.tell({"exited": child.number, "code": child.exit_code})


def own_children() -> list[int]:
    """Children of this process, dead or alive."""
    text = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return [int(pid) for pid in text.read_text(encoding="ascii").split()]
    except OSError:
        return []


def members_of_group(group: int) -> list[int]:
    """The processes of a group, also those of other namespaces below this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # After the name, which may have anything in it: state, parent, group.
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group:
                found.append(int(folder.name))
    return found


def confine(confinement: Confinement) -> None:
    """Makes this process what the confinement says; for a process of one thread that is about to become another program."""
    if not confinement["capabilities"]:
        for number in CAPABILITY_NUMBERS:
            # Who may not drop them has none to give up, or cannot regain them below.
            LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    if confinement["user"] is not None:
        os.setgroups(confinement["groups"])
        os.setresgid(*[confinement["group"]] * 3)
        os.setresuid(*[confinement["user"]] * 3)
    if not confinement["capabilities"]:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
        check(LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    if not confinement["new_privileges"]:
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for name, value in confinement["rlimits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))


def check(status: int) -> None:
    """Raises the error of a call to the C library, if it failed."""
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def prepare_child(
    supervisor_pid: int, channel: socket.socket, number: int, confinement: Confinement
) -> Callable[[], None]:
    """What a child does between fork and exec."""

    def prepare() -> None:
        confine(confinement)
        # After it: a change of the user takes this back.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:
            # The supervisor died before the line above could arrange for that.
            os._exit(1)
        try:
            # By the child itself, before any code of the attempt runs: should the supervisor die before it can say so, the
            # worker knows whom to kill.
            message = json.dumps({"forked": number, "pid": os.getpid()}).encode()
            channel.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            # The socket is full, or nobody is there any more; the supervisor says it, or ends, itself.
            pass

    return prepare


def explain(error: Exception, argv: list[str], cwd: str) -> str:
    """One line that says what is wrong with the command."""
    if not isinstance(error, OSError):
        return f"cannot start {argv[0]!r}: {error}"
    if error.filename == cwd and cwd != argv[0]:
        return f"cannot start in the folder {cwd!r}: {os.strerror(error.errno or 0)}"
    if error.errno == errno.ENOENT:
        return f"command not found: {argv[0]!r}"
    if error.errno == errno.EACCES:
        return f"permission denied: {argv[0]!r} is not executable for this worker"
    return f"cannot start {argv[0]!r}: {os.strerror(error.errno or 0)}"


LIBC = ctypes.CDLL(None, use_errno=True)


def main(descriptor: int) -> None:
    """Serves the worker at the other end of the socket `descriptor`."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Commands with secrets pass through its memory, which a job of the same user could read otherwise.
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wakeups, wakeups_in = os.pipe()
    os.set_blocking(wakeups_in, False)
    signal.set_wakeup_fd(wakeups_in, warn_on_full_buffer=False)
    # The worker decides what a signal to all of them means, and its death is noticed by the socket. Handlers, unlike
    # SIG_IGN, are not inherited by the attempts.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    supervisor = Supervisor(socket.socket(fileno=descriptor), wakeups)
    try:
        supervisor.run()
    finally:
        supervisor.end()


if __name__ == "__main__":
    if sys.argv[1] == "exec":
        # What a confined command does, without a supervisor: tried out when a worker starts.
        confine(json.loads(sys.argv[2]))
        os.execvp(sys.argv[3], sys.argv[3:])
    main(int(sys.argv[1]))
