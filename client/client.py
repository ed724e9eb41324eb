"""The client for threads; the one for asyncio is in `async_client.py`. Thin: what to send is in `calls.py` and its neighbours,
when to try again in `channel.py`.

Both take any node's address, repeat what failed for a passing reason (same request id, so nothing happens twice), move
on to another node when one is gone, go to the leader with what only the leader can do, and read their own writes on
every node.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
import grpc.aio

from horologe.client import (
    access_calls,
    activity_calls,
    audit_calls,
    backup_calls,
    calendar_calls,
    calls,
    cluster_calls,
    definition_calls,
    diagnostics_calls,
    encryption_calls,
    forecast_calls,
    governing_calls,
    notification_calls,
    operation_calls,
    pause_calls,
    secret_calls,
    story_calls,
    watch_calls,
    workflow_calls,
)
from horologe.client.base_client import WAIT_FIRST_SECONDS, WAIT_MAX_SECONDS, BaseClient, like
from horologe.client.calls import Call, Pages, Stream
from horologe.client.channel import (
    CHANNEL_OPTIONS,
    TIMEOUT_SECONDS,
    RpcFailure,
    to_error,
)
from horologe.client.cluster_context import ClusterContext
from horologe.client.words import FINISHED_STATES
from horologe.v1.execution_pb2 import Execution

__all__ = ["Client", "connect"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _unary(
    build: Callable[Concatenate[str, Parameters], Call[Result]],
) -> Callable[Concatenate[Client, Parameters], Result]:
    @like(build)
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._call(build(self.namespace, *args, **kwargs))

    return method


def _pages(
    build: Callable[Concatenate[str, Parameters], Pages[Result]],
) -> Callable[Concatenate[Client, Parameters], Iterator[Result]]:
    @like(build)
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Result]:
        return self._list(build(self.namespace, *args, **kwargs))

    return method


def _stream(
    build: Callable[Concatenate[str, Parameters], Stream[Result]],
) -> Callable[Concatenate[Client, Parameters], Iterator[Result]]:
    @like(build)
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Result]:
        return self._read(build(self.namespace, *args, **kwargs))

    return method


class Client(BaseClient):
    """A client for threads. Safe to share between them; close it, or use it in `with`.

    `address` is `host:port`, several of them, or a comma list; without it the context counts that HOROLOGE_CONTEXT
    names, or the current one. A `ClusterContext` stands for all that says where the cluster is and how to speak with it.
    Connections are made with TLS: `ca_file` names who signs the certificates of the nodes, `server_name` the name in them.
    `token` says who calls, or else a certificate in `tls_dir`; `insecure=True` is clear text, for a cluster without security.
    `timeout_seconds` bounds each call with all its retries. `unreachable_seconds` gives a call up earlier when no node
    at all has answered for so long. `author` is kept with the definitions that it writes; it proves nothing.
    """

    def __init__(
        self,
        address: str | Iterable[str] | ClusterContext | None = None,
        namespace: str | None = None,
        *,
        context_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        tls_dir: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        insecure: bool | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unreachable_seconds: float | None = None,
        author: str = "",
    ) -> None:
        super().__init__(
            address,
            namespace,
            context_file=context_file,
            token=token,
            ca_file=ca_file,
            tls_dir=tls_dir,
            server_name=server_name,
            insecure=insecure,
            timeout_seconds=timeout_seconds,
            unreachable_seconds=unreachable_seconds,
            author=author,
        )
        self._closed = threading.Event()
        self._lock = threading.Lock()

    create_job = _unary(calls.create_job)
    batch_create_jobs = _unary(calls.batch_create_jobs)
    apply_jobs = _unary(calls.apply_jobs)
    plan_jobs = _unary(definition_calls.plan_jobs)
    apply_plan = _unary(definition_calls.apply_plan)
    list_job_versions = _pages(definition_calls.list_job_versions)
    get_job_version = _unary(definition_calls.get_job_version)
    get_job = _unary(calls.get_job)
    list_jobs = _pages(calls.list_jobs)
    update_job = _unary(calls.update_job)
    delete_job = _unary(calls.delete_job)
    pause_job = _unary(calls.pause_job)
    resume_job = _unary(calls.resume_job)
    run_job = _unary(calls.run_job)
    preview_schedule = _unary(calls.preview_schedule)
    preview_job = _unary(calls.preview_job)
    get_execution = _unary(calls.get_execution)
    list_executions = _pages(calls.list_executions)
    cancel_execution = _unary(calls.cancel_execution)
    list_workflows = _pages(workflow_calls.list_workflows)
    get_workflow = _unary(workflow_calls.get_workflow)
    list_runs = _pages(workflow_calls.list_runs)
    rerun_execution = _unary(workflow_calls.rerun_execution)
    watch_executions = _stream(calls.watch_executions)
    watch_changes = _stream(watch_calls.watch_changes)
    watch_events = _stream(watch_calls.watch_events)
    activity = _unary(activity_calls.activity)
    explain_due_time = _unary(story_calls.explain_due_time)
    execution_story = _unary(story_calls.execution_story)
    read_output = _stream(calls.read_output)
    search_output = _unary(calls.search_output)
    list_ledger = _pages(calls.list_ledger)
    get_job_statistics = _unary(calls.get_job_statistics)
    list_workers = _pages(cluster_calls.list_workers)
    drain_worker = _unary(cluster_calls.drain_worker)
    list_log_levels = _unary(diagnostics_calls.list_log_levels)
    set_log_level = _unary(diagnostics_calls.set_log_level)
    get_diagnostics = _unary(diagnostics_calls.get_diagnostics)
    get_encryption = _unary(encryption_calls.get_encryption)
    rotate_keys = _unary(encryption_calls.rotate_keys)
    set_limit = _unary(governing_calls.set_limit)
    get_limit = _unary(governing_calls.get_limit)
    list_limits = _pages(governing_calls.list_limits)
    delete_limit = _unary(governing_calls.delete_limit)
    list_queues = _pages(governing_calls.list_queues)
    get_queue = _unary(governing_calls.get_queue)
    update_queue = _unary(governing_calls.update_queue)
    pause_queue = _unary(governing_calls.pause_queue)
    resume_queue = _unary(governing_calls.resume_queue)
    list_namespaces = _pages(governing_calls.list_namespaces)
    get_namespace = _unary(governing_calls.get_namespace)
    update_namespace = _unary(governing_calls.update_namespace)
    set_calendar = _unary(calendar_calls.set_calendar)
    get_calendar = _unary(calendar_calls.get_calendar)
    list_calendars = _pages(calendar_calls.list_calendars)
    delete_calendar = _unary(calendar_calls.delete_calendar)
    set_notification = _unary(notification_calls.set_notification)
    get_notification = _unary(notification_calls.get_notification)
    list_notifications = _pages(notification_calls.list_notifications)
    delete_notification = _unary(notification_calls.delete_notification)
    list_deliveries = _pages(notification_calls.list_deliveries)
    test_notification = _unary(notification_calls.test_notification)
    pause_scope = _unary(pause_calls.pause_scope)
    resume_scope = _unary(pause_calls.resume_scope)
    list_pauses = _unary(pause_calls.list_pauses)
    get_forecast = _unary(forecast_calls.get_forecast)
    propose_spread = _unary(forecast_calls.propose_spread)
    explain_cron = _unary(forecast_calls.explain_cron)
    list_dead_letters = _pages(operation_calls.list_dead_letters)
    group_dead_letters = _unary(operation_calls.group_dead_letters)
    get_dead_letter = _unary(operation_calls.get_dead_letter)
    redrive_dead_letter = _unary(operation_calls.redrive_dead_letter)
    redrive_dead_letters = _unary(operation_calls.redrive_dead_letters)
    purge_dead_letter = _unary(operation_calls.purge_dead_letter)
    purge_dead_letters = _unary(operation_calls.purge_dead_letters)
    backfill_job = _unary(operation_calls.backfill_job)
    get_operation = _unary(operation_calls.get_operation)
    list_operations = _pages(operation_calls.list_operations)
    cancel_operation = _unary(operation_calls.cancel_operation)
    who_am_i = _unary(access_calls.who_am_i)
    create_token = _unary(access_calls.create_token)
    list_tokens = _pages(access_calls.list_tokens)
    revoke_token = _unary(access_calls.revoke_token)
    set_grant = _unary(access_calls.set_grant)
    delete_grant = _unary(access_calls.delete_grant)
    list_grants = _pages(access_calls.list_grants)
    update_principal = _unary(access_calls.update_principal)
    list_principals = _pages(access_calls.list_principals)
    set_secret = _unary(secret_calls.set_secret)
    list_secrets = _pages(secret_calls.list_secrets)
    delete_secret = _unary(secret_calls.delete_secret)
    cluster_status = _unary(cluster_calls.cluster_status)
    list_members = _pages(cluster_calls.list_members)
    transfer_leader = _unary(cluster_calls.transfer_leader)
    upgrade_cluster = _unary(cluster_calls.upgrade_cluster)
    take_checkpoint = _unary(cluster_calls.take_checkpoint)
    state_digest = _unary(cluster_calls.state_digest)
    add_member = _unary(cluster_calls.add_member)
    promote_member = _unary(cluster_calls.promote_member)
    remove_member = _unary(cluster_calls.remove_member)
    list_audit_records = _pages(audit_calls.list_audit_records)
    audit_checkpoint = _unary(audit_calls.audit_checkpoint)
    export_audit_records = _stream(audit_calls.export_audit_records)
    create_backup = _stream(backup_calls.create_backup)

    def wait_execution(self, name: str | int, timeout: float = 3600.0) -> Execution:
        """Waits until an execution has ended, well or badly, and returns it. DeadlineExceeded after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        pause = WAIT_FIRST_SECONDS
        while True:
            execution = self.get_execution(name)
            if execution.state in FINISHED_STATES:
                return execution
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._not_finished(execution, timeout)
            self._pause(min(pause, left))
            pause = min(pause * 1.5, WAIT_MAX_SECONDS)

    def close(self) -> None:
        """Closes the connections; calls that wait for a retry end at once."""
        self._closed.set()
        with self._lock:
            channels = [*self._channels.values(), *self._retired]
            self._channels.clear()
            self._retired.clear()
        for channel in channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Call[Result]) -> Result:
        policy = self._policy(call.method, call.request)
        while True:
            send = self._channel(policy.address).unary_unary(
                call.method.path,
                request_serializer=call.method.request.SerializeToString,
                response_deserializer=call.method.answer.FromString,
            )
            try:
                answer = send(
                    call.request,
                    timeout=policy.attempt_timeout(time.monotonic()),
                    metadata=self._metadata(call.method),
                )
            except grpc.RpcError as error:
                failure = cast(RpcFailure, error)
            else:
                policy.succeeded()
                self._saw(answer)
                return call.pick(answer)
            # Not in the clause above: whoever sees what is raised here need not read about gRPC's own error first.
            with self._lock:
                renewed = self._renew(policy.address, failure)
            self._pause(policy.failed(failure, time.monotonic(), renewed=renewed))

    def _list(self, pages: Pages[Result]) -> Iterator[Result]:
        request = pages.request
        while True:
            answer = self._call(Call(pages.method, request, lambda answer: answer))
            yield from pages.pick(answer)
            if not answer.next_page_token:
                return
            request = copy.deepcopy(request)
            request.page_token = answer.next_page_token

    def _read(self, stream: Stream[Result]) -> Iterator[Result]:
        request = stream.request
        policy = self._policy(stream.method, request)
        begun = False
        while True:
            receive = self._channel(policy.address).unary_stream(
                stream.method.path,
                request_serializer=stream.method.request.SerializeToString,
                response_deserializer=stream.method.answer.FromString,
            )(request, metadata=self._metadata(stream.method))
            try:
                for message in receive:
                    begun = True
                    policy.succeeded()
                    self._saw(message)
                    request = stream.request if stream.behind is None else stream.behind(message)
                    yield message
                return
            except grpc.RpcError as error:
                failure = cast(RpcFailure, error)
            finally:
                # Also when the caller stops reading: the server must not go on sending.
                receive.cancel()
            if begun:
                if stream.behind is None or failure.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise to_error(failure)
                # What is left is a call of its own.
                policy, begun = self._policy(stream.method, request), False
            with self._lock:
                renewed = self._renew(policy.address, failure)
            self._pause(policy.failed(failure, time.monotonic(), renewed=renewed))

    def _channel(self, address: str) -> grpc.Channel:
        with self._lock:
            if self._closed.is_set():
                raise ValueError("the client is closed")
            channel = self._channels.get(address)
            if channel is None:
                channel = self._connect(address)
                self._channels[address] = channel
            return cast(grpc.Channel, channel)

    def _connect(self, address: str) -> grpc.Channel:
        if self._context.insecure:
            return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials, options = self._secured(address, CHANNEL_OPTIONS)
        return grpc.secure_channel(address, credentials, options=options)

    def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)


def connect(address: str | Iterable[str] | None = None, namespace: str | None = None) -> Client:
    """A `Client` for the cluster at `address`, or for the one that HOROLOGE_CONTEXT names. Connects when it is used."""
    return Client(address, namespace)
