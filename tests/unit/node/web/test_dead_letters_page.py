"""Dead letters: counted, looked at, driven again and purged, and by whom."""

from __future__ import annotations

import html
import re

import pytest
from google.protobuf import json_format
from runs_harness import HOSTILE, PARENT, create, die
from secure_harness import Role, SecureNode
from web_harness import browser

from horologe.node.web import dead_letters
from horologe.raft.model import ExecutionState


def main_of(text: str) -> str:
    return text.partition("<main")[2].partition("</main>")[0]


def fingerprint_in(text: str) -> str:
    found = re.search(r"fingerprint=(\w{16})", text)
    assert found, text
    return found[1]


async def test_errors_are_counted(node) -> None:
    await create(node)
    await create(node, parent="namespaces/shop")
    for error in ("no host 10.0.0.1", "no host 10.0.0.2", HOSTILE):
        die(node, 1, error)
    die(node, 2, "only in shop")
    async with browser(node) as reader:
        text = (await reader.get("/dead-letters")).text
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text
        rows = re.findall(r'">([^<]+)</a></td>\s*<td class="number">(\d+)</td>', text)
        assert ("no host 10.0.0.2", "2") in rows
        assert ("only in shop", "1") in rows
        assert 'href="/executions/default/tick/3"' in text
        shop = (await reader.get("/dead-letters?namespace=shop")).text
        assert "only in shop" in shop
        assert "no host" not in shop
        part = (await reader.part("/dead-letters")).text
        assert "<html" not in part
        assert "no host" in part


async def test_letters_of_one_error(node, monkeypatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE_SIZE", 2)
    await create(node)
    numbers = [die(node, 1, f"no host {address}") for address in range(5)]
    die(node, 1, "something else")
    async with browser(node) as reader:
        link = re.search(
            r'href="(/dead-letters/default\?fingerprint=\w+)">no host', (await reader.get("/dead-letters")).text
        )
        found, address = [], link[1]
        while address:
            text = (await reader.get(address)).text
            found += [int(number) for number in re.findall(r'href="/executions/default/tick/(\d+)"', text)]
            more = re.search(r'rel="next" href="([^"]+)"', text)
            address = html.unescape(more[1]) if more else ""
        assert found == numbers[::-1]
        assert (await reader.get("/dead-letters/default?fingerprint=odd")).status_code == 400
        assert (await reader.get("/dead-letters/default?job=nothing")).status_code == 404


async def test_a_group_is_driven_again_after_a_question(node) -> None:
    await create(node)
    for _ in range(3):
        die(node, 1, "broken")
    async with browser(node) as reader:
        fingerprint = fingerprint_in((await reader.get("/dead-letters")).text)
        asked = (await reader.get(f"/dead-letters/default/redrive?fingerprint={fingerprint}")).text
        assert "Redrive 3 dead letters of default?" in asked
        assert node.commands[-1].WhichOneof("kind") == "complete", "nothing was done yet"
        fields = {
            "fingerprint": fingerprint,
            "rate": "2.5",
            "payload": '{"a": 1}',
            "request_id": re.search(r'name="request_id" value="([^"]+)"', asked)[1],
        }
        answer = await reader.post("/dead-letters/default/redrive", fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/dead-letters?namespace=default")
        begun = node.commands[-1].start_operation
        assert (begun.namespace, begun.redrive.rate) == ("default", 2.5)
        assert f"{begun.redrive.fingerprint:016x}" == fingerprint
        assert json_format.MessageToDict(begun.redrive.payload) == {"a": 1}
        page = (await reader.get("/dead-letters")).text
        assert '<span class="badge running">running</span>' in page
        cancel = re.search(r'action="(/dead-letters/default/operations/\d+/cancel)"', page)[1]
        assert (await reader.post(cancel)).status_code == 303
        assert '<span class="badge cancelled">cancelled</span>' in (await reader.get("/dead-letters")).text


async def test_selected_ones_are_purged_after_a_question(node) -> None:
    await create(node)
    numbers = [die(node, 1, "broken") for _ in range(3)]
    names = [f"{PARENT}/jobs/tick/executions/{number}" for number in numbers[:2]]
    async with browser(node) as reader:
        asked = await reader.get("/dead-letters/default/purge", params={"selected": "yes", "name": names})
        assert "Purge 2 dead letters of default?" in asked.text
        assert names[0] in asked.text
        assert (await reader.post("/dead-letters/default/purge", {"name": names})).status_code == 303
        assert list(node.commands[-1].start_operation.purge.executions) == numbers[:2]


@pytest.mark.parametrize("action", ["redrive", "purge"])
async def test_nothing_selected_is_not_everything(node, action) -> None:
    await create(node)
    die(node)
    async with browser(node) as reader:
        answer = await reader.get(f"/dead-letters/default/{action}?selected=yes")
        assert (answer.status_code, "nothing is selected" in answer.text) == (400, True)
        assert (await reader.post(f"/dead-letters/default/{action}", {"selected": "yes"})).status_code == 400
        assert node.commands[-1].WhichOneof("kind") == "complete"


@pytest.mark.parametrize(
    ("fields", "text"), [({"rate": "fast"}, "rate"), ({"rate": "-1"}, "rate"), ({"payload": "{"}, "payload")]
)
async def test_a_form_that_cannot_be_read(node, fields, text) -> None:
    await create(node)
    die(node)
    async with browser(node) as reader:
        await reader.get("/dead-letters")
        answer = await reader.post("/dead-letters/default/redrive", fields)
        assert (answer.status_code, text in answer.text) == (400, True)
        assert (await reader.get("/dead-letters/default/burn")).status_code == 400


async def test_who_may_only_look_is_offered_nothing(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        await create(node)
        number = die(node)
        node.grant("ann", "default", Role.ROLE_VIEWER)
        node.grant("eve", "default", Role.ROLE_EDITOR)
        async with browser(node, node.token("ann")) as reader:
            page = main_of((await reader.get("/dead-letters")).text)
            for text in (page, main_of((await reader.get("/dead-letters/default")).text)):
                assert "broken" in text
                assert "edrive" not in text
                assert "Purge" not in text
            for action in ("redrive", "purge"):
                asked = main_of((await reader.get(f"/dead-letters/default/{action}")).text)
                assert "<button" not in asked
                assert (await reader.post(f"/dead-letters/default/{action}")).status_code == 403
        async with browser(node, node.token("eve")) as reader:
            page = main_of((await reader.get("/dead-letters/default")).text)
            assert "Redrive the selected ones" in page
            assert "Purge" not in page
        assert node.execution(number).state == ExecutionState.DEAD


async def test_there_are_none(node) -> None:
    async with browser(node) as reader:
        assert "No dead letters" in (await reader.get("/dead-letters")).text
        assert "No dead letters here" in (await reader.get("/dead-letters/default")).text
