"""`horologe dev --dir`: a folder that is started again after whatever was done to it, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.page_runner import STOP_SECONDS, environment
from support.pages import ROOT

from horologe.node import dev as dev_module
from horologe.node.local_cluster import COMMAND, TOKEN_FILE, LocalCluster, listen_of, peer_address_of
from horologe.node.node import Node, NodeFailedError

COMMAND_SECONDS = 240.0


@contextmanager
def dev(folder: Path) -> Iterator[LocalCluster]:
    """A cluster that is ready."""
    with subprocess.Popen(
        [*COMMAND, "dev", "--dir", str(folder)],
        cwd=folder.parent,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said: list[str] = []
            for line in process.stdout:
                said.append(line)
                if "horologe execution list" in line:
                    break
            else:
                raise AssertionError("".join(said))
            yield LocalCluster.prepare(folder, 1, secure=True)
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0
        finally:
            process.kill()


def horologe(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment() | {"HOROLOGE_CONTEXT": str(folder / "context.toml")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def test_a_folder_lives_on(tmp_path: Path) -> None:
    folder, moved = tmp_path / "dev", tmp_path / "moved"
    with dev(folder) as cluster:
        assert horologe(folder, "job", "create", "hello", "--manual", "--shell", "true").returncode == 0
        context = cluster.context_file.read_text()
        again = horologe(folder, "dev", "--nodes", "2", "--dir", str(folder))
        assert (again.returncode, again.stderr.count("\n")) == (1, 1), again.stderr
        process = int((cluster.nodes[0].folder / "node.pid").read_text())
        assert f"a cluster runs in {folder} already, n1 (process {process}): use it" in again.stderr
        assert cluster.context_file.read_text() == context and not (folder / "n2").exists()
        peers = peer_address_of(cluster.nodes[0])
        for command in (["job", "list"], ["worker", "run"]):
            wrong_port = horologe(folder, *command, "--address", peers)
            assert wrong_port.returncode == 1
            assert "it is the port where nodes meet each other (`peer_listen`)" in wrong_port.stderr
    folder.rename(moved)
    with dev(moved):
        assert "hello" in horologe(moved, "job", "list").stdout
    # Lost, and of no use any more: whoever has the CA makes another one.
    (moved / TOKEN_FILE).unlink()
    with dev(moved):
        assert "By:         token" in horologe(moved, "whoami").stdout
        useless = (moved / TOKEN_FILE).read_text()
        assert horologe(moved, "token", "revoke", useless.split("_")[1]).returncode == 0
        refused = horologe(moved, "job", "list")
        assert refused.returncode == 4
        assert "it is wrong, revoked, expired or of another cluster" in refused.stderr
    with dev(moved):
        assert (moved / TOKEN_FILE).read_text() != useless
        assert "hello" in horologe(moved, "job", "list").stdout


def test_a_node_that_ends_at_its_start_is_told_of_at_once(tmp_path: Path) -> None:
    """Not when the time for the start is over, and not as a cluster that was not ready."""
    second = LocalCluster.prepare(tmp_path / "dev", 2, secure=True).nodes[1]
    host, _, port = listen_of(second).partition(":")
    with socket.create_server((host, int(port))):
        done = horologe(tmp_path / "dev", "dev", "--dir", str(tmp_path / "dev"))
    assert done.returncode == 1
    assert f"horologe: n2 has ended by itself; {second.folder}/node.log ends with\n" in done.stderr
    assert f"{listen_of(second)} cannot be bound" in done.stderr


def test_a_demo_tells_for_each_example_what_became_of_its_due_times(tmp_path: Path) -> None:
    """As `make demo` does with DEMO_SECONDS, on three nodes."""
    demo = ["dev", "--nodes", "3", "--examples", str(ROOT / "examples"), "--for", "10"]
    assert " ".join(["horologe", *demo[:4], "examples"]) in (ROOT / "Makefile").read_text()
    done = horologe(tmp_path, *demo)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^completed +place-order ", done.stdout, flags=re.MULTILINE)
    assert re.search(r"│ place-order +│ +[1-9]", done.stdout)
    *_, last = done.stdout.strip().splitlines()
    assert re.fullmatch(r"(?P<due>[1-9]\d*) due times: (?P=due) accounted for, 0 missing, 0 double\.", last)


@pytest.mark.parametrize("when", ["before it was ready", "later"])
async def test_a_node_in_this_process_that_fails_ends_it(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_welcome = asyncio.Event()

    async def fails(node: Node) -> None:
        if when == "later":
            await is_welcome.wait()
        raise NodeFailedError("its disk is full")

    for name in (dev_module.DEMO_DATABASE, dev_module.DEMO_URL):
        # So that they are as before afterwards.
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(Node, "wait_failed", fails)
    monkeypatch.setattr(dev_module, "_print_welcome", lambda *_: is_welcome.set())
    with pytest.raises(NodeFailedError, match="its disk is full"):
        await dev_module.run(1, tmp_path / "dev", 0, None)
    assert is_welcome.is_set() is (when == "later")


async def test_a_worker_ends_the_others_by_failing_and_not_by_being_drained() -> None:
    async def drained() -> None:
        pass

    async def failing() -> None:
        raise ConnectionError("nobody answers")

    worker = asyncio.create_task(drained())
    watching = asyncio.create_task(dev_module._failure_of(worker))
    await worker
    for _ in range(10):
        await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(ConnectionError):
        await dev_module._failure_of(asyncio.create_task(failing()))


async def test_who_is_asked_to_stop_hears_of_no_end_that_came_at_the_same_time() -> None:
    async def stopped() -> None:
        pass

    async def ended() -> None:
        raise dev_module.DevError("n1 has ended by itself")

    await dev_module._first_of(stopped(), ended())
    with pytest.raises(dev_module.DevError):
        await dev_module._first_of(asyncio.sleep(60), ended())
