"""`horologe node probe` against whatever may stand at an address. That nodes are well shows in tests/cluster/test_compose.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from horologe.client.cli.main import app
from horologe.node import certificates, probe, tls, tls_folder
from horologe.node.config import NodeConfig
from horologe.node.local_cluster import free_port


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Somebody who answers everything like that, and `PATH` by what was asked; yields the address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.replace("PATH", self.path).encode())

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(address: str, *, ready: bool = False) -> probe.Verdict:
    return probe.probe(NodeConfig(name="n1", insecure=True, http_listen=address), ready=ready)


@pytest.mark.parametrize(
    ("status", "body", "ready", "verdict"),
    [
        (200, '{"status": "ok PATH", "reasons": []}', False, (True, "ok /healthz")),
        (200, '{"status": "ready PATH", "reasons": []}', True, (True, "ready /readyz")),
        (503, '{"status": "no", "reasons": [{"reason": "NO_LEADER", "message": "none"}]}', True, (False, "no; NO_LEADER: none")),
    ],
)  # fmt: skip
def test_what_a_node_says_of_itself(status: int, body: str, ready: bool, verdict: tuple[bool, str]) -> None:
    with answering(status, body) as address:
        assert ask(address, ready=ready) == verdict


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"status": "ok"}', '{"status": "ok", "reasons": [1]}'])
def test_somebody_else_is_no_node(body: str) -> None:
    with answering(200, body) as address:
        verdict = ask(address)
    assert not verdict.is_well and verdict.text.startswith(address)


def test_nobody_is_there() -> None:
    assert not ask(f"127.0.0.1:{free_port()}").is_well
    assert ask("") == (False, "http_listen is empty: this node cannot be asked")


def test_the_command_says_it_by_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    with answering(200, '{"status": "ok", "reasons": []}') as address:
        file.write_text(f'name = "n1"\ninsecure = true\nhttp_listen = "{address}"\n')
        well = CliRunner().invoke(app, ["node", "probe", "--config", str(file)])
    assert (well.exit_code, well.stdout) == (0, "ok\n")
    dead = CliRunner().invoke(app, ["node", "probe", "--config", str(file)])
    assert (dead.exit_code, dead.stdout) == (1, "") and "refused" in dead.stderr
    file.write_text("nothing = 1\n")
    assert CliRunner().invoke(app, ["node", "probe", "--config", str(file)]).exit_code == 2


def test_names_that_are_written_down_twice() -> None:
    assert probe.SERVER_NAME == certificates.SERVER_NAME
    assert probe.CA_FILE == tls_folder.CA_FILE
    assert f"{tls.OWN_CA_FOLDER}/{tls_folder.CA_FILE}" == probe.OWN_CA_FILE
