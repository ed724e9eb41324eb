"""The gate before the log: what the cluster's version does not allow is refused before anybody has it in a log.

Here belongs what a replica knows beside the log: the version as of the last applied entry, and, on the leader, since when all
members could apply the next one. What a version means is in cluster_version.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from horologe.log.v1 import log_pb2
from horologe.raft.cluster_version import FIRST, Program, is_held, version_of
from horologe.raft.membership import Configuration
from horologe.raft.model import Code, Result
from horologe.raft.reconfiguration import LOOK_SECONDS, Introduction
from horologe.raft.tables import Tables

SETTLE_SECONDS = 300.0
"""So long all members must have run the newer program before the version is raised by itself."""
Refusal = tuple[log_pb2.Command, Result]


class WaitsFor(Protocol):
    """The members that keep the cluster from having a version; see `waits_for`."""

    def __call__(self, version: int, *, also_absent: bool = True) -> Sequence[str]: ...


class VersionGate:
    """Of one replica. Asked on every node, for its own callers' commands; on the leader for those of all."""

    def __init__(self, program: Program, tables: Tables, settle_seconds: float) -> None:
        """Raises UnfitProgramError if the state is not for this program."""
        self.program = program
        self._settle_seconds = settle_seconds
        self._ready_since: float | None = None
        self._look_at = 0.0
        self.load(tables)
        program.check(tables)

    def load(self, tables: Tables) -> None:
        """The state has changed."""
        self.version = version_of(tables)
        self.is_held = is_held(tables)

    def admit(self, commands: list[log_pb2.Command]) -> tuple[list[log_pb2.Command], list[Refusal]]:
        """Those that the log may hold, and the others with what their callers are told."""
        refused: list[Refusal] = [
            (command, Result(Code.VERSION_TOO_LOW, (self.version,), fault))
            for command in commands
            if (fault := self.program.fault_of(command, self.version))
        ]
        if not refused:
            return commands, refused
        return [command for command in commands if not self.program.fault_of(command, self.version)], refused

    def decide(
        self, commands: list[log_pb2.Command], waits_for: WaitsFor
    ) -> tuple[list[log_pb2.Command], list[Refusal]]:
        """On the leader: the commands that would give the cluster a version that members cannot apply are refused."""
        refused: list[Refusal] = []
        decided: list[log_pb2.Command] = []
        for command in commands:
            if fault := self._obstacle(command, waits_for):
                refused.append((command, Result(Code.VERSION_NOT_READY, (self.version,), fault)))
            else:
                decided.append(command)
        return decided, refused

    def _obstacle(self, command: log_pb2.Command, waits_for: WaitsFor) -> str:
        """Who is in the way of the version that a command gives the cluster; empty if it gives none, or nobody is."""
        if command.HasField("raise_version"):
            version = command.raise_version.version
            missing = waits_for(version) if version > self.version else ()
        elif command.HasField("bootstrap"):
            version = command.bootstrap.version or FIRST
            # Whoever is not there yet is a neighbour, and most likely knows the older version of this program.
            missing = waits_for(version, also_absent=version > self.program.versions.oldest)
        else:
            return ""
        return f"{', '.join(missing)} cannot apply version {version}, or is not connected" if missing else ""

    def next(self, waits_for: WaitsFor, now: float) -> log_pb2.Command | None:
        """On the leader: what raises the version, when all members could apply the next one for long enough."""
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        if self.version >= self.program.versions.newest or self.is_held or waits_for(self.version + 1):
            self._ready_since = None
            return None
        if self._ready_since is None:
            self._ready_since = now
        if now - self._ready_since < self._settle_seconds:
            return None
        self._ready_since = None
        return log_pb2.Command(raise_version=log_pb2.RaiseVersion(version=self.version + 1))

    def follow(self) -> None:
        """This node does not lead (any more): whoever does counts anew."""
        self._ready_since = None


def waits_for(
    version: int,
    configurations: Iterable[Configuration],
    known: Mapping[str, Introduction],
    present: Collection[str],
    *,
    also_absent: bool = True,
) -> list[str]:
    """The members that have not said that they can apply this version, or are not there to say it again.

    Without `also_absent` only those that are there, and have said that they cannot.
    """
    members = sorted({name for configuration in configurations for name in configuration.by_name})
    there = {name for name in members if name in present and name in known}
    return [name for name in members if (version not in known[name].versions if name in there else also_absent)]
