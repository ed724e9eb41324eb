"""`manage.py test shop`: a day of the shop, without a cluster and without waiting."""

from datetime import UTC, datetime, timedelta

from django.test import TestCase

from horologe.client.testing import Rehearsal
from shop.jobs import handlers
from shop.models import Order

START = datetime(2027, 1, 1, tzinfo=UTC)


class ForgottenOrders(TestCase):
    """Orders that nobody paid for a week go within the hour; others stay."""

    def test_a_day(self) -> None:
        """The handler runs in the thread of the test, so it sees what the test has written."""
        Order.objects.create(placed=START - timedelta(days=6, hours=12))
        Order.objects.create(placed=START - timedelta(days=30), paid=True)
        runs = Rehearsal(handlers, start=START).advance("1d")
        self.assertEqual(len(runs), 24)
        self.assertEqual([run.result["forgotten"] for run in runs].count(1), 1)
        self.assertEqual(Order.objects.count(), 1)
