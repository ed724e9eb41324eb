"""A web program that hands slow work to the cluster and asks how it goes. Its jobs and their handlers are in the same file.

uvicorn --app-dir examples/fastapi orders:app --port 7482
horologe worker run --name dev-orders --queue orders --handlers examples/fastapi/orders.py
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from horologe.client import AsyncClient, Context, Handlers, jobs

handlers = Handlers()


@handlers.job("invoice", jobs.manual(), queue="orders", retry=jobs.retry(max_attempts=5, base="2s"), overlap="allow")
def invoice(context: Context) -> dict[str, object]:
    """Writes one. Tried again it would write the same one: the idempotency key is its number."""
    order = context.payload
    context.write_output(f"an invoice for order {order['id']}\n")
    return {"invoice": context.idempotency_key, "total": order["quantity"] * 3}


@handlers.job("daily-summary", jobs.cron("0 18 * * *", time_zone="Europe/Berlin"), queue="orders")
def daily_summary(context: Context) -> None:
    """What nobody asks for, but the schedule."""
    context.write_output(f"the orders until {context.due_time_text}\n")


@asynccontextmanager
async def with_cluster(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests. Whichever copy of the program starts first makes the jobs; the others find them unchanged."""
    async with AsyncClient() as client:
        await client.apply_jobs(handlers.jobs)
        app.state.client = client
        yield


app = FastAPI(lifespan=with_cluster)


class Order(BaseModel):
    """What a customer wants."""

    id: str
    quantity: int


@app.post("/orders", status_code=202)
async def take_order(order: Order) -> dict[str, str]:
    """The request's id follows from the order's: an order that is sent twice gets one invoice."""
    request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"orders/{order.id}"))
    execution = await app.state.client.run_job("invoice", payload=order.model_dump(), request_id=request_id)
    return {"invoice": f"/invoices/{execution.name.rpartition('/')[2]}"}


@app.get("/invoices/{number}")
async def get_invoice(number: int) -> dict[str, object]:
    """Waits for it, but not for long."""
    execution = await app.state.client.wait_execution(number, timeout=10)
    return dict(execution.result.struct_value)
