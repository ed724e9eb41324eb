"""Enumerations as words: `OVERLAP_POLICY_SKIP` is `skip` in job files, flags and output; both ways.

Also what the words mean for a program: which states of an execution are final.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from horologe.v1.execution_pb2 import Execution

__all__ = ["FINISHED_STATES", "LATER", "Enumeration", "known", "parse", "render", "suggest"]

FINISHED_STATES = frozenset(
    {
        Execution.STATE_COMPLETED,
        Execution.STATE_FAILED,
        Execution.STATE_CANCELLED,
        Execution.STATE_DEAD,
        Execution.STATE_SKIPPED,
    }
)
"""An execution in one of these never changes again."""

# Words that have a meaning in Horologe, and that this release does not act on: better refused than ignored.
LATER: Mapping[str, frozenset[str]] = {
    "CatchupPolicy": frozenset({"earliest", "all"}),
    "Dialect": frozenset({"unix-seconds-first", "unix-seconds-last", "quartz", "kubernetes"}),
}


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
    return {name.removeprefix(prefix).lower(): number for name, number in enumeration.items() if number}


def parse(enumeration: Enumeration[Number], text: str) -> Number:
    """The number of a word. ValueError says which words are allowed."""
    words = known(enumeration)
    word = text.strip().lower()
    if word.replace("-", "_") in words:
        return words[word.replace("-", "_")]
    allowed = ", ".join(words)
    if word in LATER.get(enumeration.DESCRIPTOR.name, ()):
        raise ValueError(f"{text!r} is not in this release; allowed: {allowed}")
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
