"""Coming in and going out."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect
from reader import reading
from shop import Shop

from horologe.node.web.view import SECURE_COOKIE


def test_a_reader_signs_in_with_a_token_and_out_again(browser: Browser, shop: Shop) -> None:
    with reading(browser, shop.address()) as reader:
        page = reader.open("/")
        expect(page).to_have_url(re.compile(r"/sign-in\?next=/$"))
        page.get_by_label("Token").fill(shop.token)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
        expect(page.get_by_role("banner")).to_contain_text("admin")
        (cookie,) = [each for each in page.context.cookies() if each["name"] == SECURE_COOKIE]
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        assert cookie["value"] != shop.token

        # The page that is left may ask once more for what has changed: it is that nobody is signed in.
        reader.check()
        reader.expected = re.compile("status of 401")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto(shop.address() + "/")
        expect(page.get_by_label("Token")).to_be_visible()
        reader.check()


def test_a_wrong_token_is_refused(browser: Browser, shop: Shop) -> None:
    with reading(browser, shop.address()) as reader:
        reader.expected = re.compile("status of 401")
        page = reader.open("/sign-in")
        page.get_by_label("Token").fill("hlg_0000000000000000_nothing")
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        reader.check()
