"""Where definitions come from: files, folders, standard input.

And the way back: from a job that the cluster refuses to the line in which it was written.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from horologe.client import errors
from horologe.client.names import job_id

if TYPE_CHECKING:
    from horologe.client.jobfile import SourcedJob
    from horologe.v1.job_pb2 import Job

__all__ = ["load_files", "placed", "standard_input"]

Result = TypeVar("Result")

_SUFFIXES = (".yaml", ".yml", ".json")
FILES_MAX = 10_000
"""Files of a folder: a mistake (a whole disk) is said, and not read."""


NO_FILE = "holds no .yaml, .yml or .json file"
NOTHING_LEFT = (
    "; --prune would delete every job of the set, and a folder without files is more often a wrong one: nothing was changed. "
    "`horologe job delete` deletes the last jobs of a set"
)


def load_files(files: Sequence[str], namespace: str, *, is_pruning: bool = False) -> list[SourcedJob]:
    """The jobs of these files and folders, each only once. InvalidFile lists everything that is wrong with any of them."""
    from horologe.client import jobfile

    found: list[SourcedJob] = []
    problems: list[errors.Problem] = []
    for name in _expand(files, NO_FILE + NOTHING_LEFT if is_pruning else NO_FILE):
        try:
            if name == "-":
                found += jobfile.loads(standard_input(), "<stdin>", namespace)
            else:
                found += jobfile.load(name, namespace)
        except errors.InvalidFile as error:
            problems += error.problems
    seen: dict[str, SourcedJob] = {}
    for entry in found:
        first = seen.setdefault(entry.job.name, entry)
        if first is not entry:
            text = f"{entry.job.name} is also in {first.file}:{first.line}"
            problems.append(errors.Problem(entry.file, entry.line, 0, text))
    if problems:
        raise errors.InvalidFile(problems)
    return found


def _expand(files: Sequence[str], complaint: str) -> list[str]:
    expanded: list[str] = []
    for name in files:
        if name != "-" and Path(name).is_dir():
            inside = sorted(_files_of(name))
            if not inside:
                raise errors.InvalidFile([errors.Problem(name, 0, 0, complaint)])
            expanded += inside
        else:
            expanded.append(name)
    return expanded


def _files_of(folder: str) -> Iterator[str]:
    """The job files of a folder and the folders in it, but for hidden ones (`.git`)."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            count += 1
            if count > FILES_MAX:
                raise errors.InvalidFile([errors.Problem(folder, 0, 0, f"holds more than {FILES_MAX:,} files")])
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                yield str(Path(place, name))


def standard_input() -> str:
    """All of it, as text."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise errors.InvalidFile([errors.Problem("<stdin>", 1, 0, "is not UTF-8 text")]) from error


class Source(Protocol):
    """Something that says where a job was written."""

    @property
    def job(self) -> Job:
        """As it is sent."""

    def place(self, field: str) -> errors.Problem:
        """Where a field of the job was written, as a problem without a text yet."""


def placed(sources: Sequence[Source], send: Callable[[], Result]) -> Result:
    """`send()`, with violations of `jobs[3]...` pointing at the place where that was written."""
    try:
        return send()
    except errors.HorologeError as error:
        problems = [_problem(sources, violation) for violation in error.violations]
        known = [problem for problem in problems if problem is not None]
        if not known or len(known) < len(problems):
            raise
        if error.reason == "INVALID_FIELD":
            raise errors.InvalidFile(known) from error
        # No field breaks a rule by itself: the error stays what it is, and says more.
        error.problems = tuple(known)
        raise


def _problem(sources: Sequence[Source], violation: errors.Violation) -> errors.Problem | None:
    match = re.match(r"jobs\[(\d+)\]\.?(.*)", violation.field)
    if match is None or int(match[1]) >= len(sources):
        return None
    source = sources[int(match[1])]
    path = ".".join(part for part in (job_id(source.job.name), match[2]) if part)
    return replace(source.place(match[2]), text=f"{path}: {violation.description}")
