"""What holds for all pages: no errors, no strangers, no barriers, room on a phone, and the keyboard is enough."""

from __future__ import annotations

import pytest
from barriers import barriers
from playwright.sync_api import Browser, BrowserContext, Page, expect
from reader import Reader, reading
from shop import Shop

PATHS = (
    "/",
    "/jobs",
    "/jobs/default/slow-report",
    "/jobs/default/hostile",
    "/jobs/default/place-order/edit",
    "/jobs/default/place-order/versions",
    "/new-job",
    "/executions",
    "/executions/default/send-invoices/{dead}",
    "/workflows",
    "/workflows/default/sales",
    "/queues",
    "/workers",
    "/dead-letters",
    "/dead-letters/default",
    "/forecast",
    "/cron",
    "/cluster",
    "/audit",
    "/notifications",
    "/docs",
)
OPEN_PATHS = ("/sign-in",)
"""For people who are not signed in."""
FOCUS = """() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    return {
        name: element.tagName,
        text: (element.innerText || element.value || element.getAttribute("aria-label") || "").trim(),
        visible: style.outlineStyle !== "none" || style.boxShadow !== "none",
        shown: element.getClientRects().length > 0,
    };
}"""


def paths(shop: Shop) -> list[str]:
    """Pages for people who are signed in."""
    return [path.format(dead=shop.number(shop.dead)) for path in PATHS]


def too_wide(page: Page) -> list[str]:
    """Elements that make the page wider than its window; those in a part of their own that scrolls do not."""
    found: list[str] = page.evaluate("""() => {
        const root = document.documentElement;
        if (root.scrollWidth <= root.clientWidth) return [];
        return [...document.querySelectorAll("body *")]
            .filter(each => each.getBoundingClientRect().right > root.clientWidth + 1)
            .map(each => `${location.pathname}: ${each.tagName}.${each.className}`)
            .slice(0, 5).concat(`${location.pathname}: ${root.scrollWidth} > ${root.clientWidth}`);
    }""")
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_has_barriers_or_errors(
    browser: Browser, shop: Shop, administrator: BrowserContext, dark: bool
) -> None:
    found: list[str] = []
    with reading(browser, shop.address(), dark=dark, signed_in=administrator) as reader:
        for path in paths(shop):
            found += barriers(reader.open(path))
        reader.check()
    with reading(browser, shop.address(), dark=dark) as stranger:
        for path in OPEN_PATHS:
            found += barriers(stranger.open(path))
        stranger.check()
    assert not found, "\n".join(found)


def test_the_navigation_leads_to_pages_that_are_looked_at(reader: Reader) -> None:
    links = reader.open("/").get_by_role("navigation", name="Pages").get_by_role("link").all()
    assert {link.get_attribute("href") for link in links} <= set(PATHS)


def test_dark_is_dark_and_light_is_light(browser: Browser, shop: Shop, administrator: BrowserContext) -> None:
    seen = {}
    for dark in (False, True):
        with reading(browser, shop.address(), dark=dark, signed_in=administrator) as reader:
            colour = reader.open("/").evaluate(
                "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
            )
            seen[dark] = colour
    assert seen[False] != seen[True]


def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, shop: Shop, administrator: BrowserContext) -> None:
    found: list[str] = []
    with reading(browser, shop.address(), phone=True, signed_in=administrator) as reader:
        for path in paths(shop):
            found += too_wide(reader.open(path))
        reader.check()
    with reading(browser, shop.address(), phone=True) as stranger:
        for path in OPEN_PATHS:
            found += too_wide(stranger.open(path))
    assert not found, "\n".join(found)


def test_keys_lead_past_the_navigation_and_through_it(reader: Reader) -> None:
    page = reader.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()

    page.reload()
    names = page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
    seen = []
    for _ in range(len(names) + 6):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        assert focus["visible"] and focus["shown"], focus
        seen.append(focus["text"])
        if focus["text"] == names[-1]:
            break
    assert [text for text in seen if text in names] == names


def test_keys_are_enough_to_sign_in(browser: Browser, shop: Shop) -> None:
    with reading(browser, shop.address()) as reader:
        page = reader.open("/sign-in")
        # The field has the focus by itself, once it is drawn.
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type(shop.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        reader.check()
