"""The examples, each played as examples/README.md tells it, on a node and a worker of its own."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from support.page_runner import play
from support.pages import ROOT, Block, blocks_of, page_text

from horologe.node.local_cluster import free_port

PAGE = "examples/README.md"
API_PORT = "7481"
"""Of the small server in one of them. Here it gets a port that nobody else has."""


@pytest.fixture
def port() -> str:
    return str(free_port())


@pytest.fixture
def folder(tmp_path: Path, port: str) -> Path:
    """Where somebody would be who has the project: a folder with `.venv` and `examples` in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for path in (tmp_path / "examples" / "api-poll").iterdir():
        if path.is_file():
            path.write_text(path.read_text().replace(API_PORT, port))
    return tmp_path


def sections() -> dict[str, list[Block]]:
    """The marked blocks under each heading of the page; those before the first one are what all share."""
    parts = re.split(r"^## (.*)$", page_text(PAGE), flags=re.MULTILINE)
    titles = ["", *parts[1::2]]
    return {
        title: [block for block in blocks_of(text) if block.mark]
        for title, text in zip(titles, parts[::2], strict=True)
    }


@pytest.mark.parametrize("title", [title for title in sections() if title])
def test_an_example_does_what_its_page_says(folder: Path, port: str, title: str) -> None:
    terminal, setup = sections()[""]
    blocks = [Block(block.language, block.mark, block.text.replace(API_PORT, port)) for block in sections()[title]]
    marks = play(folder, terminal.text, setup.text, blocks)
    assert {"expect", "expect exactly"} & set(marks), f"{title} shows nothing"
