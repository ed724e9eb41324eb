"""The jobs of the shop. Their handlers are functions like others, and use its models."""

from datetime import timedelta

from django.db import close_old_connections

from horologe.client import Context, Handlers, jobs
from shop.models import Order

handlers = Handlers()


@handlers.job("forget-orders", jobs.every("1h"), payload={"days": 7}, queue="shop")
def forget_orders(context: Context) -> dict[str, int]:
    """Counts from the due time, not from now: a run that comes late, or once more, forgets the same orders."""
    # As Django does around each request: a worker lives long, and connections do not.
    close_old_connections()
    oldest = context.due_time - timedelta(days=context.payload["days"])
    count, _ = Order.objects.filter(paid=False, placed__lt=oldest).delete()
    context.write_output(f"{count} forgotten\n")
    return {"forgotten": count}
