"""`horologe dev --dir`: a folder that is started again after whatever was done to it, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.page_runner import STOP_SECONDS, environment

from horologe.node.local_cluster import COMMAND, TOKEN_FILE, LocalCluster, peer_address_of

COMMAND_SECONDS = 60.0


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
        again = horologe(folder, "dev", "--dir", str(folder))
        assert (again.returncode, again.stderr.count("\n")) == (1, 1), again.stderr
        assert "another process has it open; stop that one" in again.stderr
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
