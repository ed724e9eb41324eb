"""AccessService over gRPC: tokens whose secret is shown once, grants, principals, and the first administrator."""

from __future__ import annotations

import itertools
import stat
import uuid
from datetime import UTC, datetime

import grpc
import pytest
from secure_harness import DAY_MS, Role, SecureNode, bearer, certificate
from service_harness import START_MS, FakeNode, refused

from horologe.log.v1 import log_pb2
from horologe.node import tokens
from horologe.node.first_administrator import FirstAdministrator
from horologe.node.private_files import replace_durably
from horologe.raft.access import is_secure
from horologe.v1 import access_pb2
from horologe.v1 import access_service_pb2 as access


@pytest.fixture
async def node(tmp_path):
    async with SecureNode(tmp_path).serve() as node:
        yield node


def grant_of(subject: str, namespace: str = "default", role: int = Role.ROLE_VIEWER) -> access.SetGrantRequest:
    return access.SetGrantRequest(grant=access_pb2.Grant(subject=subject, namespace=namespace, role=role))


# Tokens


async def test_a_token_is_made_shown_once_used_and_revoked(node):
    admin = bearer(node.admin)
    await node.access.SetGrant(grant_of("ann"), metadata=admin)
    request = access.CreateTokenRequest(principal="ann", description="of Ann", request_id=str(uuid.uuid4()))
    made = await node.access.CreateToken(request, metadata=admin)
    assert made.secret.startswith(f"{made.token.prefix}_") and made.token.name == f"tokens/{made.secret.split('_')[1]}"
    assert (made.token.principal, made.token.description) == ("ann", "of Ann")
    # No longer than the token that asked for it.
    assert made.token.expire_time.ToMilliseconds() == START_MS + 30 * DAY_MS
    assert (await node.access.WhoAmI(access.WhoAmIRequest(), metadata=bearer(made.secret))).principal == "ann"
    # The cluster has only the hash.
    assert made.secret.split("_", 2)[2].encode() not in b"".join(each.SerializeToString() for each in node.commands)
    again = await node.access.CreateToken(request, metadata=admin)
    assert (again.token.name, again.secret) == (made.token.name, "")
    await node.access.RevokeToken(access.RevokeTokenRequest(name=made.token.name), metadata=admin)
    refusal = await refused(node.access.WhoAmI(access.WhoAmIRequest(), metadata=bearer(made.secret)))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    [shown] = [
        each
        for each in (await node.access.ListTokens(access.ListTokensRequest(principal="ann"), metadata=admin)).tokens
        if each.name == made.token.name
    ]
    assert shown.revoked


async def test_everybody_has_tokens_of_their_own_and_sees_no_others(node):
    ann = node.somebody("ann", Role.ROLE_EDITOR)
    mine = await node.access.CreateToken(access.CreateTokenRequest(), metadata=ann)
    assert mine.token.principal == "ann"
    listed = (await node.access.ListTokens(access.ListTokensRequest(), metadata=ann)).tokens
    assert {token.principal for token in listed} == {"ann"} and len(listed) == 2
    for call, request in (
        (node.access.CreateToken, access.CreateTokenRequest(principal="admin")),
        (node.access.ListTokens, access.ListTokensRequest(principal="admin")),
        (node.access.RevokeToken, access.RevokeTokenRequest(name=f"tokens/{node.admin.split('_')[1]}")),
        (node.access.RevokeToken, access.RevokeTokenRequest(name="tokens/0000000000000000")),
        (node.access.SetGrant, grant_of("ann", "default", Role.ROLE_ADMIN)),
        (node.access.DeleteGrant, access.DeleteGrantRequest(subject="admin", namespace="*")),
        (node.access.ListGrants, access.ListGrantsRequest()),
        (node.access.ListPrincipals, access.ListPrincipalsRequest()),
        (node.access.UpdatePrincipal, access.UpdatePrincipalRequest(name="admin", disabled=True)),
    ):
        assert (await refused(call(request, metadata=ann))).reason == "PERMISSION_DENIED", request
    grants = await node.access.ListGrants(access.ListGrantsRequest(subject="ann"), metadata=ann)
    assert [grant.role for grant in grants.grants] == [Role.ROLE_EDITOR]
    await node.access.RevokeToken(access.RevokeTokenRequest(name=mine.token.name), metadata=ann)
    missing = access.RevokeTokenRequest(name="tokens/0000000000000000")
    assert (await refused(node.access.RevokeToken(missing, metadata=bearer(node.admin)))).reason == "TOKEN_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (access.CreateTokenRequest(principal="group:ops"), "principal"),
        (access.CreateTokenRequest(principal="worker:w1"), "principal"),
        (access.CreateTokenRequest(principal="node:n1"), "principal"),
        (access.CreateTokenRequest(principal="a\nb"), "principal"),
        (access.CreateTokenRequest(principal="a" * 201), "principal"),
        (access.CreateTokenRequest(principal="ä" * 101), "principal"),
        (access.CreateTokenRequest(description="a" * 201), "description"),
        (access.CreateTokenRequest(namespaces=["-"]), "namespaces[0]"),
        (access.CreateTokenRequest(namespaces=["a"] * 101), "namespaces"),
        (access.CreateTokenRequest(role=99), "role"),
        (access.CreateTokenRequest(verbs=["job.read", "job.fly"]), "verbs[1]"),
        (access.CreateTokenRequest(request_id="7"), "request_id"),
    ],
)
async def test_what_no_token_can_be(node, request_, field):
    refusal = await refused(node.access.CreateToken(request_, metadata=bearer(node.admin)))
    assert refusal.reason == "INVALID_FIELD" and list(refusal.fields) == [field]


async def test_a_token_ends_with_the_one_that_asks_for_it_however_late_it_is(node, monkeypatch):
    """The clock goes on while the request is looked at."""
    ann = node.somebody("ann", Role.ROLE_EDITOR)
    ticks = itertools.count(node.clock.now_ms)
    monkeypatch.setattr(node.clock, "wall_ms", lambda: next(ticks))
    made = await node.access.CreateToken(access.CreateTokenRequest(), metadata=ann)
    assert made.token.expire_time.ToMilliseconds() == START_MS + DAY_MS


async def test_a_token_that_would_outlive_the_one_that_asks_for_it_is_refused_and_says_until_when(node):
    request = access.CreateTokenRequest(request_id=str(uuid.uuid4()))
    request.time_to_live.FromMilliseconds(365 * DAY_MS)
    said = f"{datetime.fromtimestamp((START_MS + 30 * DAY_MS) / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    for _ in range(2):
        refusal = await refused(node.access.CreateToken(request, metadata=bearer(node.admin)))
        assert refusal.reason == "PERMISSION_DENIED"
        assert f"which ends {said}: give a smaller time to live (--ttl), or ask with a certificate" in refusal.text


async def test_how_long_a_token_can_live(node):
    node.grant("root", "*", Role.ROLE_ADMIN)
    root = certificate("client", "root")
    made = await node.access.CreateToken(access.CreateTokenRequest(principal="ann"), metadata=root)
    assert made.token.expire_time.ToMilliseconds() == START_MS + 90 * DAY_MS
    for life_ms, is_possible in (
        (999, False),
        (1_000, True),
        (3_650 * DAY_MS, True),
        (3_650 * DAY_MS + 1, False),
        (-1, False),
        (0, False),
    ):
        request = access.CreateTokenRequest(principal="ann")
        request.time_to_live.FromMilliseconds(life_ms)
        call = node.access.CreateToken(request, metadata=root)
        if is_possible:
            assert (await call).token.expire_time.ToMilliseconds() == START_MS + life_ms
        else:
            assert list((await refused(call)).fields) == ["time_to_live"]


async def test_pages_of_tokens_grants_and_principals(node):
    admin = bearer(node.admin)
    for name in ("ann", "bob", "zoe"):
        node.somebody(name, Role.ROLE_VIEWER)
    for call, request, field in (
        (node.access.ListTokens, access.ListTokensRequest(page_size=3), "tokens"),
        (node.access.ListGrants, access.ListGrantsRequest(page_size=3), "grants"),
        (node.access.ListPrincipals, access.ListPrincipalsRequest(page_size=3), "principals"),
    ):
        first = await call(request, metadata=admin)
        assert len(getattr(first, field)) == 3 and first.next_page_token
        request.page_token = first.next_page_token
        last = await call(request, metadata=admin)
        assert len(getattr(last, field)) == 1 and not last.next_page_token


async def test_nobody_fills_the_state_with_tokens(node):
    zoe = bearer(node.token("zoe"))
    request = access.CreateTokenRequest()
    for _ in range(100):
        last = await node.access.CreateToken(request, metadata=zoe)
    refusal = await refused(node.access.CreateToken(request, metadata=zoe))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert [(each.principal, each.reason) for each in await node.denied()] == [("zoe", "RATE_LIMITED")]
    # Who governs the cluster makes as many as there are people, and for zoe too.
    await node.access.CreateToken(access.CreateTokenRequest(principal="zoe"), metadata=bearer(node.admin))
    # To take one back is always possible, and is written down once.
    revoke = access.RevokeTokenRequest(name=last.token.name)
    await node.access.RevokeToken(revoke, metadata=zoe)
    count = len(node.commands)
    await node.access.RevokeToken(revoke, metadata=zoe)
    assert len(node.commands) == count
    node.clock.now_ms += 10_000
    await node.access.CreateToken(request, metadata=zoe)


# Grants and principals


async def test_grants_are_set_and_taken_away(node):
    admin = bearer(node.admin)
    ann = bearer(node.token("ann"))
    mine = access.ListGrantsRequest(subject="ann")
    assert not (await node.access.ListGrants(mine, metadata=ann)).grants
    answer = await node.access.SetGrant(grant_of("ann"), metadata=admin)
    assert answer.grant.update_time.ToMilliseconds() == START_MS
    assert [grant.namespace for grant in (await node.access.ListGrants(mine, metadata=ann)).grants] == ["default"]
    delete = access.DeleteGrantRequest(subject="ann", namespace="default")
    await node.access.DeleteGrant(delete, metadata=admin)
    assert (await refused(node.access.DeleteGrant(delete, metadata=admin))).reason == "GRANT_NOT_FOUND"
    of_namespace = access.ListGrantsRequest(namespace="*")
    assert [grant.subject for grant in (await node.access.ListGrants(of_namespace, metadata=admin)).grants] == ["admin"]


async def test_the_administrator_of_a_namespace_governs_that_one(node):
    ann = node.somebody("ann", Role.ROLE_ADMIN, "blue")
    await node.access.SetGrant(grant_of("bob", "blue"), metadata=ann)
    await node.access.ListGrants(access.ListGrantsRequest(namespace="blue"), metadata=ann)
    for namespace in ("red", "*"):
        assert (await refused(node.access.SetGrant(grant_of("bob", namespace), metadata=ann))).reason == (
            "PERMISSION_DENIED"
        )
    everything = access.ListGrantsRequest()
    assert (await refused(node.access.ListGrants(everything, metadata=ann))).reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("grant", "field"),
    [
        (access_pb2.Grant(namespace="*", role=1), "grant.subject"),
        (access_pb2.Grant(subject="group:", namespace="*", role=1), "grant.subject"),
        (access_pb2.Grant(subject="worker:w1", namespace="*", role=1), "grant.subject"),
        (access_pb2.Grant(subject="node:n1", namespace="a", role=1), "grant.subject"),
        (access_pb2.Grant(subject="ann", role=1), "grant.namespace"),
        (access_pb2.Grant(subject="ann", namespace="namespaces/a", role=1), "grant.namespace"),
        (access_pb2.Grant(subject="ann", namespace="a"), "grant.role"),
        (access_pb2.Grant(subject="ann", namespace="a", role=9), "grant.role"),
        (access_pb2.Grant(subject="ann", namespace="a", verbs=["everything"]), "grant.verbs[0]"),
    ],
)
async def test_what_no_grant_can_be(node, grant, field):
    refusal = await refused(node.access.SetGrant(access.SetGrantRequest(grant=grant), metadata=bearer(node.admin)))
    assert refusal.reason == "INVALID_FIELD" and list(refusal.fields) == [field]


async def test_a_disabled_principal_may_do_nothing_until_it_is_enabled(node):
    admin, ann = bearer(node.admin), node.somebody("ann", Role.ROLE_VIEWER)
    off = access.UpdatePrincipalRequest(name="ann", disabled=True)
    assert (await node.access.UpdatePrincipal(off, metadata=admin)).principal.disabled
    assert (await refused(node.access.WhoAmI(access.WhoAmIRequest(), metadata=ann))).reason == "UNAUTHENTICATED"
    await node.access.UpdatePrincipal(access.UpdatePrincipalRequest(name="ann"), metadata=admin)
    assert await node.access.WhoAmI(access.WhoAmIRequest(), metadata=ann)
    group = await refused(node.access.UpdatePrincipal(access.UpdatePrincipalRequest(name="group:ops"), metadata=admin))
    assert group.reason == "INVALID_FIELD" and list(group.fields) == ["name"]
    last = access.UpdatePrincipalRequest(name="admin", disabled=True)
    assert (await refused(node.access.UpdatePrincipal(last, metadata=admin))).reason == "LAST_ADMIN"


async def test_who_am_i_shows_what_groups_give(node):
    node.grant("group:ops", "red", Role.ROLE_OPERATOR)
    ann = node.somebody("ann", Role.ROLE_VIEWER)
    answer = await node.access.WhoAmI(access.WhoAmIRequest(), metadata=ann)
    assert [(grant.subject, grant.namespace) for grant in answer.grants] == [("ann", "default")]


# The first administrator


async def test_the_first_token_is_printed_once(tmp_path, capsys):
    node = FakeNode(tmp_path)
    try:
        await FirstAdministrator(node.context).appoint()
        [line] = capsys.readouterr().out.splitlines()
        token = line.rpartition(" ")[2]
        presented = tokens.read(token)
        with node.store.read() as tables:
            assert is_secure(tables)
            record = log_pb2.TokenRecord.FromString(bytes(tables.token.get(presented.id.encode())))
        assert (record.token.hash, record.token.principal) == (presented.hash, "admin")
        assert record.token.expire_time_ms == START_MS + 30 * DAY_MS
        # Whoever comes later finds the cluster governed, and says nothing.
        await FirstAdministrator(node.context).appoint()
        assert capsys.readouterr().out == ""
    finally:
        node.outputs.close()
        node.store.close()


async def test_the_first_token_goes_into_a_file_that_only_its_owner_reads(tmp_path, capsys):
    file = tmp_path / "token"
    file.write_text("old\n")
    file.chmod(0o644)
    node = FakeNode(tmp_path, bootstrap_token_file=file)
    try:
        await FirstAdministrator(node.context).appoint()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with node.store.read() as tables:
            assert tables.token.get(tokens.read(file.read_text().strip()).id.encode()) is not None
        assert tokens.PREFIX not in capsys.readouterr().out
    finally:
        node.outputs.close()
        node.store.close()


async def test_a_node_that_comes_second_takes_its_file_back(tmp_path):
    file = tmp_path / "token"
    node = FakeNode(tmp_path, bootstrap_token_file=file)
    try:
        second = FirstAdministrator(node.context)

        def another_one_is_first() -> None:
            id_, token = tokens.make()
            first = tokens.command(id_, token, "admin", START_MS + DAY_MS)
            node.apply(log_pb2.Command(begin_security=log_pb2.BeginSecurity(admin=first)))
            # They name the same file.
            replace_durably(file, token.encode())
            taken.append(token)

        taken: list[str] = []
        node.before_apply.append(another_one_is_first)
        await second.appoint()
        assert [file.read_text()] == taken
        assert sorted(path.name for path in tmp_path.glob("*token*")) == ["token"]
        assert not list(tmp_path.glob(".token*"))
    finally:
        node.outputs.close()
        node.store.close()


@pytest.mark.parametrize("way", ["others may read it", "a link"])
async def test_a_token_that_somebody_else_has_put_there_is_not_taken_up(tmp_path, way):
    file = tmp_path / "token"
    planted = tmp_path / (".token.n1" if way != "a link" else "elsewhere")
    id_, token = tokens.make()
    replace_durably(planted, token.encode())
    if way == "a link":
        (tmp_path / ".token.n1").symlink_to(planted)
    else:
        planted.chmod(0o644)
    node = FakeNode(tmp_path, bootstrap_token_file=file)
    try:
        assert node.context.config.name == "n1"
        await FirstAdministrator(node.context).appoint()
        with node.store.read() as tables:
            assert tables.token.get(id_.encode()) is None
        assert token not in file.read_text()
    finally:
        node.outputs.close()
        node.store.close()


async def test_a_node_that_dies_before_it_gives_the_token_away_does_so_later(tmp_path, monkeypatch):
    file = tmp_path / "token"
    node = FakeNode(tmp_path, bootstrap_token_file=file)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(FirstAdministrator, "_give_away", dies)
            with pytest.raises(RuntimeError):
                await FirstAdministrator(node.context).appoint()
        assert not file.exists()
        await FirstAdministrator(node.context).appoint()
        with node.store.read() as tables:
            assert tables.token.get(tokens.read(file.read_text().strip()).id.encode()) is not None
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not list(tmp_path.glob(".token*"))
    finally:
        node.outputs.close()
        node.store.close()


def dies(self):
    raise RuntimeError("power failure")


def test_a_file_is_never_written_through_a_link(tmp_path):
    target, file = tmp_path / "target", tmp_path / "token"
    target.write_text("mine")
    file.symlink_to(target)
    replace_durably(file, b"secret")
    assert (target.read_text(), file.read_text(), file.is_symlink()) == ("mine", "secret", False)
