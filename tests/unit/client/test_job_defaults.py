"""What helps and descriptions call the default is what a node stores for a job that says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from horologe.client import job_defaults as defaults
from horologe.client import jobs
from horologe.client.cli import job_options, main
from horologe.node.timetable import CATCHUP_WINDOW_MAX_MS, CATCHUP_WINDOW_MIN_MS, CATCHUP_WINDOW_ONCE_MS
from horologe.node.validation import OUTPUT_BYTES_MAX, complete_job
from horologe.v1.job_pb2 import Job

NAME = "namespaces/default/jobs/hello"
RULES = {
    "time_zone": defaults.TIME_ZONE,
    "dialect": defaults.DIALECT,
    "dst_gap": defaults.DST_GAP,
    "dst_overlap": defaults.DST_OVERLAP,
    "day_match": defaults.DAY_MATCH,
}


def stored(job: Job) -> Job:
    complete, violations = complete_job(job, NAME, now_ms=1_800_000_000_000)
    assert violations == []
    return complete


def test_what_is_left_out_is_stored_as_the_default() -> None:
    command = jobs.shell("x")
    spelled_out = jobs.job(
        NAME,
        jobs.manual(),
        command,
        retry=jobs.retry(
            max_attempts=defaults.MAX_ATTEMPTS,
            backoff=defaults.RETRY_BACKOFF,
            base=defaults.RETRY_BASE,
            factor=defaults.RETRY_FACTOR,
            cap=defaults.RETRY_CAP,
            jitter=defaults.RETRY_JITTER,
        ),
        timeout=defaults.TIMEOUT,
        grace=defaults.GRACE,
        overlap=defaults.OVERLAP,
        queue_max=defaults.QUEUE_MAX,
        catchup=defaults.CATCHUP,
        on_lease_loss=defaults.ON_LEASE_LOSS,
        queue=defaults.QUEUE,
        priority=defaults.PRIORITY,
    )
    assert stored(jobs.job(NAME, jobs.manual(), command)) == stored(spelled_out)
    catching_up = jobs.job(NAME, jobs.manual(), command, catchup="all")
    assert stored(catching_up).catchup_max == defaults.CATCHUP_MAX


def test_the_defaults_of_schedules() -> None:
    short = jobs.job(NAME, jobs.cron("0 2 * * *"), jobs.shell("x"))
    long = jobs.job(NAME, jobs.cron("0 2 * * *", **RULES), jobs.shell("x"))
    assert stored(short) == stored(long)
    short = jobs.job(NAME, jobs.after("other"), jobs.shell("x"))
    long = jobs.job(NAME, jobs.after("other", condition=defaults.CONDITION), jobs.shell("x"))
    assert stored(short) == stored(long)


def test_the_figures_that_only_the_help_has() -> None:
    said = {name: annotation.__metadata__[0].help for name, (annotation, _) in job_options.FLAGS.items()}
    assert [CATCHUP_WINDOW_MIN_MS, CATCHUP_WINDOW_MAX_MS, CATCHUP_WINDOW_ONCE_MS] == [
        60_000,
        86_400_000,
        365 * 86_400_000,
    ]
    assert "1m to 1d; of --at and --in 365d" in said["catchup_window"]
    assert OUTPUT_BYTES_MAX == 10 << 20
    assert "10 MiB" in said["output_bytes_max"]


def test_no_option_tells_two_defaults() -> None:
    assert list(telling_two(typer.main.get_command(main.app), "horologe")) == []


def telling_two(command: Any, path: str) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from telling_two(inner, f"{path} {name}")
    for option in command.params:
        # 0 is shown, though it is equal to False.
        is_shown = getattr(option, "show_default", False) and not any(option.default is no for no in (None, False, ""))
        if is_shown and "Default:" in (getattr(option, "help", "") or ""):
            yield f"{path} --{option.name}"
