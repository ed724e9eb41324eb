"""Log levels of this process while it runs: changed for a time, and then as usual again.

A level that somebody forgot would fill the disk, so each change has an end. Loggers are Python's, by the names of their modules.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
USUAL_SECONDS = 600.0
SECONDS_MAX = 86_400.0
CHANGES_MAX = 100
"""A name that nobody has used makes a logger, which stays."""
_LOGGER = re.compile(r"[A-Za-z_][\w.-]{0,199}")


class LogLevelError(Exception):
    """A level, a logger or a time that there is not. Says which field, and what to write."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Change:
    """Of one logger, for a time."""

    logger: str
    level: int
    usual: int
    """As it was before the first change; NOTSET: as the logger above it."""
    ends_at: float
    """On the clock of the process."""


class LogLevels:
    """What was changed, and until when. Belongs to the event loop, which calls `expire` in time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._changes: dict[str, Change] = {}

    def set(self, logger: str, level: str, seconds: float = USUAL_SECONDS) -> None:
        """Empty level: as usual again. Raises LogLevelError."""
        if logger and not _LOGGER.fullmatch(logger):
            raise LogLevelError(
                "logger", f"{logger[:80]!r} is no logger; write the name of a module: horologe.node.peers"
            )
        if level not in ("", *LEVELS):
            raise LogLevelError("level", f"{level[:80]!r} is no level; these are {', '.join(LEVELS)}")
        if not 0 < seconds <= SECONDS_MAX:
            raise LogLevelError("duration", f"{seconds:g} s is not more than nothing and at most a day")
        before = self._changes.get(logger)
        if not level:
            if before is not None:
                self._undo(before)
            return
        if before is None and len(self._changes) >= CHANGES_MAX:
            raise LogLevelError("logger", f"{CHANGES_MAX} loggers are changed already; let some of them be as usual")
        named = logging.getLogger(logger or None)
        usual = named.level if before is None else before.usual
        self._changes[logger] = Change(logger, LEVELS[level], usual, self._monotonic() + seconds)
        named.setLevel(LEVELS[level])

    def expire(self) -> None:
        """Undoes what is over."""
        now = self._monotonic()
        for change in [each for each in self._changes.values() if each.ends_at <= now]:
            self._undo(change)

    def undo_all(self) -> None:
        """When the node stops: others may live in this process."""
        for change in list(self._changes.values()):
            self._undo(change)

    def changes(self) -> list[Change]:
        """By name, and that of all first."""
        return [self._changes[name] for name in sorted(self._changes)]

    def _undo(self, change: Change) -> None:
        del self._changes[change.logger]
        logging.getLogger(change.logger or None).setLevel(change.usual)


def name_of(level: int) -> str:
    """As people write it; empty: none of its own."""
    return "" if level == logging.NOTSET else logging.getLevelName(level).lower()
