"""`horologe token`, `grant`, `principal`, `secret` and `whoami`, against a fake node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, failure
from typer.testing import Result

from horologe.client import AsyncClient, Client
from horologe.client.errors import InvalidArgument
from horologe.v1.access_pb2 import Grant, Role, Token

Run = Callable[..., Result]
ID = "0000000000000000"


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()[1:]]


def test_a_token_is_printed_alone_and_once(fake: FakeCluster, run: Run) -> None:
    made = run("token", "create", "deployer", "--in", "shop", "--role", "editor", "--verb", "job.pause", "--ttl", "30d")
    assert made.stdout == f"hlg_{ID}_secret\n"
    assert made.stderr == f"tokens/{ID} speaks for deployer (editor, shop, job.pause)\n"
    (asked,) = fake.requests("CreateToken")
    assert (asked.time_to_live.seconds, list(asked.namespaces), asked.role) == (30 * 86400, ["shop"], Role.ROLE_EDITOR)
    assert rows(run("token", "list")) == [[ID, "deployer", "valid", "shop", "editor", "-", "-", "-"]]
    assert run("token", "list", "--principal", "somebody").stderr == "There are no tokens.\n"
    assert "secret" not in run("token", "list", "-o", "json").stdout
    assert run("token", "revoke", f"hlg_{ID}").stdout == f"revoked tokens/{ID}\n"
    assert rows(run("token", "list"))[0][2] == "revoked"
    data = json.loads(run("token", "create", "-o", "json").stdout)
    assert (data["principal"], data["secret"]) == ("ada", "hlg_0000000000000001_secret")


def test_a_token_goes_into_a_file_of_its_owner(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    made = run("token", "create", "--out", str(file), "-o", "json")
    assert "_secret" not in made.output
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"hlg_{ID}_secret\n", 0o600)
    again = run("token", "create", "--out", str(file))
    assert (again.exit_code, "File exists" in again.stderr) == (2, True)
    assert len(fake.requests("CreateToken")) == 1
    fake.failures["CreateToken"].append(failure("PERMISSION_DENIED", "PERMISSION_DENIED", "ada may not"))
    assert run("token", "create", "--out", str(tmp_path / "other")).exit_code == 4
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("token", "create", "--role", "king"), "'king' is not known; allowed: viewer, editor, operator, admin"),
        (("token", "create", "--ttl", "soon"), "soon"),
        (("token", "revoke", f"hlg_{ID}_dontshow"), "this is not a token's id"),
        (("grant", "set", "ada"), "--role or --verb"),
        (("secret", "set", "Not-An-Id"), "is not a secret's name"),
    ],
)
def test_what_is_refused_here_already(fake: FakeCluster, run: Run, words: tuple[str, ...], said: str) -> None:
    result = run(*words, input="value")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert "dontshow" not in result.stderr
    assert fake.received == []


def test_grants(fake: FakeCluster, run: Run) -> None:
    assert rows(run("-n", "shop", "grant", "set", "ada", "--role", "editor")) == [["ada", "shop", "editor", "-"]]
    run("grant", "set", "group:ops", "--verb", "cluster.read", "--verb", "worker.drain", "--everywhere")
    assert rows(run("grant", "list")) == [
        ["ada", "shop", "editor", "-"],
        ["group:ops", "*", "-", "cluster.read,", "worker.drain"],
    ]
    assert rows(run("grant", "list", "--in", "*"))[0][0] == "group:ops"
    assert rows(run("grant", "list", "--subject", "ada"))[0][0] == "ada"
    assert run("-n", "shop", "grant", "delete", "ada").stdout == "deleted grant of ada in shop\n"
    assert run("grant", "delete", "group:ops", "--everywhere").stdout == "deleted grant of group:ops everywhere\n"
    assert fake.grants == {}


def test_principals(fake: FakeCluster, run: Run) -> None:
    assert rows(run("principal", "disable", "ada")) == [["ada", "disabled", "0", "-"]]
    assert rows(run("principal", "list")) == [["ada", "disabled", "0", "-"]]
    assert rows(run("principal", "enable", "ada")) == [["ada", "enabled", "0", "-"]]


def test_who_am_i(fake: FakeCluster, run: Run) -> None:
    fake.who.groups.append("ops")
    fake.who.grants.append(Grant(subject="group:ops", namespace="*", role=Role.ROLE_OPERATOR))
    fake.who.token.CopyFrom(Token(name=f"tokens/{ID}", namespaces=["shop"]))
    said = run("whoami").stdout
    for word in ("ada", "token", f"tokens/{ID}, expires never", "shop", "group:ops", "operator"):
        assert word in said
    assert json.loads(run("whoami", "-o", "json").stdout)["grants"][0]["role"] == "operator"
    fake.who.Clear()
    assert "without security" in run("whoami").stdout


def test_refusals_give_a_hint(fake: FakeCluster, run: Run) -> None:
    fake.failures["ListGrants"] += [
        failure("PERMISSION_DENIED", "PERMISSION_DENIED", "ada may not access.read"),
        failure("UNAUTHENTICATED", "UNAUTHENTICATED", "this token has expired"),
    ]
    denied, unknown = run("grant", "list"), run("grant", "list")
    assert (denied.exit_code, "horologe whoami" in denied.stderr) == (4, True)
    assert (unknown.exit_code, "horologe login" in unknown.stderr) == (4, True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("geheim\n", b"geheim"), ("two\nlines\n", b"two\nlines"), ("geheim\r\n", b"geheim"), (" ä ", " ä ".encode())],
)
def test_a_secret_from_standard_input_or_a_file(
    fake: FakeCluster, run: Run, tmp_path: Path, given: str, kept: bytes
) -> None:
    result = run("secret", "set", "password", input=given)
    assert rows(result) == [["password", "1", "0", "-"]]
    file = tmp_path / "value"
    file.write_bytes(given.encode())
    assert "geheim" not in run("secret", "set", "password", "--from-file", str(file)).output
    run("secret", "set", "password", "--from-file", str(file), "--keep-newline")
    assert [request.value for request in fake.requests("SetSecret")] == [kept, kept, given.encode()]
    assert rows(run("secret", "list")) == [["password", "3", "0", "-"]]
    assert run("-n", "other", "secret", "list").stderr == "There are no secrets.\n"
    deleted = run("secret", "delete", "password", "-o", "json")
    assert json.loads(deleted.stdout) == {"name": "namespaces/default/secrets/password", "outcome": "deleted"}


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"", "has 0 bytes"), (b"x" * 70_000, "bytes; from 1 to 65536"), (b"geheim\xff", "not UTF-8 text from byte 6 on")],
)
def test_values_that_are_no_secrets_do_not_leave(
    fake: FakeCluster, run: Run, tmp_path: Path, value: bytes, said: str
) -> None:
    file = tmp_path / "value"
    file.write_bytes(value)
    result = run("secret", "set", "password", "--from-file", str(file))
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert "geheim" not in result.output
    assert fake.received == []
    absent = run("secret", "set", "password", "--from-file", str(tmp_path / "absent"))
    assert (absent.exit_code, "cannot be read: No such file" in absent.stderr) == (2, True)


def test_no_option_takes_a_value(run: Run) -> None:
    assert run("secret", "set", "password", "geheim").exit_code == 2
    assert run("secret", "set", "password", "--value", "geheim").exit_code == 2


def test_the_largest_secret(fake: FakeCluster) -> None:
    with Client(fake.address, insecure=True) as client:
        assert client.set_secret("password", "x" * 65_536).version == 1
        with pytest.raises(InvalidArgument):
            client.set_secret("namespaces/-/secrets/password", "x")


async def test_the_async_client_has_the_same_methods(fake: FakeCluster) -> None:
    async with AsyncClient(fake.address, insecure=True) as client:
        assert (await client.who_am_i()).principal == "ada"
        made = await client.create_token("bob")
        assert [token.principal async for token in client.list_tokens()] == ["bob"]
        await client.revoke_token(made.token.name)
        await client.set_grant("bob", "viewer")
        assert [grant.role async for grant in client.list_grants("bob")] == [Role.ROLE_VIEWER]
        await client.delete_grant("bob")
        await client.update_principal("bob", disabled=True)
        assert [principal.disabled async for principal in client.list_principals()] == [True]
        await client.set_secret("password", "geheim")
        assert [secret.version async for secret in client.list_secrets()] == [1]
        await client.delete_secret("password")
