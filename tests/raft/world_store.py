"""A LogStore in memory with transactions and crashes; beside the log it keeps a state, the list of what was applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

Applied = tuple[int, int, bytes]


class MemoryStore:
    """What the journal writes to in tests. `commit` ends a transaction, `roll_back` is what a crash before it does."""

    def __init__(self) -> None:
        self._log: dict[int, tuple[int, bytes]] = {}
        self._meta: dict[str, bytes] = {}
        self.state: list[Applied] = []
        self._undo: list[Callable[[], object]] = []

    def log_get_all(self) -> Iterable[tuple[int, int, bytes]]:
        return [(index, *self._log[index]) for index in sorted(self._log)]

    def log_put(self, index: int, term: int, command: bytes) -> None:
        self._remember(self._log, index)
        self._log[index] = (term, command)

    def log_delete_from(self, index: int) -> None:
        self._delete([found for found in self._log if found >= index])

    def log_delete_to(self, index: int) -> None:
        self._delete([found for found in self._log if found < index])

    def meta_get(self, key: str) -> bytes | None:
        return self._meta.get(key)

    def meta_put(self, key: str, value: bytes) -> None:
        self._remember(self._meta, key)
        self._meta[key] = value

    def state_add(self, index: int, term: int, payload: bytes) -> None:
        """What applying an entry does to the state."""
        self.state.append((index, term, payload))
        self._undo.append(self.state.pop)

    def state_replace(self, state: list[Applied]) -> None:
        """What installing a snapshot does to the state."""
        before = self.state
        self.state = list(state)
        self._undo.append(lambda: setattr(self, "state", before))

    def commit(self) -> None:
        """From here on everything so far survives a crash."""
        self._undo.clear()

    def roll_back(self) -> None:
        """Back to the last commit."""
        while self._undo:
            self._undo.pop()()

    def _delete(self, indexes: list[int]) -> None:
        for index in indexes:
            self._remember(self._log, index)
            del self._log[index]

    def _remember(self, table: dict[Key, Value], key: Key) -> None:
        if key in table:
            self._undo.append(lambda value=table[key]: table.__setitem__(key, value))  # type: ignore[misc]
        else:
            self._undo.append(lambda: table.pop(key, None))
