"""Files of jobs for a fuzzer that watches which branches its inputs reach; `make fuzz` runs it.

The same question as in tests/unit/client/test_import_fuzz.py: whatever is in a job file, a crontab or another scheduler's
file, it leads to jobs or to our own error.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["horologe"]):
    from horologe.client import crontab, dkron, jobfile, kubernetes, quartz, systemd
    from horologe.client.errors import InvalidFile
    from horologe.client.imports import Options

OPTIONS = Options(time_zone="UTC")
READERS = (
    lambda content: jobfile.loads(content.decode("utf-8", "replace")),
    lambda content: crontab.loads(content),
    lambda content: kubernetes.loads(content, "f", OPTIONS),
    lambda content: dkron.loads(content, "f", OPTIONS),
    lambda content: quartz.loads(content, "f", OPTIONS),
    lambda content: systemd.loads(content, "f.timer", b"[Service]\nExecStart=/bin/true\n", OPTIONS),
    lambda content: systemd.loads(b"[Timer]\nOnCalendar=daily\n", "f.timer", content, OPTIONS),
)


def try_one(data: bytes) -> None:
    """The first byte says which reader gets the others."""
    read = READERS[data[0] % len(READERS)] if data else READERS[0]
    try:
        read(data[1:])
    except InvalidFile as error:
        assert error.problems
        assert all(problem.line >= 1 and "\n" not in problem.text for problem in error.problems)


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
