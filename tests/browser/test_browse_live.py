"""An open page by itself: its parts come anew without taking away what somebody is about to use, and it leads to the sign-in
page when its session is over."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect
from reader import Reader, reading, wait_until_anew
from shop import Shop


def test_a_part_that_comes_anew_keeps_the_focus(reader: Reader) -> None:
    page = reader.open("/")
    card = page.locator("a.card[href='/dead-letters']")
    card.focus()
    wait_until_anew(page, "#overview")
    expect(card).to_be_focused()


def wait_for_news(page: Page, path: str) -> None:
    """Until a part that comes from this path was put in its place, or not: what came first may have been asked for before."""
    for _ in range(2):
        with page.expect_response(lambda response: urlsplit(response.url).path == path):
            pass


def test_what_is_pressed_is_there_until_it_is_let_go(reader: Reader) -> None:
    page = reader.open("/")
    page.locator("a.card[href='/dead-letters']").hover()
    page.mouse.down()
    page.locator("#overview").evaluate("element => element.setAttribute('data-old', '')")
    wait_for_news(page, "/")
    expect(page.locator("#overview[data-old]")).to_be_attached()
    page.mouse.up()
    expect(page).to_have_url(re.compile("/dead-letters$"))


def test_what_is_asked_is_done_however_long_the_answer_takes(reader: Reader, shop: Shop) -> None:
    page = reader.open("/queues")
    row = page.get_by_role("row").filter(has=page.get_by_text("mail", exact=True))
    row.get_by_role("button", name="Pause").click()
    question = page.get_by_role("dialog")
    expect(question).to_be_visible()
    wait_for_news(page, "/queues")
    question.get_by_role("button", name="Pause").click()
    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()


def test_a_session_that_ends_elsewhere_ends_here(browser: Browser, shop: Shop) -> None:
    with reading(browser, shop.address()) as found:
        found.sign_in(shop.token)
        open_page = found.open("/?from=here")
        other = open_page.context.new_page()
        other.goto(f"{shop.address()}/jobs")
        other.get_by_role("button", name="Sign out").click()
        expect(other).to_have_url(re.compile(r"/sign-in"))
        expect(open_page).to_have_url(re.compile(r"/sign-in\?next=/"))
