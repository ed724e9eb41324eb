"""A transport of httpx that connects to checked addresses only: those that the guard (address_guard.py) has let through."""

from __future__ import annotations

import asyncio

import httpx

from horologe.client.executors.address_guard import AddressGuard

CONNECT_SECONDS_MAX = 10.0


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request to a checked address, under the name it was meant for."""

    def __init__(self, guard: AddressGuard, transport: httpx.AsyncBaseTransport) -> None:
        self._guard = guard
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            addresses = await self._guard.resolve(host, port)
        # Certificates are checked against the name, not against the address.
        request.extensions = {**request.extensions, "sni_hostname": host}
        try:
            for address in addresses[:-1]:
                request.url = url.copy_with(host=address)
                try:
                    return await self._transport.handle_async_request(request)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    # Nothing was sent yet, so the next address may be tried.
                    continue
            request.url = url.copy_with(host=addresses[-1])
            return await self._transport.handle_async_request(request)
        finally:
            # Where a redirect leads is told from the name.
            request.url = url

    async def aclose(self) -> None:
        await self._transport.aclose()
