"""A worker whose handlers write evidence: a process of its own that tests and experiments start and torment.

`python -m horologe.chaos.recording_worker NAME EVIDENCE SLOTS QUEUE ADDRESS...`: serves until SIGTERM, then drains. Ends at
once when its standard input ends: whoever started it is gone.

Handlers: `noop` does nothing. `prove` does nothing either, but makes a durable file before it, which only one start can make.
`hold` lasts for the payload's `seconds`, and can be cancelled at any time. `fail` fails as many attempts as the payload's
`failures` says.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from horologe.chaos.evidence import EvidenceFile, Kind, prove
from horologe.client.worker import Context, Worker

NOOP, PROVE, HOLD, FAIL = "noop", "prove", "hold", "fail"
DRAIN_SECONDS = 5.0
SYNC_SECONDS = 0.25
"""So much of the evidence of `noop` may be lost if the machine itself fails: one fsync for each would be too dear."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def build(name: str, evidence: EvidenceFile, proofs: Path, slot_count: int, queue: str, addresses: list[str]) -> Worker:
    """The worker with its handlers."""
    worker = Worker(
        addresses, name=name, queues=[queue], slot_count=slot_count, drain_seconds=DRAIN_SECONDS, insecure=True
    )

    @worker.handler(NOOP, inline=True)
    def noop(context: Context) -> None:
        mark = _identity(context)
        evidence.add(Kind.STARTED, *mark)
        evidence.add(Kind.ENDED, *mark)

    @worker.handler(PROVE)
    def proven(context: Context) -> None:
        mark = _identity(context)
        _, attempt, token, job, due_ms = mark
        evidence.add(Kind.STARTED if prove(proofs, job, due_ms, attempt, token) else Kind.DOUBLE, *mark)
        evidence.add(Kind.ENDED, *mark)

    @worker.handler(FAIL, inline=True)
    def fail(context: Context) -> None:
        mark = _identity(context)
        evidence.add(Kind.STARTED, *mark)
        if context.attempt <= context.payload["failures"]:
            evidence.add(Kind.RAISED, *mark)
            raise RuntimeError("meant to fail")
        evidence.add(Kind.ENDED, *mark)

    @worker.handler(HOLD)
    async def hold(context: Context) -> None:
        mark = _identity(context)
        evidence.add(Kind.STARTED, *mark)
        try:
            await asyncio.sleep(context.payload["seconds"])
        except asyncio.CancelledError:
            evidence.add(Kind.STOPPED, *mark)
            raise
        evidence.add(Kind.ENDED, *mark)

    return worker


def job_number(job: str) -> int:
    """The number at the end of a job's id, 0 if there is none."""
    digits = job.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _identity(context: Context) -> tuple[int, int, int, int, int]:
    due_ms = (context.due_time - _EPOCH) // _MILLISECOND
    return context.execution, context.attempt, context.fencing_token, job_number(context.job), due_ms


def main(arguments: list[str]) -> None:
    """See the top of this file."""
    name, path, slots, queue, *addresses = arguments
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with EvidenceFile(Path(path)) as evidence:
        ended = threading.Event()
        keeper = threading.Thread(target=_keep_durable, args=(evidence, ended), daemon=True)
        keeper.start()
        try:
            build(name, evidence, Path(path).parent, int(slots), queue, addresses).run()
        finally:
            ended.set()
            keeper.join()


def _keep_durable(evidence: EvidenceFile, ended: threading.Event) -> None:
    while not ended.wait(SYNC_SECONDS):
        evidence.sync()


def _end_with_parent() -> None:
    while os.read(0, 1):
        continue
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
