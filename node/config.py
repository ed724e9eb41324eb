"""A node's options: names, meanings, defaults, rules. Where their values come from is in `config_sources`.

Nothing here opens a port or a folder.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from horologe.node import trace_ids
from horologe.raft.replica import LOG_ENTRIES_KEPT
from horologe.raft.store import STORE_BYTES_MAX
from horologe.raft.version_gate import SETTLE_SECONDS

ENVIRONMENT_PREFIX = "HOROLOGE_NODE_"
PID_FILE = "node.pid"
"""In `data_dir`, while the node runs."""
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
WORKER_MARGIN = 0.2
"""The part of the lease term that a worker gives away: it stops its attempts when 80% of the term have passed."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


class ConfigError(Exception):
    """The configuration cannot be used. The text is one line: where, which option, which value, which rule."""


class Address(NamedTuple):
    """Where a server listens or is reached."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `host:port`; an IPv6 host stands in brackets. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is not host:port; write an IPv6 address in brackets, as in [::1]:7400")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not host:port with a port from 0 to 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MemberConfig(BaseModel):
    """One member of the cluster, as its configuration names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="The member's name, which is its identity.")
    peer_address: str = Field(description="`host:port` under which the other members reach it.")

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        return checked_name(value)

    @field_validator("peer_address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return str(Address.parse(value))


class NodeConfig(BaseSettings):
    """The options of one node. Made by `load_config`; tests make it directly, and then the environment plays no part."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENVIRONMENT_PREFIX, validate_default=False, title="horologe node"
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    """Where the values were given that are no defaults; see `config_sources`."""

    name: str = Field(description="The node's name, which is its identity in the cluster. It never changes.")
    data_dir: Path = Field(
        default=Path("data"),
        description="Folder for the state and the captured output. A relative path starts at the configuration file's folder.",
    )
    listen: str = Field(
        default="127.0.0.1:7400",
        description="`host:port` for people and programs, who say by a token who they are. Port 0: any free one.",
    )
    advertise: str = Field(
        default="", description="`host:port` that clients are told to use for this node. Empty: as `listen`."
    )
    worker_listen: str = Field(
        default="127.0.0.1:7600",
        description="`host:port` for workers, and for clients that have a certificate. With `insecure` they come to `listen`.",
    )
    worker_advertise: str = Field(
        default="", description="`host:port` that workers are told to use for this node. Empty: as `worker_listen`."
    )
    peer_listen: str = Field(default="127.0.0.1:7500", description="`host:port` for the other members.")
    http_listen: str = Field(
        default="127.0.0.1:7700",
        description="`host:port` for the dashboard, the HTTP API, metrics and health, over HTTPS unless `insecure`. Empty: none.",
    )
    metrics_open: bool = Field(
        default=False,
        description="Whoever reaches `http_listen` may read `/metrics`. False: that takes a token with the verb cluster.read.",
    )
    tls_dir: Path | None = Field(
        default=None,
        description="Folder with `ca.pem`, `cert.pem` and `key.pem`, as `horologe tls issue node NAME` makes it. Absent: a node "
        "that is a cluster of its own on loopback makes itself a CA in `data_dir/tls`; any other does not start.",
    )
    insecure: bool = Field(
        default=False,
        description="No TLS and no authentication: whoever reaches a port may do everything, and runs code on every worker.",
    )
    members: tuple[MemberConfig, ...] = Field(
        default=(),
        description="All members, this one included: one [[members]] table each, with `name` and `peer_address`. "
        "Empty: this node is a cluster of its own.",
    )
    join: bool = Field(
        default=False,
        description="This node is new and joins a cluster that exists, by `horologe cluster add`; `members` then names some of "
        "its members. Counts only while the data folder is empty.",
    )
    heartbeat_ms: int = Field(default=100, ge=1, description="The leader speaks this often when it has nothing to say.")
    election_timeout_ms_min: int = Field(
        default=500, ge=1, description="For so long a member that heard the leader votes for nobody else."
    )
    election_timeout_ms_max: int = Field(
        default=1_000,
        ge=1,
        description="A member that hears no leader asks for votes after a random time between the two timeouts.",
    )
    pulse_ms: int = Field(
        default=20,
        ge=1,
        le=1_000,
        description="Due work and outcomes that come within this time are logged together; a busy leader makes it up to 100 ms.",
    )
    clock_skew_ms_max: int = Field(
        default=1_000,
        ge=1,
        description="A node whose wall clock is further than this from those of the other voters goes by theirs, and hands over "
        "if it leads.",
    )
    version_settle_seconds: float = Field(
        default=SETTLE_SECONDS,
        ge=0,
        description="When all members have run a newer program for so long, the leader raises the cluster's version, and the "
        "older one cannot come back.",
    )
    lease_term_ms: int = Field(
        default=10_000,
        ge=1_000,
        le=3_600_000,
        description="A worker that was not heard from for so long is lost, and its attempts with it.",
    )
    clock_drift: float = Field(
        default=0.01,
        ge=0.0,
        le=0.1,
        description="The rates of two machines' clocks differ by at most this fraction. Clocks need not show the same time.",
    )
    history_retention_days: float = Field(
        default=30,
        gt=0,
        le=36_500,
        description="Executions and their ledger are kept this long after they ended, unless their namespace says otherwise.",
    )
    audit_retention_days: float = Field(
        default=365, gt=0, le=36_500, description="Records of the audit chain are kept this long."
    )
    output_retention_days: int = Field(
        default=30, ge=1, le=36_500, description="Captured output is kept this long; whole days are dropped."
    )
    output_bytes_per_attempt_max: int = Field(
        default=10 << 20, ge=0, description="Captured output of one attempt beyond this is cut, and marked as cut."
    )
    store_bytes_max: int = Field(
        default=STORE_BYTES_MAX,
        ge=16 << 20,
        description="The state file never grows beyond this. It is address space; the file is as large as its content.",
    )
    log_entries_kept: int = Field(
        default=LOG_ENTRIES_KEPT,
        ge=2,
        description="So many applied log entries (at most 32 MiB) are kept for followers that fell behind; "
        "one that needs older ones fetches the whole state.",
    )
    disk_free_bytes_min: int = Field(
        default=256 << 20,
        ge=0,
        description="With less free space under `data_dir`, writes that need more of it are refused with DISK_FULL.",
    )
    key_file: Path | None = Field(
        default=None,
        description="File with the key-encryption key of this node: one key per line, 32 bytes in base64 or hex, the first one "
        "current. Absent: `node.key` in `data_dir`, made at the first start; keep it somewhere else. "
        "A relative path starts at the configuration file's folder.",
    )
    key_command: tuple[str, ...] = Field(
        default=(),
        description="A program and its arguments that wraps and unwraps data keys in place of `key_file`, for a key management "
        "service: see docs/encryption.md.",
    )
    key: SecretStr | None = Field(
        default=None,
        description="Key-encryption keys in place of `key_file`, with commas between them, the first one current. Only in the "
        "environment.",
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, le=3_600, description="On SIGTERM, open calls get this long to end before the node stops."
    )
    calls_per_second_max: float = Field(
        default=2_000.0,
        gt=0,
        description="A principal that calls this node more often is refused with RATE_LIMITED; twice as many may come at once.",
    )
    bootstrap_token_file: Path | None = Field(
        default=None,
        description="The first administrator's token of a new cluster goes to this file, which only its owner can read. Absent: "
        "it is printed once to standard output. A relative path starts at the configuration file's folder.",
    )
    oidc_issuer: str = Field(
        default="",
        description="The identity provider whose JWTs count beside tokens, as its discovery document names it. Empty: none.",
    )
    oidc_audience: str = Field(
        default="", description="What the JWTs must be meant for (`aud`). Required with `oidc_issuer`."
    )
    oidc_principal_claim: str = Field(
        default="sub", description="The claim that names the principal, which is `oidc:` and its value."
    )
    oidc_groups_claim: str = Field(
        default="groups", description="The claim that lists groups, to which rights can be given as `group:NAME`."
    )
    oidc_client_id: str = Field(
        default="",
        description="As whom the dashboard is registered with the identity provider, for signing in there; what it issues then "
        "must be meant for `oidc_audience`, which is usually the same. Empty: people sign in with tokens.",
    )
    oidc_client_secret_file: Path | None = Field(
        default=None,
        description="File with the secret of that client, if it has one. A relative path starts at the configuration file's "
        "folder.",
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="The secret itself in place of `oidc_client_secret_file`. Only in the environment."
    )
    tracing_endpoint: str = Field(
        default="",
        description="Where traces of executions go, as OTLP over HTTP (`http://collector:4318/v1/traces`). Empty: nowhere. "
        "Set it on every node.",
    )
    tracing_ratio: float = Field(
        default=1.0, ge=0.0, le=1.0, description="This part of all traces is sent; the same on every node."
    )
    dashboard_url: str = Field(
        default="",
        description="Where people find the dashboard, as `https://horologe.example.com`: notifications link there.",
    )
    notification_networks: tuple[str, ...] = Field(
        default=(),
        description="Networks beside the public ones that webhooks of notifications may reach, like `10.1.0.0/16`; in the "
        "environment as JSON.",
    )
    smtp_server: str = Field(
        default="", description="`host:port` of the server that takes the mails of notifications. Empty: none is sent."
    )
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="How the way to the mail server is protected; none only for a server on this machine.",
    )
    smtp_from: str = Field(default="", description="The sender's address. Required with `smtp_server`.")
    smtp_user: str = Field(default="", description="Who signs in at the mail server. Empty: nobody does.")
    smtp_password: SecretStr | None = Field(
        default=None, description="Its password, in place of `smtp_password_file`. Only in the environment."
    )
    smtp_password_file: Path | None = Field(
        default=None,
        description="File whose first line is its password. A relative path starts at the configuration file's folder.",
    )
    smtp_ca_file: Path | None = Field(
        default=None,
        description="Certificates that vouch for the mail server, in PEM. Absent: those that this machine trusts. "
        "A relative path starts at the configuration file's folder.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important log lines that are written: debug, info, warning or error."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json: one object per line. text: for reading in a terminal."
    )
    log_file: Path | None = Field(
        default=None,
        description="Log lines go to this file, which may be rotated by moving it away. Absent: standard error. "
        "A relative path starts at the configuration file's folder.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_config` merges the sources itself, so that an error can say where a value came from.
        return (init_settings,)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        return checked_name(value)

    @field_validator("listen", "worker_listen", "peer_listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        return str(Address.parse(value))

    @field_validator("advertise", "worker_advertise", "http_listen", "smtp_server")
    @classmethod
    def _check_advertise(cls, value: str) -> str:
        return str(Address.parse(value)) if value else ""

    @model_validator(mode="before")
    @classmethod
    def _add_only_member(cls, values: Any) -> Any:
        """A node without `members` is a cluster of its own."""
        if isinstance(values, dict) and not values.get("members") and not values.get("join") and "name" in values:
            address = values.get("peer_listen", cls.model_fields["peer_listen"].default)
            return values | {"members": ({"name": values["name"], "peer_address": address},)}
        return values

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        names = [member.name for member in self.members]
        if self.join and not set(names) - {self.name}:
            raise ValueError("members: with `join`, name at least one member of the cluster to join")
        if self.name not in names and not self.join:
            raise ValueError(f"members: {', '.join(names)} do not include this node, {self.name!r}; add it")
        for option, values in (("name", names), ("peer_address", [member.peer_address for member in self.members])):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"members: the {option} {repeated[0]!r} is given twice; every member has its own")
        return self

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if self.insecure and self.tls_dir is not None:
            raise ValueError("insecure: contradicts tls_dir; a node has certificates or none, so drop one of the two")
        if self.insecure or self.tls_dir is not None:
            return self
        others = sorted({member.name for member in self.members} - {self.name})
        reason = f"is a member of a cluster with {', '.join(others)}" if others else ""
        for option in ("listen", "worker_listen", "peer_listen", "http_listen"):
            address = getattr(self, option)
            if address and not is_loopback(Address.parse(address).host):
                reason = reason or f"listens beyond this machine ({option} {getattr(self, option)})"
        if reason:
            raise ValueError(
                f"tls_dir: {self.name} {reason} and has no certificates; make them with `horologe tls init` and `horologe tls "
                f"issue node {self.name}`, or set `insecure = true` where everybody who reaches the ports may do everything"
            )
        return self

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        given = [name for name in ("key_file", "key_command", "key") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: {' and '.join(given)} exclude one another; the key is in one place")
        return self

    @field_validator("notification_networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text[:80]!r} is not a network like 10.0.0.0/8: {error}") from error
        return value

    @model_validator(mode="after")
    def _check_notifications(self) -> Self:
        if self.dashboard_url and urlsplit(self.dashboard_url).scheme not in ("http", "https"):
            raise ValueError(f"dashboard_url: {self.dashboard_url[:80]!r} is no address of a web page")
        if self.smtp_server:
            host = Address.parse(self.smtp_server).host
            if not self.smtp_from:
                raise ValueError("smtp_from: it is missing; mails have a sender")
            if self.smtp_security == "none" and not is_loopback(host):
                raise ValueError(f"smtp_security: mails to {host} would go in plaintext; use starttls or tls")
        if self.smtp_password is not None and self.smtp_password_file is not None:
            raise ValueError("smtp_password: excludes smtp_password_file; the password is in one place")
        return self

    @model_validator(mode="after")
    def _check_tracing(self) -> Self:
        if self.tracing_endpoint and not self.tracing_endpoint.startswith(("http://", "https://")):
            raise ValueError(
                f"tracing_endpoint: {self.tracing_endpoint[:80]!r} is no address of http or https; give "
                "`http://HOST:4318/v1/traces` or the like"
            )
        if self.tracing_endpoint and not trace_ids.is_installed():
            raise ValueError(
                f"tracing_endpoint: OpenTelemetry is not installed; run `pip install '{trace_ids.EXTRA}'`, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_audience: it is missing; without it, tokens for any other program would count here")
        if self.oidc_issuer and not is_trusted_url(self.oidc_issuer):
            raise ValueError(f"oidc_issuer: {self.oidc_issuer[:80]!r} is no https address; keys must come over TLS")
        if self.oidc_client_id and not self.oidc_issuer:
            raise ValueError(
                "oidc_client_id: there is no `oidc_issuer`; name the identity provider that knows this client"
            )
        if self.oidc_client_secret_file is not None and self.oidc_client_secret is not None:
            raise ValueError("oidc_client_secret: there is an `oidc_client_secret_file` too; give one of them")
        if self.oidc_client_secret_file is not None:
            try:
                self.oidc_client_secret_file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"oidc_client_secret_file: {self.oidc_client_secret_file} cannot be read: {error}"
                ) from error
        return self

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.election_timeout_ms_min <= 3 * self.heartbeat_ms:
            raise ValueError(
                f"election_timeout_ms_min: {self.election_timeout_ms_min} is not more than three times heartbeat_ms "
                f"({self.heartbeat_ms}); one late heartbeat is no dead leader"
            )
        if self.election_timeout_ms_max <= self.election_timeout_ms_min:
            raise ValueError(
                f"election_timeout_ms_max: {self.election_timeout_ms_max} is not more than election_timeout_ms_min "
                f"({self.election_timeout_ms_min}); members that wait equally long split the vote"
            )
        # A leader that was cut off renews leases for one more election timeout; the drift is what the worker's clock may be
        # slower than ours over a whole term. Both must fit into the part of the term that the worker gives away.
        needed_ms = self.election_timeout_ms_max * (1 + self.clock_drift) + self.lease_term_ms * self.clock_drift
        margin_ms = self.lease_term_ms * WORKER_MARGIN
        if needed_ms >= margin_ms:
            raise ValueError(
                f"lease_term_ms: {WORKER_MARGIN:.0%} of {self.lease_term_ms} is {margin_ms:.0f} ms, but election_timeout_ms_max "
                f"({self.election_timeout_ms_max}) and clock_drift ({self.clock_drift:g}) need {needed_ms:.0f} ms; "
                "raise lease_term_ms or lower the others"
            )
        return self

    def origin_of(self, option: str) -> str:
        """`default`, the configuration file, the environment variable, or the flag that its value is from."""
        return self._origins.get(option, "default")

    @property
    def advertised(self) -> str:
        """`host:port` that clients are told, and without security workers too."""
        return self.advertise or self.listen

    @property
    def worker_advertised(self) -> str:
        """`host:port` that workers are told; empty without security: they come to the clients' port."""
        return "" if self.insecure else self.worker_advertise or self.worker_listen

    @property
    def peer_advertised(self) -> str:
        """`host:port` that the other members are told; empty if this node does not know: it listens on all addresses."""
        listed = next((member.peer_address for member in self.members if member.name == self.name), "")
        return listed or ("" if Address.parse(self.peer_listen).host in EVERY_ADDRESS else self.peer_listen)


class Option(NamedTuple):
    """One option, for `horologe node options` and the documentation."""

    name: str
    environment: str
    default: str
    description: str


def describe_options() -> list[Option]:
    """All options, in the order in which they are best read."""
    options: list[Option] = []
    for name, field in NodeConfig.model_fields.items():
        default = "required" if field.is_required() else shown(field.default)
        options.append(Option(name, ENVIRONMENT_PREFIX + name.upper(), default, field.description or ""))
    return options


def shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        return json.dumps(value, default=str)
    return str(value)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_trusted_url(url: str) -> bool:
    """Whether keys may come from there: over TLS, or from this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def checked_name(value: str) -> str:
    """The name of a node, if it is one. Raises ValueError."""
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value[:80]!r} is no name; use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter "
            "and not ending with a hyphen"
        )
    return value
