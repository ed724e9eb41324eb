"""The files that pages are made of: what is vendored is what it says, and browsers keep it while it is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from service_harness import FakeNode
from web_harness import browser

from horologe.node.web.assets import STATIC_FOLDER, Assets

VENDOR = STATIC_FOLDER / "vendor"


def test_what_is_vendored_is_what_was_fetched() -> None:
    """As `make vendor` noted it; for each package its licence is there."""
    head, *lines = (VENDOR / "MANIFEST").read_text().splitlines()
    noted = {line.partition("  ")[2]: line.partition("  ")[0] for line in lines}
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDOR.iterdir() if file.name != "MANIFEST"
    }
    assert found == noted
    packages = [word.partition("@")[0] for word in head.split() if "@" in word]
    assert packages
    assert {f"{package}.LICENSE" for package in packages} <= set(found)


def test_versions_are_those_of_the_makefile() -> None:
    head = (VENDOR / "MANIFEST").read_text().splitlines()[0]
    wanted = next(
        line for line in (STATIC_FOLDER.parents[2] / "Makefile").read_text().splitlines() if "VENDORED :=" in line
    )
    assert [word for word in head.split() if "@" in word] == [
        word.partition(":")[0] for word in wanted.split() if "@" in word
    ]


def test_an_address_changes_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a {}")
    first = Assets(tmp_path).url("a.css")
    (tmp_path / "a.css").write_text("b {}")
    assert Assets(tmp_path).url("a.css") != first
    with pytest.raises(KeyError):
        Assets(tmp_path).url("b.css")


async def test_files_are_kept_packed_and_asked_for_again(node: FakeNode) -> None:
    content = (STATIC_FOLDER / "horologe.css").read_bytes()
    address = Assets().url("horologe.css")
    async with browser(node) as reader:
        answer = await reader.get(address)
        assert answer.content == content
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.num_bytes_downloaded < len(content) / 2
        tag = answer.headers["etag"]
        again = await reader.get(address, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        other = await reader.get("/static/horologe.css?v=old", headers={"accept-encoding": "identity"})
        assert other.headers["cache-control"] == "no-cache"
        assert other.content == content
        assert "content-encoding" not in other.headers


@pytest.mark.parametrize("path", ["nothing.css", "../view.py", "%2e%2e/view.py", "vendor", "", "/etc/passwd"])
async def test_nothing_else_is_served(node: FakeNode, path: str) -> None:
    async with browser(node) as reader:
        assert (await reader.get(f"/static/{path}")).status_code == 404


async def test_pages_are_packed(node: FakeNode) -> None:
    async with browser(node) as reader:
        answer = await reader.get("/")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.text.startswith("<!doctype html>")
