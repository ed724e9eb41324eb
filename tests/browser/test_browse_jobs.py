"""What people do with jobs: make one, with the mouse and with keys only, and learn why it did not run."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect
from reader import Reader
from shop import HOSTILE, Shop

TABS_MAX = 120


def tab_to(page: Page, target: Locator) -> None:
    """As somebody without a mouse gets there."""
    for _ in range(TABS_MAX):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{target} cannot be reached by Tab")


def test_a_job_is_made_by_the_form(reader: Reader, shop: Shop) -> None:
    page = reader.open("/jobs")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Name", exact=True).fill("hourly-sync")
    page.get_by_label("every so often").check()
    page.get_by_label("Every", exact=True).fill("1h")
    page.get_by_label("or a script").fill("echo synced")
    # What it comes to is there before it is stored.
    expect(page.get_by_role("complementary", name="Preview")).to_contain_text(re.compile(r"in 1 h|in \d+ min"))
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="hourly-sync", level=1)).to_be_visible()
    stored = shop.stored("hourly-sync")
    assert stored.schedules[0].interval.every.seconds == 3600
    assert stored.action.shell.script == "echo synced"


def test_a_job_is_made_without_a_mouse(reader: Reader, shop: Shop) -> None:
    page = reader.open("/new-job")
    tab_to(page, page.get_by_label("Name", exact=True))
    page.keyboard.type("by-keys")
    # A group of choices is one stop, and arrows go through it: the last one, and one more.
    tab_to(page, page.locator("input[name=kind]:checked"))
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_label("on request only")).to_be_checked()
    tab_to(page, page.get_by_label("or a script"))
    page.keyboard.type("echo keys")
    tab_to(page, page.get_by_role("button", name="Create"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="by-keys", level=1)).to_be_visible()
    assert shop.stored("by-keys").schedules[0].HasField("manual")


def test_a_mistake_in_the_form_is_named_at_its_field(reader: Reader, shop: Shop) -> None:
    # The answer says with its status that nothing was stored, and the browser notes that.
    reader.expected = re.compile("status of 4")
    page = reader.open("/new-job")
    page.get_by_label("Name", exact=True).fill("Wrong Name")
    page.get_by_label("or a script").fill("true")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("not saved")
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_value("Wrong Name")
    assert name.get_attribute("aria-invalid") == "true"
    assert all(not job.name.endswith("Wrong Name") for job in shop.client.list_jobs())


def test_one_sees_why_a_due_time_was_skipped(reader: Reader, shop: Shop) -> None:
    shop.skipped("slow-report")
    page = reader.open("/jobs/default/slow-report")
    not_run = page.get_by_role("region", name="Due times that did not run")
    expect(not_run).to_contain_text("skipped")
    not_run.get_by_role("link", name=re.compile("^Why")).first.click()
    answer = page.locator("#why-answer")
    expect(answer).to_contain_text("did not run")
    expect(answer).to_contain_text("the execution before it had not ended")
    expect(answer).to_contain_text("overlap: skip")


def test_what_people_write_is_shown_and_nothing_else(reader: Reader) -> None:
    page = reader.open("/jobs/default/hostile")
    expect(page.get_by_role("main")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0
    assert "\u202e" in HOSTILE and "\u202e" not in page.locator("main").inner_text()
