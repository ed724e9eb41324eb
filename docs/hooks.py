"""What mkdocs does beside its usual work: pages of docs/ link to files at the root of the project, and the site takes them along.

Below `project/` in the site things lie as they lie at the root. What is linked there comes along, and what that links to. A link
to a folder becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PLACE = "project/"
# A fenced block, in which nothing is a link; or a link; or what a picture in HTML is loaded from.
_LINK = re.compile(r'^```.*?^```|\[([^\]]*)\]\(([^)\s]+)\)|((?:src|srcset)=")([^"]+)"', re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds what lies outside of docs/ and is linked from a page or named in the navigation."""
    named = set(_named_in(config.nav))
    open_ends = [file.src_uri for file in files.documentation_pages()] + sorted(named)
    seen: set[str] = set()
    while open_ends:
        uri = open_ends.pop()
        source = _source_of(uri)
        if uri in seen or not source.is_file():
            continue
        seen.add(uri)
        if files.get_file_from_path(uri) is None:
            place = InclusionLevel.INCLUDED if uri in named else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, uri, abs_src_path=str(source), inclusion=place))
        if uri.endswith(".md"):
            found = (_target(uri, link) for link in _links_in(source.read_text()))
            open_ends += [target for target in found if target and target.startswith(PLACE)]
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Lets links lead to where their targets are in the site."""
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        text, link, attribute, picture = match.groups()
        whole = match.group()
        target = _target(here, link or picture or "")
        if target is None:
            return whole
        path = posixpath.relpath(target, posixpath.dirname(here) or ".")
        if picture:
            return f'{attribute}{path}"'
        if files.get_file_from_path(target) is None:
            return text if _source_of(target).is_dir() else whole
        _, hash_sign, anchor = link.partition("#")
        return f"[{text}]({path}{hash_sign}{anchor})"

    return _LINK.sub(moved, markdown)


def _links_in(text: str) -> Iterator[str]:
    for match in _LINK.finditer(text):
        if match[2] or match[4]:
            yield match[2] or match[4]


def _named_in(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _named_in(entry)


def _target(here: str, link: str) -> str | None:
    """Where in the site a link leads that stands in the page `here`; None if it is none to another file of the project."""
    path = link.partition("#")[0]
    if not path or "://" in link or link.startswith("mailto:"):
        return None
    at_root = posixpath.normpath(posixpath.join(posixpath.dirname(_at_root(here)), path))
    if at_root.startswith("../"):
        return None
    return at_root.removeprefix("docs/") if at_root.startswith("docs/") else PLACE + at_root


def _at_root(uri: str) -> str:
    """Where in the project lies what the site has at `uri`."""
    return uri.removeprefix(PLACE) if uri.startswith(PLACE) else f"docs/{uri}"


def _source_of(uri: str) -> Path:
    return ROOT / _at_root(uri)
