"""A fake node for each test, and an environment in which no other cluster can be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster
from typer.testing import CliRunner, Result

from horologe.client.cli import main


@pytest.fixture(autouse=True)
def _no_context(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("HOROLOGE_CONTEXT", raising=False)
    monkeypatch.delenv("HOROLOGE_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    node = FakeCluster()
    yield node
    node.stop()


@pytest.fixture
def run(fake: FakeCluster, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command against the fake node, found through a context file as in real life."""
    context = tmp_path / "context.toml"
    context.write_text(f'addresses = ["{fake.address}"]\ninsecure = true\n')

    def run(*arguments: str, **options: Any) -> Result:
        result = CliRunner(env={"HOROLOGE_CONTEXT": str(context)}).invoke(main.app, list(arguments), **options)
        assert "Traceback" not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
