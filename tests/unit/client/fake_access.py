"""What the fake cluster answers about tokens, grants, principals and secrets: it keeps what it is told."""

from __future__ import annotations

from typing import Any

from horologe.v1 import access_service_pb2 as access
from horologe.v1 import secret_service_pb2 as secrets
from horologe.v1.access_pb2 import Grant, Principal, Token
from horologe.v1.secret_service_pb2 import Secret


class FakeAccess:
    """Part of FakeCluster."""

    def __init__(self) -> None:
        super().__init__()
        self.who = access.WhoAmIResponse(principal="ada", method="token")
        self.tokens: dict[str, Token] = {}
        self.grants: dict[tuple[str, str], Grant] = {}
        self.principals: dict[str, Principal] = {}
        self.secrets: dict[str, Secret] = {}

    def _WhoAmI(self, request: access.WhoAmIRequest, context: Any) -> access.WhoAmIResponse:
        return self.who

    def _CreateToken(self, request: access.CreateTokenRequest, context: Any) -> access.CreateTokenResponse:
        number = f"{len(self.tokens):016x}"
        token = self.tokens[f"tokens/{number}"] = Token(
            name=f"tokens/{number}",
            prefix=f"hlg_{number}",
            principal=request.principal or "ada",
            description=request.description,
            namespaces=request.namespaces,
            role=request.role,
            verbs=request.verbs,
        )
        return access.CreateTokenResponse(token=token, secret=f"hlg_{number}_secret")

    def _ListTokens(self, request: access.ListTokensRequest, context: Any) -> access.ListTokensResponse:
        found = [token for token in self.tokens.values() if request.principal in ("", token.principal)]
        return access.ListTokensResponse(tokens=found)

    def _RevokeToken(self, request: access.RevokeTokenRequest, context: Any) -> access.RevokeTokenResponse:
        self.tokens[request.name].revoked = True
        return access.RevokeTokenResponse()

    def _SetGrant(self, request: access.SetGrantRequest, context: Any) -> access.SetGrantResponse:
        self.grants[request.grant.subject, request.grant.namespace] = request.grant
        return access.SetGrantResponse(grant=request.grant)

    def _DeleteGrant(self, request: access.DeleteGrantRequest, context: Any) -> access.DeleteGrantResponse:
        del self.grants[request.subject, request.namespace]
        return access.DeleteGrantResponse()

    def _ListGrants(self, request: access.ListGrantsRequest, context: Any) -> access.ListGrantsResponse:
        found = [
            grant
            for (subject, namespace), grant in sorted(self.grants.items())
            if request.subject in ("", subject) and request.namespace in ("", namespace)
        ]
        return access.ListGrantsResponse(grants=found)

    def _UpdatePrincipal(self, request: access.UpdatePrincipalRequest, context: Any) -> access.UpdatePrincipalResponse:
        principal = self.principals.setdefault(request.name, Principal(name=request.name))
        principal.disabled = request.disabled
        return access.UpdatePrincipalResponse(principal=principal)

    def _ListPrincipals(self, request: access.ListPrincipalsRequest, context: Any) -> access.ListPrincipalsResponse:
        return access.ListPrincipalsResponse(principals=[found for _, found in sorted(self.principals.items())])

    def _SetSecret(self, request: secrets.SetSecretRequest, context: Any) -> secrets.SetSecretResponse:
        secret = self.secrets.setdefault(request.name, Secret(name=request.name))
        secret.version += 1
        return secrets.SetSecretResponse(secret=secret)

    def _ListSecrets(self, request: secrets.ListSecretsRequest, context: Any) -> secrets.ListSecretsResponse:
        found = [secret for name, secret in sorted(self.secrets.items()) if name.startswith(f"{request.parent}/")]
        return secrets.ListSecretsResponse(secrets=found)

    def _DeleteSecret(self, request: secrets.DeleteSecretRequest, context: Any) -> secrets.DeleteSecretResponse:
        del self.secrets[request.name]
        return secrets.DeleteSecretResponse()
