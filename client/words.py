"""Enumerations as words: `OVERLAP_POLICY_SKIP` is `skip` in job files, flags and output; both ways.

Also what the words mean for a program: which states of an execution are final.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from horologe.v1.execution_pb2 import Execution

__all__ = ["FINISHED_STATES", "Enumeration", "known", "parse", "render", "suggest"]

FINISHED_STATES = frozenset(
    {
        Execution.STATE_COMPLETED,
        Execution.STATE_FAILED,
        Execution.STATE_CANCELLED,
        Execution.STATE_DEAD,
        Execution.STATE_SKIPPED,
    }
)
"""An execution in one of these changes only when somebody asks for it: when it is driven again, or its run in part."""

_HYPHENATED = frozenset({"Dialect"})
"""Enumerations whose words are written as their names are elsewhere: `unix-seconds-first`."""

Number = TypeVar("Number", bound=int)
Number_co = TypeVar("Number_co", bound=int, covariant=True)


class Enumeration(Protocol[Number_co]):
    """What every generated enumeration can do."""

    DESCRIPTOR: Any

    def keys(self) -> Sequence[str]:
        """The names."""

    def items(self) -> Sequence[tuple[str, Number_co]]:
        """Names with their numbers."""


def known(enumeration: Enumeration[Number]) -> dict[str, Number]:
    """All words of an enumeration with their numbers, without the unspecified one."""
    names = list(enumeration.keys())
    prefix = names[0].removesuffix("UNSPECIFIED")
    joint = "-" if enumeration.DESCRIPTOR.name in _HYPHENATED else "_"
    return {
        name.removeprefix(prefix).lower().replace("_", joint): number for name, number in enumeration.items() if number
    }


def parse(enumeration: Enumeration[Number], text: str) -> Number:
    """The number of a word. ValueError says which words are allowed."""
    words = known(enumeration)
    word = text.strip().lower()
    for written in (word.replace("-", "_"), word.replace("_", "-")):
        if written in words:
            return words[written]
    allowed = ", ".join(words)
    raise ValueError(f"{text!r} is not known; allowed: {allowed}{suggest(word, words)}")


def render(enumeration: Enumeration[int], number: int) -> str:
    """The word for a number; empty when unspecified, `unknown_7` for one that only a newer server knows."""
    if not number:
        return ""
    for word, candidate in known(enumeration).items():
        if candidate == number:
            return word
    return f"unknown_{number}"


def suggest(word: str, candidates: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing when nothing is near."""
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
