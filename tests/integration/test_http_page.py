"""The walk of docs/http-api.md, as it stands there, against a real node."""

from __future__ import annotations

import sys
from pathlib import Path

from support.page_runner import play
from support.pages import blocks_of, page_text


def test_the_walk_through_the_api(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    terminal, setup, *blocks = (block for block in blocks_of(page_text("docs/http-api.md")) if block.mark)
    assert (terminal.mark, setup.mark) == ("terminal 1", "run")
    done = play(tmp_path, terminal.text, setup.text, blocks)
    assert done.count("expect") == 5
