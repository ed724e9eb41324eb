"""The examples, each played as examples/README.md tells it, on a node and a worker of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.page_runner import play
from support.pages import ROOT, Block, blocks_of, page_text

PAGE = "examples/README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody would be who has the project: a folder with `.venv` and `examples` in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
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
def test_an_example_does_what_its_page_says(folder: Path, title: str) -> None:
    terminal, setup = sections()[""]
    marks = play(folder, terminal.text, setup.text, sections()[title])
    assert {"expect", "expect exactly"} & set(marks), f"{title} shows nothing"
