"""The look of pages: what stands on what can be read, in light and in dark, and nothing needs what the policy forbids."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from service_harness import FakeNode
from web_harness import browser

from horologe.node.web.assets import STATIC_FOLDER
from horologe.node.web.view import TEMPLATE_FOLDER

CONTRAST_MIN = 4.5
"""WCAG 2.2, AA, for text; 3 for lines around fields, for focus and for charts."""
PAIRS = [
    ("ink", "paper", 4.5), ("ink", "paper-raised", 4.5), ("ink-muted", "paper", 4.5), ("ink-muted", "paper-raised", 4.5),
    ("link", "paper", 4.5), ("link", "paper-raised", 4.5), ("on-accent", "accent", 4.5), ("on-danger", "danger", 4.5),
    ("ink", "calm-paper", 4.5), ("bad-ink", "paper", 4.5), ("bad-ink", "paper-raised", 4.5),
    *((f"{kind}-ink", f"{kind}-paper", 4.5) for kind in ("good", "bad", "busy", "wait", "calm")),
    ("line-strong", "paper", 3), ("focus", "paper", 3), ("focus", "paper-raised", 3),
    *((f"chart-{number}", "paper", 3) for number in range(1, 6)),
]  # fmt: skip


def _colours() -> dict[str, tuple[str, str]]:
    css = (STATIC_FOLDER / "horologe.css").read_text()
    return {
        name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back", "contrast_min"), PAIRS)
def test_contrast(front: str, back: str, contrast_min: float, theme: int) -> None:
    colours = _colours()
    dim, bright = sorted((_luminance(colours[front][theme]), _luminance(colours[back][theme])))
    assert (bright + 0.05) / (dim + 0.05) >= contrast_min


TEMPLATES = sorted(TEMPLATE_FOLDER.glob("*.html"))


class _Forbidden(HTMLParser):
    """Scripts and styles that are part of a page, which its policy does not allow; and htmx attributes that need eval."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        if tag == "style" or (tag == "script" and "src" not in names and names.get("type") != "application/json"):
            self.found.append(f"<{tag}>")
        for name, value in attributes:
            if name == "style" or name.startswith(("on", "hx-on")) or (value or "").startswith(("javascript:", "js:")):
                self.found.append(f"<{tag} {name}>")


@pytest.mark.parametrize("template", TEMPLATES, ids=[template.name for template in TEMPLATES])
def test_templates_need_nothing_that_the_policy_forbids(template: Path) -> None:
    parser = _Forbidden()
    parser.feed(template.read_text())
    assert not parser.found
    assert "|safe" not in re.sub(r"\s", "", template.read_text()), "what is safe is Markup, and is made in words.py"


async def test_the_frame_of_a_page(node: FakeNode) -> None:
    async with browser(node) as reader:
        answer = await reader.get("/")
    assert answer.status_code == 200
    page = answer.text
    assert '<a class="skip" href="#content">' in page
    assert '<main id="content" tabindex="-1">' in page
    assert '<a href="/" aria-current="page">Overview</a>' in page
    assert page.count("aria-current") == 1
    assert 'data-now="2027-01-15T08:00:00.000Z"' in page
    assert 'data-live="/live"' in page
    assert '"allowEval": false' in page
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        async with browser(node) as reader:
            assert "immutable" in (await reader.get(address)).headers["cache-control"]
