"""What docs/ tells people to type, as it stands there, against real nodes.

All pages share one cluster; the quickstart has its own, and begins with its install.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.page_runner import SETUP, dev_cluster, is_played, play_blocks, run
from support.pages import ROOT, Block, blocks_of, page_text, pages

QUICKSTART = "docs/quickstart.md"
TERMINAL = ". .venv/bin/activate\nhorologe dev --dir dev"
INSTALLED = ("raft", "node", "client", "chaos", "proto", "pyproject.toml", "README.md", "LICENSE")


def played_blocks(page: str) -> list[Block]:
    return [block for block in blocks_of(page_text(page)) if is_played(block)]


PAGES = sorted(
    (page for page in pages() if page.startswith("docs/") and page != QUICKSTART and played_blocks(page)),
    # Its executions have the numbers that it shows because it comes first.
    key=lambda page: (page != "docs/http-api.md", page),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cluster that all pages share."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / ".venv").symlink_to(sys.prefix)
    with dev_cluster(folder, TERMINAL):
        yield folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(cluster: Path, tmp_path: Path, page: str) -> None:
    """In a folder of its own, with the cluster in `dev` and the examples beside it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "dev").symlink_to(cluster / "dev")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    setup, blocks = SETUP, played_blocks(page)
    if any(block.mark == "terminal 1" for block in blocks_of(page_text(page))):
        setup, blocks = blocks[0].text, blocks[1:]
    play_blocks(tmp_path, setup, blocks)


@pytest.mark.timeout(900)
def test_the_quickstart_from_install_to_a_dead_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment of its own, which pip installs this project into; what that needs is here already."""
    (tmp_path / "horologe").mkdir()
    for name in INSTALLED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / "horologe" / name)
    needed = tmp_path / "needed"
    needed.mkdir()
    for path in next(folder for folder in map(Path, sys.path) if folder.name == "site-packages").iterdir():
        if not path.name.startswith(("horologe", "__editable__", "_horologe")):
            (needed / path.name).symlink_to(path)
    monkeypatch.setenv("PYTHONPATH", str(needed))
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    install, terminal, setup, *blocks = (block for block in blocks_of(page_text(QUICKSTART)) if block.mark)
    assert [install.mark, terminal.mark, setup.mark] == ["install", "terminal 1", "setup"]
    assert all(is_played(block) for block in blocks)
    run(tmp_path, install.text)
    with dev_cluster(tmp_path, terminal.text):
        play_blocks(tmp_path, setup.text, blocks)
