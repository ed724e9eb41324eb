"""What `horologe job create` says beside the parser's complaint, where a newcomer most often means something else."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["CreateCommand", "check_http"]

HTTP_SHAPE = "give METHOD and URL, like --http GET https://example.org/"
_SHAPES = {"--http": HTTP_SHAPE, "--sql": "give CONNECTION and STATEMENT, like --sql shop 'select 1'"}
BEHIND_DASHES = "a command that has options of its own stands behind --, like -- ls -l /"


class CreateCommand(TyperCommand):
    """Adds to an option that nobody knows, or with too few words, how it is written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parser does it."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            said = _meant(error, given)
            if said:
                complaint: Any = error
                complaint.message = f"{complaint.message.rstrip('.')}; {said}"
            raise


def _meant(error: Any, given: list[str]) -> str:
    """By the error's attributes: the classes of the parser's errors are not in the interface of typer."""
    if hasattr(error, "possibilities"):
        return "" if error.possibilities or "--" in given else BEHIND_DASHES
    return _SHAPES.get(getattr(error, "option_name", ""), "")


def check_http(given: tuple[str, str] | None) -> None:
    """A URL without a method takes the next flag for its second word."""
    if given is not None and "://" in given[0]:
        raise typer.BadParameter(f"{given[0]!r} is no method; {HTTP_SHAPE}", param_hint="--http")
