"""`manage.py run_worker`: tells the cluster of the shop's jobs, and runs them until it is stopped."""

from django.core.management.base import BaseCommand

from horologe.client import Worker, connect
from shop.jobs import handlers


class Command(BaseCommand):
    """The worker of the shop."""

    def handle(self, *args: object, **options: object) -> None:
        """Returns when it was told to stop and everything has ended."""
        with connect() as client:
            client.apply_jobs(handlers.jobs)
        worker = Worker(name="dev-shop", queues=["shop"], handlers=handlers)
        worker.run()
