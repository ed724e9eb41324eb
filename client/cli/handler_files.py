"""Python files and modules that bring handlers for `horologe worker run`.

A file is ordinary Python:

    from horologe.client.worker import Context, Worker

    worker = Worker()

    @worker.handler("send-report")
    async def send_report(context: Context) -> None: ...

Its workers are not served; only their handlers are taken over.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from horologe.client.errors import InvalidArgument
from horologe.client.executors.python import Handlers
from horologe.client.worker import Worker

__all__ = ["load_into"]


def load_into(handlers: Handlers, references: Sequence[str], folder: Path) -> None:
    """Adds the handlers that the references name: `file.py`, `file.py:name`, `module`, `module:name`.

    Files are looked up from `folder`. InvalidArgument says which reference is wrong, and why.
    """
    for reference in references:
        location, _, attribute = reference.partition(":")
        module = _load_file(folder / location, reference) if location.endswith(".py") else _load(location, reference)
        for handler in (one for found in _sources(module, attribute, reference) for one in found):
            try:
                handlers.add(handler)
            except ValueError as error:
                raise InvalidArgument(f"handlers {reference!r}: {error}") from error


def _sources(module: ModuleType, attribute: str, reference: str) -> list[Handlers]:
    if attribute:
        if not hasattr(module, attribute):
            raise InvalidArgument(f"handlers {reference!r}: there is no {attribute!r} in {module.__name__}")
        candidates = [getattr(module, attribute)]
    else:
        candidates = list(vars(module).values())
    found = {id(one): one for one in (_handlers_of(candidate) for candidate in candidates) if one is not None}
    if not found:
        raise InvalidArgument(
            f"handlers {reference!r}: it has no Worker; write `worker = Worker()` and decorate with it"
        )
    return list(found.values())


def _handlers_of(candidate: object) -> Handlers | None:
    if isinstance(candidate, Worker):
        return candidate.handlers
    return candidate if isinstance(candidate, Handlers) else None


def _load_file(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        raise InvalidArgument(f"handlers {reference!r}: there is no file {path}")
    name = f"horologe_handlers_{path.stem}_{abs(hash(path.resolve())):x}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Handlers may import their neighbours, and be pickled or inspected by name.
    _add_to_path(path.resolve().parent)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise _failure(reference, error) from error
    return module


def _load(name: str, reference: str) -> ModuleType:
    _add_to_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _failure(reference, error) from error


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _failure(reference: str, error: Exception) -> InvalidArgument:
    return InvalidArgument(f"handlers {reference!r} cannot be imported: {type(error).__name__}: {error}")
