"""What a scan of a port is taken for: each thing that may be off is found."""

from __future__ import annotations

from typing import Any

import pytest

from horologe.chaos.tls_scan import SUITES, VERSIONS, judge

HUNG_UP = (
    'File "server_connectivity.py", in _detect_client_auth_requirement_with_tls_1_3 ... peer closed the connection.'
)


def scan(**accepted: list[str]) -> dict[str, Any]:
    """With a certificate: the suites that are accepted in each version; none means that it is not spoken."""
    results: dict[str, Any] = {
        "elliptic_curves": {"status": "COMPLETED", "result": {"supported_curves": [{"name": "X25519"}]}}
    }
    for version in VERSIONS:
        suites = accepted.get(version, [])
        found = [{"cipher_suite": {"name": suite}} for suite in suites]
        result = {"is_tls_version_supported": bool(suites), "accepted_cipher_suites": found}
        results[f"{version}_cipher_suites"] = {"status": "COMPLETED", "result": result}
    return {"scan_result": results, "connectivity_result": {}, "connectivity_error_trace": None}


def without(requirement: str = "", trace: str = "") -> dict[str, Any]:
    found = {"client_auth_requirement": requirement} if requirement else None
    return {"scan_result": None, "connectivity_result": found, "connectivity_error_trace": trace}


GOOD = scan(tls_1_3=sorted(SUITES))


@pytest.mark.parametrize("asked", [without("REQUIRED"), without(trace=HUNG_UP)])
def test_a_good_port_that_demands_a_certificate(asked: dict[str, Any]) -> None:
    finding = judge(GOOD, asked, mutual=True)
    assert finding.complaints == ()
    assert (finding.versions, set(finding.suites), finding.demands_certificate) == (("tls_1_3",), SUITES, True)
    assert judge(GOOD, asked, mutual=False).complaints == ("demands a certificate",)


@pytest.mark.parametrize("asked", [without("DISABLED"), without("OPTIONAL"), without(trace="Connection refused")])
def test_a_port_that_demands_none(asked: dict[str, Any]) -> None:
    assert judge(GOOD, asked, mutual=False).complaints == ()
    assert judge(GOOD, asked, mutual=True).complaints == ("lets somebody in without a certificate",)


def test_what_is_off_is_said() -> None:
    older = scan(tls_1_2=["TLS_RSA_WITH_RC4_128_MD5"], tls_1_3=["TLS_AES_128_GCM_SHA256"])
    assert judge(older, without("REQUIRED"), mutual=True).complaints == (
        "speaks tls_1_2, tls_1_3, not TLS 1.3 only",
        "weak suites: TLS_RSA_WITH_RC4_128_MD5",
    )
    assert "speaks nothing, not TLS 1.3 only" in judge(scan(), without("REQUIRED"), mutual=True).complaints
    curves = scan(tls_1_3=["TLS_AES_128_GCM_SHA256"])
    curves["scan_result"]["elliptic_curves"]["result"]["supported_curves"].append({"name": "secp160k1"})
    assert judge(curves, without("REQUIRED"), mutual=True).complaints == ("weak curves: secp160k1",)
    nothing = judge({"scan_result": None}, without("REQUIRED"), mutual=True)
    assert len([text for text in nothing.complaints if "not scanned" in text]) == len(VERSIONS) + 1
