"""The API's AccessService: tokens, grants and principals. Who may do that is in authorization.py and in the state."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, tokens, views
from horologe.node.access_views import grant_view, principal_view, token_view
from horologe.node.callers import CallerKind, current_caller
from horologe.node.context import NodeContext
from horologe.node.names import PRINCIPAL_BYTES_MAX, is_id, shorten
from horologe.node.rate_limits import TokenBuckets
from horologe.node.schedule import Violation, duration_ms
from horologe.node.writes import Context, Writer, WriteRequest, accepted
from horologe.raft.access import EVERYWHERE, GROUP_PREFIX, OIDC_PREFIX, ROLE_VERBS, Verb, grant_key, grants_of
from horologe.raft.authority import FOR_LONGER
from horologe.raft.model import Code, Result
from horologe.raft.tables import Tables
from horologe.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc

LIFE_MS_DEFAULT = 90 * 86_400_000
LIFE_MS_MAX = 3_650 * 86_400_000
LIFE_MS_MIN = 1_000
DESCRIPTION_LENGTH_MAX = 200
TOKENS_PER_SECOND, TOKENS_BURST = 0.1, 100.0
"""Of a principal that does not govern the cluster. Everybody makes tokens for themselves, also who may do nothing else, and each
is kept for ever, with its record in the audit log."""
NAMESPACES_MAX = 100
_OF_CERTIFICATES = tuple(f"{kind.value}:" for kind in (CallerKind.WORKER, CallerKind.NODE))
"""Principals that nobody becomes by a token, and that have no rights."""


class AccessService(access_service_pb2_grpc.AccessServiceServicer):
    """See access_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)
        self._made = TokenBuckets(TOKENS_PER_SECOND, TOKENS_BURST)

    async def WhoAmI(
        self, request: access_service_pb2.WhoAmIRequest, context: Context
    ) -> access_service_pb2.WhoAmIResponse:
        del request, context
        caller = current_caller()
        response = access_service_pb2.WhoAmIResponse(principal=caller.principal, method=caller.proof)
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for namespace, verbs in sorted(caller.rights.verbs.items()):
                response.rights.add(namespace=namespace, verbs=sorted(verbs))
            if not caller.principal:
                return response
            raw = tables.principal.get(caller.principal.encode())
            known = log_pb2.PrincipalRecord.FromString(bytes(raw or b"")).groups
            response.groups.extend(known if caller.groups is None else caller.groups)
            for subject in (caller.principal, *(GROUP_PREFIX + group for group in response.groups)):
                response.grants.extend(grants_of(tables, subject))
            if caller.token:
                response.token.CopyFrom(_find_token(tables, caller.token))
        return response

    # Tokens

    async def CreateToken(
        self, request: access_service_pb2.CreateTokenRequest, context: Context
    ) -> access_service_pb2.CreateTokenResponse:
        principal = request.principal or current_caller().principal
        # One look at the clock: a token that ends with the one that asks for it must not end a millisecond later.
        now_ms = self._node.clock.wall_ms()
        life_ms = duration_ms(request.time_to_live) if request.HasField("time_to_live") else self._life_ms(now_ms)
        _check_token(request, principal, life_ms)
        write = WriteRequest.of("CreateToken", request)
        result = self._writer.first_answer(write)
        id_, token = tokens.make(write.id)
        if result is None:
            self._check_pace()
            command = tokens.command(id_, token, principal, now_ms + life_ms, request.description)
            command.namespaces.extend(request.namespaces)
            command.role = request.role
            command.verbs.extend(request.verbs)
            result = await self._writer.propose(log_pb2.Command(put_token=command), write, context, needs_space=True)
        end_ms = self._callers_end_ms()
        if end_ms and result.code is Code.PERMISSION_DENIED and FOR_LONGER in result.text:
            raise errors.ApiError("PERMISSION_DENIED", _too_long(end_ms))
        accepted(result)
        with self._node.store.read() as tables:
            response = access_service_pb2.CreateTokenResponse(revision=views.revision(tables))
            raw = tables.token.get(id_.encode())
            if raw is not None:
                record = log_pb2.TokenRecord.FromString(bytes(raw))
                response.token.CopyFrom(token_view(record))
                # Not of a repetition: the secret was shown with the first answer.
                response.secret = token if record.token.hash == tokens.hash_of(token) else ""
            return response

    async def ListTokens(
        self, request: access_service_pb2.ListTokensRequest, context: Context
    ) -> access_service_pb2.ListTokensResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        caller = current_caller()
        whose = request.principal
        if not caller.rights.may(Verb.ACCESS_READ, EVERYWHERE):
            whose = caller.principal
        response = access_service_pb2.ListTokensResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for looked_at, (key, raw) in enumerate(tables.token.scan(start or b"")):
                record = log_pb2.TokenRecord.FromString(bytes(raw))
                is_shown = whose in ("", record.token.principal)
                # A page token can be read: it names nothing that is not shown.
                if (is_shown and len(response.tokens) >= size) or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                if is_shown:
                    response.tokens.append(token_view(record))
        return response

    async def RevokeToken(
        self, request: access_service_pb2.RevokeTokenRequest, context: Context
    ) -> access_service_pb2.RevokeTokenResponse:
        id_ = request.name.removeprefix(tokens.RESOURCE)
        if id_ == request.name or not tokens.is_id(id_):
            raise errors.invalid_field("name", f"{shorten(request.name)} is not of the form tokens/TOKEN")
        command = log_pb2.Command(revoke_token=log_pb2.RevokeToken(id=id_))
        write = WriteRequest.of("RevokeToken", request)
        with self._node.store.read() as tables:
            raw = tables.token.get(id_.encode())
        if not log_pb2.TokenRecord.FromString(bytes(raw or b"")).revoked:
            await self._writer.settle(command, write, context)
        return access_service_pb2.RevokeTokenResponse(revision=self._node.status().revision)

    # Grants

    async def SetGrant(
        self, request: access_service_pb2.SetGrantRequest, context: Context
    ) -> access_service_pb2.SetGrantResponse:
        wanted = request.grant
        found = [*_subject_violations(wanted.subject, "grant.subject")]
        if wanted.subject.startswith(_OF_CERTIFICATES):
            found.append(
                Violation(
                    "grant.subject",
                    f"{shorten(wanted.subject)} is no caller, and has no rights; use a client's certificate, or a token",
                )
            )
        found += _namespace_violations(wanted.namespace, "grant.namespace")
        found += _scope_violations(wanted.role, wanted.verbs, "grant.")
        if wanted.role == access_pb2.ROLE_UNSPECIFIED and not wanted.verbs:
            found.append(
                Violation("grant.role", "it is missing, and so are verbs; delete the grant to take rights away")
            )
        if found:
            raise errors.invalid(found)
        grant = access_pb2.Grant()
        grant.CopyFrom(wanted)
        grant.ClearField("update_time")
        command = log_pb2.Command(set_grant=log_pb2.SetGrant(grant=grant))
        await self._writer.settle(command, WriteRequest.of("SetGrant", request), context, needs_space=True)
        with self._node.store.read() as tables:
            raw = tables.grant.get(grant_key(grant.subject, grant.namespace))
            if raw is not None:
                grant = grant_view(log_pb2.GrantRecord.FromString(bytes(raw)))
            return access_service_pb2.SetGrantResponse(grant=grant, revision=views.revision(tables))

    async def DeleteGrant(
        self, request: access_service_pb2.DeleteGrantRequest, context: Context
    ) -> access_service_pb2.DeleteGrantResponse:
        found = [*_subject_violations(request.subject, "subject")]
        found += _namespace_violations(request.namespace, "namespace")
        if found:
            raise errors.invalid(found)
        delete = log_pb2.DeleteGrant(subject=request.subject, namespace=request.namespace)
        write = WriteRequest.of("DeleteGrant", request)
        await self._writer.settle(log_pb2.Command(delete_grant=delete), write, context)
        return access_service_pb2.DeleteGrantResponse(revision=self._node.status().revision)

    async def ListGrants(
        self, request: access_service_pb2.ListGrantsRequest, context: Context
    ) -> access_service_pb2.ListGrantsResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        found = _subject_violations(request.subject, "subject") if request.subject else []
        if found:
            raise errors.invalid(found)
        response = access_service_pb2.ListGrantsResponse()
        prefix = grant_key(request.subject, "") if request.subject else b""
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for looked_at, (key, raw) in enumerate(tables.grant.scan(start or prefix)):
                if not key.startswith(prefix):
                    break
                if len(response.grants) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                record = log_pb2.GrantRecord.FromString(bytes(raw))
                if request.namespace in ("", record.grant.namespace):
                    response.grants.append(grant_view(record))
        return response

    # Principals

    async def UpdatePrincipal(
        self, request: access_service_pb2.UpdatePrincipalRequest, context: Context
    ) -> access_service_pb2.UpdatePrincipalResponse:
        found = _subject_violations(request.name, "name")
        if request.name.startswith(GROUP_PREFIX):
            found.append(
                Violation("name", "a group is no principal; take away what it has by grants, or disable who is in it")
            )
        if found:
            raise errors.invalid(found)
        change = log_pb2.SetPrincipal(name=request.name, disabled=request.disabled)
        write = WriteRequest.of("UpdatePrincipal", request)
        await self._writer.settle(log_pb2.Command(set_principal=change), write, context)
        with self._node.store.read() as tables:
            raw = tables.principal.get(request.name.encode())
            record = log_pb2.PrincipalRecord.FromString(bytes(raw or b""))
            return access_service_pb2.UpdatePrincipalResponse(
                principal=principal_view(request.name, record), revision=views.revision(tables)
            )

    async def ListPrincipals(
        self, request: access_service_pb2.ListPrincipalsRequest, context: Context
    ) -> access_service_pb2.ListPrincipalsResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        response = access_service_pb2.ListPrincipalsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, raw in tables.principal.scan(start or b""):
                if len(response.principals) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                record = log_pb2.PrincipalRecord.FromString(bytes(raw))
                response.principals.append(principal_view(key.decode(), record))
        return response

    def _check_pace(self) -> None:
        """Raises an ApiError if the caller makes tokens too fast."""
        caller = current_caller()
        if caller.rights.may(Verb.ACCESS_WRITE, EVERYWHERE):
            return
        wait_seconds = self._made.take(caller.principal, self._node.clock.monotonic())
        if wait_seconds:
            raise errors.rate_limited(f"{caller.principal} makes too many tokens", wait_seconds)

    def _life_ms(self, now_ms: int) -> int:
        """Of a token, where nobody says: the default, but no longer than the token that asks for it, which nobody may."""
        end_ms = self._callers_end_ms()
        return min(LIFE_MS_DEFAULT, end_ms - now_ms) if end_ms else LIFE_MS_DEFAULT

    def _callers_end_ms(self) -> int:
        """When the token that asks expires; 0 for none, and for one that does not."""
        caller = current_caller()
        if not caller.token:
            return 0
        with self._node.store.read() as tables:
            raw = tables.token.get(caller.token.encode())
        return log_pb2.TokenRecord.FromString(bytes(raw or b"")).token.expire_time_ms


def _too_long(end_ms: int) -> str:
    end = datetime.fromtimestamp(end_ms / 1000, UTC)
    return (
        f"a token lives no longer than the one that asks for it, which ends {end:%Y-%m-%d %H:%M} UTC: give a smaller time to "
        "live (--ttl), or ask with a certificate"
    )


def _find_token(tables: Tables, id_: str) -> access_pb2.Token:
    raw = tables.token.get(id_.encode())
    if raw is None:
        raise errors.of_result(Result(Code.TOKEN_NOT_FOUND, text=id_))
    return token_view(log_pb2.TokenRecord.FromString(bytes(raw)))


def _check_token(request: access_service_pb2.CreateTokenRequest, principal: str, life_ms: int) -> None:
    found = [*_subject_violations(principal, "principal")]
    if principal.startswith(GROUP_PREFIX):
        found.append(Violation("principal", "a token speaks for one principal, not for a group"))
    if principal.startswith(_OF_CERTIFICATES):
        found.append(Violation("principal", f"{shorten(principal)} is who its certificate says, and has no tokens"))
    if not LIFE_MS_MIN <= life_ms <= LIFE_MS_MAX:
        found.append(Violation("time_to_live", f"{life_ms / 1000:g} s are outside 1 second to 3,650 days"))
    if len(request.description) > DESCRIPTION_LENGTH_MAX:
        found.append(Violation("description", f"more than {DESCRIPTION_LENGTH_MAX} characters are too many"))
    if len(request.namespaces) > NAMESPACES_MAX:
        found.append(
            Violation("namespaces", f"more than {NAMESPACES_MAX} are too many; leave them out, and cut by role")
        )
    for position, namespace in enumerate(request.namespaces[:NAMESPACES_MAX]):
        found += _namespace_violations(namespace, f"namespaces[{position}]")
    found += _scope_violations(request.role, request.verbs, "")
    if found:
        raise errors.invalid(found)


def _subject_violations(subject: str, field: str) -> list[Violation]:
    name = subject.removeprefix(GROUP_PREFIX)
    name = name.removeprefix(OIDC_PREFIX)
    if (
        not name
        or len(subject.encode()) > PRINCIPAL_BYTES_MAX
        or not subject.isprintable()
        or subject != subject.strip()
    ):
        return [
            Violation(
                field,
                f"{shorten(subject)} is no principal; use printable characters, at most {PRINCIPAL_BYTES_MAX} bytes",
            )
        ]
    return []


def _namespace_violations(namespace: str, field: str) -> list[Violation]:
    if namespace == EVERYWHERE or is_id(namespace):
        return []
    return [Violation(field, f"{shorten(namespace)} is no namespace; give its id alone, or * for all of them")]


def _scope_violations(role: int, verbs: Sequence[str], prefix: str) -> list[Violation]:
    found = []
    if role not in ROLE_VERBS:
        found.append(Violation(f"{prefix}role", f"{role} is not a known role"))
    known = frozenset(Verb)
    for position, verb in enumerate(verbs):
        if verb not in known:
            found.append(
                Violation(f"{prefix}verbs[{position}]", f"{shorten(verb)} is no verb; these are {', '.join(Verb)}")
            )
            break
    return found
