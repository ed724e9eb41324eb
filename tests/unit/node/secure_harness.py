"""A node whose callers must say who they are, over a plain connection: a certificate is what the metadata says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from service_harness import START_MS, FakeNode

from horologe.log.v1 import log_pb2
from horologe.node import tokens
from horologe.node.access_control import AccessControl
from horologe.node.callers import Caller
from horologe.node.certificates import Identity
from horologe.node.certificates import Role as CertificateRole
from horologe.node.oidc import OidcVerifier
from horologe.v1 import access_pb2, audit_service_pb2

DAY_MS = 86_400_000
CERTIFICATE_KEY = "test-certificate"
Role = access_pb2.Role


def identity_of(context: grpc.aio.ServicerContext[Any, Any]) -> Identity | None:
    """`ROLE NAME QUEUE...` in the metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == CERTIFICATE_KEY:
            role, name, *queues = str(value).split()
            return Identity(CertificateRole(role), name, tuple(queues), "f" * 64)
    return None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def certificate(role: str, name: str, *queues: str) -> tuple[tuple[str, str], ...]:
    return ((CERTIFICATE_KEY, " ".join((role, name, *queues))),)


class SecureNode(FakeNode):
    """With a first administrator, whose token is `admin`."""

    def __init__(self, folder: Path, oidc: OidcVerifier | None = None, **options: object) -> None:
        super().__init__(folder, **options)
        self.control = AccessControl(self.context, identity_of, oidc)
        self.denials = self.control.denials
        id_, self.admin = tokens.make()
        first = tokens.command(id_, self.admin, "admin", START_MS + 30 * DAY_MS)
        # As the node's own, which nobody asked for.
        self.apply(log_pb2.Command(begin_security=log_pb2.BeginSecurity(admin=first)))

    def add_services(self, server: grpc.aio.Server) -> None:
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        names = (health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self.health_state = health_pb2.HealthCheckResponse.SERVING

    def by_admin(self, command: log_pb2.Command) -> None:
        """Applies a command in the administrator's name."""
        command.actor.CopyFrom(Caller(principal="admin", method="Test.Prepare").actor())
        result = self.apply(command)
        assert result.code == 0, result

    def token(self, principal: str, *, life_ms: int = DAY_MS, role: int = 0, namespaces: tuple[str, ...] = ()) -> str:
        """A new token for somebody."""
        id_, token = tokens.make()
        put = tokens.command(id_, token, principal, self.clock.now_ms + life_ms)
        put.role = role
        put.namespaces.extend(namespaces)
        self.by_admin(log_pb2.Command(put_token=put))
        return token

    def grant(self, subject: str, namespace: str, role: int = 0, *verbs: str) -> None:
        grant = access_pb2.Grant(subject=subject, namespace=namespace, role=role, verbs=verbs)
        self.by_admin(log_pb2.Command(set_grant=log_pb2.SetGrant(grant=grant)))

    def somebody(self, principal: str, role: int, namespace: str = "default") -> tuple[tuple[str, str], ...]:
        """Metadata of a caller with a role in a namespace."""
        self.grant(principal, namespace, role)
        return bearer(self.token(principal))

    def revoke(self, token: str) -> None:
        id_ = token.split("_")[1]
        self.by_admin(log_pb2.Command(revoke_token=log_pb2.RevokeToken(id=id_)))

    async def denied(self) -> list[audit_service_pb2.AuditRecord]:
        """What the node has refused by itself since the last time, as it goes into the audit log."""
        before = len(self.commands)
        await self.denials.flush_all(5)
        noted = [command.note_denied for command in self.commands[before:] if command.HasField("note_denied")]
        return [record for note in noted for record in note.records]
