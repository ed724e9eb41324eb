"""A worker of a benchmark: a process of its own whose handler does nothing but write down that it was started.

`python -m horologe.chaos.bench_worker NAME QUEUE SLOTS EVIDENCE TLS_DIR ADDRESS...`: serves until SIGTERM, then drains and writes
the evidence. TLS_DIR is the folder of its certificate, or `-` for clear text. Ends at once when its standard input ends: whoever
started it is gone, and nobody will read what it has.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from horologe.chaos.bench_evidence import Recorder
from horologe.client.worker import Context, Worker
from horologe.node.open_files import raise_limit

HANDLER = "bench"
DRAIN_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def build(name: str, queue: str, slot_count: int, tls_dir: str, addresses: list[str], recorder: Recorder) -> Worker:
    """The worker with its one handler."""
    worker = Worker(
        addresses,
        name=name,
        queues=[queue],
        slot_count=slot_count,
        drain_seconds=DRAIN_SECONDS,
        tls_dir=None if tls_dir == "-" else tls_dir,
        insecure=tls_dir == "-",
    )
    add = recorder.add

    @worker.handler(HANDLER, inline=True)
    def record(context: Context) -> None:
        started_us = time.time_ns() // 1000
        due_ms = (context.due_time - _EPOCH) // _MILLISECOND
        add((context.execution, context.attempt, job_number(context.job), due_ms, started_us))

    return worker


def job_number(job: str) -> int:
    """The number at the end of a job's id; see bench_stage.job_id."""
    return int(job.rpartition("-")[2])


def main(arguments: list[str]) -> None:
    name, queue, slots, evidence, tls_dir, *addresses = arguments
    raise_limit()
    recorder = Recorder()
    worker = build(name, queue, int(slots), tls_dir, addresses, recorder)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What exists now lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        worker.run()
    finally:
        recorder.write(Path(evidence))


def _end_with_parent() -> None:
    while os.read(0, 1):
        continue
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
