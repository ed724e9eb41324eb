"""`horologe node config show`: every option with its value and its origin, and nothing secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from horologe.node.cli import node_app
from horologe.node.config import NodeConfig
from horologe.node.config_report import HIDDEN

FILE = """
name = "n1"
listen = "127.0.0.1:7401"
pulse_ms = 30
key_command = ["/usr/bin/wrap", "--password", "MARKER-1"]
tracing_endpoint = "https://user:MARKER-2@collector.example:4318/v1/traces?key=MARKER-3"
insecure = true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(FILE)
    return path


def show(*arguments: str, environment: dict[str, str] | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(node_app, ["config", "show", *arguments], env=environment or {})
    assert result.exit_code == code, result.output
    return result.output


def test_each_option_says_where_it_is_from(file: Path, tmp_path: Path) -> None:
    environment = {"HOROLOGE_NODE_PULSE_MS": "40", "HOROLOGE_NODE_OIDC_CLIENT_SECRET": "MARKER-4"}
    arguments = ("--config", str(file), "--listen", "127.0.0.1:7402")
    text = show(*arguments, "-o", "json", environment=environment)
    assert "MARKER" not in text
    found = {option["name"]: (option["value"], option["origin"]) for option in json.loads(text)}
    assert list(found) == list(NodeConfig.model_fields)
    assert found["name"] == ("n1", str(file))
    assert found["listen"] == ("127.0.0.1:7402", "--listen")
    assert found["pulse_ms"] == (40, "HOROLOGE_NODE_PULSE_MS")
    assert found["heartbeat_ms"] == (100, "default")
    assert found["data_dir"] == (str(tmp_path / "data"), "default")
    assert found["members"] == ([{"name": "n1", "peer_address": "127.0.0.1:7500"}], "default")
    assert found["key_command"] == (["/usr/bin/wrap", HIDDEN], str(file))
    assert found["tracing_endpoint"] == (f"https://collector.example:4318/v1/traces {HIDDEN}", str(file))
    assert found["oidc_client_secret"] == (HIDDEN, "HOROLOGE_NODE_OIDC_CLIENT_SECRET")
    table = show(*arguments, environment=environment)
    assert "MARKER" not in table
    assert '"127.0.0.1:7402"  (--listen)' in table


def test_a_configuration_that_is_not_valid(file: Path) -> None:
    text = show("--config", str(file), environment={"HOROLOGE_NODE_PULSE_MS": "0"}, code=2)
    assert "HOROLOGE_NODE_PULSE_MS: pulse_ms" in text
