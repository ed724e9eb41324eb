"""`horologe login`, `logout` and `context`, against a fake node and a fake identity provider."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from fake_cluster import FakeCluster, failure
from typer.testing import Result

from horologe.client import context_store
from horologe.client.cli.contexts import _changed
from horologe.client.cli.session import Session
from horologe.client.context_store import Store

Run = Callable[..., Result]
TOKEN = "hlg_0123456789abcdef_dontshow"
NO_CONTEXT = {"HOROLOGE_CONTEXT": ""}


def authorization(fake: FakeCluster) -> list[str]:
    return [metadata.get("authorization", "") for name, _, metadata in fake.received if name == "WhoAmI"]


def test_a_login_is_checked_kept_and_used(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    words = ("login", "--name", "prod", "--address", fake.address, "--insecure", "-n", "shop", "--token", "-")
    result = run(*words, input=f"{TOKEN}\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"you are ada (token) in prod, written to {context_store.path()}\n"
    assert authorization(fake) == [f"Bearer {TOKEN}"]
    assert context_store.path().stat().st_mode & 0o777 == 0o600
    fake.add_job("namespaces/shop/jobs/alpha")
    assert "alpha" in run("job", "list", env={"HOROLOGE_CONTEXT": ""}).stdout
    assert fake.received[-1][2]["authorization"] == f"Bearer {TOKEN}"
    # Once more with another token: the rest stays.
    run("login", "--name", "prod", "--token", "-", input="another\n")
    assert context_store.read().contexts["prod"] == {
        "addresses": [fake.address],
        "namespace": "shop",
        "insecure": True,
        "token": "another",
    }
    assert authorization(fake)[-1] == "Bearer another"
    assert "dontshow" not in result.output


def test_a_refused_login_changes_nothing(fake: FakeCluster, run: Run) -> None:
    fake.failures["WhoAmI"].append(failure("UNAUTHENTICATED", "UNAUTHENTICATED", "this token is unknown"))
    result = run("login", "--address", fake.address, "--insecure", "--token", "-", input=TOKEN)
    assert (result.exit_code, "this token is unknown" in result.stderr) == (4, True)
    assert "dontshow" not in result.output
    assert not context_store.path().exists()


def test_a_token_stays_in_its_file(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    words = ("login", "--address", fake.address, "--insecure", "--token-file", str(file), "-o", "json")
    file.chmod(0o644)
    assert "chmod 600" in run(*words).stderr
    file.chmod(0o600)
    assert json.loads(run(*words).stdout)["principal"] == "ada"
    assert context_store.read().contexts["default"]["token_file"] == str(file)
    assert authorization(fake) == [f"Bearer {TOKEN}"]


def test_a_token_of_the_environment_is_kept(fake: FakeCluster, run: Run) -> None:
    result = run("login", "--address", fake.address, "--insecure", env={"HOROLOGE_TOKEN": TOKEN})
    assert result.exit_code == 0, result.output
    assert context_store.read().contexts["default"]["token"] == TOKEN


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--token", TOKEN), "a token is no argument"),
        (("--token", "-", "--oidc"), "give one of"),
        (("--oidc",), "--oidc needs --issuer and --client-id"),
        (("--oidc", "--issuer", "http://example.org", "--client-id", "x"), "an https:// address is expected"),
        (("--token", "-"), "there is no token on standard input"),
        (("--name", "A B"), "'A B' is not a context's name"),
    ],
)
def test_logins_that_are_refused(fake: FakeCluster, run: Run, words: tuple[str, ...], said: str) -> None:
    result = run("login", "--address", fake.address, "--insecure", *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output
    assert "dontshow" not in result.output
    assert not context_store.path().exists()


def test_clear_text_takes_no_token_along_that_was_meant_for_tls(fake: FakeCluster, run: Run) -> None:
    table = {"addresses": ["127.0.0.1:1"], "ca_file": "ca.pem", "token": TOKEN, "namespace": "shop"}
    context_store.write(Store("prod", {"prod": table}))
    assert run("login", "--name", "prod", "--address", fake.address, "--insecure").exit_code == 0
    assert authorization(fake) == [""]
    assert context_store.read().contexts["prod"] == {
        "addresses": [fake.address],
        "namespace": "shop",
        "insecure": True,
    }


def test_a_folder_with_a_ca_of_its_own_drives_out_the_ca_that_was_named_before() -> None:
    given = dict.fromkeys(("ca_file", "tls_dir", "insecure"))
    before = {"addresses": ["h:1"], "ca_file": "old.pem"}
    assert _changed(before, given | {"tls_dir": "tls"}) == {"addresses": ["h:1"], "tls_dir": "tls"}
    both = given | {"tls_dir": "tls", "ca_file": "new.pem"}
    assert _changed(before, both) == {"addresses": ["h:1"], "tls_dir": "tls", "ca_file": "new.pem"}


def test_a_cluster_without_security_is_no_login(fake: FakeCluster, run: Run) -> None:
    fake.who.Clear()
    assert "runs without security" in run("login", "--address", fake.address, "--insecure").stdout
    assert "token" not in context_store.read().contexts["default"]


def test_a_logout_forgets_the_token_and_nothing_else(fake: FakeCluster, run: Run) -> None:
    run("login", "--address", fake.address, "--insecure", "--token", "-", input=TOKEN)
    # The variable names a file: its token is not this one.
    assert (run("logout").exit_code, "token" in context_store.read().contexts["default"]) == (2, True)
    assert "is none of your contexts" in run("logout").stderr
    result = run("logout", env=NO_CONTEXT)
    assert (result.stdout, result.stderr) == (
        "forgot the token of default\n",
        "To make it useless: horologe token revoke 0123456789abcdef\n",
    )
    assert context_store.read().contexts["default"] == {"addresses": [fake.address], "insecure": True}
    assert run("logout", "--name", "default").stderr == "default has no token\n"
    run("login", "--name", "other", "--address", fake.address, "--insecure")
    assert run("logout", env={"HOROLOGE_CONTEXT": "default"}).stderr == "default has no token\n"
    assert run("logout", "--name", "absent").exit_code == 2


def test_contexts_are_listed_chosen_shown_and_deleted(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    assert "horologe login" in run("context", "list").stderr
    for name in ("prod", "test"):
        run("login", "--name", name, "--address", fake.address, "--insecure", "--token", "-", input=TOKEN)
    assert run("context", "use", "prod").stdout == "prod is the current context\n"
    rows = [line.split() for line in run("context", "list").stdout.splitlines()[1:]]
    assert rows == [
        ["*", "prod", fake.address, "default", "none", "token"],
        ["-", "test", fake.address, "default", "none", "token"],
    ]
    shown = run("context", "show", "test")
    assert "dontshow" not in shown.output + run("context", "list", "-o", "json").output
    assert f"Addresses: {fake.address}\n" in shown.stdout
    of_a_file = json.loads(run("context", "show", "-o", "json").stdout)
    assert of_a_file["source"] == f"the context file {tmp_path / 'context.toml'}"
    assert run("context", "use", "absent").exit_code == 2
    assert run("--context", "test", "whoami").stdout.startswith("Principal:")
    assert run("context", "delete", "prod").stdout == "deleted prod\n"
    assert (context_store.read().current, list(context_store.read().contexts)) == ("", ["test"])
    assert run("context", "delete", "prod").exit_code == 2


class FakeIssuer(ThreadingHTTPServer):
    """An identity provider with logins for devices. `answers` are those of its token endpoint, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/realm"
        self.document: dict[str, Any] = {
            "issuer": self.url,
            "device_authorization_endpoint": f"{self.url}/device",
            "token_endpoint": f"{self.url}/token",
        }
        self.device: dict[str, Any] = {
            "device_code": "dontshow-device",
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.url}/activate",
            "verification_uri_complete": f"{self.url}/activate?code=WDJB-MJHT",
            "expires_in": 600,
            "interval": 3,
        }
        self.answers: list[dict[str, Any]] = []
        self.forms: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeIssuer

    def do_GET(self) -> None:
        assert self.path == "/realm/.well-known/openid-configuration"
        self._answer(200, self.server.document)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.forms.append({key: values[0] for key, values in form.items()})
        answer = self.server.device if self.path == "/realm/device" else self.server.answers.pop(0)
        self._answer(400 if "error" in answer else 200, answer)

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(Session, "pause", lambda self, seconds: found.append(seconds))
    return found


def test_a_login_with_a_browser(fake: FakeCluster, run: Run, issuer: FakeIssuer, pauses: list[float]) -> None:
    fake.who.method = "oidc"
    issuer.answers = [{"error": "authorization_pending"}, {"error": "slow_down"}, {"id_token": "a.b.c"}]
    words = ("--issuer", issuer.url, "--client-id", "horologe-cli", "--scope", "openid groups")
    result = run("login", "--address", fake.address, "--insecure", "--oidc", *words)
    assert result.exit_code == 0, result.output
    assert f"Open {issuer.url}/activate and enter the code WDJB-MJHT\n" in result.stderr
    assert pauses == [3, 3, 8]
    assert issuer.forms[0] == {"client_id": "horologe-cli", "scope": "openid groups"}
    assert issuer.forms[1] == {
        "client_id": "horologe-cli",
        "device_code": "dontshow-device",
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    }
    assert authorization(fake) == ["Bearer a.b.c"]
    assert context_store.read().contexts["default"]["token"] == "a.b.c"
    assert "dontshow" not in result.output


@pytest.mark.parametrize(
    ("changes", "answers", "said"),
    [
        ({}, [{"error": "access_denied"}], "the login was refused"),
        ({}, [{"error": "expired_token"}], "nobody agreed to the login in time"),
        ({}, [{"error": "invalid_client", "error_description": "who?"}], "refuses the login: invalid_client: who?"),
        ({}, [{"access_token": "x"}], "has no id_token"),
        ({"issuer": "https://elsewhere.example"}, [], "is of the issuer 'https://elsewhere.example'"),
        ({"token_endpoint": "http://elsewhere.example/t"}, [], "an https:// address is expected"),
        ({"device_authorization_endpoint": None}, [], "has no device_authorization_endpoint"),
    ],
)
def test_logins_with_a_browser_that_fail(
    fake: FakeCluster,
    run: Run,
    issuer: FakeIssuer,
    pauses: list[float],
    changes: dict[str, Any],
    answers: list[dict[str, Any]],
    said: str,
) -> None:
    issuer.document.update(changes)
    issuer.document = {key: value for key, value in issuer.document.items() if value is not None}
    issuer.answers = answers
    words = ("--issuer", issuer.url, "--client-id", "horologe-cli")
    result = run("login", "--address", fake.address, "--insecure", "--oidc", *words)
    assert result.exit_code in (2, 4, 5)
    assert said in result.stderr
    assert fake.received == []
    assert not context_store.path().exists()


def test_an_issuer_that_is_not_there(run: Run, issuer: FakeIssuer) -> None:
    url = f"http://127.0.0.1:{issuer.server_port}/realm".replace(str(issuer.server_port), "1")
    result = run("login", "--insecure", "--oidc", "--issuer", url, "--client-id", "x")
    assert (result.exit_code, "cannot be reached" in result.stderr) == (5, True)


def test_a_list_shows_the_addresses_that_are_used(run: Run, tmp_path: Path) -> None:
    table = {"tls_dir": str(tmp_path), "worker_addresses": ["n1.example.org:7600"]}
    context_store.write(Store("mine", {"mine": table, "program": table | {"token": TOKEN}}))
    mine, program = run("context", "list").stdout.splitlines()[1:]
    assert ("n1.example.org:7600" in mine, "certificate" in mine) == (True, True)
    assert ("127.0.0.1:7400" in program, "n1.example.org:7600" in program) == (True, False)
