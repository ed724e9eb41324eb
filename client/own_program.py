"""How this program starts itself again, and what it knows of how it was built.

Usually it is Python with our packages. In the binary of `make binary` it is frozen: then `sys.executable` is that program, takes
none of Python's options, and runs our modules and files when it is told to by the words below. Whoever starts a process of ours
asks here.
"""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Build", "build", "command", "run_file", "run_module", "serve_frozen"]

FROZEN = bool(getattr(sys, "frozen", False))
RUN_FILE, RUN_MODULE = "--run-file", "--run-module"
BUILD_FILE = "build.json"
"""Beside the modules of the binary: the fields of `Build`."""


@dataclass(frozen=True, slots=True)
class Build:
    """Where a binary comes from."""

    commit: str
    commit_time: str
    """As git says it: the same commit gives the same binary, so it knows no other time."""
    python: str
    glibc: str
    """The oldest glibc that it runs with."""


def command() -> tuple[str, ...]:
    """The command line: what takes the arguments of `horologe`."""
    return (sys.executable,) if FROZEN else (sys.executable, "-c", "from horologe.client.cli.main import main; main()")


def run_module(name: str, *arguments: str) -> list[str]:
    """One of our modules as a program, as `python -m` would."""
    return [sys.executable, *((RUN_MODULE,) if FROZEN else ("-P", "-m")), name, *arguments]


def run_file(path: str, *arguments: str) -> list[str]:
    """One of our files that needs nothing but the standard library, isolated: neither its folder nor the environment decides what
    it imports."""
    return [sys.executable, *((RUN_FILE,) if FROZEN else ("-I", "-S")), path, *arguments]


def serve_frozen() -> bool:
    """In the binary: does what `run_file` and `run_module` asked for. False if it was nothing of that."""
    if len(sys.argv) < 3 or sys.argv[1] not in (RUN_FILE, RUN_MODULE):
        return False
    kind, sys.argv = sys.argv[1], sys.argv[2:]
    if kind == RUN_FILE:
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return True


def build() -> Build | None:
    """What the binary says of itself; None where this is no binary."""
    if not FROZEN:
        return None
    values: dict[str, Any] = json.loads((Path(sys._MEIPASS) / BUILD_FILE).read_text())  # type: ignore[attr-defined]
    return Build(**values)
