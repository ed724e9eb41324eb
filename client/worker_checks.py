"""`horologe worker doctor`: what a worker depends on at its machine, before it runs or while it runs.

What any machine must have is in `machine_checks.py`; here are the context, the certificate and the way to the nodes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from horologe.client import machine_checks, tls
from horologe.client.channel import CHANNEL_OPTIONS
from horologe.client.cluster_context import ClusterContext
from horologe.client.errors import InvalidContext
from horologe.client.findings import Finding, Grade
from horologe.client.machine import Machine

__all__ = ["examine"]

OWN_FILES = 100
FILES_PER_ATTEMPT = 4
"""Pipes to its process, and its output."""
CLOCK_ERROR_MS_MAX = 60_000
"""A worker times its attempts by a clock that nobody sets; its wall clock counts only for certificates and logs."""
SCRATCH_BYTES_MIN = 64 << 20
ANSWER_SECONDS_MAX = 3.0


def examine(context: ClusterContext, slot_count: int, machine: Machine) -> list[Finding]:
    """All findings, in the order in which they are best read."""
    certificate = list(_certificate(context))
    is_usable = all(finding.grade < Grade.FAILURE for finding in certificate)
    return [
        machine_checks.check_clock(machine, CLOCK_ERROR_MS_MAX),
        *_scratch(machine, Path(tempfile.gettempdir())),
        machine_checks.check_files(
            machine, None, used=OWN_FILES, wanted=FILES_PER_ATTEMPT * max(1, slot_count), for_what="pipes of attempts"
        ),
        machine_checks.check_memory(machine),
        *certificate,
        *(_nodes(context) if is_usable else ()),
        machine_checks.check_versions(machine),
        machine_checks.check_randomness(machine),
    ]


def _scratch(machine: Machine, folder: Path) -> Iterator[Finding]:
    why = "scripts and what sandboxes hide lie there while an attempt runs"
    try:
        space = machine.space(folder)
    except OSError as error:
        do = "make it, or name another one in TMPDIR"
        yield Finding("scratch space", Grade.FAILURE, f"{folder}: {error.strerror or error}", why, do)
        return
    found = f"{machine_checks.of_size(space.free)} are free in {folder}"
    if space.free < SCRATCH_BYTES_MIN:
        yield Finding("scratch space", Grade.FAILURE, found, why, "free some, or name another folder in TMPDIR")
    else:
        yield Finding("scratch space", Grade.OK, found, why)


def _certificate(context: ClusterContext) -> Iterator[Finding]:
    why = "nodes take work from a worker, and give it some, by its certificate"
    if context.insecure:
        text = "the context is `insecure`: whoever reaches a node may give this worker code to run"
        yield Finding("certificate", Grade.WARNING, text, why, "run the cluster with security: see docs/tls.md")
        return
    do = "make one with `horologe tls issue worker NAME`, and name its folder in `tls_dir`"
    try:
        if context.tls_dir is None:
            yield Finding("certificate", Grade.FAILURE, "the context names none", why, do)
            return
        tls.Identity.of(context).credentials()
        name, warning = tls.worker_name(context), tls.expiry_warning(context, tls.utc_now())
    except InvalidContext as error:
        yield Finding("certificate", Grade.FAILURE, str(error), why, do)
        return
    if not name:
        yield Finding("certificate", Grade.FAILURE, f"that in {context.tls_dir} is no worker's", why, do)
        return
    yield Finding("certificate", Grade.OK, f"that in {context.tls_dir} is of worker {name}", why)
    if warning:
        grade = Grade.FAILURE if "expired on" in warning else Grade.WARNING
        yield Finding("certificate expiry", grade, warning, why, "renew it: `horologe tls rotate`")


def _nodes(context: ClusterContext) -> Iterator[Finding]:
    why = "a worker that reaches no node gets no work, and one that loses all of them stops what it runs"
    try:
        addresses = context.for_workers()
    except InvalidContext as error:
        yield Finding("nodes", Grade.FAILURE, str(error), why, "name a context, and `worker_addresses` in it")
        return
    complaints = {address: _complaint(context, address) for address in addresses}
    lost_all = all(complaints.values())
    for address, complaint in complaints.items():
        if complaint:
            grade = Grade.FAILURE if lost_all else Grade.WARNING
            do = "start the node, or correct the context; look at names, routes and firewalls"
            yield Finding(f"node {address}", grade, complaint, why, do)
        else:
            yield Finding(f"node {address}", Grade.OK, "answers, and takes this certificate", why)


def _complaint(context: ClusterContext, address: str) -> str:
    """Why a node is of no use to this worker; empty if it is."""
    if context.insecure:
        channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
        credentials, options = tls.secure(context, CHANNEL_OPTIONS)
        channel = grpc.secure_channel(address, credentials, options=options)
    with channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="horologe.v1.WorkerService")
            answer = stub.Check(request, timeout=ANSWER_SECONDS_MAX)
        except grpc.RpcError as error:
            details = str(error.details() or error.code().name)
            return (
                tls.explain(details, context, tls.utc_now())[0] or f"does not answer: {details.splitlines()[0][:200]}"
            )
    return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "answers, but has no leader now, or stops"
