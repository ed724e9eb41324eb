"""The examples, each played as examples/README.md tells it, on a node and a worker of its own."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from support.page_runner import play
from support.pages import ROOT, Block, blocks_of, page_text

from horologe.node.local_cluster import free_ports

PAGE = "examples/README.md"
PORTS = ("7481", "7482")
"""Of small servers in them. Here they get ports that nobody else has."""
WITH_PORTS = ("api-poll", "fastapi")
BETWEEN = "SECONDS_BETWEEN = {:.1f}"
"""Of the server that wants to be asked slowly: a command may take longer to start than it has patience."""


@pytest.fixture
def ports() -> dict[str, str]:
    return dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))


def replaced(text: str, ports: dict[str, str]) -> str:
    for port, free in ports.items():
        text = text.replace(port, free)
    return text


@pytest.fixture
def folder(tmp_path: Path, ports: dict[str, str]) -> Path:
    """Where somebody would be who has the project: a folder with `.venv`, `proto` and `examples` in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules", "__pycache__")
    )
    for path in (path for name in WITH_PORTS for path in (tmp_path / "examples" / name).iterdir()):
        if path.is_file():
            path.write_text(replaced(path.read_text(), ports))
    server = tmp_path / "examples" / "api-poll" / "weather_api.py"
    assert BETWEEN.format(5) in server.read_text()
    server.write_text(server.read_text().replace(BETWEEN.format(5), BETWEEN.format(15)))
    return tmp_path


def sections() -> dict[str, list[Block]]:
    """The marked blocks under each heading of the page; those before the first one are what all share."""
    parts = re.split(r"^## (.*)$", page_text(PAGE), flags=re.MULTILINE)
    titles = ["", *parts[1::2]]
    return {
        title: [block for block in blocks_of(text) if block.mark]
        for title, text in zip(titles, parts[::2], strict=True)
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", [title for title in sections() if title])
def test_an_example_does_what_its_page_says(folder: Path, ports: dict[str, str], title: str) -> None:
    terminal, setup = sections()[""]
    blocks = [Block(block.language, block.mark, replaced(block.text, ports)) for block in sections()[title]]
    marks = play(folder, terminal.text, setup.text, blocks)
    assert {"expect", "expect exactly"} & set(marks), f"{title} shows nothing"
