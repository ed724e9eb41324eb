"""What the worker asks of something that carries out actions. One file per kind of action implements it."""

from typing import Protocol

from horologe.client.attempts import Attempt, Outcome
from horologe.client.outbox import Output


class Executor(Protocol):
    """Carries out the actions of one kind (`shell`, `http`, `sql`, `python`, or a user's own)."""

    async def run(self, attempt: Attempt, output: Output) -> Outcome:
        """Carries out one attempt and tells how it ended.

        When the attempt has to stop, the task is cancelled once: clean up within the definition's grace, then raise
        CancelledError again or return `attempt.stopped_outcome()`. A second cancellation, or `attempt.kill` if it was
        set, means at once. Errors of the action are outcomes, not exceptions.
        """
        ...

    async def close(self) -> None:
        """Gives back what the executor holds; no attempt is running any more."""
        ...
