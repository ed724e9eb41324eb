"""`make tls-scan`: sslyze looks at all ports of a secure cluster from outside. Only TLS 1.3, no weak suite, and certificates of
clients demanded where they must be.

sslyze is no dependency of ours (it has many pins of its own), so its program is given as an argument, and its JSON is read.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from horologe.chaos.cluster import eventually
from horologe.node.certificates import SERVER_NAME, Role
from horologe.node.local_cluster import LocalCluster, LocalProcess, option_of

MUTUAL = {"listen": False, "worker_listen": True, "peer_listen": True, "http_listen": False}
"""The ports, and whether nobody gets in there without a certificate."""
VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
CURVES = frozenset({"X25519", "X448", "secp256r1", "secp384r1", "secp521r1"})
SCANS = ("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--elliptic_curves")
_HUNG_UP = ("_detect_client_auth_requirement", "peer closed the connection")
START_SECONDS = 60.0
SCAN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one port."""

    versions: tuple[str, ...]
    suites: tuple[str, ...]
    demands_certificate: bool
    complaints: tuple[str, ...]


def judge(with_certificate: Mapping[str, Any], without: Mapping[str, Any], *, mutual: bool) -> Finding:
    """What two results of sslyze say of a port: of a scan with a certificate, and of one without."""
    complaints: list[str] = []
    versions, suites = [], []
    results: Mapping[str, Any] = with_certificate["scan_result"] or {}
    for version in VERSIONS:
        found = results.get(f"{version}_cipher_suites", {})
        if found.get("status") != "COMPLETED":
            complaints.append(f"{version} was not scanned")
            continue
        if found["result"]["is_tls_version_supported"]:
            versions.append(version)
            suites += [one["cipher_suite"]["name"] for one in found["result"]["accepted_cipher_suites"]]
    if versions != ["tls_1_3"]:
        complaints.append(f"speaks {', '.join(versions) or 'nothing'}, not TLS 1.3 only")
    if weak := sorted(set(suites) - SUITES):
        complaints.append(f"weak suites: {', '.join(weak)}")
    curves = results.get("elliptic_curves", {})
    if curves.get("status") != "COMPLETED":
        complaints.append("curves were not scanned")
    elif weak := sorted({one["name"] for one in curves["result"]["supported_curves"]} - CURVES):
        complaints.append(f"weak curves: {', '.join(weak)}")
    demands = _demands_certificate(without)
    if demands is not mutual:
        complaints.append("demands a certificate" if demands else "lets somebody in without a certificate")
    return Finding(tuple(versions), tuple(suites), demands, tuple(complaints))


def _demands_certificate(without: Mapping[str, Any]) -> bool:
    connectivity = without["connectivity_result"]
    if connectivity is not None:
        return bool(connectivity["client_auth_requirement"] == "REQUIRED")
    # A node asks for a certificate, and hangs up on whoever has none. sslyze expects an alert before that.
    trace = without["connectivity_error_trace"] or ""
    return all(words in trace for words in _HUNG_UP)


def main() -> int:
    """Answers the exit code: 1 if anything is off."""
    with tempfile.TemporaryDirectory(prefix="horologe-tls-scan-") as scratch:
        cluster = LocalCluster.prepare(Path(scratch), 3, usual_ports=False, secure=True)
        cluster.start()
        try:
            findings = {
                (node.name, option): _look_at(sys.argv[1], cluster, node, option)
                for node in cluster.nodes
                for option in MUTUAL
            }
        finally:
            cluster.stop()
    table = Table("Node", "Port", "Versions", "Suites", "Client certificate", "Verdict")
    for (name, option), finding in findings.items():
        verdict = "; ".join(finding.complaints) or "good"
        demanded = "demanded" if finding.demands_certificate else "not asked for"
        table.add_row(name, option, ", ".join(finding.versions), ", ".join(finding.suites), demanded, verdict)
    Console(width=160).print(table)
    return 1 if any(finding.complaints for finding in findings.values()) else 0


def _look_at(sslyze: str, cluster: LocalCluster, node: LocalProcess, option: str) -> Finding:
    address = option_of(node, option)
    asyncio.run(eventually(lambda: _is_open(address), START_SECONDS, f"somebody at {address}"))
    own = cluster.certificate(Role.NODE, node.name)
    return judge(_scan(sslyze, address, own), _scan(sslyze, address, None), mutual=MUTUAL[option])


def _scan(sslyze: str, address: str, certificate: Path | None) -> Mapping[str, Any]:
    shown = [] if certificate is None else [f"--cert={certificate / 'cert.pem'}", f"--key={certificate / 'key.pem'}"]
    with tempfile.NamedTemporaryFile(suffix=".json") as found:
        words = [sslyze, "--mozilla_config=disable", f"--sni={SERVER_NAME}", f"--json_out={found.name}", *SCANS, *shown]
        subprocess.run([*words, address], stdout=subprocess.DEVNULL, timeout=SCAN_SECONDS, check=True)
        [result] = json.loads(Path(found.name).read_text())["server_scan_results"]
    return dict(result)


async def _is_open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


if __name__ == "__main__":
    sys.exit(main())
