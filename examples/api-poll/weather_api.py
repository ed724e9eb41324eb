"""An API like those that others run: it answers one request in five seconds, and while there is a file `broken`, none.

python examples/api-poll/weather_api.py [PORT]
"""

import json
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SECONDS_BETWEEN = 5.0
DEGREES = {"berlin": 7, "oslo": -2}


class Weather(BaseHTTPRequestHandler):
    """`GET /weather?city=berlin`."""

    free_at = 0.0
    """When the next request is welcome, on the monotonic clock."""

    def do_GET(self) -> None:
        [city] = parse_qs(urlsplit(self.path).query).get("city", [""])
        now = time.monotonic()
        if Path("broken").exists():
            self.answer(503, {"error": "we are working on it"})
        elif now < Weather.free_at:
            self.answer(429, {"error": "not so fast"}, {"Retry-After": str(ceil(Weather.free_at - now))})
        elif city not in DEGREES:
            self.answer(404, {"error": "no such city"})
        else:
            Weather.free_at = now + SECONDS_BETWEEN
            self.answer(200, {"city": city, "degrees": DEGREES[city]})

    def answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """What was asked is in the executions."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 7481
    ThreadingHTTPServer(("127.0.0.1", port), Weather).serve_forever()
