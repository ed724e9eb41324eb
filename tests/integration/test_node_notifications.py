"""One real node, one real worker, and receivers on real ports: a failure and what people hear of it, by the command line too."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from one_node import OneNode, one_node

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.webhook import verify

HERE = "127.0.0.2"
SECRET = "a signing secret"


@asynccontextmanager
async def receiving(requests: list[tuple[dict[str, str], bytes]]) -> AsyncIterator[str]:
    """Where a receiver is that takes everything and remembers it."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(take, HERE, 0)
    async with server:
        yield f"http://{HERE}:{server.sockets[0].getsockname()[1]}/hook"


async def horologe(here: OneNode, *words: str, code: int = 0) -> Any:
    """What the command line prints, as data."""
    program = Path(sys.executable).with_name("horologe")
    options = ("--address", here.address, "--insecure", "-o", "json")
    process = await asyncio.create_subprocess_exec(
        program, *options, "notification", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == code, errors.decode()
    return json.loads(output) if output.strip() else None


async def test_a_failure_is_told_signed_and_recorded(tmp_path: Path) -> None:
    requests: list[tuple[dict[str, str], bytes]] = []
    options = {"notification_networks": (f"{HERE}/32",), "dashboard_url": "https://h.example"}
    async with receiving(requests) as url, one_node(tmp_path, **options) as here:
        await here.client.set_secret("hook-key", SECRET)
        made = await horologe(
            here, "set", "ops", "--on", "failed,recovered", "--webhook", url, "--signing-secret", "hook-key"
        )
        assert (made["id"], made["events"], made["channel"]) == ("ops", ["failed", "recovered"], "webhook")
        assert (await horologe(here, "test", "ops"))["delivered"]
        mark = tmp_path / "well"
        script = f"test -e {mark} || {{ echo broken >&2; exit 3; }}"
        await here.client.create_job(jobs.job("tick", jobs.manual(), jobs.shell(script)))
        failed = (await here.client.run_job("tick")).name

        async def so_many(count: int) -> bool:
            return len(requests) >= count

        await eventually(lambda: so_many(2), 60, "the news of the failure")
        mark.touch()
        recovered = (await here.client.run_job("tick")).name
        await eventually(lambda: so_many(3), 60, "the news of the recovery")
        told = [json.loads(body) for _, body in requests]
        for headers, body in requests:
            verify(SECRET, headers["horologe-signature"], body)
        assert told[0]["test"]
        (first,), (second,) = told[1]["notices"], told[2]["notices"]
        assert (first["event"], first["execution"]) == ("failed", failed)
        assert (second["event"], second["execution"]) == ("recovered", recovered)
        assert first["url"].startswith("https://h.example/executions/default/tick/")
        assert "3" in first["reason"]

        async def all_recorded() -> bool:
            return len(await horologe(here, "deliveries", "ops")) == 3

        await eventually(all_recorded, 60, "the records of all three")
        records = await horologe(here, "deliveries", "ops")
        assert [record["outcome"] for record in records] == ["delivered"] * 3
        assert [record["id"] for record in records] == [told[2]["id"], told[1]["id"], ""]
        assert [rule["id"] for rule in await horologe(here, "list", "--all-namespaces")] == ["ops"]
        await horologe(here, "delete", "ops")
        assert await horologe(here, "list") == []


async def test_where_nothing_is_allowed_nothing_is_reached(tmp_path: Path) -> None:
    requests: list[tuple[dict[str, str], bytes]] = []
    async with receiving(requests) as url, one_node(tmp_path) as here:
        await horologe(here, "set", "ops", "--on", "failed", "--webhook", url)
        answer = await horologe(here, "test", "ops", code=1)
        assert "is not a public address" in answer["error"]
        await horologe(here, "set", "ops", "--on", "failed", "--email", "a@x.org", "--label", "team", code=2)
        await horologe(here, "set", "ops", "--on", "broken", "--email", "a@x.org", code=2)
        await horologe(here, "set", "ops", "--on", "failed", code=2)
    assert requests == []
