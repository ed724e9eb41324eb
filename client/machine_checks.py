"""What is well on a machine that runs a node or a worker, and what is not: the rules, each with its reason.

They are told numbers by a `machine.Machine` and answer findings; nothing here measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from horologe.client.findings import Finding, Grade
from horologe.client.machine import Machine, nearest_folder

__all__ = [
    "check_clock", "check_disk", "check_files", "check_memory", "check_randomness", "check_sync", "check_versions", "of_size",
]  # fmt: skip

PYTHON_MIN = (3, 11)
MEMORY_BYTES_MIN = 128 << 20
"""A process that has less does not get through its start."""
MEMORY_BYTES_WANTED = 512 << 20
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "fuse.sshfs", "lustre")
LOST_AT_RESTART = ("tmpfs", "ramfs")
SYNC_COUNT = 100
SYNC_SECONDS_MAX = 3.0


def check_clock(machine: Machine, error_ms_max: float) -> Finding:
    """Whether something keeps the wall clock right."""
    why = "due times follow the wall clock, and a node whose clock is far from the others' may not lead"
    state = machine.clock()
    if state.synchronised is None:
        text = "the kernel does not tell whether the clock is synchronised (a container may not ask)"
        return Finding("clock", Grade.WARNING, text, why, "look at the host: `timedatectl`, or `chronyc tracking`")
    if not state.synchronised:
        do = "run chrony, ntpd or systemd-timesyncd; in a container, on its host"
        return Finding("clock", Grade.WARNING, "the kernel says that nothing synchronises the clock", why, do)
    found = f"synchronised, at most {state.error_ms:.0f} ms from the right time"
    if state.error_ms > error_ms_max:
        return Finding("clock", Grade.WARNING, found, why, "look at its sources: `chronyc sources`, or `timedatectl`")
    return Finding("clock", Grade.OK, found, why)


def check_disk(machine: Machine, folder: Path, free_min: int) -> Iterator[Finding]:
    """Room, and whether it is a disk at all. `free_min`: with less, writes are refused."""
    why = "with less than `disk_free_bytes_min` a node refuses what needs more room; a full disk stops it"
    try:
        space, kind = machine.space(folder), machine.file_system(folder)
    except OSError as error:
        text = f"{folder} cannot be looked at: {error.strerror or error}"
        yield Finding("disk space", Grade.FAILURE, text, why, "let this user read the folder, or correct `data_dir`")
        return
    found = f"{of_size(space.free)} of {of_size(space.total)} are free under {nearest_folder(folder)}"
    do = "free some space, take a larger disk, or keep history and output for a shorter time"
    if space.free < free_min:
        yield Finding("disk space", Grade.FAILURE, f"{found}; {of_size(free_min)} are needed", why, do)
    elif space.free < max(4 * free_min, space.total // 10):
        yield Finding("disk space", Grade.WARNING, found, why, do)
    else:
        yield Finding("disk space", Grade.OK, found, why)
    yield _file_system(kind, folder)


def _file_system(kind: str, folder: Path) -> Finding:
    why = "what was acknowledged must be on a disk of this machine, which survives a crash, and LMDB maps its file"
    if kind in LOST_AT_RESTART:
        return Finding("file system", Grade.FAILURE, f"{kind}: its content is gone after a restart", why, _PUT_IT)
    if kind.startswith(NETWORK_FILE_SYSTEMS):
        text = f"{kind}: a network file system, where locks and mapped files are not safe"
        return Finding("file system", Grade.FAILURE, text, why, _PUT_IT)
    if kind == "overlay" or kind.startswith("fuse"):
        text = f"{kind}: the layer of a container, which goes with it, or a program's file system"
        return Finding("file system", Grade.WARNING, text, why, f"keep {folder} in a volume on a disk")
    return Finding("file system", Grade.OK, kind or "its kind is not known", why)


_PUT_IT = "put `data_dir` on a local disk"


def check_sync(machine: Machine, folder: Path, pulse_ms: float, election_ms: float) -> Finding:
    """How long the disk takes to keep something. Both limits are those of the node."""
    why = f"each log entry waits for it: beyond `pulse_ms` ({pulse_ms:g} ms) starts are late, and a leader whose disk takes as "
    why += f"long as an election timeout ({election_ms:g} ms) is replaced"
    try:
        samples = sorted(machine.sync_seconds(folder, SYNC_COUNT, SYNC_SECONDS_MAX))
    except OSError as error:
        text = f"nothing can be written under {nearest_folder(folder)}: {error.strerror or error}"
        return Finding("disk sync", Grade.FAILURE, text, why, "let this user write there, or correct `data_dir`")
    middle, late = (1000 * samples[min(len(samples) - 1, int(len(samples) * part))] for part in (0.5, 0.99))
    found = f"fdatasync takes {middle:.2f} ms (p50) and {late:.2f} ms (p99), of {len(samples)}"
    do = "take a faster disk, or one that nobody else uses; if that cannot be, raise the election timeouts"
    if late > election_ms:
        return Finding("disk sync", Grade.FAILURE, found, why, do)
    return Finding(
        "disk sync", Grade.WARNING if late > pulse_ms else Grade.OK, found, why, do if late > pulse_ms else ""
    )


def check_files(machine: Machine, process: int | None, *, used: int, wanted: int, for_what: str) -> Finding:
    """How many connections fit. `used` is taken by the program itself, `wanted` is what should be left for others."""
    why = f"each {for_what} is an open file of the process, and who comes when none is left is turned away"
    try:
        limit = machine.file_limit(process)
    except OSError as error:
        text = f"the limit of process {process} cannot be read: {error.strerror or error}"
        return Finding("open files", Grade.WARNING, text, why, "run this as the same user, or as root")
    left = max(0, limit.soft - used)
    found = f"{limit.soft:,} (RLIMIT_NOFILE of {limit.whose}, {limit.hard:,} at most): room for {left:,} of {for_what}"
    do = "raise it: `ulimit -n 65536`, or `LimitNOFILE=65536` in the unit of systemd"
    if left < wanted // 20:
        return Finding("open files", Grade.FAILURE, found, why, do)
    return Finding("open files", Grade.WARNING if left < wanted else Grade.OK, found, why, do if left < wanted else "")


def check_memory(machine: Machine, content_bytes: int = 0) -> Finding:
    """`content_bytes`: of a file that is best kept in memory as a whole."""
    space = machine.memory()
    why = "a process that gets no memory is killed; and the state is read through the page cache"
    found = f"{of_size(space.free)} of {of_size(space.total)} can be used"
    do = "give the machine or the container more, or move something else away"
    if space.free < MEMORY_BYTES_MIN:
        return Finding("memory", Grade.FAILURE, found, why, do)
    if space.free < MEMORY_BYTES_WANTED:
        return Finding("memory", Grade.WARNING, found, why, do)
    if space.free < content_bytes:
        return Finding("memory", Grade.WARNING, f"{found}; the state has {of_size(content_bytes)}", why, do)
    return Finding("memory", Grade.OK, found, why)


def check_randomness(machine: Machine) -> Finding:
    """Whether keys can be made."""
    why = "keys, tokens and ids are made of random bytes"
    if machine.has_randomness():
        return Finding("randomness", Grade.OK, "the kernel gives random bytes at once", why)
    do = "let the machine finish its start; give a virtual machine a source of randomness (virtio-rng)"
    return Finding("randomness", Grade.FAILURE, "the kernel has no random bytes yet", why, do)


def check_versions(machine: Machine, pinned: str = "") -> Finding:
    """`pinned`: the only version of pysyncobj that a node works with; empty where none is needed."""
    versions = machine.versions()
    why = "a node depends on inner parts of pysyncobj, and everything here on Python 3.11 or newer"
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    do = "install Horologe anew in a fresh environment: `pip install horologe`"
    is_old = tuple(int(part) for part in versions["python"].split(".")[:2]) < PYTHON_MIN
    if is_old or "missing" in versions.values() or (pinned and versions["pysyncobj"] != pinned):
        return Finding("versions", Grade.FAILURE, found, why, do)
    return Finding("versions", Grade.OK, found, why)


def of_size(count: int) -> str:
    """For people: `3.2 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
