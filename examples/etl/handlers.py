"""What the workflow of jobs.yaml does in Python, where SQL and a shell alone would not do.

horologe worker run --queue etl --handlers examples/etl/handlers.py --sql warehouse=sqlite:///warehouse.db

Each handler may run twice for one night (a worker can die after its work is done), and leaves behind the same as after one run.
"""

import csv
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from horologe.client import Context, Handlers, PermanentError

WAREHOUSE = os.environ.get("WAREHOUSE", "warehouse.db")
TABLES = """
CREATE TABLE IF NOT EXISTS orders (day TEXT, customer TEXT, item TEXT, pieces INTEGER);
CREATE TABLE IF NOT EXISTS sold (day TEXT, item TEXT, pieces INTEGER, PRIMARY KEY (day, item));
CREATE TABLE IF NOT EXISTS days (day TEXT PRIMARY KEY, orders INTEGER, items INTEGER, best TEXT);
"""

handlers = Handlers()


def rows_of(path: str) -> list[dict[str, str]]:
    """A CSV file with a heading."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@handlers.handler("extract")
def extract(context: Context) -> dict[str, object]:
    """Takes the orders over as they are. What it returns, the jobs after it can name in their templates."""
    day = context.due_time.date().isoformat()
    rows = [(day, row["customer"], row["item"], int(row["pieces"])) for row in rows_of(context.payload["orders"])]
    with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
        warehouse.executescript(TABLES)
        warehouse.execute("DELETE FROM orders WHERE day = ?", (day,))
        warehouse.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    return {"day": day, "rows": len(rows)}


@handlers.handler("by-customer")
def by_customer(context: Context) -> dict[str, object]:
    """Who has bought most. Customers whom nobody knows are for people to look at: trying again would not help."""
    day = context.upstream["extract"].result["day"]
    names = {row["id"]: row["name"] for row in rows_of(context.payload["customers"])}
    query = "SELECT customer, SUM(pieces) FROM orders WHERE day = ? GROUP BY customer ORDER BY 2 DESC, 1"
    with closing(sqlite3.connect(WAREHOUSE)) as warehouse:
        totals = dict(warehouse.execute(query, (day,)).fetchall())
    unknown = sorted(totals.keys() - names.keys())
    if unknown:
        raise PermanentError(f"not among the customers: {', '.join(unknown)}")
    best = next(iter(totals))
    return {"best": names[best], "pieces": totals[best]}
