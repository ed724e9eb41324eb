"""The options of one node as they are in effect, for people: value, and where it is from. Nothing secret is among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr

from horologe.node.config import NodeConfig

HIDDEN = "(set, not shown)"
_URLS = frozenset({"tracing_endpoint", "dashboard_url", "oidc_issuer"})
"""People put passwords into them."""


class EffectiveOption(NamedTuple):
    """One option."""

    name: str
    value: Any
    """As JSON takes it."""
    origin: str
    """`default`, the configuration file, an environment variable, or a flag."""


def effective_options(config: NodeConfig) -> Iterator[EffectiveOption]:
    """All of them, in the order of `horologe node options`."""
    for name in NodeConfig.model_fields:
        yield EffectiveOption(name, _shown(name, getattr(config, name)), config.origin_of(name))


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if name == "key_command" and value:
        # What follows the program may be a password.
        return [value[0], *([HIDDEN] if value[1:] else [])]
    if name in _URLS and value:
        return _without_password(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [each.model_dump() if isinstance(each, BaseModel) else each for each in value]
    return value


def _without_password(url: str) -> str:
    """Without what stands before the host, and without its query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        is_whole = host == parts.netloc and not parts.query and not parts.fragment
        return url if is_whole else urlunsplit((parts.scheme, host, parts.path, "", "")) + f" {HIDDEN}"
    except ValueError:
        return HIDDEN
