"""What all importers share: a file of another scheduler becomes jobs, all or none, with what gets lost listed by line.

A problem stops the import: what it is about would run otherwise than before, or not at all. A notice does not: it says what
is different here. Inputs are capped, so that the work is bounded whatever is in a file.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from horologe.client import names
from horologe.client.crontab_names import unique_ids
from horologe.client.errors import InvalidFile, Problem
from horologe.v1.job_pb2 import Job

__all__ = ["Found", "Imported", "Importer", "Options", "read_text"]

FILE_BYTES_MAX = 4 << 20
"""Thousands of jobs, and a few seconds to read."""
JOBS_MAX = 1_000
"""What the cluster takes at once."""
PROBLEMS_MAX = 100
"""More of them are one mistake, repeated."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chooses."""

    namespace: str = names.DEFAULT_NAMESPACE
    """Of jobs that name none."""
    time_zone: str = ""
    """Of schedules that name none; empty is UTC."""
    prefix: str = ""
    """Goes before each name."""


@dataclass(frozen=True, slots=True)
class Found:
    """One job, and the place that it comes from."""

    file: str
    line: int
    job: Job

    def place(self, field: str) -> Problem:
        """Where the job comes from, as a problem without a text yet: its fields were called otherwise there."""
        del field
        return Problem(self.file, self.line, 0, "")


@dataclass(frozen=True, slots=True)
class Imported:
    """What files say, as jobs, and what of it gets lost."""

    found: tuple[Found, ...]
    notices: tuple[Problem, ...]

    @property
    def jobs(self) -> list[Job]:
        """In the order of the file."""
        return [found.job for found in self.found]


@dataclass(slots=True)
class Importer:
    """Gathers jobs, problems and notices of one file, or of several, one after the other."""

    file: str
    """The one that is being read."""
    options: Options
    problems: list[Problem] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)
    _found: list[tuple[str, int, str, str, Hashable, Job]] = field(default_factory=list)

    def problem(self, line: int, text: str) -> None:
        """Something cannot be carried over, and the job would not be the same without it."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(self.file, line, 0, text))

    def notice(self, line: int, text: str) -> None:
        """Something is different here."""
        if len(self.notices) < 10 * PROBLEMS_MAX:
            self.notices.append(Problem(self.file, line, 0, text))

    def add(self, line: int, name: str, job: Job, *, namespace: str = "", identity: Hashable = None) -> None:
        """A job under the name that it has there; `identity` tells it from others of that name."""
        if len(self._found) == JOBS_MAX:
            self.problem(line, f"more than {JOBS_MAX:,} jobs in one file: split it")
        if len(self._found) < JOBS_MAX:
            self._found.append((self.file, line, name, namespace or self.options.namespace, identity or name, job))

    def finish(self) -> Imported:
        """The jobs with their final names. InvalidFile lists all problems, in the order of the file."""
        if not self._found and not self.problems:
            self.problem(1, "holds nothing that could be imported")
        if self.problems:
            raise InvalidFile(sorted(self.problems, key=lambda problem: (problem.file, problem.line)))
        ids = unique_ids(
            [f"{self.options.prefix}{name}" for _, _, name, _, _, _ in self._found],
            [(namespace, identity) for _, _, _, namespace, identity, _ in self._found],
        )
        called = {(entry[3], entry[2]): job_id for entry, job_id in zip(self._found, ids, strict=True)}
        found = []
        for (file, line, name, namespace, _, job), job_id in zip(self._found, ids, strict=True):
            if job_id != f"{self.options.prefix}{name}":
                self.notices.append(Problem(file, line, 0, f"{name!r} is called {job_id!r} here"))
            job.name = names.job_name(job_id, namespace)
            for schedule in (each for each in job.schedules if each.HasField("after")):
                # Other jobs were named as they are called there.
                schedule.after.jobs[:] = [called.get((namespace, other), other) for other in schedule.after.jobs]
            job.description = job.description or f"Imported from {Path(file).name}"
            found.append(Found(file, line, job))
        notices = sorted(self.notices, key=lambda notice: (notice.file, notice.line))
        return Imported(tuple(found), tuple(notices))


def read_text(content: bytes, file: str) -> str:
    """The text of a file. InvalidFile when it is too large or no text."""
    if len(content) > FILE_BYTES_MAX:
        raise InvalidFile([Problem(file, 1, 0, f"has {len(content):,} bytes; at most {FILE_BYTES_MAX:,} are read")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidFile([Problem(file, line, 0, "is not UTF-8 text")]) from error
    if "\0" in text:
        raise InvalidFile([Problem(file, text[: text.index("\0")].count("\n") + 1, 0, "contains a NUL character")])
    return text
