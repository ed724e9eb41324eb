"""The pages of the project as tests read them: their text, their code blocks, and the parts between marks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MADE_FOLDERS = {"site", "build", "dist", "node_modules", "vendor", "scratch"}
"""Made by tools, or of other people."""
_BLOCK = re.compile(r"^(?:<!-- (?:test: |(?=not run: ))([^\n]*?) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, with the mark before it: `<!-- test: MARK -->`, `<!-- not run: REASON -->` (all of that), or none."""

    language: str
    mark: str
    text: str


def pages() -> tuple[str, ...]:
    """Every page of the project, wherever it lies."""
    found: list[str] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in MADE_FOLDERS]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in files if name.endswith(".md")]
    return tuple(sorted(found))


def page_text(page: str) -> str:
    return (ROOT / page).read_text()


def blocks_of(text: str) -> list[Block]:
    return [Block(language, mark, content) for mark, language, content in _BLOCK.findall(text)]


def marked(page: str, mark: str) -> str:
    """What stands between `<!-- MARK -->` and `<!-- /MARK -->`."""
    text = page_text(page)
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    assert text.count(begin) == text.count(end) == 1, f"{page}: {begin} ... {end} must be there once"
    return text.partition(begin)[2].partition(end)[0]
