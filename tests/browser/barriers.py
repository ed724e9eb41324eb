"""What axe-core (vendor/axe.min.js, by `make axe`) finds on a page: barriers for people who see, hear, move or read otherwise."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
GRAVE = ("serious", "critical")


@cache
def _source() -> str:
    return AXE.read_text(encoding="utf-8")


def barriers(page: Page) -> list[str]:
    """Those that are serious or worse, each with the first elements that have it."""
    page.evaluate(_source())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    # It has looked at something: a page without any rule that applied would have no barriers either.
    assert found["passes"], page.url
    return [
        f"{page.url}: {each['impact']} {each['id']}: {each['help']}\n    "
        + "\n    ".join(f"{node['html'][:200]}: {node['failureSummary']}" for node in each["nodes"][:3])
        for each in found["violations"]
        if each["impact"] in GRAVE
    ]
