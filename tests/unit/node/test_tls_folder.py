"""Certificates in files, and the commands that make them: what is written, what is refused, and how a CA is replaced."""

from __future__ import annotations

import json
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from horologe.node.certificates import LEAF_DAYS, Role, certificates_in, checked_identity
from horologe.node.tls_commands import app
from horologe.node.tls_folder import CaFolder, TlsError, read_tls_folder


@pytest.fixture
def ca(tmp_path: Path) -> CaFolder:
    return CaFolder.create(tmp_path / "tls")


@pytest.fixture
def node(ca: CaFolder) -> Path:
    out = ca.folder / "nodes" / "n1"
    ca.issue(out, checked_identity(Role.NODE, "n1"), ["n1.example.org"])
    return out


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_for_their_owner_only(ca: CaFolder, node: Path) -> None:
    assert [mode(path) for path in (ca.folder, node)] == [0o700, 0o700]
    assert [mode(path) for path in (ca.folder / "ca.key", node / "key.pem")] == [0o600, 0o600]
    assert sorted(path.name for path in node.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


def test_a_whole_folder(ca: CaFolder, node: Path) -> None:
    files = read_tls_folder(node)
    assert files.identity[:2] == (Role.NODE, "n1")
    assert files.ca_pem == (ca.folder / "ca.pem").read_bytes()
    days = (files.expires - datetime.now(UTC)) / timedelta(days=1)
    assert LEAF_DAYS - 1 < days <= LEAF_DAYS


def _remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _open_to_all(folder: Path, name: str) -> None:
    (folder / name).chmod(0o644)


def _spoil(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"-----BEGIN NOTHING-----\n")


def _cut(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def _foreign(folder: Path, name: str) -> None:
    other = CaFolder.create(folder.parent / "other")
    other.issue(folder.parent / "foreign", checked_identity(Role.NODE, "n1"))
    shutil.copy(folder.parent / "foreign" / name, folder / name)


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (_remove, "ca.pem", "is missing; `horologe tls issue`"),
        (_remove, "cert.pem", "is missing"),
        (_remove, "key.pem", "is missing"),
        (_open_to_all, "key.pem", "chmod 600"),
        (_spoil, "ca.pem", "holds no certificate in PEM"),
        (_cut, "cert.pem", "holds no certificate in PEM"),
        (_cut, "key.pem", "holds no private key in PEM"),
        (_foreign, "ca.pem", "is signed by no CA in ca.pem"),
        (_foreign, "cert.pem", "is not the key of cert.pem"),
        (_foreign, "key.pem", "is not the key of cert.pem"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_what_to_do(node: Path, spoil, name: str, words: str) -> None:
    spoil(node, name)
    with pytest.raises(TlsError, match=words) as caught:
        read_tls_folder(node)
    assert str(node) in str(caught.value) and "\n" not in str(caught.value)


def test_expired_and_not_yet_valid(node: Path) -> None:
    end = read_tls_folder(node).expires
    with pytest.raises(TlsError, match=r"expired .* renew it: `horologe tls rotate"):
        read_tls_folder(node, end)
    with pytest.raises(TlsError, match="clock"):
        read_tls_folder(node, datetime.now(UTC) - timedelta(days=1))


def test_nothing_is_overwritten(ca: CaFolder, node: Path) -> None:
    with pytest.raises(TlsError, match="has a CA already"):
        CaFolder.create(ca.folder)
    before = (node / "key.pem").read_bytes()
    with pytest.raises(TlsError, match="has a certificate already"):
        ca.issue(node, checked_identity(Role.NODE, "n1"))
    assert (node / "key.pem").read_bytes() == before


def test_a_ca_that_is_none(ca: CaFolder, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="`horologe tls init --dir"):
        CaFolder.open(tmp_path / "nowhere")
    shutil.copy(CaFolder.create(tmp_path / "other").folder / "ca.key", ca.folder / "ca.key")
    with pytest.raises(TlsError, match="is not the key of a CA"):
        CaFolder.open(ca.folder)


def test_a_new_ca_takes_over_step_by_step(ca: CaFolder, node: Path) -> None:
    old = read_tls_folder(node)
    new = CaFolder.open(ca.folder).succeeded([node])
    trusted = certificates_in((node / "ca.pem").read_bytes())
    assert trusted == [new.pair.certificate, ca.pair.certificate]
    # Its certificate is still that of the old CA, and good.
    assert read_tls_folder(node).certificate == old.certificate
    with pytest.raises(TlsError, match="under way"):
        CaFolder.open(ca.folder).succeeded([node])
    with pytest.raises(TlsError, match="renew it first"):
        CaFolder.open(ca.folder).without_older([node])
    CaFolder.open(ca.folder).renew(node)
    renewed = read_tls_folder(node)
    assert renewed.certificate.issuer == new.pair.certificate.subject
    assert certificates_in(renewed.ca_pem) == trusted
    CaFolder.open(ca.folder).without_older([node])
    assert certificates_in(read_tls_folder(node).ca_pem) == [new.pair.certificate]
    assert CaFolder.open(ca.folder).older == ()


# The commands


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_from_nothing_to_certificates(tmp_path: Path) -> None:
    folder = str(tmp_path / "tls")
    assert run("init", "--dir", folder).exit_code == 0
    made = {
        ("node", "n1", "--host", "n1.example.org", "--host", "10.0.0.1"): "nodes/n1",
        ("worker", "w1", "--queue", "a", "--queue", "b", "--days", "5"): "workers/w1",
        ("client", "dev"): "clients/dev",
    }
    for words, out in made.items():
        issued = run("issue", *words, "--dir", folder)
        assert issued.exit_code == 0, issued.output
        shown = json.loads(run("show", f"{folder}/{out}", "-o", "json").stdout)
        assert (shown["role"], shown["name"]) == words[:2]
        expected = {"node": (["n1.example.org", "10.0.0.1"], []), "worker": ([], ["a", "b"]), "client": ([], [])}
        assert (shown["hosts"], shown["queues"]) == expected[words[0]]
        assert shown["trusts"] == [shown["issuer"]]
    own = tmp_path / "elsewhere"
    assert run("issue", "client", "dev", "--dir", folder, "--out", str(own)).exit_code == 0
    table = run("show", str(own)).stdout
    assert "Role:         client\nName:         dev\n" in table


def test_the_commands_of_a_rotation(tmp_path: Path) -> None:
    folder = str(tmp_path / "tls")
    run("init", "--dir", folder)
    run("issue", "node", "n1", "--dir", folder)
    node = f"{folder}/nodes/n1"

    def shown() -> dict:
        return json.loads(run("show", node, "-o", "json").stdout)

    first = shown()
    assert run("rotate", node, "--dir", folder).exit_code == 0
    renewed = shown()
    assert renewed["fingerprint"] != first["fingerprint"] and renewed["issuer"] == first["issuer"]
    assert run("rotate", "--ca", node, "--dir", folder).exit_code == 0
    mistaken = run("rotate", "--ca", f"{folder}/nowhere", "--dir", folder)
    assert mistaken.exit_code == 1
    assert len(shown()["trusts"]) == 2 and shown()["issuer"] == first["issuer"]
    assert "renew it first" in run("rotate", "--drop-old", node, "--dir", folder).stderr
    assert run("rotate", node, "--dir", folder).exit_code == 0
    assert run("rotate", "--drop-old", node, "--dir", folder).exit_code == 0
    assert shown()["trusts"] == [shown()["issuer"]] != [first["issuer"]]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("issue", "node", "N1"), 2, "is no name"),
        (("issue", "client", "../x"), 2, "no name of a client"),
        (("issue", "node", "n1", "--host", "a:1"), 1, "without a port"),
        (("issue", "node", "n1", "--days", "0"), 1, "1 to 825 days"),
        (("rotate",), 2, "name the folders"),
        (("rotate", "--ca", "--drop-old"), 2, "give one of them"),
        (("rotate", "nowhere"), 1, "is missing"),
        (("rotate", "--ca", "nowhere"), 1, "has no cert.pem"),
        (("init",), 1, "has a CA already"),
        (("show", "nowhere"), 1, "is missing"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init").exit_code == 0
    result = run(*words)
    assert result.exit_code == code
    assert result.stderr.startswith("horologe: ") and len(result.stderr.splitlines()) == 1
    assert said in result.stderr
