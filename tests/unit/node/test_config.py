"""A node's options: where they come from, which rules they obey, and how mistakes are told."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from horologe.node.cli import node_app
from horologe.node.config import Address, ConfigError, NodeConfig, describe_options
from horologe.node.config_sources import load_config
from horologe.node.logging_setup import configure

THREE = """
name = "n1"
data_dir = "state/n1"
listen = "127.0.0.1:7401"
peer_listen = "127.0.0.1:7501"
insecure = true

[[members]]
name = "n1"
peer_address = "127.0.0.1:7501"

[[members]]
name = "n2"
peer_address = "127.0.0.1:7502"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(THREE)
    return path


def complaint(path: Path | None, overrides: dict | None = None, environment: dict | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides or {}, environment or {})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_file(file, tmp_path):
    config = load_config(file, {}, {})
    assert config.name == "n1"
    assert config.data_dir == tmp_path / "state/n1"
    assert [member.name for member in config.members] == ["n1", "n2"]
    assert (config.lease_term_ms, config.log_format) == (10_000, "json")


def test_flags_before_the_environment_before_the_file(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"HOROLOGE_NODE_LISTEN": "127.0.0.1:1", "HOROLOGE_NODE_PULSE_MS": "7", "OTHER": "x"}
    config = load_config(file, {"listen": "127.0.0.1:2", "peer_listen": None, "data_dir": Path("here")}, environment)
    assert (config.listen, config.pulse_ms, config.peer_listen) == ("127.0.0.1:2", 7, "127.0.0.1:7501")
    assert config.data_dir == tmp_path / "here"


def test_a_node_alone():
    config = load_config(None, {"name": "n1", "peer_listen": "127.0.0.1:0"}, {})
    assert [(member.name, member.peer_address) for member in config.members] == [("n1", "127.0.0.1:0")]
    assert config.data_dir == Path.cwd() / "data"
    assert config.advertised == config.listen
    assert NodeConfig(name="n1", advertise="example.org:7400").advertised == "example.org:7400"


def test_members_from_the_environment():
    members = json.dumps([{"name": "n1", "peer_address": "a:1"}, {"name": "n2", "peer_address": "b:2"}])
    config = load_config(
        None, {}, {"HOROLOGE_NODE_NAME": "n1", "HOROLOGE_NODE_MEMBERS": members, "HOROLOGE_NODE_INSECURE": "1"}
    )
    assert [str(member.peer_address) for member in config.members] == ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("heartbeet_ms = 5", ["node.toml", "heartbeet_ms", "did you mean heartbeat_ms?"]),
        ("xyzzy = 5", ["node.toml", "xyzzy", "horologe node options"]),
        ("heartbeat_ms = 'soon'", ["node.toml", "heartbeat_ms", "soon", "integer"]),
        ("heartbeat_ms = 0", ["heartbeat_ms", "0", "greater than or equal to 1"]),
        ("heartbeat_ms = 300", ["election_timeout_ms_min", "500", "heartbeat_ms", "300"]),
        ("election_timeout_ms_max = 500", ["election_timeout_ms_max", "500"]),
        ("lease_term_ms = 5000", ["lease_term_ms", "5000", "20%", "1060 ms"]),
        ("clock_drift = 0.1", ["lease_term_ms", "clock_drift (0.1)"]),
        ("log_format = 'xml'", ["log_format", "xml", "json"]),
        ("log_format = ", ["not TOML", "line 2"]),
    ],
)
def test_a_wrong_line(tmp_path, line, parts):
    path = tmp_path / "node.toml"
    path.write_text(f'name = "n1"\n{line}\n')
    text = complaint(path)
    for part in parts:
        assert part in text


def test_where_nothing_is_given_it_is_said_what_could_be():
    with pytest.raises(
        ConfigError, match=r"^configuration: name is missing; give --config FILE, or set HOROLOGE_NODE_NAME "
    ):
        load_config(None, {}, {})


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('name = "n1"\ndata', "data", ["name is missing"]),
        ('name = "n1"\ndata', 'name = "n7"\ndata', ["n1, n2", "'n7'", "add it"]),
        ('name = "n2"', 'name = "n1"', ["'n1' is given twice"]),
        ("127.0.0.1:7502", "127.0.0.1:7501", ["'127.0.0.1:7501' is given twice"]),
        ("127.0.0.1:7502", "127.0.0.1", ["members[1].peer_address", "not host:port"]),
        ('name = "n2"', 'name = "n2"\nport = 4', ["members[1].port", "name and peer_address"]),
        ('name = "n2"\n', "", ["members[1].name is missing"]),
    ],
)
def test_wrong_members(file, old, new, parts):
    file.write_text(THREE.replace(old, new))
    text = complaint(file)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"listen": "0.0.0.0:7400"},
            ["tls_dir", "beyond this machine (listen 0.0.0.0:7400)", "horologe tls issue node n1"],
        ),
        ({"worker_listen": "[::]:7600"}, ["beyond this machine (worker_listen [::]:7600)", "`insecure = true`"]),
        ({"peer_listen": "10.0.0.1:7500"}, ["beyond this machine (peer_listen 10.0.0.1:7500)"]),
        ({"members": ["n1", "n2"]}, ["a cluster with n2", "horologe tls init"]),
        ({"members": ["n2"], "join": True}, ["a cluster with n2"]),
        ({"insecure": True, "tls_dir": Path("tls")}, ["insecure", "contradicts tls_dir"]),
    ],
)
def test_a_node_that_others_reach_has_certificates_or_says_that_it_is_insecure(options, parts):
    members = [
        {"name": name, "peer_address": f"127.0.0.1:{port}"} for port, name in enumerate(options.get("members", ()), 1)
    ]
    text = complaint(None, {"name": "n1", **options, "members": members or None})
    for part in parts:
        assert part in text
    if "insecure" not in options:
        load_config(None, {"name": "n1", **options, "members": members or None, "insecure": True}, {})
        load_config(None, {"name": "n1", **options, "members": members or None, "tls_dir": Path("tls")}, {})


def test_a_node_alone_on_loopback_needs_to_say_nothing():
    for host in ("127.0.0.1", "127.1.2.3", "[::1]", "localhost"):
        config = load_config(None, {"name": "n1", "listen": f"{host}:1", "peer_listen": f"{host}:2"}, {})
        assert (config.insecure, config.tls_dir, config.worker_advertised) == (False, None, "127.0.0.1:7600")
    assert load_config(None, {"name": "n1", "insecure": True}, {}).worker_advertised == ""


def test_the_folder_of_certificates_is_relative_to_the_file(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('name = "n1"\ntls_dir = "tls/n1"\n')
    assert load_config(path, {}, {}).tls_dir == tmp_path / "tls/n1"


def test_where_a_wrong_value_came_from(file):
    assert complaint(file, {"pulse_ms": 0}).startswith("--pulse-ms: ")
    assert complaint(file, {}, {"HOROLOGE_NODE_PULSE_MS": "0"}).startswith("HOROLOGE_NODE_PULSE_MS: ")
    assert "HOROLOGE_NODE_PULSE_MS?" in complaint(file, {}, {"HOROLOGE_NODE_PULS_MS": "5"})
    assert "is not JSON" in complaint(file, {}, {"HOROLOGE_NODE_MEMBERS": "n1"})
    assert "did you mean pulse_ms" in complaint(file, {"puls_ms": 5})


def test_files_that_are_none(tmp_path):
    assert "cannot be read" in complaint(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in complaint(tmp_path / "bytes.toml")


@pytest.mark.parametrize("text", ["7400", "host:", ":7400", "host:70000", "host:x", "a:b:7400", ""])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(text)


def test_addresses():
    assert Address.parse("[::1]:7400") == Address("::1", 7400)
    assert str(Address("::1", 7400)) == "[::1]:7400"
    assert str(Address.parse("localhost:0")) == "localhost:0"


def test_every_option_is_described():
    options = describe_options()
    assert [option.name for option in options] == list(NodeConfig.model_fields)
    assert all(option.description.endswith(".") for option in options)
    assert options[0].default == "required"
    assert {option.name: option.default for option in options}["lease_term_ms"] == "10000"
    assert options[1].environment == "HOROLOGE_NODE_DATA_DIR"
    printed = CliRunner().invoke(node_app, ["options", "-o", "json"])
    assert json.loads(printed.stdout) == [option._asdict() for option in options]


# Logs


@pytest.fixture
def logs_restored():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # `configure` closes what it replaces; pytest's own handlers must live.
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_log_lines_as_json(tmp_path, logs_restored):
    path = tmp_path / "logs" / "node.log"
    configure(NodeConfig(name="n1", log_file=path, log_level="info"))
    structlog.get_logger("a").info("started", port=1)
    structlog.get_logger("a").debug("unheard")
    logging.getLogger("library").warning("careful %s", "now")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "careful now", "failed"]
    assert all(line["node"] == "n1" and line["timestamp"].endswith("Z") for line in lines)
    assert (lines[0]["port"], lines[0]["level"], lines[0]["logger"]) == (1, "info", "a")
    assert "ValueError: broken" in lines[2]["exception"]


def test_log_lines_as_text(capsys, logs_restored):
    configure(NodeConfig(name="n1", log_format="text", log_level="warning"))
    structlog.get_logger("a").info("unheard")
    structlog.get_logger("a").warning("heard", port=1)
    text = capsys.readouterr().err
    assert "heard" in text
    assert "port=1" in text
    assert "unheard" not in text
