"""The README's examples, run as they stand there, in a folder of their own against real nodes (see support/page_runner.py)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom

import pytest
from support.page_runner import STOP_SECONDS, UNTIL_EXPECTED_SECONDS, environment, essence, play
from support.pages import Block, blocks_of, page_text

from horologe.client.accounting import account
from horologe.client.async_client import AsyncClient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a new user would be: a folder with `.venv` in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def blocks_marked(*marks: str) -> list[Block]:
    return [block for block in blocks_of(page_text("README.md")) if block.mark.startswith(marks)]


def test_first_job(folder: Path) -> None:
    terminal, *blocks = blocks_marked("terminal 1", "run", "expect", "file", "worker")
    setup, *blocks = blocks
    assert (terminal.mark, setup.mark) == ("terminal 1", "run")
    done = play(folder, terminal.text, setup.text, blocks)
    assert done.count("expect") >= 5
    assert {"file reports.py", "worker reports.py", "file first.py"} < set(done)


@contextmanager
def shell(folder: Path, script: str) -> Iterator[list[str]]:
    """What a script prints, while everything that it left in the background goes on; all of that ends with the context."""
    ending = "echo 'the script is done'; trap : TERM; until wait; do :; done"
    with (
        (folder / "errors.log").open("w") as errors,
        subprocess.Popen(
            ["bash", "-ec", f"trap 'kill 0' ERR\n{script}\n{ending}"],
            cwd=folder,
            env=environment() | {"XDG_CONFIG_HOME": str(folder / "config")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if lines[-1] == "the script is done":
                    break
            assert lines and lines[-1] == "the script is done", (lines, (folder / "errors.log").read_text())
            yield lines[:-1]
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0, (folder / "errors.log").read_text()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def test_three_nodes(folder: Path) -> None:
    """The leader is killed, another one goes on, a member comes and goes, and every due time is accounted for."""
    setup = next(block for block in blocks_marked("run") if "activate" in block.text)
    scripts = [block.text for block in blocks_marked("three nodes")]
    assert len(scripts) == 7
    script = "\n".join([setup.text, *scripts])
    written_ranges = ("127.0.0.1:740", "127.0.0.1:750", "127.0.0.1:760", "127.0.0.1:770")
    places = dict(zip(written_ranges, free_port_ranges(len(written_ranges)), strict=True))
    for written, free in places.items():
        assert written in script
        script = script.replace(written, free)
    with shell(folder, script) as lines:
        table = essence("\n".join(lines))
        assert sum(line.endswith("yes") and line.startswith(("n1 ", "n2 ", "n3 ")) for line in table) == 3
        assert any(line.startswith("n4 ") and "follower" in line for line in lines)
        assert "removed n4; its data folder can be deleted" in lines
        assert essence("By: certificate")[0] in table
        context = tomllib.loads((folder / "config" / "horologe" / "config.toml").read_text())["contexts"]["default"]
        async with AsyncClient(context["addresses"], ca_file=context["ca_file"], token=context["token"]) as client:
            until = datetime.now(UTC)
            deadline = time.monotonic() + UNTIL_EXPECTED_SECONDS
            while time.monotonic() < deadline:
                members = [member async for member in client.list_members()]
                [tick] = await account(client, until)
                if tick.is_sound and all(member.reachable for member in members):
                    break
                await asyncio.sleep(0.1)
            assert tick.is_sound, tick
            assert tick.due >= 3
            assert all(member.reachable for member in members)
    for number in (1, 2, 3, 4):
        assert "node stopped" in (folder / f"n{number}" / "node.log").read_text()


def free_port_ranges(count: int) -> tuple[str, ...]:
    """So many prefixes of addresses, each with four free ports behind it."""
    found: list[str] = []
    chance = SystemRandom()
    while len(found) < count:
        prefix = str(chance.randrange(1_100, 3_200))
        if prefix not in found and all(is_free(int(f"{prefix}{number}")) for number in (1, 2, 3, 4)):
            found.append(prefix)
    return tuple(f"127.0.0.1:{prefix}" for prefix in found)


def is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
