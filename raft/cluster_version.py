"""The cluster's version: which commands the log may hold, and which of them a program can apply.

A small integer that the replicated state holds; each minor version of the program that changes the log brings the next one. A
program can apply its own version and the one before, so members of two neighbouring releases live side by side, and the log
holds nothing that one of them does not know. Only when all members run the newer release is the version raised, by an entry of
the log, and from then on the older one is no member any more. When that entry is proposed is in version_gate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from horologe.log.v1 import log_pb2
from horologe.raft.model import CLUSTER_ID_KEY, Code, Result
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables

RELEASES: Mapping[int, str] = {1: "0.1"}
"""Of each version of the cluster, the first minor version of the program that can apply it."""
KINDS: Mapping[int, frozenset[str]] = {
    1: frozenset(
        {
            *("put_jobs", "delete_job", "pause_job", "run_job", "cancel_execution", "rerun_execution"),
            *("open_session", "close_session", "drain_worker", "plan", "complete", "prune"),
            *("bootstrap", "change_membership", "barrier", "checkpoint", "raise_version", "hold_version"),
            *("set_limit", "delete_limit", "set_namespace", "set_queue", "pause_queue"),
            *("set_calendar", "delete_calendar", "pause_scope"),
            *("redrive_dead_letter", "purge_dead_letter", "start_operation", "cancel_operation"),
            *("begin_security", "put_token", "revoke_token", "note_token_uses"),
            *("set_grant", "delete_grant", "set_principal", "set_secret", "delete_secret", "note_denied"),
            *("set_notification", "delete_notification", "note_notices", "note_deliveries", "note_quorum"),
        }
    ),
}
"""The kinds of commands, by the version since which the log may hold them."""
FIELDS: Mapping[int, frozenset[str]] = {}
"""The same for fields that known kinds got later, as `put_jobs.jobs.job.priority`. What an older program would not see, it
would apply otherwise than the others."""
FIRST = 1
"""Of a state that says nothing: it was written before there were versions."""
_KEY = b"cluster_version"


class UnfitProgramError(Exception):
    """This program cannot apply what the state or the log holds. The text says which one can."""


class VersionRange(NamedTuple):
    """The versions of a cluster that a program can apply. By default those of one that does not say it."""

    oldest: int = FIRST
    newest: int = FIRST

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.oldest <= version <= self.newest

    def __str__(self) -> str:
        return f"version {self.newest}" if self.oldest == self.newest else f"versions {self.oldest} to {self.newest}"


UNSAID = VersionRange()


class Program:
    """What a program can apply.

    Attributes:
        versions: Its own version and the one before.
    """

    def __init__(
        self,
        releases: Mapping[int, str] = RELEASES,
        kinds: Mapping[int, AbstractSet[str | None]] = KINDS,
        fields: Mapping[int, frozenset[str]] = FIELDS,
    ) -> None:
        """By default this one; others in simulations of upgrades."""
        newest = max(releases)
        self.versions = VersionRange(max(FIRST, newest - 1), newest)
        self.fields = fields
        self._releases = releases
        self._kind_since = {kind: version for version, named in kinds.items() for kind in named}
        self._field_since: dict[str, list[tuple[str, int]]] = {}
        """By kind: most have none, and a command costs no more than that look."""
        for version, paths in fields.items():
            for path in sorted(paths):
                self._field_since.setdefault(path.partition(".")[0], []).append((path, version))

    def check(self, tables: Tables) -> None:
        """Raises UnfitProgramError if this state is not for this program. That of a cluster which has no name yet is for any."""
        version = version_of(tables) if tables.meta.get(CLUSTER_ID_KEY) else self.versions.newest
        if version > self.versions.newest:
            raise UnfitProgramError(
                f"the state is of cluster version {version}, and this program can apply {self.versions}: a newer program wrote "
                "it; start the program of the other members on this node"
            )
        if version < self.versions.oldest:
            needed = self._releases.get(version + 1, "of the minor version between")
            raise UnfitProgramError(
                f"the state is of cluster version {version}, and this program can apply {self.versions}: a release was left "
                f"out; run horologe {needed} on all nodes first, until the cluster's version is raised"
            )

    def fault_of(self, command: log_pb2.Command, version: int) -> str:
        """Why a log of this version must not hold the command, for people; empty if it may."""
        kind = command.WhichOneof("kind")
        since = self._kind_since.get(kind)
        if since is None:
            return "a command of a kind that the leader's program does not know; upgrade all members first"
        if since > version:
            return _too_new(str(kind), since, version)
        for path, field_since in self._field_since.get(kind or "", ()):
            if field_since > version and _is_set(command, path.split(".")):
                return _too_new(path, field_since, version)
        return ""


THIS_PROGRAM = Program()


def version_of(tables: Tables) -> int:
    """The cluster's version, as the state has it."""
    return _record(tables).version or FIRST


def is_held(tables: Tables) -> bool:
    """Whether somebody has said that it shall stay where it is."""
    return _record(tables).held


def begin(state: State, version: int, program: Program) -> None:
    """A new cluster begins with this version; 0: with the first one. Nothing is written for that one."""
    if version > FIRST:
        _put(state, log_pb2.ClusterVersionRecord(version=version), program)


def raise_version(state: State, command: log_pb2.RaiseVersion, program: Program) -> Result:
    """To the next one. Raises InvariantError if this program cannot apply it: no entry is skipped."""
    record = _record(state.tables)
    version = record.version or FIRST
    if command.version <= version:
        return Result(Code.OK, (version,))
    if command.version != version + 1:
        return Result(Code.VERSION_NOT_READY, (version,), f"the cluster is at version {version}, one step at a time")
    if record.held and not command.asked:
        return Result(Code.VERSION_NOT_READY, (version,), "the cluster's version is held")
    _put(state, log_pb2.ClusterVersionRecord(version=command.version), program)
    return Result(Code.OK, (command.version,))


def hold_version(state: State, command: log_pb2.HoldVersion) -> Result:
    """Where it is, or lets it go up again."""
    record = _record(state.tables)
    record.version, record.held = record.version or FIRST, command.held
    state.tables.meta.put(_KEY, record.SerializeToString(deterministic=True))
    state.effects.version_changed = True
    return Result(Code.OK, (record.version,))


def _put(state: State, record: log_pb2.ClusterVersionRecord, program: Program) -> None:
    if record.version not in program.versions:
        raise InvariantError(
            f"entry {state.index} raises the cluster's version to {record.version}, and this program can apply "
            f"{program.versions}: upgrade this node"
        )
    state.tables.meta.put(_KEY, record.SerializeToString(deterministic=True))
    state.effects.version_changed = True


def _record(tables: Tables) -> log_pb2.ClusterVersionRecord:
    return log_pb2.ClusterVersionRecord.FromString(bytes(tables.meta.get(_KEY) or b""))


def _too_new(what: str, since: int, version: int) -> str:
    return (
        f"{what} is there since cluster version {since}, and the cluster is at {version}: it is raised when all members run a "
        "program that knows it (`horologe cluster upgrade`)"
    )


def _is_set(message: Any, path: list[str]) -> bool:
    """Whether a field, or an element's if there are several on the way, holds anything."""
    name, rest = path[0], path[1:]
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if descriptor.is_repeated:
        items = getattr(message, name)
        return any(_is_set(item, rest) for item in items) if rest else bool(items)
    if rest:
        return message.HasField(name) and _is_set(getattr(message, name), rest)
    return any(found.name == name for found, _ in message.ListFields())
