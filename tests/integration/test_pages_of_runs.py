"""What the dashboard shows of real executions, over HTTP: output that outlives its connection, and what is done from pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import httpx
from one_node import OneNode, one_node
from support.governed_node import governed_node

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.node.web.view import SECURE_COOKIE
from horologe.v1 import access_service_pb2, access_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc
from horologe.v1.execution_pb2 import Execution

LOG_TASK = "log of an execution"


@dataclass(slots=True)
class Log:
    """What a browser has received of a log, and what it would come back with."""

    lines: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    last_id: str = ""

    def take(self, block: str) -> bool:
        """One event of the stream, as browsers take it; false if it is none."""
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(value)
        if "event" not in fields:
            return False
        self.kinds += fields["event"]
        self.last_id = fields.get("id", [self.last_id])[-1]
        text = unescape(re.sub(r"<[^>]+>", "", "\n".join(fields["data"])))
        if fields["event"] == ["start"]:
            self.lines.clear()
        if fields["event"][0] in ("start", "lines"):
            self.lines += text.splitlines()
        return True


@asynccontextmanager
async def reading(browser: httpx.AsyncClient, address: str, log: Log) -> AsyncIterator[AsyncIterator[Log]]:
    """The log after each event, for as long as it goes on."""

    async def events(response: httpx.Response) -> AsyncIterator[Log]:
        waiting = ""
        async for text in response.aiter_text():
            waiting += text
            *blocks, waiting = waiting.split("\n\n")
            for block in blocks:
                if log.take(block):
                    yield log

    headers = {"last-event-id": log.last_id} if log.last_id else {}
    async with browser.stream("GET", address, headers=headers) as response:
        assert response.status_code == 200
        yield events(response)


async def read_until(browser: httpx.AsyncClient, address: str, log: Log, line: str) -> None:
    """Leaves the stream when the line has come."""
    async with reading(browser, address, log) as events:
        async for each in events:
            if line in each.lines:
                return
    raise AssertionError(f"it ended without {line!r}: {log}")


async def read_all(browser: httpx.AsyncClient, address: str, log: Log) -> None:
    """Until its end."""
    async with reading(browser, address, log) as events:
        async for _ in events:
            pass
    assert log.kinds[-1] == "end"


@asynccontextmanager
async def browsing(here: OneNode) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=here.http_address, timeout=60) as browser:
        yield browser


def page_of(execution: Execution) -> str:
    _, namespace, _, job, _, number = execution.name.split("/")
    return f"/executions/{namespace}/{job}/{number}"


def waiting_for(file: Path) -> str:
    return f"while [ ! -e {file} ]; do sleep 0.05; done"


async def state_is(here: OneNode, name: str, state: Execution.State.ValueType) -> None:
    async def reached() -> bool:
        return (await here.client.get_execution(name)).state == state

    await eventually(reached, 60, f"{name} is {Execution.State.Name(state)}")


async def no_log_is_read() -> bool:
    return all(task.get_name() != LOG_TASK for task in asyncio.all_tasks())


async def test_a_log_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    gates = [tmp_path / "gate-1", tmp_path / "gate-2", tmp_path / "gate-3"]
    script = "; ".join(
        f"printf 'out {n} '; echo err {n} >&2; {waiting_for(gate)}; echo end {n}" for n, gate in enumerate(gates)
    )
    async with one_node(tmp_path, pages=True) as here, browsing(here) as browser:
        await here.client.apply_jobs([jobs.job("talk", jobs.manual(), jobs.shell(script))])
        run = await here.client.run_job("talk")
        address, log = f"{page_of(run)}/log", Log()
        for number, gate in enumerate(gates):
            # With half a line of the other stream under way.
            await read_until(browser, address, log, f"err err {number}")
            gate.touch()
            await eventually(no_log_is_read, 60, "who has gone is not read for")
        await read_all(browser, address, log)
        out = [line for line in log.lines if not line.startswith("err ")]
        assert sorted(log.lines) == sorted(
            [*(f"err err {n}" for n in range(3)), *(f"out {n} end {n}" for n in range(3))]
        )
        assert out == [f"out {n} end {n}" for n in range(3)]
        assert log.kinds.count("start") == 1
        whole = Log()
        await read_all(browser, address, whole)
        assert sorted(whole.lines) == sorted(log.lines)
        file = await browser.get(f"{page_of(run)}/output")
        assert file.headers["content-type"] == "text/plain; charset=utf-8"
        assert file.headers["content-disposition"].startswith('attachment; filename="talk-')
        assert "out 0 end 0\nout 1 end 1\n" in re.sub(r"err \d\n", "", file.text)


async def test_a_log_goes_on_with_the_next_attempt(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f'echo "try $HOROLOGE_ATTEMPT"; {waiting_for(gate)}; [ "$HOROLOGE_ATTEMPT" = 2 ]'
    retry = jobs.retry(max_attempts=2, backoff="fixed", base="100ms")
    async with one_node(tmp_path, pages=True) as here, browsing(here) as browser:
        await here.client.apply_jobs([jobs.job("twice", jobs.manual(), jobs.shell(script), retry=retry)])
        run = await here.client.run_job("twice")
        address, log = f"{page_of(run)}/log", Log()
        await read_until(browser, address, log, "try 1")
        gate.touch()
        await read_all(browser, address, log)
        assert log.lines == ["try 1", "attempt 2", "try 2"]
        first = Log()
        await read_all(browser, f"{address}?attempt=1", first)
        assert first.lines == ["try 1"]
        page = (await browser.get(page_of(run))).text
        assert 'class="span failed"' in page
        assert 'class="span succeeded"' in page
        assert re.findall(r'<td><span class="badge (\w+)">', page) == ["succeeded", "failed"]


async def test_much_output_is_cut_to_its_end(tmp_path: Path) -> None:
    async with one_node(tmp_path, pages=True) as here, browsing(here) as browser:
        await here.client.apply_jobs([jobs.job("much", jobs.manual(), jobs.shell("seq 1 3000"))])
        run = await here.client.run_job("much")
        await here.client.wait_execution(run.name, timeout=60)
        log = Log()
        await read_all(browser, f"{page_of(run)}/log", log)
        assert log.lines[0] == "2600 earlier lines are not shown; the file has all of them"
        assert log.lines[1:] == [str(number) for number in range(2601, 3001)]
        file = await browser.get(f"{page_of(run)}/output")
        assert file.text.split() == [str(number) for number in range(1, 3001)]


async def test_a_node_stops_while_logs_are_read(tmp_path: Path) -> None:
    async with one_node(tmp_path, pages=True) as here, browsing(here) as browser:
        await here.client.apply_jobs([jobs.job("long", jobs.manual(), jobs.shell("echo begun; sleep 600"))])
        run = await here.client.run_job("long")
        log = Log()
        async with reading(browser, f"{page_of(run)}/log", log) as events:
            async for each in events:
                if "begun" in each.lines:
                    break
            here.worker.stop()
            await asyncio.wait_for(here.stop(), 60)
            assert await no_log_is_read()


async def test_what_is_asked_for_on_a_page_happens(tmp_path: Path) -> None:
    """Cancelled, skipped, dead: each is seen, and each is done from its page."""
    async with one_node(tmp_path, pages=True) as here, browsing(here) as browser:
        await here.client.apply_jobs(
            [
                jobs.job("long", jobs.manual(), jobs.shell("sleep 600"), grace="1s"),
                jobs.job("bad", jobs.manual(), jobs.shell("exit 3"), retry=jobs.retry(max_attempts=1)),
            ]
        )
        run = await here.client.run_job("long")
        await state_is(here, run.name, Execution.STATE_RUNNING)
        page = (await browser.get(page_of(run))).text
        proof = {"csrf": re.search(r'name="csrf" value="(\w+)"', page)[1]}  # type: ignore[index]
        await browser.post(f"{page_of(run)}/cancel", data={**proof, "reason": "enough of it"})
        await state_is(here, run.name, Execution.STATE_CANCELLED)
        assert "enough of it" in (await browser.get(page_of(run))).text

        dead = await here.client.run_job("bad")
        await state_is(here, dead.name, Execution.STATE_DEAD)
        assert "exit code 3" in (await browser.get(page_of(dead))).text
        assert page_of(dead) in (await browser.get("/dead-letters")).text
        await here.client.apply_jobs([jobs.job("bad", jobs.manual(), jobs.shell("true"))])
        await browser.post(f"{page_of(dead)}/redrive", data=proof)
        await state_is(here, dead.name, Execution.STATE_COMPLETED)
        assert page_of(dead) not in (await browser.get("/dead-letters")).text
        listed = (await browser.get("/executions?state=cancelled")).text
        assert page_of(run) in listed
        assert page_of(dead) not in listed


async def test_a_revoked_session_reads_no_further(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        admin = (("authorization", f"Bearer {here.admin}"),)
        access = access_service_pb2_grpc.AccessServiceStub(here.channel)
        made = await access.CreateToken(access_service_pb2.CreateTokenRequest(description="page"), metadata=admin)
        service = job_service_pb2_grpc.JobServiceStub(here.channel)
        order = job_service_pb2.CreateJobRequest(job_id="later", job=jobs.job("", jobs.manual(), jobs.shell("true")))
        await service.CreateJob(order, metadata=admin)
        run = job_service_pb2.RunJobRequest(name="namespaces/default/jobs/later")
        execution = (await service.RunJob(run, metadata=admin)).execution
        cookies = {SECURE_COOKIE: made.secret}
        address = f"https://{here.config.http_listen}"
        async with httpx.AsyncClient(base_url=address, verify=False, cookies=cookies, timeout=60) as browser:
            log = Log()
            async with reading(browser, f"{page_of(execution)}/log", log) as events:
                assert (await anext(events)).kinds == ["start"]
                await access.RevokeToken(access_service_pb2.RevokeTokenRequest(name=made.token.name), metadata=admin)
                async for _ in events:
                    pass
            assert log.kinds == ["start", "note", "end"]
            assert (await browser.get(f"{page_of(execution)}/log")).status_code == 303
