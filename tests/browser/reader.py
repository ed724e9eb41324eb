"""Somebody who reads the dashboard in Chromium, and notices what no page may do: err, break the policy, ask strangers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
WATCH_POLICY = """
document.addEventListener("securitypolicyviolation", event => console.error(
    `policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
NODE_GONE = re.compile(
    "ERR_CONNECTION_(REFUSED|RESET|CLOSED|ABORTED|TIMED_OUT)|ERR_(SOCKET_NOT_CONNECTED|SSL_PROTOCOL_ERROR|EMPTY_RESPONSE)"
    "|ERR_(RESPONSE_HEADERS_TRUNCATED|INVALID_HTTP_RESPONSE|(INCOMPLETE|INVALID)_CHUNKED_ENCODING|CONTENT_DECODING_FAILED)"
    "|ERR_(CONTENT_LENGTH_MISMATCH|HTTP2_PROTOCOL_ERROR)"
    "|status of 50[34]|htmx:(sendError|afterRequest|responseError)"
)
"""What a browser and htmx write to the console by themselves when a node dies, at whatever point of an answer, and is away."""
ABORTED, ENDED = "htmx:sendAbort", "htmx:afterRequest"
"""htmx says both, as errors, when somebody leaves a page while it asks for something, such as the preview of a form."""


class Reader:
    """One page of one browser profile. `faults` holds what was wrong."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.faults: list[str] = []
        self.expected = re.compile(r"(?!)")
        """Messages on the console that belong to what a test does."""
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("request", self._asked)
        page.add_init_script(WATCH_POLICY)

    def open(self, path: str) -> Page:
        """Shows a page of ours; that of a stream of events never comes to rest, so only the document is waited for."""
        response = self.page.goto(self.address + path, wait_until="load")
        assert response is not None and response.status == 200, f"{path}: {response and response.status}"
        return self.page

    def sign_in(self, token: str) -> None:
        self.open("/sign-in")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def check(self) -> None:
        """Nothing was wrong so far."""
        faults, self.faults = self.faults, []
        assert not (wrong := _without_aborted(faults)), "\n".join(wrong)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.expected.search(message.text):
            self.faults.append(f"{self.page.url}: console: {message.text}")

    def _asked(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in ("data", "blob") and asked.netloc != urlsplit(self.address).netloc:
            self.faults.append(f"{self.page.url}: asks a stranger: {request.url}")


def wait_until_anew(page: Page, part: str) -> None:
    """Until a part that follows the cluster has been replaced."""
    page.locator(part).evaluate("element => element.setAttribute('data-old', '')")
    expect(page.locator(f"{part}:not([data-old])")).to_be_attached()


def _without_aborted(faults: list[str]) -> list[str]:
    """Leaving a page is no fault: without the two messages that each request which was given up leaves behind."""
    kept = [fault for fault in faults if ABORTED not in fault]
    for _ in range(len(faults) - len(kept)):
        ended = next((fault for fault in kept if ENDED in fault), None)
        if ended is not None:
            kept.remove(ended)
    return kept


@contextmanager
def reading(
    browser: Browser, address: str, *, phone: bool = False, dark: bool = False, signed_in: BrowserContext | None = None
) -> Iterator[Reader]:
    """A fresh profile, or one with the cookies of another: nodes of one cluster take each other's sessions."""
    context = browser.new_context(
        ignore_https_errors=True,
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        locale="en-GB",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
        storage_state=signed_in.storage_state() if signed_in is not None else None,
    )
    context.set_default_timeout(60_000)
    try:
        yield Reader(context.new_page(), address)
    finally:
        context.close()
