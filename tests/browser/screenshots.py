"""The photographs of the dashboard in the README, taken by `make screenshots`; pytest collects this file only by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from reader import WIDE, reading
from shop import Shop
from test_browse_executions import place_of

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
BYTES_MAX = 150_000


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_dashboard_is_photographed(browser: Browser, shop: Shop, administrator: BrowserContext, dark: bool) -> None:
    IMAGES.mkdir(exist_ok=True)
    running = shop.running("import-catalog")
    subjects = {
        "overview": ("/", "Overview"),
        "job": ("/jobs/default/slow-report", "slow-report"),
        "execution": (place_of(running), "import-catalog"),
        "forecast": ("/forecast?namespace=night", "Forecast"),
        "cluster": ("/cluster", "Cluster"),
    }
    with reading(browser, shop.address(), dark=dark, signed_in=administrator) as reader:
        for name, (path, heading) in subjects.items():
            page = reader.open(path)
            expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
            # Charts and what comes a moment later are there.
            expect(page.locator("[hx-trigger=load], .htmx-request")).to_have_count(0)
            target = IMAGES / f"{name}-{'dark' if dark else 'light'}.png"
            page.screenshot(path=target, clip={"x": 0, "y": 0, **WIDE}, animations="disabled")
            assert target.stat().st_size < BYTES_MAX, f"{target} has {target.stat().st_size} bytes"
