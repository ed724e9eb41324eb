"""A node whose metrics can be read: FakeNode, with what a whole node adds to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import grpc.aio
import httpx
from prometheus_client.parser import text_string_to_metric_families
from service_harness import FakeNode

from horologe.node.call_meter import CallMeter
from horologe.node.http.app import make_app
from horologe.node.http.parts import HttpParts
from horologe.node.local_calls import LocalCalls
from horologe.node.metrics_collector import NodeCollector

GATEWAY: Any = SimpleNamespace(numbers=lambda: [7, 8])


class Scraped:
    """One page of metrics."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        [found] = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        return found

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == name}


class Scraper:
    """Asks a node over HTTP, as somebody or nobody."""

    def __init__(self, node: FakeNode) -> None:
        first, *others = node.interceptors()
        calls = LocalCalls([first, CallMeter(node.context.metrics), *others])
        node.add_all_services(cast(grpc.aio.Server, calls))
        transport = httpx.ASGITransport(make_app(HttpParts(node.context, calls)))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700")

    async def get(self, path: str = "/metrics", token: str = "", **headers: str) -> httpx.Response:
        if token:
            headers["authorization"] = f"Bearer {token}"
        return await self.http.get(path, headers=headers)

    async def scrape(self) -> Scraped:
        answer = await self.get()
        assert answer.status_code == 200, answer.text
        return Scraped(answer.text)


@asynccontextmanager
async def scraper(node: FakeNode, tls: Any = None) -> AsyncIterator[Scraper]:
    """`node` must be served."""
    node.context.metrics.add(NodeCollector(node.context, GATEWAY, node.control, tls))
    made = Scraper(node)
    async with made.http:
        yield made
