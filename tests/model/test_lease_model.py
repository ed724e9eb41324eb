"""The model of the lease protocol, models/lease.pml, checked by spin: it holds, and each of its protections is needed.

Needs the programs `spin` and `gcc`; `make model` sees to them. models/README.md explains the model.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.pages import ROOT, marked

pytestmark = pytest.mark.timeout(900)

MODEL = ROOT / "models" / "lease.pml"
MEMORY_MB_MAX = 1_000
DEPTH_MAX = 3_000_000
NO_OVERLAP = "worker[(1-me)].running==0"
TOKEN_GROWS = "worker[me].assignment>started"
TOKEN_IS_CURRENT = "token==worker[me].result"
SMALL = ("ONE_BEATS", "NEVER_DONE")
"""Enough to see what goes wrong with leases: one worker sends heartbeats, and no attempt ends by itself."""
MUTANTS = {
    "NO_NEW_LEADER_WAIT": (SMALL, NO_OVERLAP),
    "NO_SELF_FENCING": (SMALL, NO_OVERLAP),
    "COUNTS_FROM_ACK": (SMALL, NO_OVERLAP),
    "NO_DRIFT_MARGIN": (SMALL, NO_OVERLAP),
    "GATEWAY_ACKNOWLEDGES": (SMALL, NO_OVERLAP),
    "NO_CHECK_QUORUM": (SMALL, NO_OVERLAP),
    "STARTS_AFTER_FENCING": (SMALL, NO_OVERLAP),
    "DISPATCH_UNCOMMITTED": (SMALL, TOKEN_GROWS),
    "NO_TOKEN_CHECK": (("ONE_BEATS",), TOKEN_IS_CURRENT),
    "FREEZE": (SMALL, NO_OVERLAP),
}


def check(folder: Path, *switches: str, liveness: bool = False) -> str:
    """What the checker says about the model with these switches, after a whole search or at its first error."""
    subprocess.run(["spin", *[f"-D{switch}" for switch in switches], "-a", MODEL], cwd=folder, check=True)
    kind = ["-DNFAIR=8"] if liveness else ["-DSAFETY", "-DNOFAIR"]
    compiler = ["gcc", "-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB_MAX}", *kind, "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=folder, check=True)
    property_ = ["-a", "-f", "-N", "goes_on"] if liveness else ["-E"]
    command = ["./pan", f"-m{DEPTH_MAX}", "-w24", *property_]
    report = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert "max search depth too small" not in report, report
    print(report)
    return report


def errors_in(report: str) -> int:
    [count] = re.findall(r"errors: (\d+)$", report, flags=re.MULTILINE)
    return int(count)


def is_whole(report: str) -> bool:
    """Whether all was searched, and found to be a model in which something happens."""
    [states] = re.findall(r"(\d+) states, stored", report)
    return "Search not completed" not in report and int(states) > 300_000


def test_the_protocol_keeps_its_promise(tmp_path: Path) -> None:
    report = check(tmp_path, "ONE_BEATS")
    assert errors_in(report) == 0
    assert is_whole(report)


def test_a_lost_attempt_is_given_to_somebody_else(tmp_path: Path) -> None:
    report = check(tmp_path, *SMALL, "LIVENESS", liveness=True)
    assert errors_in(report) == 0
    assert is_whole(report)


def test_without_expiry_it_is_not(tmp_path: Path) -> None:
    assert "acceptance cycle" in check(tmp_path, *SMALL, "LIVENESS", "NO_EXPIRY", liveness=True)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_protection_is_needed(tmp_path: Path, mutant: str) -> None:
    switches, broken = MUTANTS[mutant]
    assert f"assertion violated ({broken})" in check(tmp_path, *switches, mutant)


def test_the_page_lists_the_mutants() -> None:
    assert re.findall(r"^\| `([A-Z_]+)` \|", marked("models/README.md", "mutants"), re.MULTILINE) == [
        *MUTANTS,
        "NO_EXPIRY",
    ]
