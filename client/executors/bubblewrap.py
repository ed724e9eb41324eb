"""Commands in namespaces of their own, made by bubblewrap (https://github.com/containers/bubblewrap) where it is installed.

A command sees no process but its own, an empty /tmp, the system and the worker's program read-only, and none of the files that
hold what the worker must keep to itself. The rest of the file system and the network are as its user finds them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from horologe.client import own_program
from horologe.client.executors import supervisor
from horologe.client.executors.supervisor import Confinement

PROGRAM = "bwrap"
PROBE_SECONDS_MAX = 10.0
SYSTEM_FOLDERS = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/sys", "/usr")
# What is replaced, not what is used.
PRIVATE_FOLDERS = ("/tmp", "/var/tmp")  # nosec B108
NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--die-with-parent")


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Where it is, and what it hides."""

    program: str
    hidden: Sequence[Path] = field(default=())
    """Files and folders that commands find empty."""

    def wrap(
        self, argv: Sequence[str], folder: str, scratch: str, confinement: Confinement
    ) -> tuple[list[str], Confinement]:
        """What runs `argv` in `folder`, with `scratch` to write to, and how that itself has to be confined."""
        words = self._namespaces(confinement)
        if _is_root(confinement):
            # It needs what root may do to make the namespaces, and takes it from the command.
            confinement = {**confinement, "capabilities": True}
        return [*words, *self._files(folder, scratch), "--chdir", folder, "--", *argv], confinement

    def _namespaces(self, confinement: Confinement) -> list[str]:
        words = [self.program, *NAMESPACES]
        if not _is_root(confinement):
            # In a namespace of users everybody may make the others; but root, without its capabilities, may not make that.
            words.append("--unshare-user")
        elif not confinement["capabilities"]:
            words += ["--cap-drop", "ALL"]
        return words

    def _files(self, folder: str, scratch: str) -> list[str]:
        words = ["--bind", "/", "/"]
        for name in (*SYSTEM_FOLDERS, sys.prefix):
            # Where they are links into /usr, that covers them.
            if Path(name).is_dir() and not Path(name).is_symlink():
                words += ["--ro-bind", name, name]
        words += ["--dev", "/dev", "--proc", "/proc"]
        for name in PRIVATE_FOLDERS:
            words += ["--tmpfs", name]
        for name in dict.fromkeys((scratch, folder)):
            if any(name.startswith(f"{private}/") for private in PRIVATE_FOLDERS):
                words += ["--bind", name, name]
        for path in self.hidden:
            if path.is_dir():
                words += ["--tmpfs", str(path)]
            elif path.exists():
                words += ["--ro-bind", "/dev/null", str(path)]
        return words


def find() -> str | None:
    """Where bubblewrap is, if it is installed."""
    return shutil.which(PROGRAM)


def probe(program: str, confinement: Confinement) -> str:
    """What keeps it from working here, for commands that are confined like that; empty if nothing does.

    Kernels and containers may forbid namespaces.
    """
    command, confinement = Bubblewrap(program).wrap(["true"], "/", "", confinement)
    wrapper = own_program.run_file(supervisor.__file__, "exec", json.dumps(confinement), *command)
    try:
        done = subprocess.run(
            wrapper,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS_MAX,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"it ends with {done.returncode}"


def _is_root(confinement: Confinement) -> bool:
    return (os.geteuid() if confinement["user"] is None else confinement["user"]) == 0
