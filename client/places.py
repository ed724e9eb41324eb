"""From a field, as the API calls it, to the place of a job file where it was written.

The two name things alike, but for schedules: `schedules[0].cron.time_zone` is the `time_zone` beside `cron`, in the only schedule
or in the first one of the list. Of what the file does not say, the place is that of the nearest thing around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

__all__ = ["find"]

_STEPS = re.compile(r"([a-z][a-z0-9_]*)|\[(\d+)\]|\[\"([^\"]*)\"\]")
_RENAMED = {"schedules": "schedule"}


def find(job: yaml.Node, field: str) -> tuple[int, int]:
    """Line and column, from 1, of a field of the job at this node."""
    around, found = None, job
    for step in _steps(field):
        inner = _inside(found, step)
        if inner is None and around is not None and not isinstance(found, yaml.MappingNode):
            # The settings of a schedule stand beside its kind.
            inner = _inside(around, step)
        elif inner is not None:
            around = found
        if inner is not None:
            found = inner
    return found.start_mark.line + 1, found.start_mark.column + 1


def _steps(field: str) -> Iterator[str | int]:
    for name, position, key in _STEPS.findall(field):
        yield int(position) if position else _RENAMED.get(name, name) or key


def _inside(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None
