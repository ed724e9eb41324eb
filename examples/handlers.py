"""Handlers for examples/shop.yaml, and the little shop server that its HTTP job talks to.

horologe worker run --handlers examples/handlers.py
"""

import json
import os
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from horologe.client.worker import Context, Handlers

DATABASE = os.environ.get("HOROLOGE_DEMO_DATABASE", "demo.db")
URL = os.environ.get("HOROLOGE_DEMO_URL", "http://127.0.0.1:7480")

handlers = Handlers()


@handlers.handler("order-report")
def order_report(context: Context) -> dict[str, int]:
    """Counts the orders and prints a report; what it returns is the execution's result."""
    with sqlite3.connect(DATABASE, timeout=5) as database:
        count, quantity = database.execute("SELECT COUNT(*), COALESCE(SUM(quantity), 0) FROM orders").fetchone()
    context.write_output(f"{context.payload['title']}: {count} orders, {quantity} pieces\n")
    return {"orders": count, "pieces": quantity}


class Shop(BaseHTTPRequestHandler):
    """Takes each order once: the idempotency key of the execution is the order's key."""

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        row = (self.headers["Idempotency-Key"], order["item"], order["quantity"])
        with sqlite3.connect(DATABASE, timeout=5) as database:
            database.execute("INSERT OR IGNORE INTO orders (key, item, quantity) VALUES (?, ?, ?)", row)
        answer = b'{"accepted": true}\n'
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *values: object) -> None:
        """The worker's log is for the worker."""


def open_shop() -> None:
    """Makes the tables and serves in a thread of its own."""
    with sqlite3.connect(DATABASE, timeout=5) as database:
        database.execute("CREATE TABLE IF NOT EXISTS orders (key TEXT PRIMARY KEY, item TEXT, quantity INTEGER)")
        database.execute("CREATE TABLE IF NOT EXISTS totals (at TEXT DEFAULT CURRENT_TIMESTAMP, quantity INTEGER)")
    address = urlsplit(URL)
    server = ThreadingHTTPServer((address.hostname or "127.0.0.1", address.port or 80), Shop)
    threading.Thread(target=server.serve_forever, name="shop", daemon=True).start()


open_shop()
