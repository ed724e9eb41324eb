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
        lines = block.splitlines()
        head = lines[: lines.index("----")] if "----" in lines else lines
        story = [line for line in head if line.startswith("#")]
        told = []
        for line in head:
            if not line.startswith("#"):
                told += ["----", world.run(line)] if line is head[-1] else _silently(world, line)
        blocks.append("\n".join([*story, *[line for line in head if not line.startswith("#")], *told]))
    return "\n\n".join(blocks) + "\n"


def _silently(world: World, line: str) -> list[str]:
    raise AssertionError(f"one command in a block, please: {line!r} is followed by another")


def test_there_are_stories() -> None:
    assert len(STORIES) >= 14
