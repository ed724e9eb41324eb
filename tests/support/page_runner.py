"""Runs the examples of a page as they stand there, block after block, as somebody would who follows it.

A block says by its mark what it is: `run` must succeed, `run failing` must not, `run until expected` is run again until it shows
what the block after it expects; `expect` is what the one before has shown; `file NAME` is written; `worker NAME` goes on until
the end, and so does `program NAME`, one that is not ours. What a block shows is compared in essence: times, durations and numbers
may differ, everything else may not; `expect exactly` is for what is the same every day.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from support.pages import Block

BLOCK_SECONDS = 120.0
UNTIL_EXPECTED_SECONDS = 120.0
STOP_SECONDS = 60.0
WELL = (0,)


def environment() -> dict[str, str]:
    """Ours, without what would lead to another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOROLOGE_")}


SETUP = """
. .venv/bin/activate
export HOROLOGE_CONTEXT=$PWD/dev/context.toml
"""
"""What pages count on that say nothing else: a terminal as README.md sets it up."""
PLAYED = ("run", "expect", "file", "worker", "program")


def is_played(block: Block) -> bool:
    """Whether a block is one for `play_blocks`; others have tests of their own."""
    return block.mark.partition(" ")[0] in PLAYED


def play(folder: Path, terminal: str, setup: str, blocks: Sequence[Block]) -> list[str]:
    """Plays blocks while what `terminal` starts is running; `setup` comes before each script. Answers the marks of all."""
    with dev_cluster(folder, terminal):
        play_blocks(folder, setup, blocks)
    return [block.mark for block in blocks]


@contextmanager
def dev_cluster(folder: Path, terminal: str) -> Iterator[None]:
    """What `horologe dev` starts, which must stand in the last line of a script, until the end of the context."""
    with background(folder, terminal, folder / "dev.log") as dev:
        assert dev.stdout is not None
        # `dev` says this when everything is ready, and ends by itself if that takes too long.
        assert any("horologe execution list" in line for line in dev.stdout), (folder / "dev.log").read_text()
        yield


def play_blocks(folder: Path, setup: str, blocks: Sequence[Block]) -> None:
    """Plays blocks against a cluster that is running."""
    with ExitStack() as stack:
        output = ""
        for block, following in pairwise([*blocks, Block("", "", "")]):
            kind, _, rest = block.mark.partition(" ")
            match kind:
                case "run":
                    until = following.text if rest == "until expected" else ""
                    output = run(folder, setup + block.text, until=until, failing=rest == "failing")
                case "expect":
                    lines = plain if rest == "exactly" else essence
                    assert shows(output, block.text, lines), f"expected\n{block.text}\nfound\n{output}"
                case "file":
                    (folder / rest).parent.mkdir(parents=True, exist_ok=True)
                    (folder / rest).write_text(block.text)
                case "worker" | "program":
                    ends = WELL if kind == "worker" else (*WELL, -signal.SIGTERM)
                    stack.enter_context(background(folder, setup + block.text, folder / f"{rest}.log", ends))
                case _:
                    raise AssertionError(f"nobody knows how to play {block.mark!r}")


def run(folder: Path, script: str, until: str = "", *, failing: bool = False) -> str:
    """What a script prints; with `until`, it only looks, and is run again until it succeeds and shows that."""
    deadline = time.monotonic() + UNTIL_EXPECTED_SECONDS
    while True:
        done = run_once(folder, script)
        output = done.stdout + (done.stderr if failing else "")
        has_ended_well = (done.returncode != 0) is failing
        if has_ended_well and shows(output, until):
            return output
        if not until or time.monotonic() > deadline:
            assert has_ended_well, f"{script}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
            return output


def run_once(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
    )


@contextmanager
def background(folder: Path, script: str, log: Path, ends: Sequence[int] = WELL) -> Iterator[subprocess.Popen[str]]:
    """A program, in the last line of a script, that runs until the end of the context.

    Then it ends on SIGTERM, with one of the codes.
    """
    *setup, last = script.strip().splitlines()
    with (
        log.open("w") as errors,
        subprocess.Popen(
            ["bash", "-ec", "\n".join([*setup, f"exec {last}"])],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
            process.terminate()
            assert process.wait(STOP_SECONDS) in ends, log.read_text()
        finally:
            process.kill()


def plain(text: str) -> list[str]:
    """Lines without what only makes them stand in columns."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def essence(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "FINGERPRINT", text)
    text = re.sub(r"\d+(\.\d+)?(ms|s)\b", "SPAN", text)
    return plain(re.sub(r"\b\d+\b", "NUMBER", text))


def shows(output: str, expected: str, lines: Callable[[str], list[str]] = essence) -> bool:
    """Whether every line that is expected is there, as `lines` reads them."""
    found = lines(output)
    return all(line in found for line in lines(expected))
