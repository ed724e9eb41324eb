"""The small CA: what it signs, whom it refuses, and what a certificate says of its owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from horologe.node import certificates
from horologe.node.certificates import CertificateError, Identity, Role, checked_identity

NODE = checked_identity(Role.NODE, "n1")
WORKER = checked_identity(Role.WORKER, "pool", ["reports", "default"])
CLIENT = checked_identity(Role.CLIENT, "dev")


@pytest.fixture(scope="module")
def ca() -> certificates.Pair:
    return certificates.make_ca()


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def with_names(ca: certificates.Pair, *names: x509.GeneralName) -> x509.Certificate:
    """Signed by the CA, as somebody else's program may make it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(ca.certificate.subject, x509.Name([]), key.public_key(), 1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca.key, hashes.SHA256())


def test_the_ca_signs_leaves_and_no_other_ca(ca: certificates.Pair) -> None:
    constraints = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
    assert isinstance(ca.certificate.public_key(), ec.EllipticCurvePublicKey)
    assert ca.certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3_649)
    leaf = certificates.issue(ca, NODE).certificate
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificates.is_signed_by(leaf, ca.certificate)
    other = certificates.make_ca()
    assert other.certificate.subject != ca.certificate.subject
    assert not certificates.is_signed_by(leaf, other.certificate)


def test_a_node_serves_and_calls_the_others_only_call(ca: certificates.Pair) -> None:
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert usages(certificates.issue(ca, NODE).certificate) == both
    for identity in (WORKER, CLIENT):
        assert usages(certificates.issue(ca, identity).certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_names_and_hosts(ca: certificates.Pair) -> None:
    hosts = ["n1.example.org", "*.example.org", "10.0.0.7", "::1"]
    node = certificates.issue(ca, NODE, hosts).certificate
    names = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["horologe://node/n1"]
    assert names.get_values_for_type(x509.DNSName) == [
        "n1.node.horologe",
        "horologe",
        "n1.example.org",
        "*.example.org",
    ]
    assert certificates.hosts_in(node) == hosts
    worker = certificates.issue(ca, WORKER).certificate
    names = worker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["horologe://worker/pool?queue=reports&queue=default"]


def test_what_a_certificate_says_of_its_owner(ca: certificates.Pair) -> None:
    for identity in (NODE, WORKER, CLIENT):
        pair = certificates.issue(ca, identity)
        found = certificates.identity_in(pair.certificate)
        assert found == identity._replace(fingerprint=certificates.fingerprint_of(pair.certificate))
        assert certificates.identity_in_pem(pair.certificate_pem) == found
        assert len(found.fingerprint) == 64
    assert certificates.identity_in_pem(b"nonsense") is None


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("n1.node.horologe")],
        # A name of another kind that looks like a role is none.
        [x509.DNSName("horologe://node/n1")],
        [x509.UniformResourceIdentifier("spiffe://node/n1")],
        [x509.UniformResourceIdentifier(uri) for uri in ("horologe://node/n1", "horologe://client/admin")],
        [x509.UniformResourceIdentifier("horologe://boss/n1")],
        [x509.UniformResourceIdentifier("horologe://node/")],
        [x509.UniformResourceIdentifier("horologe://node/N1")],
        [x509.UniformResourceIdentifier("horologe://node/n1/x")],
        [x509.UniformResourceIdentifier("horologe://client/a%3Ab")],
        [x509.UniformResourceIdentifier("horologe://user@client/a")],
        [x509.UniformResourceIdentifier("horologe://client/a?queue=b")],
        [x509.UniformResourceIdentifier("horologe://worker/a?queues=b")],
        [x509.UniformResourceIdentifier("horologe://worker/a?queue=b#c")],
        [x509.UniformResourceIdentifier("horologe://worker/a?queue=")],
        [x509.UniformResourceIdentifier("HOROLOGE://worker/a")],
    ],
    ids=str,
)
def test_a_certificate_that_does_not_name_one_owner_in_our_words_names_nobody(
    ca: certificates.Pair, names: list[x509.GeneralName]
) -> None:
    assert certificates.identity_in(with_names(ca, *names)) is None


_NAMES = st.text(max_size=140) | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(_NAMES, st.lists(_NAMES, max_size=3))
def test_whatever_is_accepted_as_a_name_comes_back_as_it_was(name: str, queues: list[str]) -> None:
    for role in Role:
        try:
            identity = checked_identity(role, name, queues)
        except CertificateError:
            continue
        assert certificates.identity_from(identity.uri) == identity


@given(st.from_regex(r"horologe://(node|worker|client)/[a-z0-9%.]*(\?[a-z&=%+]*)?(#a)?", fullmatch=True))
def test_a_uri_means_somebody_only_if_it_is_written_as_we_write_it(uri: str) -> None:
    identity = certificates.identity_from(uri)
    assert identity is None or identity.uri == uri


@pytest.mark.parametrize(
    ("role", "name", "queues", "words"),
    [
        (Role.NODE, "N1", (), "is no name"),
        (Role.NODE, "../n1", (), "is no name"),
        (Role.WORKER, "a/b", (), "no name of a worker"),
        (Role.WORKER, ".a", (), "no name of a worker"),
        (Role.CLIENT, "worker:w1", (), "no name of a client"),
        (Role.CLIENT, "a" * 129, (), "at most 128"),
        (Role.CLIENT, "dev", ("q",), "takes from no queue"),
        (Role.WORKER, "w", ("no queue",), "is no queue"),
    ],
)
def test_names_that_nobody_can_have(role: Role, name: str, queues: tuple[str, ...], words: str) -> None:
    with pytest.raises(CertificateError, match=words):
        checked_identity(role, name, queues)


@pytest.mark.parametrize("host", ["", "a b", "host:7400", "https://host", "a..b", "-", "a" * 254])
def test_what_is_no_host(ca: certificates.Pair, host: str) -> None:
    with pytest.raises(CertificateError, match="neither the name of a host nor an IP address"):
        certificates.issue(ca, NODE, [host])


def test_only_a_node_has_hosts_and_days_have_bounds(ca: certificates.Pair) -> None:
    with pytest.raises(CertificateError, match="nobody connects to a worker"):
        certificates.issue(ca, WORKER, ["host"])
    for days in (0, -1, certificates.LEAF_DAYS_MAX + 1):
        with pytest.raises(CertificateError, match="1 to 825 days"):
            certificates.issue(ca, NODE, days=days)
    now = datetime.now(UTC).replace(microsecond=0)
    leaf = certificates.issue(ca, NODE, days=7, now=now).certificate
    assert leaf.not_valid_after_utc == now + timedelta(days=7)
    assert leaf.not_valid_before_utc == now - certificates.CLOCKS_APART


def test_no_certificate_outlives_its_ca(ca: certificates.Pair) -> None:
    end = ca.certificate.not_valid_after_utc
    assert certificates.issue(ca, NODE, now=end - timedelta(days=1)).certificate.not_valid_after_utc == end
    with pytest.raises(CertificateError, match="has expired"):
        certificates.issue(ca, NODE, now=end)


def test_what_is_renewed_has_the_same_owner_and_hosts_and_another_key(ca: certificates.Pair) -> None:
    for identity, hosts in ((NODE, ["n1.example.org", "10.0.0.7"]), (WORKER, []), (CLIENT, [])):
        old = certificates.issue(ca, identity, hosts)
        new = certificates.renew(ca, old.certificate)
        found = certificates.identity_in(new.certificate)
        assert isinstance(found, Identity)
        assert found[:3] == identity[:3]
        assert certificates.hosts_in(new.certificate) == hosts
        assert not certificates.belongs_to(old.key, new.certificate)
    with pytest.raises(CertificateError, match="says of nobody"):
        certificates.renew(ca, with_names(ca, x509.DNSName("host")))
