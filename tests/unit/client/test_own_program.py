"""How the program starts itself again, as Python and as the binary. The binary itself is tried in tests/binary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from horologe.client import own_program
from horologe.client.cli.main import app


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In the binary, which has unpacked itself there."""
    monkeypatch.setattr(own_program, "FROZEN", True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "horologe"))
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path), raising=False)
    return tmp_path


def test_python_starts_the_command_line_modules_and_files(tmp_path: Path) -> None:
    done = subprocess.run([*own_program.command(), "--version"], capture_output=True, text=True, check=True)
    # This is no binary, and says nothing of how it was built.
    assert done.stdout.startswith("horologe ") and done.stdout.count("\n") == 1
    done = subprocess.run(own_program.run_module("this"), capture_output=True, text=True, check=True)
    assert "Zen" in done.stdout
    (tmp_path / "json.py").write_text("raise ImportError")
    (tmp_path / "file.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    words = own_program.run_file(str(tmp_path / "file.py"), "a", "--b")
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == ["a", "--b"]


def test_the_binary_is_told_by_words_of_ours(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_program.command() == (str(frozen / "horologe"),)
    (frozen / "file.py").write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(__name__)")
    monkeypatch.setattr(sys, "argv", own_program.run_file(str(frozen / "file.py"), str(frozen / "out")))
    assert own_program.serve_frozen()
    assert (frozen / "out").read_text() == "__main__"
    monkeypatch.setattr(sys, "argv", own_program.run_module("this"))
    assert own_program.serve_frozen()
    for words in ([], ["job", "list"], ["--run-file"], ["job", "--run-module", "this"]):
        monkeypatch.setattr(sys, "argv", ["horologe", *words])
        assert not own_program.serve_frozen()


def test_the_binary_knows_where_it_comes_from(frozen: Path) -> None:
    build = {"commit": "c" * 40, "commit_time": "2026-11-27T00:00:00+00:00", "python": "3.11.7", "glibc": "2.36"}
    (frozen / own_program.BUILD_FILE).write_text(json.dumps(build))
    done = CliRunner().invoke(app, ["--version"])
    [_, second] = done.stdout.splitlines()
    assert second == f"commit {'c' * 40} of 2026-11-27T00:00:00+00:00; Python 3.11.7, glibc 2.36 or newer"
