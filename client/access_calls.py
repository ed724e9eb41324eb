"""The methods of AccessService, as `calls.py` has those of the other services: who somebody is, and who may do what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from horologe.client import durations, names, words
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.client.errors import InvalidArgument, Violation
from horologe.v1 import access_service_pb2 as access
from horologe.v1.access_pb2 import Grant, Principal, Role, Token

__all__ = [
    "create_token",
    "delete_grant",
    "list_grants",
    "list_principals",
    "list_tokens",
    "revoke_token",
    "set_grant",
    "update_principal",
    "who_am_i",
]

WHO_AM_I = Method("AccessService", "WhoAmI", access.WhoAmIRequest, access.WhoAmIResponse)
CREATE_TOKEN = Method(
    "AccessService", "CreateToken", access.CreateTokenRequest, access.CreateTokenResponse, is_write=True
)
LIST_TOKENS = Method("AccessService", "ListTokens", access.ListTokensRequest, access.ListTokensResponse)
REVOKE_TOKEN = Method(
    "AccessService", "RevokeToken", access.RevokeTokenRequest, access.RevokeTokenResponse, is_write=True
)
SET_GRANT = Method("AccessService", "SetGrant", access.SetGrantRequest, access.SetGrantResponse, is_write=True)
DELETE_GRANT = Method(
    "AccessService", "DeleteGrant", access.DeleteGrantRequest, access.DeleteGrantResponse, is_write=True
)
LIST_GRANTS = Method("AccessService", "ListGrants", access.ListGrantsRequest, access.ListGrantsResponse)
UPDATE_PRINCIPAL = Method(
    "AccessService", "UpdatePrincipal", access.UpdatePrincipalRequest, access.UpdatePrincipalResponse, is_write=True
)
LIST_PRINCIPALS = Method("AccessService", "ListPrincipals", access.ListPrincipalsRequest, access.ListPrincipalsResponse)


def who_am_i(namespace: str) -> Call[access.WhoAmIResponse]:
    """Who the caller is for the cluster, how it proved that, and what it may do."""
    del namespace  # The caller is the same in all of them.

    def pick(answer: access.WhoAmIResponse) -> access.WhoAmIResponse:
        return answer

    return Call(WHO_AM_I, access.WhoAmIRequest(), pick)


def create_token(
    namespace: str,
    principal: str = "",
    *,
    description: str = "",
    time_to_live: str | timedelta | None = None,
    namespaces: Sequence[str] = (),
    role: str = "",
    verbs: Sequence[str] = (),
    request_id: str = "",
) -> Call[access.CreateTokenResponse]:
    """Makes a token for somebody, by default for the caller. Its `secret` is in the answer, and never again anywhere.

    `namespaces`, `role` and `verbs` make it worth less than its principal; it is never worth more. Without a
    `time_to_live` it expires after 90 days.
    """
    del namespace  # Tokens belong to none.
    request = access.CreateTokenRequest(
        principal=principal,
        description=description,
        namespaces=namespaces,
        role=_role(role),
        verbs=verbs,
        request_id=request_id_or_new(request_id),
    )
    if time_to_live is not None:
        request.time_to_live.CopyFrom(durations.to_proto(_span("time_to_live", time_to_live)))

    def pick(answer: access.CreateTokenResponse) -> access.CreateTokenResponse:
        return answer

    return Call(CREATE_TOKEN, request, pick)


def list_tokens(namespace: str, principal: str = "", *, page_size: int = PAGE_SIZE) -> Pages[Token]:
    """Tokens without their secrets: of one principal, or of all."""
    del namespace

    def pick(answer: access.ListTokensResponse) -> Iterable[Token]:
        return answer.tokens

    return Pages(LIST_TOKENS, access.ListTokensRequest(principal=principal, page_size=page_size), pick)


def revoke_token(namespace: str, name: str, *, request_id: str = "") -> Call[None]:
    """Makes a token useless, everywhere and for ever. `name` is its id, `tokens/ID`, or what it begins with."""
    del namespace

    def pick(_: access.RevokeTokenResponse) -> None:
        return None

    request = access.RevokeTokenRequest(name=names.token_name(name), request_id=request_id_or_new(request_id))
    return Call(REVOKE_TOKEN, request, pick)


def set_grant(
    namespace: str,
    subject: str,
    role: str = "",
    *,
    verbs: Sequence[str] = (),
    everywhere: bool = False,
    request_id: str = "",
) -> Call[Grant]:
    """Gives somebody, or `group:NAME`, rights in the namespace, in place of those that it had there.

    `everywhere`: in all namespaces, and over what belongs to none.
    """
    grant = Grant(subject=subject, namespace=_where(namespace, everywhere), role=_role(role), verbs=verbs)

    def pick(answer: access.SetGrantResponse) -> Grant:
        return answer.grant

    return Call(SET_GRANT, access.SetGrantRequest(grant=grant, request_id=request_id_or_new(request_id)), pick)


def delete_grant(namespace: str, subject: str, *, everywhere: bool = False, request_id: str = "") -> Call[None]:
    """Takes the rights away that somebody has in the namespace, or, for `everywhere`, those in all of them."""

    def pick(_: access.DeleteGrantResponse) -> None:
        return None

    request = access.DeleteGrantRequest(
        subject=subject, namespace=_where(namespace, everywhere), request_id=request_id_or_new(request_id)
    )
    return Call(DELETE_GRANT, request, pick)


def list_grants(
    namespace: str, subject: str = "", *, in_namespace: str = "", page_size: int = PAGE_SIZE
) -> Pages[Grant]:
    """Grants by subject and namespace: of one subject or of all, in one namespace (`*`: everywhere) or in all."""
    del namespace

    def pick(answer: access.ListGrantsResponse) -> Iterable[Grant]:
        return answer.grants

    request = access.ListGrantsRequest(subject=subject, namespace=in_namespace, page_size=page_size)
    return Pages(LIST_GRANTS, request, pick)


def update_principal(namespace: str, name: str, *, disabled: bool, request_id: str = "") -> Call[Principal]:
    """Disables somebody, or enables them again. A disabled one may do nothing, and its jobs do not run."""
    del namespace

    def pick(answer: access.UpdatePrincipalResponse) -> Principal:
        return answer.principal

    request = access.UpdatePrincipalRequest(name=name, disabled=disabled, request_id=request_id_or_new(request_id))
    return Call(UPDATE_PRINCIPAL, request, pick)


def list_principals(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Principal]:
    """Whoever has written something, has a token or has a grant, by name."""
    del namespace

    def pick(answer: access.ListPrincipalsResponse) -> Iterable[Principal]:
        return answer.principals

    return Pages(LIST_PRINCIPALS, access.ListPrincipalsRequest(page_size=page_size), pick)


def _where(namespace: str, everywhere: bool) -> str:
    return "*" if everywhere else names.namespace_name(namespace).removeprefix("namespaces/")


def _role(word: str) -> Role.ValueType:
    try:
        return words.parse(Role, word) if word else Role.ROLE_UNSPECIFIED
    except ValueError as error:
        raise _invalid("role", str(error)) from error


def _span(field: str, value: str | timedelta) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return durations.parse(value)
    except ValueError as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(description, reason="INVALID_FIELD", violations=[Violation(field, description)])
