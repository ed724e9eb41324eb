"""The API's WatchService: following what happens, from a token on, on any node.

A watcher is a place in the events of the state (raft/events.py) and a filter. It reads on whenever this node has applied
something, so a slow one holds up nobody; when it falls out of the window it is told so.
"""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from horologe.node import errors, views
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.execution_search import read_states
from horologe.node.job_filter import JobFilter, check_text
from horologe.node.names import read_job_pattern
from horologe.node.ticks import Ticks
from horologe.node.writes import Context
from horologe.raft.events import Event, EventKind, Row, floor_of, rows_from
from horologe.raft.lanes import lanes_of
from horologe.raft.machine import cluster_id_of
from horologe.raft.tables import Tables
from horologe.v1 import watch_service_pb2, watch_service_pb2_grpc

EVENTS_PER_RESPONSE = 500
EVENTS_PER_READ = 5_000
"""Looked at in one go, so that a watcher who comes back from far behind does not hold up the node."""
QUIET_SECONDS = 5.0
"""So often a watcher hears where it stands when nothing for it happens. Its token is then never old."""
JOBS_REMEMBERED_MAX = 100_000


class Place(NamedTuple):
    """Where a watcher stands: the next event is this one of that revision's row, or what comes after it."""

    revision: int
    position: int


@dataclass(slots=True)
class Watcher:
    """What one caller wants to hear, and what it knows of jobs."""

    jobs: JobFilter
    states: frozenset[int]
    queue: str
    names: dict[int, str] = field(default_factory=dict)
    """Names of the jobs that were looked at; empty for those that do not match."""


class WatchService(watch_service_pb2_grpc.WatchServiceServicer):
    """See watch_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._catalog = Catalog()
        self._ticks = Ticks(context)

    async def WatchChanges(
        self, request: watch_service_pb2.WatchChangesRequest, context: Context
    ) -> AsyncIterator[watch_service_pb2.WatchChangesResponse]:
        del request, context
        async for mark in self._ticks.marks():
            yield watch_service_pb2.WatchChangesResponse(revision=mark.revision, leader=mark.leader, term=mark.term)

    async def WatchEvents(
        self, request: watch_service_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[watch_service_pb2.WatchEventsResponse]:
        del context
        check_text(request, "queue")
        jobs = JobFilter.of(read_job_pattern(request.parent, "parent"), request)
        watcher = Watcher(jobs, read_states(request.states), request.queue)
        place = self._begin(request.resume_token)
        is_first, told_at = True, self._node.clock.monotonic()
        while True:
            response, place, is_all = self._read(watcher, place)
            now = self._node.clock.monotonic()
            if is_first or response.events or now - told_at >= QUIET_SECONDS:
                is_first, told_at = False, now
                yield response
            if is_all:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self._node.wait_applied()
            else:
                await asyncio.sleep(0)

    def _begin(self, token: str) -> Place:
        with self._node.store.read() as tables:
            if not token:
                return Place(views.revision(tables) + 1, 0)
            return _read_token(token, cluster_id_of(tables))

    def _read(self, watcher: Watcher, place: Place) -> tuple[watch_service_pb2.WatchEventsResponse, Place, bool]:
        """The next events from a place on, the place behind them, and whether these are all."""
        response = watch_service_pb2.WatchEventsResponse()
        looked_at, is_all = 0, True
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            if place.revision <= floor_of(tables):
                raise _too_old(tables, place)
            cluster_id = cluster_id_of(tables)
            lanes = {number for number, _ in lanes_of(tables, watcher.queue)} if watcher.queue else set()
            for row in rows_from(tables, place.revision):
                position = place.position if row.revision == place.revision else 0
                for event in row.events[position:]:
                    position += 1
                    looked_at += 1
                    if self._wants(tables, watcher, event, lanes):
                        view = self._view(tables, watcher, row, event)
                        view.resume_token = _token(Place(row.revision, position), cluster_id)
                        response.events.append(view)
                    if len(response.events) >= EVENTS_PER_RESPONSE:
                        break
                place = Place(row.revision, position) if position < len(row.events) else Place(row.revision + 1, 0)
                if looked_at >= EVENTS_PER_READ or len(response.events) >= EVENTS_PER_RESPONSE:
                    is_all = False
                    break
            if is_all:
                # A token of a node that is ahead of this one stays where it is.
                place = max(place, Place(response.revision + 1, 0))
            response.resume_token = _token(place, cluster_id)
        return response, place, is_all

    def _wants(self, tables: Tables, watcher: Watcher, event: Event, lanes: set[int]) -> bool:
        if not event.execution:
            watcher.names.pop(event.job, None)
            self._catalog.forget(event.job)
            if watcher.states or watcher.queue:
                return False
        elif (watcher.queue and event.queue not in lanes) or (
            watcher.states and (event.kind != EventKind.EXECUTION_MOVED or event.after not in watcher.states)
        ):
            return False
        return bool(self._name(tables, watcher, event.job))

    def _name(self, tables: Tables, watcher: Watcher, job: int) -> str:
        name = watcher.names.get(job)
        if name is None:
            record = self._catalog.record(tables, job)
            name = record.job.name if record is not None and watcher.jobs.matches(record.job) else ""
            if len(watcher.names) >= JOBS_REMEMBERED_MAX:
                watcher.names.clear()
            watcher.names[job] = name
        return name

    def _view(self, tables: Tables, watcher: Watcher, row: Row, event: Event) -> watch_service_pb2.Event:
        job = self._name(tables, watcher, event.job)
        view = watch_service_pb2.Event(
            kind=event.kind,  # type: ignore[arg-type]
            time=views.timestamp(row.time_ms),
            revision=row.revision,
            job=job,
        )
        if event.kind == EventKind.DUE_TIMES_MISSED:
            view.due_time.CopyFrom(views.timestamp(event.due_ms))
        if event.execution:
            view.execution = views.execution_name(job, event.execution)
            view.previous_state, view.state = event.before, event.after  # type: ignore[assignment]
            view.due_time.CopyFrom(views.timestamp(event.due_ms))
            view.attempt, view.attempt_state = event.attempt, event.attempt_state  # type: ignore[assignment]
            view.worker = views.worker_name(tables, event.worker) if event.worker else ""
        return view


def _token(place: Place, cluster_id: str) -> str:
    return f"{cluster_id[:8]}.{place.revision}.{place.position}"


def _read_token(token: str, cluster_id: str) -> Place:
    cluster, _, rest = token.rpartition(".")[0].partition(".")
    position = token.rpartition(".")[2]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (rest, position)):
        raise errors.invalid_field("resume_token", "it is not a token that a watch answered; begin without one")
    if cluster != cluster_id[:8]:
        raise ApiError(
            "EVENTS_GONE", "the token is of another cluster, or of this one before its recovery; begin without one"
        )
    return Place(int(rest), int(position))


def _too_old(tables: Tables, place: Place) -> ApiError:
    oldest = floor_of(tables) + 1
    return ApiError(
        "EVENTS_GONE",
        f"events from revision {place.revision} on were asked for, and only those from {oldest} on are kept; list anew, and "
        "watch without a token",
        metadata={"revision": str(place.revision), "oldest_revision": str(oldest)},
    )
