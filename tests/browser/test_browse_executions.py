"""What people do with executions: watch one as it runs, read its log, cancel it, and drive a dead letter again."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect
from reader import Reader
from shop import Shop, eventually

from horologe.client import names
from horologe.v1.execution_pb2 import Execution


def place_of(execution: Execution) -> str:
    number = names.execution_number(execution.name)
    return f"/executions/{names.namespace_id(execution.name)}/{names.job_id(execution.name)}/{number}"


def log_of(page: Page) -> str:
    return page.get_by_label("What it printed").inner_text()


def test_an_execution_is_watched_as_it_runs(reader: Reader, shop: Shop) -> None:
    gate = Path(shop.worker.folder) / "gate"
    page = reader.open("/jobs/default/gated")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", name=re.compile("gated #"), level=1)).to_be_visible()
    state = page.locator("#execution .badge").first
    expect(state).to_have_text("running")
    log = page.get_by_label("What it printed")
    expect(log).to_contain_text("waits at the gate")
    assert "goes through" not in log_of(page)

    # Everything from here on comes by itself.
    page.evaluate("window.isTheSamePage = true")
    gate.touch()
    expect(state).to_have_text("completed")
    expect(log).to_contain_text("goes through")
    expect(page.get_by_role("button", name="Run the job again")).to_be_visible()
    assert page.evaluate("window.isTheSamePage")


def test_a_running_execution_is_cancelled(reader: Reader, shop: Shop) -> None:
    execution = shop.running("import-catalog")
    page = reader.open(place_of(execution))
    expect(page.get_by_label("What it printed")).to_contain_text("first line")
    page.get_by_role("button", name="Cancel", exact=True).click()
    # It asks first, and nothing is done when the answer is no.
    question = page.get_by_role("dialog")
    question.get_by_role("button", name="Leave it").click()
    assert not shop.client.get_execution(execution.name).cancel_requested
    page.get_by_role("button", name="Cancel", exact=True).click()
    question.get_by_role("button", name="Cancel").click()
    expect(page.locator("#execution .badge").first).to_have_text("cancelled")
    shop.wait_state(execution.name, Execution.STATE_CANCELLED)


def test_the_log_of_what_is_over_is_read(reader: Reader, shop: Shop) -> None:
    letter = shop.dead_letter()
    page = reader.open(place_of(letter))
    expect(page.get_by_label("What it printed")).to_contain_text("the printer is on fire")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as text").click()
    assert "the printer is on fire" in Path(download.value.path()).read_text()


def test_a_dead_letter_is_driven_again(reader: Reader, shop: Shop) -> None:
    letter = shop.dead_letter()
    page = reader.open(place_of(letter))
    expect(page.locator("#execution .badge").first).to_have_text("dead")
    page.get_by_role("button", name="Redrive", exact=True).click()
    # It is the same execution, and the printer still burns.
    eventually(lambda: len(shop.client.get_execution(letter.name).attempts) == 2, "a second attempt")
    expect(page.get_by_role("main")).to_contain_text("attempt 2")


def test_dead_letters_of_one_error_are_driven_again(reader: Reader, shop: Shop) -> None:
    letter = shop.dead_letter()
    page = reader.open("/dead-letters")
    expect(page.get_by_role("heading", name=re.compile("^default"))).to_be_visible()
    page.get_by_role("link", name="Redrive").first.click()
    expect(page.get_by_role("heading", name=re.compile("^Redrive .* dead letters? of default"))).to_be_visible()
    page.get_by_role("button", name="Redrive").click()
    expect(page.get_by_role("table", name=re.compile("^Operations"))).to_contain_text("done")
    eventually(lambda: len(shop.client.get_execution(letter.name).attempts) >= 2, "a second attempt")
