"""Stories in text: a command line, `----`, what happened. `pytest tests/scenarios --rewrite` writes what happens now.

The command words are the methods of support.world.World; a line that begins with `#` is a comment.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.world import World

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_scenario(path: Path, rewrite: bool) -> None:
    expected = path.read_text()
    happened = play(expected)
    if rewrite:
        path.write_text(happened)
    assert happened == expected or rewrite


def play(text: str) -> str:
    """The same text, with what happened in the place of what was expected."""
    world = World()
    blocks = []
    for block in text.strip().split("\n\n"):
        head = block.partition("\n----")[0]
        *comments, command = head.splitlines()
        assert all(comment.startswith("#") for comment in comments), f"one command in a block, please:\n{head}"
        blocks.append(f"{head}\n----\n{world.run(command)}")
    return "\n\n".join(blocks) + "\n"


def test_there_are_stories() -> None:
    assert len(STORIES) >= 14
