"""Contexts: what they say, where they are found, what goes before what, and who may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from horologe.client import cluster_context, context_store, errors
from horologe.client.context_store import Store
from horologe.client.token import TokenSource

TOKEN = "hlg_0123456789abcdef_secret"


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def write_contexts(text: str) -> Path:
    context_store.path().parent.mkdir(parents=True, exist_ok=True)
    return private(context_store.path(), text)


def test_all_keys(tmp_path: Path) -> None:
    file = private(
        tmp_path / "context.toml",
        'addresses = "h:1"\nworker_addresses = ["h:2", "h:3"]\nnamespace = "shop"\nca_file = "ca.pem"\n'
        f'tls_dir = "/etc/tls"\ntoken = "{TOKEN}"\nserver_name = ""\ninsecure = false\n',
    )
    found = cluster_context.load(context_file=file)
    assert found == cluster_context.ClusterContext(
        ("h:1",), "shop", ("h:2", "h:3"), tmp_path / "ca.pem", Path("/etc/tls"), TOKEN, None, "", insecure=False
    )
    assert "secret" not in repr(found)
    assert cluster_context.load().server_name == "horologe"


def test_paths_begin_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "context.toml").write_text('ca_file = "tls/ca.pem"\ntoken_file = "token"\n')
    monkeypatch.chdir(tmp_path)
    found = cluster_context.load(context_file="context.toml")
    assert (found.ca_file, found.token_file) == (tmp_path / "tls/ca.pem", tmp_path / "token")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("insecure = 1", "insecure must be true or false"),
        ("insecure = true\nca_file = 'ca.pem'", "insecure is clear text"),
        ("worker_addresses = 'nowhere'", "'nowhere' is not an address"),
        ("token_file = 3", "token_file must be a text"),
        ("ca_file = ''", "ca_file is empty"),
        (f"token = '{TOKEN}'\ntoken_file = 'f'", "both token and token_file"),
        ("token = 'two words'", "holds no token"),
    ],
)
def test_contexts_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(errors.InvalidContext, match=said) as caught:
        cluster_context.load(context_file=private(tmp_path / "context.toml", text))
    assert "two words" not in str(caught.value)


def test_a_token_of_the_environment_goes_before_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = private(tmp_path / "context.toml", f'token = "{TOKEN}"\n')
    monkeypatch.setenv("HOROLOGE_TOKEN", "of-the-environment")
    assert cluster_context.load(context_file=file).token == "of-the-environment"
    assert cluster_context.load(context_file=file, token="of-the-call").token == "of-the-call"
    file = private(tmp_path / "context.toml", 'token_file = "absent"\n')
    assert TokenSource(cluster_context.load(context_file=file)).read() == "of-the-environment"


def test_an_address_changes_where_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = private(tmp_path / "context.toml", f'addresses = ["h:1"]\nca_file = "ca.pem"\ntoken = "{TOKEN}"\n')
    monkeypatch.setenv("HOROLOGE_CONTEXT", str(file))
    found = cluster_context.load("other:1")
    assert (found.addresses, found.ca_file, found.token) == (("other:1",), tmp_path / "ca.pem", TOKEN)
    file.unlink()
    assert cluster_context.load("other:1") == cluster_context.ClusterContext(("other:1",))
    with pytest.raises(errors.InvalidContext, match="No such file"):
        cluster_context.load("other:1", context_file=file)


def test_clear_text_that_the_context_does_not_speak_takes_no_token_along(tmp_path: Path) -> None:
    file = private(tmp_path / "context.toml", f'ca_file = "ca.pem"\ntoken = "{TOKEN}"\n')
    found = cluster_context.load("h:1", context_file=file, insecure=True)
    assert (found.insecure, found.token, found.ca_file) == (True, "", None)
    assert cluster_context.load("h:1", context_file=file, insecure=True, token="given").token == "given"
    with pytest.raises(errors.InvalidContext, match="insecure is clear text"):
        cluster_context.load("h:1", insecure=True, ca_file="ca.pem")


def test_an_argument_with_certificates_makes_a_context_secure(tmp_path: Path) -> None:
    (tmp_path / "context.toml").write_text("insecure = true\n")
    assert cluster_context.load(context_file=tmp_path / "context.toml").insecure
    assert not cluster_context.load(context_file=tmp_path / "context.toml", ca_file="ca.pem").insecure
    assert not cluster_context.load(context_file=tmp_path / "context.toml", insecure=False).insecure


def test_a_certificate_speaks_at_the_port_that_asks_for_it(tmp_path: Path) -> None:
    file = tmp_path / "context.toml"
    text = 'addresses = ["h:1"]\nworker_addresses = ["h:2"]\ntls_dir = "tls"\n'
    file.write_text(text)
    assert cluster_context.load(context_file=file).addresses == ("h:2",)
    private(file, f'{text}token = "{TOKEN}"\n')
    assert cluster_context.load(context_file=file).addresses == ("h:1",)


def test_workers_have_a_port_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidContext, match=r"no context is named: set HOROLOGE_CONTEXT"):
        cluster_context.load().for_workers()
    file = tmp_path / "context.toml"
    file.write_text('addresses = ["h:1"]\n')
    with pytest.raises(errors.InvalidContext, match=r"context\.toml has no worker_addresses"):
        cluster_context.load(context_file=file).for_workers()
    file.write_text('addresses = ["h:1"]\nworker_addresses = ["h:2"]\n')
    assert cluster_context.load(context_file=file).for_workers() == ("h:2",)
    file.write_text('addresses = ["h:1"]\ninsecure = true\n')
    assert cluster_context.load(context_file=file).for_workers() == ("h:1",)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_token_that_others_can_read_is_not_read(tmp_path: Path, mode: int) -> None:
    context = private(tmp_path / "context.toml", f'token = "{TOKEN}"\n')
    context.chmod(mode)
    with pytest.raises(errors.InvalidContext, match=f"has the mode {mode:04o}.*chmod 600 {context}") as caught:
        cluster_context.load(context_file=context)
    assert "secret" not in str(caught.value)
    token = private(tmp_path / "token", TOKEN)
    token.chmod(mode)
    with pytest.raises(errors.InvalidContext, match=f"chmod 600 {token}"):
        cluster_context.read_token(token)
    write_contexts(f'[contexts.prod]\ntoken = "{TOKEN}"\n').chmod(mode)
    with pytest.raises(errors.InvalidContext, match=f"chmod 600 {context_store.path()}"):
        cluster_context.load(context_file="prod")


def test_without_a_token_anybody_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "context.toml").write_text('addresses = ["h:1"]\n')
    (tmp_path / "context.toml").chmod(0o644)
    assert cluster_context.load(context_file=tmp_path / "context.toml").addresses == ("h:1",)


def test_a_replaced_token_file_is_read_again(tmp_path: Path) -> None:
    file = private(tmp_path / "token", "first\n")
    private(tmp_path / "context.toml", 'token_file = "token"\n')
    source = TokenSource(cluster_context.load(context_file=tmp_path / "context.toml"))
    assert source.read() == "first"
    private(tmp_path / "new", "second\n").replace(file)
    assert source.read() == "second"
    file.unlink()
    with pytest.raises(errors.InvalidContext, match="token cannot be read: No such file"):
        source.read()


def test_contexts_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contexts(
        'current = "prod"\n[contexts.prod]\naddresses = ["p:1"]\nca_file = "p.pem"\n[contexts.test]\naddresses = ["t:1"]\n'
    )
    assert cluster_context.load().addresses == ("p:1",)
    assert cluster_context.load().ca_file == context_store.path().parent / "p.pem"
    assert cluster_context.load(context_file="test").addresses == ("t:1",)
    # A file of this name in the folder where somebody happens to be does not count.
    monkeypatch.chdir(tmp_path)
    Path("test").write_text('addresses = ["evil:1"]\n')
    assert cluster_context.load(context_file="test").addresses == ("t:1",)
    monkeypatch.setenv("HOROLOGE_CONTEXT", "test")
    assert cluster_context.load().addresses == ("t:1",)
    monkeypatch.setenv("HOROLOGE_CONTEXT", "absent")
    with pytest.raises(errors.InvalidContext, match="neither a context nor a file 'absent'"):
        cluster_context.load()
    assert cluster_context.load("h:1").addresses == ("h:1",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x =", "is not TOML"),
        ("colour = 1", "unknown key 'colour'"),
        ("contexts = 3", "contexts tables"),
        ("[contexts]\nprod = 3", "must be tables"),
        ("[contexts.'a b']", "must be tables"),
        ("current = 'prod'", "there is no .contexts.prod"),
        ("current = 'prod'\n[contexts.prod]\ncolour = 1", "the context prod in .* has an unknown key 'colour'"),
    ],
)
def test_configurations_that_are_refused(text: str, said: str) -> None:
    write_contexts(text)
    with pytest.raises(errors.InvalidContext, match=said):
        cluster_context.load()


def test_what_is_written_can_be_read_and_is_the_owners() -> None:
    hard = 'q"\\\n\x7fé😀'
    store = Store("prod", {"prod": {"addresses": ["h:1"], "server_name": hard, "insecure": False, "token": TOKEN}})
    os.umask(old := os.umask(0))
    context_store.write(store)
    os.umask(old)
    assert context_store.read() == store
    assert context_store.path().stat().st_mode & 0o777 == 0o600
    assert context_store.path().parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in context_store.path().parent.iterdir()] == ["config.toml"]
    assert "secret" not in repr(store)
    context_store.write(Store())
    assert context_store.read() == Store()


def test_a_relative_xdg_folder_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert context_store.path() == tmp_path / ".config" / "horologe" / "config.toml"
