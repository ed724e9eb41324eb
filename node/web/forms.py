"""Fields of a form that carry numbers and instants: what was typed, what it means, and what is wrong with it.

What a value may be is for the API to say; here it is only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp


class Fields:
    """What was typed, and what is wrong with it, by the names of the fields."""

    def __init__(self, form: Mapping[str, object]) -> None:
        self.values = {name: str(value).strip() for name, value in form.items()}
        self.errors: dict[str, str] = {}

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Of a form that nobody has sent yet."""
        return cls(values)

    def value(self, name: str) -> str:
        return self.values.get(name, "")

    def error(self, name: str) -> str:
        return self.errors.get(name, "")

    def whole(self, name: str) -> int | None:
        """A whole number; None if the field is empty, or wrong."""
        text = self.value(name)
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            self.errors[name] = "This is not a whole number."
            return None
        return int(text)

    def milliseconds(self, name: str) -> int | None:
        """Seconds, perhaps with a fraction, as milliseconds; None if the field is empty, or wrong."""
        text = self.value(name)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < 1e9:
            self.errors[name] = "This is not a number of seconds."
            return None
        return round(seconds * 1000)

    def instant(self, name: str) -> Timestamp | None:
        """A date and a time, in UTC unless it says otherwise; None if the field is empty, or wrong."""
        text = self.value(name)
        if not text:
            return None
        found = Timestamp()
        try:
            moment = datetime.fromisoformat(text)
            found.FromDatetime((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC))
        except (ValueError, OverflowError):
            self.errors[name] = "This is not a time such as 2027-01-31T09:00Z."
            return None
        return found
