"""What differs between two definitions of a job, field by field, in the words of job files."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from horologe.client.jobfile import to_definition
from horologe.v1.job_pb2 import Job

__all__ = ["Difference", "differences", "lines"]

CONTEXT_LINES = 2
"""Lines around a change in a text of several lines."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not the same, or not in both."""

    field: str
    """As in a job file, from the job on: `action.shell.argv`, `schedule[1].cron`."""
    before: object
    """None if it is new."""
    after: object
    """None if it is gone."""


def differences(before: Job | None, after: Job | None) -> list[Difference]:
    """All of them, in the order of a job file; fields that are new come last. A job that is not there has no fields."""
    return list(_walk("", _definition(before), _definition(after)))


def lines(difference: Difference) -> Iterator[tuple[str, str]]:
    """How people see a difference: lines, each with `-`, `+` or a blank for what is only around."""
    before, after = difference.before, difference.after
    if isinstance(before or "", str) and isinstance(after or "", str) and "\n" in f"{before or ''}{after or ''}":
        yield " ", f"{difference.field}:"
        old, new = str(before or "").splitlines(), str(after or "").splitlines()
        for line in list(difflib.unified_diff(old, new, n=CONTEXT_LINES, lineterm=""))[2:]:
            if not line.startswith("@@"):
                yield line[0], f"  {line[1:]}"
        return
    if before is not None:
        yield "-", f"{difference.field}: {_text(before)}"
    if after is not None:
        yield "+", f"{difference.field}: {_text(after)}"


def _definition(job: Job | None) -> dict[str, object]:
    if job is None:
        return {}
    mapping = to_definition(job)
    # They are what finds the job, and no part of what it is.
    del mapping["name"], mapping["namespace"]
    return mapping


def _walk(path: str, before: object, after: object) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _walk(f"{path}.{key}" if path else key, before.get(key), after.get(key))
    elif _are_mappings(before) and _are_mappings(after):
        old, new = _as_list(before), _as_list(after)
        for position in range(max(len(old), len(new))):
            one = old[position] if position < len(old) else None
            other = new[position] if position < len(new) else None
            yield from _walk(f"{path}[{position}]", one, other)
    else:
        yield Difference(path, before, after)


def _are_mappings(value: object) -> bool:
    """One mapping, or a list of them: a job's schedules are written in both forms."""
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value))


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
