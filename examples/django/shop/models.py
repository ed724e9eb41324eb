"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """An order, paid or not."""

    placed = models.DateTimeField()
    paid = models.BooleanField(default=False)
