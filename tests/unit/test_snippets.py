"""Every snippet of every page is run, read by what it is meant for, or says why not.

Marked as `<!-- test: run -->` and the like they are run (tests/support/page_runner.py, tests/integration/test_pages_played.py and
its neighbours); marked as below they are read here; marked as `<!-- not run: REASON -->` they are listed here.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from support.page_runner import is_played
from support.pages import ROOT, Block, blocks_of, page_text, pages

from horologe.client import jobfile
from horologe.client.cli import worker_config
from horologe.client.cluster_context import of_table
from horologe.node.config_sources import load_config

SNIPPETS = [
    (page, number, block)
    for page in pages()
    if page.startswith(("README.md", "docs/", "examples/"))
    for number, block in enumerate(blocks_of(page_text(page)), 1)
]
"""Diagrams stand in ARCHITECTURE.md, which has its own test."""
READERS = ("job file", "options of a node", "options of a worker", "context", "contexts", "fragment")
"""Marks of what is read here."""


@cache
def readers_elsewhere() -> str:
    """The text of all tests that look at blocks of pages."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    return "\n".join(text for text in texts if "blocks_of" in text)


def has_own_test(block: Block) -> bool:
    """Whether a test asks for blocks with this mark by its words."""
    return bool(block.mark) and block.mark not in READERS and f'"{block.mark}"' in readers_elsewhere()


def readable(block: Block, folder: Path) -> None:
    """Raises if the program would not read the snippet."""
    path = folder / "snippet.toml"
    path.write_text(block.text)
    match block.mark:
        case "job file":
            assert jobfile.loads(block.text, "snippet")
        case "options of a node":
            load_config(path, {"name": "n1"}, {})
        case "options of a worker":
            worker_config.load(path, {})
        case "context":
            of_table(tomllib.loads(block.text), folder, "snippet")
        case "contexts":
            table = tomllib.loads(block.text)
            assert table["current"] in table["contexts"]
            for context in table["contexts"].values():
                of_table(context, folder, "snippet")
        case "fragment":
            ast.parse(block.text)
        case _:
            raise AssertionError(f"nobody knows what {block.mark!r} is")


def ids(snippet: tuple[str, int, Block]) -> str:
    page, number, block = snippet
    return f"{page}:{number}:{block.mark}"


def is_left(block: Block) -> bool:
    return not (is_played(block) or has_own_test(block) or block.mark.startswith("not run: "))


READ = [one for one in SNIPPETS if is_left(one[2])]


@pytest.mark.parametrize("snippet", READ, ids=ids)
def test_a_snippet_is_read_by_what_it_is_for(tmp_path: Path, snippet: tuple[str, int, Block]) -> None:
    page, _, block = snippet
    assert block.mark, (
        f"{page}: nobody runs\n{block.text}\nWrite a line before it: <!-- test: run --> or another mark that "
        "tests/support/page_runner.py or tests/unit/test_snippets.py knows, or <!-- not run: REASON -->"
    )
    readable(block, tmp_path)


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if one[2].mark.startswith("not run: ")], ids=ids)
def test_a_snippet_that_is_not_run_says_why(snippet: tuple[str, int, Block]) -> None:
    reason = snippet[2].mark.removeprefix("not run: ")
    assert len(reason.split()) >= 3
    for name in re.findall(r"(?:tests|docs)/[\w/.-]+\.(?:py|md)", reason):
        assert page_text(name), f"{name} is to make up for it"
