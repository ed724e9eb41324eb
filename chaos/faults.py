"""All faults by name, for `--faults`."""

from __future__ import annotations

from horologe.chaos.faults_clock import CLOCK_FAULTS
from horologe.chaos.faults_disk import DISK_FAULTS
from horologe.chaos.faults_membership import MEMBERSHIP_FAULTS
from horologe.chaos.faults_network import NETWORK_FAULTS
from horologe.chaos.faults_process import PROCESS_FAULTS
from horologe.chaos.nemesis import Fault

FAULTS: tuple[type[Fault], ...] = (
    *PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS, *CLOCK_FAULTS, *MEMBERSHIP_FAULTS,
)  # fmt: skip
ALL = "all"


def chosen(words: str) -> tuple[type[Fault], ...]:
    """The faults of a list such as `kill-leader,network`: names, families, or `all`. Raises ValueError for others."""
    found: list[type[Fault]] = []
    for word in words.split(","):
        name = word.strip()
        matching = [kind for kind in FAULTS if name in (ALL, kind.name, kind.family)]
        if not matching:
            families = sorted({kind.family for kind in FAULTS})
            raise ValueError(
                f"{name!r} is no fault; there are {ALL}, the families {', '.join(families)}, and "
                f"{', '.join(kind.name for kind in FAULTS)}"
            )
        found += [kind for kind in matching if kind not in found]
    return tuple(found)
