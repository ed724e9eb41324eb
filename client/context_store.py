"""The contexts of a user: `~/.config/horologe/config.toml`, or where XDG_CONFIG_HOME says.

    current = "prod"

    [contexts.prod]
    addresses = ["cluster.example.org:7400"]
    ...

Tables in, tables out: what their keys mean is in `cluster_context.py`. The file may hold tokens, so only its owner may read
it; it is written as a whole, and comments in it do not last.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from horologe.client.errors import InvalidContext
from horologe.client.names import ID_RULE, is_id
from horologe.client.private_files import check_private

__all__ = ["Store", "current", "find", "path", "read", "write"]

Found = tuple[Mapping[str, Any], Path, str]
"""A context's table, the folder where its paths begin, and what to call it in messages."""


@dataclass(slots=True)
class Store:
    """What the file holds."""

    current: str = ""
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)


def path() -> Path:
    """Where the file is, or would be."""
    # The XDG rules: a relative path does not count.
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "horologe" / "config.toml"


def read() -> Store:
    """The contexts; none if there is no file. InvalidContext says what is wrong with it."""
    file = path()
    place = f"the configuration {file}"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Store()
    except OSError as error:
        raise InvalidContext(f"{place} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidContext(f"{place} is not TOML: {error}") from error
    store = Store(table.pop("current", ""), table.pop("contexts", {}))
    if table:
        raise InvalidContext(f"{place} has an unknown key {sorted(table)[0]!r}; known: current, contexts")
    if not isinstance(store.current, str) or not isinstance(store.contexts, dict):
        raise InvalidContext(f"{place}: current must be a name, and contexts tables: [contexts.NAME]")
    for name, context in store.contexts.items():
        if not is_id(name) or not isinstance(context, dict):
            raise InvalidContext(f"{place}: contexts must be tables [contexts.NAME] with a name each: {ID_RULE}")
    if store.current and store.current not in store.contexts:
        raise InvalidContext(f"{place}: current is {store.current!r}, and there is no [contexts.{store.current}]")
    if any("token" in context for context in store.contexts.values()):
        check_private(file, place)
    return store


def find(name: str) -> Found | None:
    """The context of this name, if there is one."""
    table = read().contexts.get(name)
    return None if table is None else (table, path().parent, f"the context {name} in {path()}")


def current() -> Found | None:
    """The context that counts where nothing names one."""
    name = read().current
    return find(name) if name else None


def write(store: Store) -> Path:
    """Writes the file, all of it or nothing, for its owner only."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made with 0600, and never there in part.
        number, name = tempfile.mkstemp(dir=file.parent, prefix=".config-")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as stream:
                stream.write(_text(store))
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidContext(f"the configuration {file} cannot be written: {error.strerror or error}") from error
    return file


def _text(store: Store) -> str:
    lines = [f"current = {_value(store.current)}"] if store.current else []
    for name, context in sorted(store.contexts.items()):
        lines += ["", f"[contexts.{name}]", *(f"{key} = {_value(value)}" for key, value in context.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(value: object) -> str:
    # Texts, lists of texts and truth are written the same in TOML and in JSON, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
