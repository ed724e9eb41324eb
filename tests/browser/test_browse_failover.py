"""A page that is open while nodes die goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, expect
from reader import NODE_GONE, reading
from shop import Shop, eventually

RETURN_MILLISECONDS = 60_000
"""Until a browser asks again, and the node has come back and caught up."""


@contextmanager
def killed(shop: Shop, name: str) -> Iterator[None]:
    """The node is gone meanwhile, and back afterwards."""
    shop.node(name).kill()
    try:
        yield
    finally:
        shop.node(name).start()
        eventually(lambda: shop.shows_pages(name), f"{name} again")


def test_a_page_goes_on_when_the_leader_is_killed(browser: Browser, shop: Shop, administrator: BrowserContext) -> None:
    leader, survivor = shop.leader(), shop.follower()
    with reading(browser, shop.address(survivor), signed_in=administrator) as reader:
        # Until another one leads the node says that it cannot know.
        reader.expected = NODE_GONE
        page = reader.open("/")
        page.evaluate("window.isTheSamePage = true")
        expect(page.get_by_role("main")).to_contain_text(leader)
        with killed(shop, leader):
            new = eventually(
                lambda: found if (found := shop.client.cluster_status().leader) not in ("", leader) else "",
                "another leader",
            )
            expect(page.get_by_role("main")).to_contain_text(new)
            # And it goes on to follow: what is done now is seen.
            running = shop.running("import-catalog")
            shop.client.cancel_execution(running.name)
        assert page.evaluate("window.isTheSamePage")
        reader.check()


def test_a_page_goes_on_when_its_own_node_comes_back(
    browser: Browser, shop: Shop, administrator: BrowserContext
) -> None:
    own = shop.leader()
    with reading(browser, shop.address(own), signed_in=administrator) as reader:
        reader.expected = NODE_GONE
        page = reader.open("/jobs?name=nightly-backup")
        page.evaluate("window.isTheSamePage = true")
        row = page.get_by_role("row").filter(has_text="nightly-backup")
        expect(row).to_contain_text("active")
        with killed(shop, own):
            # Nobody can tell the page.
            shop.client.pause_job("nightly-backup", reason="the node was away")
        expect(row).to_contain_text("the node was away", timeout=RETURN_MILLISECONDS)
        shop.client.resume_job("nightly-backup")
        expect(row).not_to_contain_text("the node was away", timeout=RETURN_MILLISECONDS)
        assert page.evaluate("window.isTheSamePage")
        reader.check()
