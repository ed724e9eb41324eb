"""The pages about the API: all of it is there, every link within them leads somewhere, and nobody has to sign in."""

from __future__ import annotations

import re
from pathlib import Path

from secure_harness import SecureNode
from web_harness import browser

from horologe.node.http import openapi
from horologe.node.web.reference import kind_of, prose

PAGE_BYTES_MAX = 300_000


async def test_every_method_field_and_reason_is_there(tmp_path: Path) -> None:
    document = openapi.document()
    pages: dict[str, str] = {}
    async with SecureNode(tmp_path, insecure=False).serve() as node, browser(node) as reader:
        for address in ("/docs", "/docs/messages", *(f"/docs/{tag['name']}" for tag in document["tags"])):
            answer = await reader.get(address)
            assert answer.status_code == 200, address
            assert len(answer.content) < PAGE_BYTES_MAX, f"{address}: {len(answer.content)}"
            pages[address] = answer.text
        assert (await reader.get("/docs/NoService")).status_code == 404
    marks = {f"{address}#{mark}" for address, page in pages.items() for mark in re.findall(r' id="([^"]+)"', page)}
    for address, page in pages.items():
        for target in re.findall(r'href="(/docs[^"]*|#[^"]+)"', page):
            target = f"{address}{target}" if target.startswith("#") else target
            assert target in marks or target in pages or target == "#content", (address, target)
    for reason in openapi.ALL_REASONS:
        assert f"/docs#{reason}" in marks, "problem documents lead there"
    for name in document["components"]["schemas"]:
        assert f"/docs/messages#{name}" in marks
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert f"/docs/{operation['tags'][0]}#{operation['operationId']}" in marks
            assert path in pages[f"/docs/{operation['tags'][0]}"]


def test_texts_are_no_markup() -> None:
    assert prose("`a<b` & <i>\n\nmore") == "<code>a&lt;b</code> &amp; &lt;i&gt;<br><br>more"
    assert kind_of({"type": "array", "items": {"$ref": "#/x/Job"}}) == 'list of <a href="/docs/messages#Job">Job</a>'
    assert kind_of({"type": "object", "additionalProperties": {"type": "string"}}) == "mapping to string"
    assert kind_of({}) == "any value"
    assert kind_of({"type": "string", "format": "date-time"}) == "date-time"
    assert kind_of({"type": ["integer", "string"], "format": "int64"}) == "int64"
    assert kind_of({"type": "string", "contentEncoding": "base64"}) == "base64"
