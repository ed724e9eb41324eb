"""The client for asyncio, with the same methods as the one for threads (`client.py`)."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

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
    RpcFailure,
    to_error,
)
from horologe.client.words import FINISHED_STATES
from horologe.v1.execution_pb2 import Execution

__all__ = ["AsyncClient"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _async_unary(
    build: Callable[Concatenate[str, Parameters], Call[Result]],
) -> Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Result]]:
    @like(build)
    async def method(self: AsyncClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self._call(build(self.namespace, *args, **kwargs))

    return method


def _async_pages(
    build: Callable[Concatenate[str, Parameters], Pages[Result]],
) -> Callable[Concatenate[AsyncClient, Parameters], AsyncIterator[Result]]:
    @like(build)
    def method(self: AsyncClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> AsyncIterator[Result]:
        return self._list(build(self.namespace, *args, **kwargs))

    return method


def _async_stream(
    build: Callable[Concatenate[str, Parameters], Stream[Result]],
) -> Callable[Concatenate[AsyncClient, Parameters], AsyncIterator[Result]]:
    @like(build)
    def method(self: AsyncClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> AsyncIterator[Result]:
        return self._read(build(self.namespace, *args, **kwargs))

    return method


class AsyncClient(BaseClient):
    """A client for asyncio, with the same methods as `Client`: await them, or iterate with `async for`.

    Belongs to one event loop; close it, or use it in `async with`. The arguments are those of `Client`.
    """

    create_job = _async_unary(calls.create_job)
    batch_create_jobs = _async_unary(calls.batch_create_jobs)
    apply_jobs = _async_unary(calls.apply_jobs)
    plan_jobs = _async_unary(definition_calls.plan_jobs)
    apply_plan = _async_unary(definition_calls.apply_plan)
    list_job_versions = _async_pages(definition_calls.list_job_versions)
    get_job_version = _async_unary(definition_calls.get_job_version)
    get_job = _async_unary(calls.get_job)
    list_jobs = _async_pages(calls.list_jobs)
    update_job = _async_unary(calls.update_job)
    delete_job = _async_unary(calls.delete_job)
    pause_job = _async_unary(calls.pause_job)
    resume_job = _async_unary(calls.resume_job)
    run_job = _async_unary(calls.run_job)
    preview_schedule = _async_unary(calls.preview_schedule)
    preview_job = _async_unary(calls.preview_job)
    get_execution = _async_unary(calls.get_execution)
    list_executions = _async_pages(calls.list_executions)
    cancel_execution = _async_unary(calls.cancel_execution)
    list_workflows = _async_pages(workflow_calls.list_workflows)
    get_workflow = _async_unary(workflow_calls.get_workflow)
    list_runs = _async_pages(workflow_calls.list_runs)
    rerun_execution = _async_unary(workflow_calls.rerun_execution)
    watch_executions = _async_stream(calls.watch_executions)
    watch_changes = _async_stream(watch_calls.watch_changes)
    watch_events = _async_stream(watch_calls.watch_events)
    activity = _async_unary(activity_calls.activity)
    explain_due_time = _async_unary(story_calls.explain_due_time)
    execution_story = _async_unary(story_calls.execution_story)
    read_output = _async_stream(calls.read_output)
    search_output = _async_unary(calls.search_output)
    list_ledger = _async_pages(calls.list_ledger)
    get_job_statistics = _async_unary(calls.get_job_statistics)
    list_workers = _async_pages(cluster_calls.list_workers)
    drain_worker = _async_unary(cluster_calls.drain_worker)
    list_log_levels = _async_unary(diagnostics_calls.list_log_levels)
    set_log_level = _async_unary(diagnostics_calls.set_log_level)
    get_diagnostics = _async_unary(diagnostics_calls.get_diagnostics)
    get_encryption = _async_unary(encryption_calls.get_encryption)
    rotate_keys = _async_unary(encryption_calls.rotate_keys)
    set_limit = _async_unary(governing_calls.set_limit)
    get_limit = _async_unary(governing_calls.get_limit)
    list_limits = _async_pages(governing_calls.list_limits)
    delete_limit = _async_unary(governing_calls.delete_limit)
    list_queues = _async_pages(governing_calls.list_queues)
    get_queue = _async_unary(governing_calls.get_queue)
    update_queue = _async_unary(governing_calls.update_queue)
    pause_queue = _async_unary(governing_calls.pause_queue)
    resume_queue = _async_unary(governing_calls.resume_queue)
    list_namespaces = _async_pages(governing_calls.list_namespaces)
    get_namespace = _async_unary(governing_calls.get_namespace)
    update_namespace = _async_unary(governing_calls.update_namespace)
    set_calendar = _async_unary(calendar_calls.set_calendar)
    get_calendar = _async_unary(calendar_calls.get_calendar)
    list_calendars = _async_pages(calendar_calls.list_calendars)
    delete_calendar = _async_unary(calendar_calls.delete_calendar)
    set_notification = _async_unary(notification_calls.set_notification)
    get_notification = _async_unary(notification_calls.get_notification)
    list_notifications = _async_pages(notification_calls.list_notifications)
    delete_notification = _async_unary(notification_calls.delete_notification)
    list_deliveries = _async_pages(notification_calls.list_deliveries)
    test_notification = _async_unary(notification_calls.test_notification)
    pause_scope = _async_unary(pause_calls.pause_scope)
    resume_scope = _async_unary(pause_calls.resume_scope)
    list_pauses = _async_unary(pause_calls.list_pauses)
    get_forecast = _async_unary(forecast_calls.get_forecast)
    propose_spread = _async_unary(forecast_calls.propose_spread)
    explain_cron = _async_unary(forecast_calls.explain_cron)
    list_dead_letters = _async_pages(operation_calls.list_dead_letters)
    group_dead_letters = _async_unary(operation_calls.group_dead_letters)
    get_dead_letter = _async_unary(operation_calls.get_dead_letter)
    redrive_dead_letter = _async_unary(operation_calls.redrive_dead_letter)
    redrive_dead_letters = _async_unary(operation_calls.redrive_dead_letters)
    purge_dead_letter = _async_unary(operation_calls.purge_dead_letter)
    purge_dead_letters = _async_unary(operation_calls.purge_dead_letters)
    backfill_job = _async_unary(operation_calls.backfill_job)
    get_operation = _async_unary(operation_calls.get_operation)
    list_operations = _async_pages(operation_calls.list_operations)
    cancel_operation = _async_unary(operation_calls.cancel_operation)
    who_am_i = _async_unary(access_calls.who_am_i)
    create_token = _async_unary(access_calls.create_token)
    list_tokens = _async_pages(access_calls.list_tokens)
    revoke_token = _async_unary(access_calls.revoke_token)
    set_grant = _async_unary(access_calls.set_grant)
    delete_grant = _async_unary(access_calls.delete_grant)
    list_grants = _async_pages(access_calls.list_grants)
    update_principal = _async_unary(access_calls.update_principal)
    list_principals = _async_pages(access_calls.list_principals)
    set_secret = _async_unary(secret_calls.set_secret)
    list_secrets = _async_pages(secret_calls.list_secrets)
    delete_secret = _async_unary(secret_calls.delete_secret)
    cluster_status = _async_unary(cluster_calls.cluster_status)
    list_members = _async_pages(cluster_calls.list_members)
    transfer_leader = _async_unary(cluster_calls.transfer_leader)
    upgrade_cluster = _async_unary(cluster_calls.upgrade_cluster)
    take_checkpoint = _async_unary(cluster_calls.take_checkpoint)
    state_digest = _async_unary(cluster_calls.state_digest)
    add_member = _async_unary(cluster_calls.add_member)
    promote_member = _async_unary(cluster_calls.promote_member)
    remove_member = _async_unary(cluster_calls.remove_member)
    list_audit_records = _async_pages(audit_calls.list_audit_records)
    audit_checkpoint = _async_unary(audit_calls.audit_checkpoint)
    export_audit_records = _async_stream(audit_calls.export_audit_records)
    create_backup = _async_stream(backup_calls.create_backup)

    async def wait_execution(self, name: str | int, timeout: float = 3600.0) -> Execution:
        """Waits until an execution has ended, well or badly, and returns it. DeadlineExceeded after `timeout` seconds."""
        deadline = self._now() + timeout
        pause = WAIT_FIRST_SECONDS
        while True:
            execution = await self.get_execution(name)
            if execution.state in FINISHED_STATES:
                return execution
            left = deadline - self._now()
            if left <= 0:
                raise self._not_finished(execution, timeout)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, WAIT_MAX_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        channels = [*self._channels.values(), *self._retired]
        self._channels.clear()
        self._retired.clear()
        for channel in channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: Call[Result]) -> Result:
        policy = self._policy(call.method, call.request)
        while True:
            send = self._channel(policy.address).unary_unary(
                call.method.path,
                request_serializer=call.method.request.SerializeToString,
                response_deserializer=call.method.answer.FromString,
            )
            try:
                answer = await send(
                    call.request,
                    timeout=policy.attempt_timeout(self._now()),
                    metadata=self._metadata(call.method),
                )
            except grpc.aio.AioRpcError as error:
                failure = cast(RpcFailure, error)
            else:
                policy.succeeded()
                self._saw(answer)
                return call.pick(answer)
            # Not in the clause above: whoever sees what is raised here need not read about gRPC's own error first.
            renewed = self._renew(policy.address, failure)
            await asyncio.sleep(policy.failed(failure, self._now(), renewed=renewed))

    async def _list(self, pages: Pages[Result]) -> AsyncIterator[Result]:
        request = pages.request
        while True:
            answer = await self._call(Call(pages.method, request, lambda answer: answer))
            for item in pages.pick(answer):
                yield item
            if not answer.next_page_token:
                return
            request = copy.deepcopy(request)
            request.page_token = answer.next_page_token

    async def _read(self, stream: Stream[Result]) -> AsyncIterator[Result]:
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
                async for message in receive:
                    begun = True
                    policy.succeeded()
                    self._saw(message)
                    request = stream.request if stream.behind is None else stream.behind(message)
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                failure = cast(RpcFailure, error)
            finally:
                # Also when the caller stops reading: the server must not go on sending.
                receive.cancel()
            if begun:
                if stream.behind is None or failure.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise to_error(failure)
                # What is left is a call of its own.
                policy, begun = self._policy(stream.method, request), False
            renewed = self._renew(policy.address, failure)
            await asyncio.sleep(policy.failed(failure, self._now(), renewed=renewed))

    def _channel(self, address: str) -> Any:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._connect(address)
            self._channels[address] = channel
        return channel

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _connect(self, address: str) -> grpc.aio.Channel:
        if self._context.insecure:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials, options = self._secured(address, CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(address, credentials, options=options)
