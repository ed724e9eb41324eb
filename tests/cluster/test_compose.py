"""docker-compose.yml does what it promises: its services are run as it says, in namespaces in place of Docker's containers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.containers import ROOT, Composition

from horologe.chaos.network import NamespaceNetwork

EVENTUALLY_SECONDS = 90.0
NODES, WORKERS = ("n1", "n2", "n3"), ("w1", "w2")


@pytest.fixture
def composition(tmp_path: Path) -> Iterator[Composition]:
    with NamespaceNetwork() as network:
        found = Composition(ROOT / "docker-compose.yml", tmp_path, network)
        found.prepare("certificates", *NODES, *WORKERS, "cli")
        try:
            yield found
        finally:
            found.end()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Each look starts a program, which takes longer than a look may be apart from the next."""
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what


def cli(composition: Composition, *words: str) -> Any:
    """What the service `cli` answers, as data."""
    container = composition.start("cli", "--output", "json", *words)
    code, text = container.wait(), container.said()
    assert code == 0, f"{words}: {text}"
    # What is said to people stands behind it.
    return json.JSONDecoder().raw_decode(text)[0]


@pytest.mark.timeout(400)
def test_three_nodes_two_workers_and_a_failover(composition: Composition) -> None:
    for words in ("node n1", "worker w2", "client admin"), ():
        made = composition.start("certificates")
        assert made.wait() == 0, made.said()
        # The second time it renews what it made the first time.
        assert made.said().count("valid until") == 6 + bool(words)
        assert all(word in made.said() for word in words)
    nodes = {name: composition.start(name) for name in NODES}
    workers = {name: composition.start(name) for name in WORKERS}
    for name in NODES:
        eventually(lambda name=name: composition.probe(name) == 0, f"{name} is well")  # type: ignore[misc]
    eventually(lambda: len(cli(composition, "worker", "list")) == 2, "both workers are there")
    cli(composition, "job", "create", "tick", "--every", "1h", "--shell", "id -u; touch /etc/here || echo kept out")
    ran = cli(composition, "job", "run", "tick", "--wait")
    assert ran["state"] == "completed", ran
    logs = composition.start("cli", "execution", "logs", ran["name"].rpartition("/")[2])
    assert logs.wait() == 0
    assert "10001" in logs.said() and "kept out" in logs.said()

    leader = cli(composition, "cluster", "status")["leader"]
    nodes[leader].signal(signal.SIGKILL)
    nodes[leader].wait()
    assert composition.probe(leader) == 1
    ran = cli(composition, "job", "run", "tick", "--wait")
    assert ran["state"] == "completed", ran
    assert cli(composition, "cluster", "status")["leader"] != leader
    # `restart: unless-stopped` would start it again.
    nodes[leader] = composition.start(leader)
    eventually(lambda: composition.probe(leader) == 0, f"{leader} is back")

    # They are the first processes of their containers, and none has a shell around it that would keep the signal.
    for name, container in {**workers, **nodes}.items():
        container.signal(signal.SIGTERM)
        assert container.wait() == 0, f"{name}: {container.said()}"
    # Nothing that may do everything is in what they wrote.
    assert not [name for name, each in nodes.items() if "horologe_" in each.said() and "token" in each.said()]


def test_docker_compose_takes_the_file() -> None:
    """All profiles, and nothing that it does not know."""
    words = ["--file", str(ROOT / "docker-compose.yml"), "--profile", "monitoring", "--profile", "cli"]
    done = subprocess.run(
        ["docker-compose", *words, "config", "--services"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"certificates", *NODES, *WORKERS, "cli", "prometheus", "grafana"}
