"""Nodes that cannot start, or cannot go on: one line that says why, an exit code that is not zero, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.workload import each
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.node.local_cluster import COMMAND, LocalCluster, free_port

START_SECONDS = 120.0
PAGE_BYTES = 4096
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


def _run(config: Path, *, file_bytes_max: int = 0) -> tuple[int, str]:
    """Runs a node that is expected to end by itself; answers its exit code and what it said on standard error.

    `file_bytes_max`: none of its files may grow beyond this, as on a full disk.
    """
    limit = [sys.executable, "-c", LIMITED, str(file_bytes_max)] if file_bytes_max else []
    process = subprocess.Popen(
        [*limit, *COMMAND, "node", "run", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=config.parent,
        text=True,
    )
    try:
        _, said = process.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        raise AssertionError(f"the node went on as if nothing were wrong:\n{said[-2000:]}") from None
    return process.returncode, said


def _complaint(said: str) -> str:
    """The one line for people; the others are log lines."""
    assert "Traceback" not in "".join(line for line in said.splitlines(True) if not line.startswith("{")), said
    lines = [line for line in said.splitlines() if line.startswith("horologe: ")]
    assert len(lines) == 1, said
    return lines[0]


def _single(folder: Path, **options: str | int | float) -> LocalCluster:
    return LocalCluster.prepare(folder, 1, options, usual_ports=False)


def _config(cluster: LocalCluster, node: str = "n1") -> Path:
    return cluster.folder / node / "node.toml"


async def _filled(cluster: LocalCluster, count: int = 100) -> None:
    """Runs the one node, gives it jobs, and kills it."""
    cluster.start()
    try:
        async with AsyncClient(cluster.addresses, insecure=True) as client:

            async def create(number: int) -> None:
                await client.create_job(
                    jobs.job(f"job-{number}", jobs.manual(), jobs.shell(["true"]), description="d" * 3_000)
                )

            await each(range(count), create, in_flight=4)
    finally:
        cluster.kill()


async def _job_count(cluster: LocalCluster) -> int:
    """Starts the one node again and counts its jobs."""
    cluster.start()
    try:
        async with AsyncClient(cluster.addresses, insecure=True) as client:
            await client.create_job(jobs.job(f"after-{free_port()}", jobs.manual(), jobs.shell(["true"])))
            return (await client.cluster_status()).job_count - 1
    finally:
        cluster.kill()


def test_an_option_with_a_typo(tmp_path: Path) -> None:
    cluster = _single(tmp_path)
    path = _config(cluster)
    path.write_text("heartbeat_msec = 100\n" + path.read_text())
    code, said = _run(path)
    assert code == 2
    assert _complaint(said) == f"horologe: {path}: heartbeat_msec is no option; did you mean heartbeat_ms?"
    assert len(said.splitlines()) == 1
    assert not (path.parent / "state").exists()


def test_options_that_cannot_work_together(tmp_path: Path) -> None:
    cluster = _single(tmp_path, lease_term_ms=1_000)
    code, said = _run(_config(cluster))
    assert code == 2
    assert "lease_term_ms" in _complaint(said) and "raise lease_term_ms or lower the others" in said


@pytest.mark.parametrize("option", ["listen", "peer_listen", "http_listen"])
def test_a_port_in_use(tmp_path: Path, option: str) -> None:
    cluster = _single(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = _config(cluster)
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{option} =")]
        path.write_text("\n".join([f'{option} = "{address}"', *lines]) + "\n")
        code, said = _run(path)
    assert code == 1
    assert address in _complaint(said) and f"`{option}`" in said


@pytest.mark.parametrize("option", ["listen", "peer_listen", "http_listen"])
async def test_a_port_that_another_node_has(tmp_path: Path, option: str) -> None:
    """Servers of one kind may share a port if they agree on it. Ours must not: half of all calls would go astray."""
    first, second = _single(tmp_path / "first"), _single(tmp_path / "second")
    own = next(line for line in _config(first).read_text().splitlines() if line.startswith(f"{option} ="))
    path = _config(second)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{option} =")]
    path.write_text("\n".join([own, *lines]) + "\n")
    first.start()
    try:
        async with AsyncClient(first.addresses, insecure=True) as client:
            await client.cluster_status()
        code, said = await asyncio.to_thread(_run, path)
    finally:
        first.kill()
    assert code == 1
    assert f"`{option}`" in _complaint(said)


async def test_a_data_folder_that_is_in_use(tmp_path: Path) -> None:
    cluster = _single(tmp_path)
    cluster.start()
    try:
        async with AsyncClient(cluster.addresses, insecure=True) as client:
            await client.cluster_status()
        other = tmp_path / "other.toml"
        text = _config(cluster).read_text()
        own_ports = [line.split(":")[1].strip('"') for line in text.splitlines() if "listen" in line]
        for port in own_ports:
            text = text.replace(port, str(free_port()))
        other.write_text(text.replace('data_dir = "."', f'data_dir = "{cluster.folder / "n1"}"'))
        code, said = await asyncio.to_thread(_run, other)
    finally:
        cluster.kill()
    assert code == 1
    assert str(cluster.folder / "n1") in _complaint(said)


async def test_a_data_folder_of_another_node(tmp_path: Path) -> None:
    cluster = _single(tmp_path)
    await _filled(cluster, 3)
    path = _config(cluster)
    path.write_text(path.read_text().replace('name = "n1"', 'name = "n9"'))
    code, said = _run(path)
    assert code == 1
    assert "belongs to node 'n1'" in _complaint(said) and "'n9'" in said
    path.write_text(path.read_text().replace('name = "n9"', 'name = "n1"'))
    assert await _job_count(cluster) == 3


async def test_a_data_folder_of_another_cluster(tmp_path: Path) -> None:
    """The stranger leaves; the cluster it came to goes on, and neither has changed."""
    stranger = _single(tmp_path / "stranger")
    await _filled(stranger, 3)
    async with ChaosCluster(tmp_path / "home") as cluster:
        await cluster.client.create_job(jobs.job("home", jobs.manual(), jobs.shell(["true"])))
        victim = "n1"
        node = cluster.node(victim)
        node.kill()
        (node.folder / "state").rename(tmp_path / "kept")
        shutil.copytree(stranger.folder / "n1" / "state", node.folder / "state")
        (node.folder / "node.key").rename(tmp_path / "kept.key")
        shutil.copy(stranger.folder / "n1" / "node.key", node.folder / "node.key")
        code, said = await asyncio.to_thread(_run, node.folder / "node.toml")
        assert code == 1
        assert "cluster" in _complaint(said)
        shutil.rmtree(node.folder / "state")
        (tmp_path / "kept").rename(node.folder / "state")
        (tmp_path / "kept.key").rename(node.folder / "node.key")
        await asyncio.to_thread(node.start)
        await cluster.wait_caught_up(victim)
        assert (await cluster.on(victim).get_job("home")).name.endswith("/home")
        assert (await cluster.client.cluster_status()).job_count == 1


def _cut(data: Path) -> None:
    os.truncate(data, data.stat().st_size // 2)


def _empty(data: Path) -> None:
    os.truncate(data, 0)


def _zero_the_header(data: Path) -> None:
    with data.open("r+b") as file:
        file.write(bytes(2 * PAGE_BYTES))


def _flip_bits(data: Path) -> None:
    """The name of a job is in keys, which are not encrypted; every copy gets a flipped bit."""
    content = bytearray(data.read_bytes())
    name = b"job-50"
    position = content.find(name)
    assert position > 0
    while position > 0:
        content[position + 3] ^= 0x10
        position = content.find(name, position + len(name))
    data.write_bytes(bytes(content))


async def test_a_damaged_state_file(tmp_path: Path) -> None:
    """Each kind of damage is found at the start, and what is left is looked at, not touched: it may be all there is."""
    cluster = _single(tmp_path)
    await _filled(cluster)
    data = cluster.folder / "n1" / "state" / "data.mdb"
    whole = data.read_bytes()
    damages = {
        _cut: "was cut",
        # It must not be taken for a new node's: that node has forgotten its votes.
        _empty: "is gone or empty",
        _zero_the_header: "damaged",
        _flip_bits: "checksum",
    }
    for damage, words in damages.items():
        damage(data)
        damaged = data.read_bytes()
        code, said = await asyncio.to_thread(_run, _config(cluster))
        assert code == 1, (damage.__name__, said)
        assert words in _complaint(said), damage.__name__
        assert data.read_bytes() == damaged, damage.__name__
        data.write_bytes(whole)
    assert await _job_count(cluster) == 100


async def test_a_disk_that_is_full_at_the_start(tmp_path: Path) -> None:
    cluster = _single(tmp_path)
    code, said = await asyncio.to_thread(_run, _config(cluster), file_bytes_max=8_192)
    assert code == 1
    assert "disk" in _complaint(said)
    assert await _job_count(cluster) == 0


async def test_a_disk_that_fills_up_while_the_node_runs(tmp_path: Path) -> None:
    """Every acknowledged job is there once there is room again; the node ends instead of guessing."""
    cluster = _single(tmp_path, disk_free_bytes_min=0)
    path = _config(cluster)
    acknowledged: list[str] = []

    async def fill() -> None:
        async with AsyncClient(cluster.addresses, insecure=True) as client:
            for number in range(2_000):
                name = f"job-{number}"
                # The first one waits until the node is up.
                await client.with_timeout(10.0 if number else START_SECONDS).create_job(
                    jobs.job(name, jobs.manual(), jobs.shell(["true"]), description="d" * 3_000)
                )
                acknowledged.append(name)

    running = asyncio.create_task(asyncio.to_thread(_run, path, file_bytes_max=2 << 20))
    with pytest.raises(HorologeError):
        await fill()
    code, said = await running
    assert code == 1
    assert "disk" in _complaint(said)
    assert len(acknowledged) > 50
    cluster.start()
    try:
        async with AsyncClient(cluster.addresses, insecure=True) as client:
            found = {job.name.rpartition("/")[2] async for job in client.list_jobs(page_size=1_000)}
    finally:
        cluster.kill()
    assert set(acknowledged) <= found


async def test_a_disk_that_is_nearly_full_refuses_what_needs_space(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    cluster = _single(tmp_path, disk_free_bytes_min=free * 2)
    cluster.start()
    try:
        async with AsyncClient(cluster.addresses, insecure=True) as client:

            async def refused() -> bool:
                try:
                    await client.with_timeout(1.0).create_job(jobs.job("one", jobs.manual(), jobs.shell(["true"])))
                except HorologeError as error:
                    return error.reason == "DISK_FULL" and "was changed" in str(error)
                raise AssertionError("a write was taken without space for it")

            await eventually(refused, 60, "writes refused")
            assert (await client.cluster_status()).job_count == 0
    finally:
        cluster.kill()
