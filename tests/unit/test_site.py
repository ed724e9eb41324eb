"""The site made of docs/ builds without a warning, its links and anchors lead somewhere, and it loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from subprocess import run

import pytest
from support.pages import ROOT

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "srcset",
    "video": "src",
    "audio": "src",
    "object": "data",
}
LOADED_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}


class Reader(HTMLParser):
    """What a page loads by itself, and what of it looks like Markdown that nobody understood."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.raw: list[str] = []
        self._in_code = 0
        self._begins = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADING and values.get(LOADING[tag]):
            self.loaded.append(values[LOADING[tag]])
        if tag == "link" and LOADED_RELATIONS & set(values.get("rel", "").split()):
            self.loaded.append(values["href"])
        self._in_code += tag in ("code", "pre", "script", "style")
        self._begins = tag == "p"

    def handle_endtag(self, tag: str) -> None:
        self._in_code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        seen = r"^\s*(\|.*\||- \S|```|#+ )|\]\(" if self._begins else r"^\s*(\|.*\||```)|\]\("
        if not self._in_code and re.search(seen, data, flags=re.MULTILINE):
            self.raw.append(data.strip()[:100])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    # The theme tells of its successor otherwise.
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def pages_of(site: Path) -> Iterator[tuple[str, Reader]]:
    for path in sorted(site.rglob("*.html")):
        reader = Reader()
        reader.feed(path.read_text())
        yield path.relative_to(site).as_posix(), reader


def test_every_page_is_there_and_was_understood(site: Path) -> None:
    found = dict(pages_of(site))
    names = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert names - {"README.html"} <= found.keys() and "index.html" in found
    assert {name: reader.raw for name, reader in found.items() if reader.raw} == {}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = {(name, address) for name, reader in pages_of(site) for address in reader.loaded}
    assert len(loaded) > 100
    for name, address in loaded:
        assert not re.match(r"\w+:|//", address.removeprefix("data:")), f"{name} loads {address}"
        if not address.startswith("data:"):
            assert ((site / name).parent / address.partition("?")[0]).exists() or name == "404.html", (name, address)
    for path in site.rglob("*.css"):
        for address in re.findall(r"url\(\s*[\"']?([^\"')]*)|@import\s+[\"']([^\"']*)", path.read_text()):
            assert not re.match(r"https?:|//", "".join(address)), f"{path.name} loads {address}"
