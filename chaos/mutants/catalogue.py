"""All mutants. A protection that is not here is one of which nobody has seen that it does anything."""

from __future__ import annotations

from horologe.chaos.mutants import (
    disk,
    elections,
    encryption,
    leases,
    log,
    members,
    notifications,
    output,
    policies,
    state,
    versions,
)

MUTANTS = (
    *log.MUTANTS,
    *elections.MUTANTS,
    *members.MUTANTS,
    *disk.MUTANTS,
    *leases.MUTANTS,
    *output.MUTANTS,
    *notifications.MUTANTS,
    *policies.MUTANTS,
    *state.MUTANTS,
    *encryption.MUTANTS,
    *versions.MUTANTS,
)
