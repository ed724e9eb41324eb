"""The links that leave one place, in a process of its own there: proxies whose weather the run changes.

`python -m horologe.chaos.links LISTEN=TARGET...`, each `host:port`. Commands are lines of JSON on standard input: the weather
by LISTEN; links that are not named get clear weather. Ends when its standard input ends: whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import uvloop

from horologe.chaos.network import Place
from horologe.chaos.proxy import Proxy, Weather
from horologe.client import own_program


class Links:
    """The links of one place, seen from the run."""

    def __init__(self, place: Place, targets: Mapping[str, str], log: Path) -> None:
        """`targets`: by the address at which the link is found, both `host:port`."""
        command = own_program.run_module("horologe.chaos.links", *(f"{a}={b}" for a, b in targets.items()))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*place.prefix, *command], stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )

    def set_weather(self, weather: Mapping[str, Weather]) -> None:
        """By the address of the link; all others are clear."""
        assert self._process.stdin is not None
        line = json.dumps({address: asdict(one) for address, one in weather.items()})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Gone when this returns."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


async def _serve(pairs: list[str]) -> None:
    async with AsyncExitStack() as stack:
        proxies: dict[str, Proxy] = {}
        for pair in pairs:
            listen, _, target = pair.partition("=")
            proxies[listen] = await stack.enter_async_context(Proxy(target, listen))
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer
        )
        while line := await commands.readline():
            weather = json.loads(line)
            for address, proxy in proxies.items():
                proxy.weather = Weather(**weather.get(address, {}))


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1:]))
