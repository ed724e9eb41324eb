"""Arguments that name executions. People know a job's name and no number: whoever gives it is told what finds the number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from horologe.client.errors import InvalidArgument
from horologe.client.names import execution_name, job_name

__all__ = ["found_by"]

Given = TypeVar("Given", str, list[str] | None)


def found_by(listing: str) -> Callable[[Given], Given]:
    """Checks what was given for an execution or for several; `listing` is the command that lists those of a job."""

    def check(given: Given) -> Given:
        texts: Iterable[str] = [given] if isinstance(given, str) else given or ()
        for text in texts:
            try:
                execution_name(text)
            except InvalidArgument as error:
                found = f"{listing} {text}" if _is_job(text) else listing
                raise InvalidArgument(f"{error.message}; `{found}` shows the numbers") from error
        return given

    return check


def _is_job(text: str) -> bool:
    """Whether it could be a job's name."""
    try:
        job_name(text)
    except InvalidArgument:
        return False
    return True
