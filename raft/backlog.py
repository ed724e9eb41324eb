"""What a leader has appended and not applied yet: how much that is, and which commands are among it.

Whoever has no result of a command after a while sends it again, for its leader may have gone with it. While the leader is only
slow, copies in the log would make it slower still; so one that is on its way already is not taken again.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from horologe.log.v1 import log_pb2

_Id = tuple[str, int]


class Backlog:
    """One leader's, of one term: what it has appended in it is applied, or the term is over."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._entries: dict[int, tuple[int, list[_Id]]] = {}
        self._ids: set[_Id] = set()

    def add(self, index: int, size_bytes: int, commands: Iterable[log_pb2.Command]) -> None:
        """An entry with these commands was appended."""
        ids = [_id_of(command) for command in commands]
        self._entries[index] = size_bytes, ids
        self._ids.update(ids)
        self.size_bytes += size_bytes

    def applied(self, index: int) -> None:
        """The entry has come out of the log. Those of others are not known here."""
        size_bytes, ids = self._entries.pop(index, (0, ()))
        self._ids.difference_update(ids)
        self.size_bytes -= size_bytes

    def clear(self) -> None:
        """Another term begins."""
        self._entries.clear()
        self._ids.clear()
        self.size_bytes = 0

    def without_repeats(self, commands: Sequence[log_pb2.Command]) -> list[log_pb2.Command]:
        """The commands that are neither on their way nor named twice here, in their order. One without an id is no repeat."""
        seen: set[_Id] = set()
        fresh: list[log_pb2.Command] = []
        for command in commands:
            command_id = _id_of(command)
            if not command.origin_id or not (command_id in self._ids or command_id in seen):
                seen.add(command_id)
                fresh.append(command)
        return fresh


def _id_of(command: log_pb2.Command) -> _Id:
    return command.origin, command.origin_id
