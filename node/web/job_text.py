"""Jobs as people write and read them: job files, differences, policies with their defaults, spans and instants of time.

The dashboard is a client of the API that happens to live in a node, and what a job file means is the client's to say. So this
module, and no other one of the pages, looks into the client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.client import differences as client_differences
from horologe.client import documents, durations, jobfile, times, words
from horologe.client.cli.job_describe import policies as described_policies
from horologe.client.errors import InvalidFile
from horologe.client.jobfile_fields import plain_json
from horologe.v1.job_pb2 import Job

YAML_CHARACTERS_MAX = 300_000
"""Somewhat more than the largest action. Of many small values, so much takes some seconds to read."""
_READING = ThreadPoolExecutor(1, "job file")
"""One at a time, so that nobody who edits takes more than a part of one processor from the node."""


class FileError(Exception):
    """The text is no job file, or not of one job; each entry says where and why."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class JobText:
    """One job, and the text that it was read from."""

    job: Job
    sourced: jobfile.SourcedJob

    def line_of(self, field: str) -> int:
        """The line in which a field of the job was written, or what is nearest to it."""
        line = self.sourced.place(field).line
        return int(line)


def to_yaml(job: Job) -> str:
    """As `horologe job export` writes it, and `horologe apply` takes it."""
    return documents.dump(jobfile.to_definition(job))


async def read(text: str, namespace: str) -> JobText:
    """The job that a text is, read beside the event loop. Raises FileError."""
    return await asyncio.get_running_loop().run_in_executor(_READING, _read, text, namespace)


def _read(text: str, namespace: str) -> JobText:
    if len(text) > YAML_CHARACTERS_MAX:
        raise FileError([f"{len(text):,} characters are too many; at most {YAML_CHARACTERS_MAX:,}"])
    try:
        found = jobfile.loads(text, "job", namespace)
    except InvalidFile as error:
        raise FileError([f"line {each.line}: {each.text}" for each in error.problems]) from None
    if len(found) != 1:
        raise FileError([f"there are {len(found)} jobs in it; one is edited here, and many with `horologe apply`"])
    return JobText(found[0].job, found[0])


def differences(before: Job | None, after: Job | None) -> list[tuple[str, str]]:
    """What differs, as lines, each with `-`, `+` or a blank before it."""
    found = client_differences.differences(before, after)
    return [line for each in found for line in client_differences.lines(each)]


def changed_fields(before: Job, after: Job) -> list[str]:
    """Which fields differ, in the words of job files."""
    return [each.field for each in client_differences.differences(before, after)]


def policies(job: Job) -> list[tuple[str, str]]:
    """Each policy of a job with its value or its default."""
    return [(name, _text(value)) for name, value in described_policies(job) if value not in (None, "", [], {})]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def span(text: str) -> Duration:
    """`90s`, `5m`, `1h30m`. Raises ValueError."""
    return durations.to_proto(durations.parse(text))


def span_text(value: Duration) -> str:
    """The same the other way round."""
    return durations.render(durations.from_proto(value))


def moment(text: str, time_zone: str = "", now: datetime | None = None) -> Timestamp:
    """RFC 3339, a local time in a zone, or `-1h` from now. Raises ValueError."""
    return times.to_proto(times.moment(text, time_zone, now))


def instant_text(value: Timestamp) -> str:
    """RFC 3339."""
    return times.render(value)


def local_time(value: Timestamp, time_zone: str) -> str:
    """On the clocks of a zone, with the day of the week and the offset."""
    return datetime.fromtimestamp(value.seconds, times.zone(time_zone or "UTC")).strftime("%a %Y-%m-%d %H:%M:%S %z")


def words_of(enumeration: Any) -> list[str]:
    """All words of an enumeration, as job files write them."""
    return list(words.known(enumeration))


def word_of(enumeration: Any, value: int) -> str:
    """One of them; empty if it is unspecified."""
    return words.render(enumeration, value)


def number_of(enumeration: Any, word: str) -> int:
    """The other way round. Raises ValueError."""
    return int(words.parse(enumeration, word))


def json_text(value: Any) -> str:
    """A JSON value as it is typed in."""
    return json.dumps(plain_json(value), ensure_ascii=False, indent=2)
