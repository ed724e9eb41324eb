"""A cluster and a browser for all tests of the dashboard, and a page for each. Without Chromium they fail and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from reader import Reader, reading
from shop import Shop, open_shop

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
LAUNCH_MILLISECONDS = 120_000
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"there is no {CHROMIUM}: `make browser-tools` installs it (as root, on Debian)", pytrace=False)
    expect.set_options(timeout=45_000)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), headless=True, timeout=LAUNCH_MILLISECONDS
        )
        yield found
        found.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as open_one:
        yield open_one


@pytest.fixture(scope="session")
def administrator(browser: Browser, shop: Shop) -> Iterator[BrowserContext]:
    """The cookies of somebody who is signed in and may do everything."""
    with reading(browser, shop.address()) as reader:
        reader.sign_in(shop.token)
        # A page that does not follow the cluster all the time, beside those that are tested.
        reader.open("/sign-in")
        yield reader.page.context


@pytest.fixture
def reader(browser: Browser, shop: Shop, administrator: BrowserContext) -> Iterator[Reader]:
    """A page of n1 whose reader is signed in as the administrator. Whatever is wrong with it fails the test."""
    with reading(browser, shop.address(), signed_in=administrator) as found:
        yield found
        found.check()
