"""Where the values of a node's options come from.

A value comes from a flag, else from the environment (HOROLOGE_NODE_*), else from the TOML file, else it is the default.
Every mistake becomes one line that names the option, the value and where it stands.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from horologe.node.config import ENVIRONMENT_PREFIX, ConfigError, MemberConfig, NodeConfig, shown

_PATHS = (
    "data_dir", "log_file", "tls_dir", "key_file", "bootstrap_token_file", "oidc_client_secret_file", "smtp_password_file",
    "smtp_ca_file",
)  # fmt: skip


def load_config(
    path: Path | None, overrides: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> NodeConfig:
    """The options from a file (if any), the environment and flags; an override of None was not given.

    Raises ConfigError, with one line for all that is wrong.
    """
    variables = os.environ if environment is None else environment
    flags = {name: value for name, value in overrides.items() if value is not None}
    _check_known(flags, "flags")
    from_file = {} if path is None else _read_file(path)
    from_environment = _read_environment(variables)
    origins = dict.fromkeys(from_file, str(path))
    origins |= {name: ENVIRONMENT_PREFIX + name.upper() for name in from_environment}
    origins |= {name: "--" + name.replace("_", "-") for name in flags}
    values = from_file | from_environment | flags
    folder = Path.cwd() if path is None else path.resolve().parent
    for name in _PATHS:
        # What a flag or the environment says is relative to where they were typed.
        if isinstance(values.get(name), str | Path):
            base = folder if name in from_file and values[name] == from_file[name] else Path.cwd()
            values[name] = base / Path(values[name]).expanduser()
    values.setdefault("data_dir", folder / "data")
    try:
        config = NodeConfig(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(detail, origins, path) for detail in error.errors())) from error
    config._origins.update(origins)
    return config


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give an existing file with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); it must be a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    _check_known(values, str(path))
    for name in ("key", "oidc_client_secret", "smtp_password"):
        if name in values:
            raise ConfigError(
                f"{path}: {name}: it does not belong into this file; give it in {ENVIRONMENT_PREFIX}{name.upper()}, "
                f"or a `{name}_file`"
            )
    return values


def _read_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    ours = {
        name[len(ENVIRONMENT_PREFIX) :].lower(): value
        for name, value in variables.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    for name in ours:
        if name not in NodeConfig.model_fields:
            raise ConfigError(
                f"environment: {ENVIRONMENT_PREFIX}{name.upper()} is no option{_nearest(name, upper=True)}"
            )
    source = EnvSettingsSource(NodeConfig)
    source.env_vars = {(ENVIRONMENT_PREFIX + name).lower(): value for name, value in ours.items()}
    try:
        return source()
    except SettingsError as error:
        if "key_command" in str(error):
            raise ConfigError(
                f"{ENVIRONMENT_PREFIX}KEY_COMMAND: {ours['key_command'][:80]!r} is not JSON; "
                'write ["/usr/bin/wrap", "an argument"]'
            ) from error
        if "notification_networks" in str(error):
            raise ConfigError(
                f"{ENVIRONMENT_PREFIX}NOTIFICATION_NETWORKS: {ours['notification_networks'][:80]!r} is not JSON; "
                'write ["10.1.0.0/16"]'
            ) from error
        value = ours.get("members", "")
        raise ConfigError(
            f"{ENVIRONMENT_PREFIX}MEMBERS: {value[:80]!r} is not JSON; "
            'write [{"name": "n1", "peer_address": "127.0.0.1:7501"}, ...]'
        ) from error


def _check_known(values: Mapping[str, Any], where: str) -> None:
    for name in values:
        if name not in NodeConfig.model_fields:
            raise ConfigError(f"{where}: {name} is no option{_nearest(name)}")
    known = list(MemberConfig.model_fields)
    members = values.get("members")
    for position, member in enumerate(members if isinstance(members, list | tuple) else ()):
        for name in member if isinstance(member, Mapping) else ():
            if name not in known:
                raise ConfigError(
                    f"{where}: members[{position}].{name} is no option; a member has {' and '.join(known)}"
                )


def _nearest(name: str, *, upper: bool = False) -> str:
    found = get_close_matches(name, NodeConfig.model_fields, n=1, cutoff=0.5)
    if not found:
        return "; `horologe node options` lists all"
    return f"; did you mean {ENVIRONMENT_PREFIX + found[0].upper() if upper else found[0]}?"


def _explain(detail: Any, origins: Mapping[str, str], path: Path | None) -> str:
    location: tuple[int | str, ...] = detail["loc"]
    text = str(detail["msg"]).removeprefix("Value error, ")
    if not location:
        # A rule between several options; the text names them.
        return f"{path}: {text}" if path is not None else text
    top = str(location[0])
    option = top + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    if detail["type"] == "missing":
        if path is None and top not in origins:
            return (
                f"configuration: {option} is missing; give --config FILE, or set {ENVIRONMENT_PREFIX}{option.upper()} "
                f"(`horologe node run` also takes --{option})"
            )
        return f"{origins.get(top, str(path))}: {option} is missing; it has no default"
    if detail["type"] != "value_error":
        text = f"{shown(detail['input'])[:80]} is refused: {text[:1].lower()}{text[1:]}"
    return f"{origins.get(top, 'default')}: {option}: {text}"
