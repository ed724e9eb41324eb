"""What an examination finds: one finding for each thing that was looked at, with a grade, and what to do where it is not well."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "Grade", "as_data", "worst"]


class Grade(enum.IntEnum):
    """How good it is; the number is the exit code of a command that found nothing worse."""

    OK = 0
    WARNING = 1
    FAILURE = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """Names it, always the same."""
    grade: Grade
    found: str
    """How it is."""
    why: str
    """Why that matters."""
    do: str = ""
    """What to do about it; empty if it is well."""


def worst(findings: Iterable[Finding]) -> Grade:
    """Of all of them."""
    return max((finding.grade for finding in findings), default=Grade.OK)


def as_data(findings: Iterable[Finding]) -> dict[str, Any]:
    """For programs."""
    found = list(findings)
    return {
        "grade": worst(found).word,
        "findings": [
            {"check": each.check, "grade": each.grade.word, "found": each.found, "why": each.why, "do": each.do}
            for each in found
        ],
    }
