"""Places for processes: whoever is cut off hears nothing, and nothing of it is left afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from horologe.chaos.network import LoopbackNetwork, NetworkError, Place, open_network

LISTEN = """
import socket
with socket.create_server(("{host}", 7400)) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
"""
CONNECT = """
import errno, socket
with socket.socket() as one:
    one.settimeout(0.5)
    try:
        one.connect(("{host}", 7400))
        print("heard")
    except OSError as error:
        # A route into a black hole is told at once, as an argument that cannot be.
        print("silence" if isinstance(error, TimeoutError) or error.errno == errno.EINVAL else error)
"""


def _hears(listener: Place, speaker: Place) -> bool:
    """Whether a connection from one to the other comes about."""
    command = [*speaker.prefix, sys.executable, "-c", CONNECT.format(host=listener.host)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert said in ("heard", "silence"), said
    return said == "heard"


def test_whoever_is_cut_off_hears_nothing_and_nothing_is_left() -> None:
    with open_network() as network:
        here, there, aside = network.place("here"), network.place("there"), network.place("aside")
        if isinstance(network, LoopbackNetwork):
            with pytest.raises(NetworkError):
                network.unhear("here", ["there"])
            return
        servers = [
            subprocess.Popen(
                [*place.prefix, sys.executable, "-c", LISTEN.format(host=place.host)], stdout=subprocess.PIPE
            )
            for place in (here, there, aside)
        ]
        try:
            for server in servers:
                assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            assert _hears(here, there) and _hears(there, here)
            network.unhear("here", ["there"])
            # A connection needs both directions; a third party has its own.
            assert not _hears(here, there) and not _hears(there, here) and _hears(here, aside) and _hears(aside, there)
            network.hear_all()
            assert _hears(here, there) and _hears(there, here)
        finally:
            for server in servers:
                server.kill()
                server.communicate()
        assert list(Path("/run/netns").glob(f"horo{os.getpid()}-*"))
    assert not list(Path("/run/netns").glob(f"horo{os.getpid()}-*"))
    links = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert f"horo{os.getpid()}" not in links
