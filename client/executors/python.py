"""Actions that name a handler registered in the worker program, and the registry of those handlers.

Async handlers run in the event loop and should wait, not compute. Sync handlers run in threads; nothing can kill a
thread, so a sync handler that takes long should look at `context.cancelled` or call `context.raise_if_cancelled()`.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack

from horologe.client import jobs
from horologe.client.attempts import Attempt, Outcome
from horologe.client.context import AttemptCancelledError, Context, PermanentError
from horologe.client.json_value import from_python
from horologe.client.outbox import STANDARD_ERROR, Output
from horologe.v1.job_pb2 import Job, Schedule

HandlerFunction = Callable[[Context], Any]
_Function = TypeVar("_Function", bound=HandlerFunction)


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that carries out the Python actions which name it."""

    name: str
    function: HandlerFunction
    is_async: bool
    inline: bool


class Handlers:
    """Handlers by name."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self.jobs: list[Job] = []
        """What `job` declared, for `Client.apply_jobs`."""

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    def get(self, name: str) -> Handler | None:
        """The handler of that name."""
        return self._handlers.get(name)

    def handler(self, name: str, *, inline: bool = False) -> Callable[[_Function], _Function]:
        """Registers the decorated function for actions that name `name`.

        `inline` runs a sync function in the event loop instead of a thread: for functions that take microseconds, since
        everything else stands still meanwhile. ValueError if the name is empty or taken.
        """

        def register(function: _Function) -> _Function:
            is_async = inspect.iscoroutinefunction(function)
            if is_async and inline:
                raise ValueError(
                    f"handler {name!r} is async, and async functions run in the event loop anyway: drop inline"
                )
            self.add(Handler(name, function, is_async, inline))
            return function

        return register

    def job(
        self,
        name: str,
        schedule: Schedule | Iterable[Schedule],
        *,
        payload: object = None,
        inline: bool = False,
        **policies: Unpack[jobs.Policies],
    ) -> Callable[[_Function], _Function]:
        """Registers the decorated function as `handler` does, and declares the job that runs it, in `jobs`.

        Job and handler have one name. `payload` and the policies are those of `jobs.python` and `jobs.job`. The cluster learns of
        it by `client.apply_jobs(handlers.jobs)`. ValueError and InvalidArgument as for those.
        """
        declared = jobs.job(name, schedule, jobs.python(name, payload), **policies)
        register = self.handler(name, inline=inline)

        def declare(function: _Function) -> _Function:
            registered = register(function)
            self.jobs.append(declared)
            return registered

        return declare

    def add(self, handler: Handler) -> None:
        """Adds a handler. ValueError if its name is empty or taken."""
        if not handler.name:
            raise ValueError("a handler needs a name that is not empty")
        if handler.name in self._handlers:
            raise ValueError(f"there is already a handler named {handler.name!r}; each name belongs to one function")
        self._handlers[handler.name] = handler


class PythonExecutor:
    """Calls handlers."""

    def __init__(self, handlers: Handlers, thread_count_max: int) -> None:
        """`thread_count_max` 0: sync handlers run where `run` does."""
        self._handlers = handlers
        self._thread_count_max = thread_count_max
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, attempt: Attempt, output: Output) -> Outcome:
        """Calls the handler that the action names; what it returns is the result, what it raises is the error."""
        name = attempt.action.python.handler
        handler = self._handlers.get(name)
        if handler is None:
            known = ", ".join(sorted(one.name for one in self._handlers)) or "none"
            return Outcome.failed(f"this worker has no handler named {name!r}; it has {known}", kind="no_handler")
        try:
            context = Context(attempt)
            if handler.is_async:
                value = await handler.function(context)
            elif handler.inline or not self._thread_count_max:
                value = handler.function(context)
            else:
                value = await self._call_in_thread(attempt, handler, context)
        except AttemptCancelledError as error:
            return _after_stop(attempt, error)
        except PermanentError as error:
            return _failure(attempt, output, error, permanent=True)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is how its attempt ended
            return _failure(attempt, output, error, permanent=False)
        if attempt.stop_reason is not None:
            return attempt.stopped_outcome()
        if value is None:
            return Outcome()
        return _success(name, value)

    async def _call_in_thread(self, attempt: Attempt, handler: Handler, context: Context) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._thread_count_max, thread_name_prefix="horologe-handler")
        call = self._threads.submit(_call, attempt, handler, context)
        future = asyncio.wrap_future(call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if call.cancel() or attempt.ended:
                # It did not begin, or nobody waits for its end: the thread is free when the handler has looked at
                # `cancelled`.
                future.add_done_callback(_ignore)
                raise
            return await future

    async def close(self) -> None:
        """Does not wait for threads: a handler that ignores its cancellation must not hold the program up."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _call(attempt: Attempt, handler: Handler, context: Context) -> Any:
    """In a thread. It may have waited long for that: an attempt that has to stop does not begin."""
    if attempt.stop_reason is not None:
        raise AttemptCancelledError(attempt.stop_message)
    return handler.function(context)


def _ignore(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _success(name: str, value: Any) -> Outcome:
    try:
        return Outcome(result=from_python(value))
    except (TypeError, ValueError) as error:
        message = f"handler {name!r} returned something that cannot be kept: {error}; return JSON values or None"
        return Outcome.failed(message, permanent=True)


def _failure(attempt: Attempt, output: Output, error: Exception, *, permanent: bool) -> Outcome:
    trace = "".join(traceback.format_exception(error))
    output.write(STANDARD_ERROR, trace.encode("utf-8", "replace"))
    if attempt.stop_reason is not None:
        return attempt.stopped_outcome()
    return Outcome.failed(f"{type(error).__name__}: {error}", kind=type(error).__name__, permanent=permanent)


def _after_stop(attempt: Attempt, error: AttemptCancelledError) -> Outcome:
    if attempt.stop_reason is not None:
        return attempt.stopped_outcome()
    return Outcome.failed(f"AttemptCancelledError: {error} (raised by the handler, nobody had asked it to stop)")
