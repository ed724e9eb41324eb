"""The units that `horologe service` writes: what stands in ops/, what systemd thinks of them, and what is done and not done."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from horologe.client.cli.main import app
from horologe.node import service_commands
from horologe.node.service_units import HOMES, Kind, hidden_from, unit_of

OPS = Path(__file__).parents[3] / "ops"
PROGRAM = Path("/usr/local/bin/horologe")


@pytest.mark.parametrize("kind", Kind)
def test_what_stands_in_ops_is_what_is_installed(kind: Kind) -> None:
    unit = unit_of(kind, PROGRAM)
    assert (OPS / unit.name).read_text() == unit.text
    shown = CliRunner().invoke(app, ["service", "show", kind, "--program", str(PROGRAM)])
    assert (shown.exit_code, shown.stdout) == (0, unit.text)


@pytest.mark.parametrize("kind", Kind)
def test_systemd_takes_them(kind: Kind, tmp_path: Path) -> None:
    unit = unit_of(kind, Path("/usr/bin/true"))
    (tmp_path / unit.name).write_text(unit.text)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        # Where there is no systemd, at least each line is one of a unit.
        assert all(line == "" or line[0] in "#[" or "=" in line for line in unit.text.splitlines())
        return
    done = subprocess.run([analyze, "verify", tmp_path / unit.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


def test_the_nodes_user_is_not_that_of_jobs() -> None:
    node, worker = (unit_of(kind, PROGRAM) for kind in Kind)
    assert node.user != worker.user
    assert "ProtectSystem=strict" in node.text and "CapabilityBoundingSet=\n" in node.text
    # A place of its own for each job needs namespaces, and a /proc that nothing is mounted over.
    assert not {"RestrictNamespaces=yes", "ProtectKernelTunables=yes"} & set(worker.text.splitlines())


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_commands, "UNIT_FOLDER", tmp_path)
    monkeypatch.setattr(service_commands.subprocess, "run", lambda *_: pytest.fail("something was started"))
    done = CliRunner().invoke(app, ["service", "install", "node", "--program", str(PROGRAM), "--dry-run"])
    assert done.exit_code == 0
    assert f"write {tmp_path / 'horologe-node.service'}:\n{unit_of(Kind.NODE, PROGRAM).text}" in done.stdout
    assert "run useradd --system" in done.stdout and "run systemctl enable horologe-node.service" in done.stdout
    done = CliRunner().invoke(app, ["service", "uninstall", "node", "--dry-run"])
    assert "run systemctl disable --now horologe-node.service" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_is_installed_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(service_commands, "UNIT_FOLDER", tmp_path)
    monkeypatch.setattr(service_commands, "_insist_on_root", lambda: None)
    monkeypatch.setattr(
        service_commands.subprocess, "run", lambda words, *, check: ran.append(" ".join(words)) if check else None
    )
    runner, unit = CliRunner(), unit_of(Kind.WORKER, PROGRAM)
    done = runner.invoke(app, ["service", "install", "worker", "--program", str(PROGRAM)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / unit.name).read_text() == unit.text
    assert "Still missing: /etc/horologe/worker.toml" in done.stdout
    assert [words.split()[0] for words in ran] == ["useradd", "systemctl", "systemctl"]
    ran.clear()
    assert runner.invoke(app, ["service", "uninstall", "worker"]).exit_code == 0
    assert ran == [f"systemctl disable --now {unit.name}", "systemctl daemon-reload"]
    assert not (tmp_path / unit.name).exists()
    again = runner.invoke(app, ["service", "uninstall", "worker"])
    assert again.exit_code == 1 and "is not installed" in again.stderr


def test_a_program_that_the_node_would_not_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, linked = Path("/home/ada/.venv/bin/horologe"), tmp_path / "horologe"
    linked.symlink_to(program)
    script = tmp_path / "script"
    script.write_text("#!/root/python/bin/python3 -I\nprint()\n")
    assert "ProtectHome=yes" in unit_of(Kind.NODE, program).text
    assert hidden_from(Kind.NODE, program) == (program, Path("/home"))
    assert hidden_from(Kind.NODE, linked) == (program, Path("/home"))
    assert hidden_from(Kind.NODE, script) == (Path("/root/python/bin/python3"), Path("/root"))
    assert hidden_from(Kind.NODE, PROGRAM) is None
    # Its unit hides nothing.
    assert "ProtectHome" not in unit_of(Kind.WORKER, program).text and hidden_from(Kind.WORKER, program) is None
    monkeypatch.setattr(service_commands, "UNIT_FOLDER", tmp_path / "units")
    for home in HOMES:
        done = CliRunner().invoke(app, ["service", "install", "node", "--program", f"{home}/bin/horologe", "--dry-run"])
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"its unit hides {home} from the node" in done.stderr and "/opt or /usr/local" in done.stderr


def test_who_is_not_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_commands, "UNIT_FOLDER", tmp_path)
    monkeypatch.setattr(service_commands.os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(app, ["service", "install", "node", "--program", str(PROGRAM)])
    assert done.exit_code == 1 and "root's business" in done.stderr
