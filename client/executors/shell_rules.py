"""What the worker's owner lets commands and scripts do. No job can go beyond it; a job may ask for less.

How it is brought about is in `supervisor.py` (users, limits, privileges) and `bubblewrap.py` (namespaces).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from horologe.client.executors.bubblewrap import Bubblewrap

DEFAULT_INTERPRETERS: Final = (
    *("sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "python", "python3", "perl", "ruby", "node", "php", "lua"),
    *("Rscript", "awk"),
)
RLIMITS: Final = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")


class RefusedCommandError(Exception):
    """A job wants what the worker's owner has not allowed."""


@dataclass(frozen=True, slots=True)
class ShellRules:
    """ValueError says what contradicts itself, or cannot be done on this machine."""

    run_as_user: str = ""
    """Whom jobs run as that name nobody. Empty: the worker's own user. Only root can become somebody else."""
    users: Sequence[str] = ()
    """Whom else jobs may ask to run as."""
    allow_root: bool = False
    """Whether the two above may be a user with the number 0."""
    interpreters: Sequence[str] = DEFAULT_INTERPRETERS
    """What may read scripts: names of programs wherever they are, or paths."""
    rlimits: Mapping[str, int] = field(default_factory=dict)
    """Limits of each process, by the names of setrlimit(2) in lower case. A job can only ask for less."""
    new_privileges: bool = False
    """Whether programs like sudo may give a job more privileges than it has."""
    root_capabilities: bool = False
    """Whether jobs of a worker that is root keep what root may do beyond its own files."""
    bubblewrap: Bubblewrap | None = None
    """Puts jobs into namespaces of their own."""

    def __post_init__(self) -> None:
        for name in self.rlimits:
            if name not in RLIMITS:
                raise ValueError(f"shell.rlimits: {name!r} is no limit of a process; use {', '.join(RLIMITS)}")
        if not self.run_as_user:
            return
        account = _account(self.run_as_user)
        if account is None:
            raise ValueError(f"shell.run_as_user: this machine knows no user {self.run_as_user!r}")
        if account.pw_uid == 0 and not self.allow_root:
            raise ValueError(f"shell.run_as_user: {self.run_as_user!r} is root; set shell.allow_root if that is meant")
        if account.pw_uid != os.geteuid() and os.geteuid() != 0:
            raise ValueError(f"shell.run_as_user: only a worker that is root can run jobs as {self.run_as_user!r}")

    def account_for(self, user: str) -> pwd.struct_passwd | None:
        """Whom a job runs as that asks for `user`; None for the worker's own user. RefusedCommandError."""
        name = user or self.run_as_user
        if not name:
            return None
        if user and user != self.run_as_user and user not in self.users:
            raise RefusedCommandError(
                f"this worker runs nothing as {user!r}; its configuration would have to allow it (shell.users)"
            )
        account = _account(name)
        if account is None:
            raise RefusedCommandError(f"cannot run as {name!r} here: this machine knows no such user")
        if account.pw_uid == os.geteuid() != 0:
            return None
        if os.geteuid() != 0:
            raise RefusedCommandError(f"cannot run as {name!r} here: the worker is not root")
        if account.pw_uid == 0 and not self.allow_root:
            raise RefusedCommandError(f"cannot run as {name!r} here: it is root (shell.allow_root)")
        return account

    def check_interpreter(self, program: str) -> None:
        """RefusedCommandError unless it may read scripts."""
        if program not in self.interpreters and PurePath(program).name not in self.interpreters:
            raise RefusedCommandError(
                f"this worker reads no scripts with {program!r}; its configuration would have to allow it "
                "(shell.interpreters)"
            )

    def rlimits_for(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """The smaller of both counts. A core dump would hold the secrets of the job."""
        limits = {"core": 0, **self.rlimits}
        for name, value in wanted.items():
            limits[name] = min(value, limits.get(name, value))
        return limits

    def in_force(self) -> dict[str, str]:
        """What is in force, for the log of the worker's start."""
        return dict(self._in_force())

    def _in_force(self) -> Iterator[tuple[str, str]]:
        is_root = os.geteuid() == 0
        own = "root, which shell.run_as_user can change" if is_root else "the worker's own, who can read its files"
        yield "user", self.run_as_user or own
        if self.users:
            yield "or_users", ",".join(self.users)
        # In namespaces there is no way to them, whatever is allowed.
        yield "new_privileges", "allowed" if self.new_privileges and self.bubblewrap is None else "none"
        if is_root:
            yield "capabilities", "those of root" if self.root_capabilities else "none"
        yield "rlimits", " ".join(f"{name}={value}" for name, value in sorted(self.rlimits_for({}).items()))
        yield "sandbox", "off: they see all processes and files" if self.bubblewrap is None else "bubblewrap"


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
