"""One node's services over a real store and a real gRPC server, with the Raft part left out: a command is applied at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from horologe.log.v1 import log_pb2
from horologe.node.access_control import AccessControl
from horologe.node.access_service import AccessService
from horologe.node.activity_service import ActivityService
from horologe.node.audit_checkpoints import Checkpoints
from horologe.node.audit_service import AuditService
from horologe.node.backfill_service import BackfillService
from horologe.node.barriers import Barriers
from horologe.node.calendar_service import CalendarService
from horologe.node.channels import SendError
from horologe.node.cluster_service import ClusterService
from horologe.node.config import MemberConfig, NodeConfig
from horologe.node.context import NodeContext
from horologe.node.dead_letter_service import DeadLetterService
from horologe.node.definition_service import DefinitionService
from horologe.node.digests import StateDigests
from horologe.node.execution_service import ExecutionService
from horologe.node.forecast_service import Forecasts, ForecastService
from horologe.node.interceptors import LinearizableInterceptor, MinRevisionInterceptor, UnexpectedErrorInterceptor
from horologe.node.job_service import JobService
from horologe.node.limit_service import LimitService
from horologe.node.namespace_service import NamespaceService
from horologe.node.notification_service import NotificationService
from horologe.node.notifier import Messenger
from horologe.node.operation_service import OperationService
from horologe.node.output_service import OutputService
from horologe.node.outputs import OutputError, OutputStore
from horologe.node.pause_service import PauseService
from horologe.node.peer_outputs import PeerOutputs
from horologe.node.people_worker_service import PeopleWorkerService
from horologe.node.proposals import ProposalError
from horologe.node.queue_service import QueueService
from horologe.node.schedule_service import ScheduleService
from horologe.node.secret_service import SecretService
from horologe.node.story_service import StoryService
from horologe.node.watch_service import WatchService
from horologe.node.workflow_service import WorkflowService
from horologe.raft.commands import ASSIGN, FIRE, OUTCOME, MissedFate, Outcome, OutcomeFlag
from horologe.raft.machine import StateMachine
from horologe.raft.membership import Configuration
from horologe.raft.model import Counters, Effects, Result
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.step import Inbox, Status
from horologe.raft.store import StateSnapshot, Store
from horologe.v1 import (
    access_service_pb2_grpc,
    activity_service_pb2_grpc,
    audit_service_pb2_grpc,
    backfill_service_pb2_grpc,
    calendar_service_pb2_grpc,
    cluster_service_pb2_grpc,
    dead_letter_service_pb2_grpc,
    definition_service_pb2_grpc,
    execution_service_pb2_grpc,
    forecast_service_pb2_grpc,
    job_pb2,
    job_service_pb2_grpc,
    limit_service_pb2_grpc,
    namespace_service_pb2_grpc,
    notification_service_pb2_grpc,
    operation_service_pb2_grpc,
    output_service_pb2_grpc,
    pause_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    secret_service_pb2_grpc,
    story_service_pb2_grpc,
    watch_service_pb2_grpc,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)

START_MS = 1_800_000_000_000  # 2027-01-15T08:00:00Z


class HandClock:
    """Moves when a test says so."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000


class FakeSender:
    """Takes notifications, and remembers them."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes, dict[str, str]]] = []
        self.mails: list[EmailMessage] = []
        self.errors: list[str] = []
        """What becomes of the next ones; empty texts let them through."""

    def _fail(self) -> None:
        error = self.errors.pop(0) if self.errors else ""
        if error:
            raise SendError(error)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.posts.append((url, body, dict(headers)))
        self._fail()

    async def mail(self, message: EmailMessage) -> None:
        self.mails.append(message)
        self._fail()

    async def close(self) -> None:
        """Nothing is open."""


class PeopleOnly(PeopleWorkerService):
    async def Connect(self, request_iterator, context):
        raise NotImplementedError


class FakeNode:
    """What stands behind the services, and stubs for them."""

    def __init__(self, folder: Path, members: tuple[str, ...] = ("n1",), **options: object) -> None:
        self.clock = HandClock()
        configs = tuple(MemberConfig(name=name, peer_address=f"127.0.0.1:75{i:02}") for i, name in enumerate(members))
        settings = {"insecure": True, "disk_free_bytes_min": 0, **options}
        self.config = NodeConfig(name="n1", members=configs, data_dir=folder, **settings)
        self.store = Store(folder / "state", "n1", bytes_max=64 << 20)
        self.outputs = OutputStore(folder / "outputs", self.clock)
        self.control: AccessControl | None = None
        """With one, callers must say who they are."""
        self.peers: dict[str, Any] = {}
        """Stubs of other nodes, by name."""
        self.sender = FakeSender()
        self.machine = StateMachine()
        self.index = 0
        self.commands: list[log_pb2.Command] = []
        self.failures: list[ProposalError] = []
        self.before_apply: list = []
        self.inboxes: list[Inbox] = []
        self.submitted = asyncio.Event()
        self.leader = "n1"
        self.connected = frozenset({"n2"})
        self.context = NodeContext(
            config=self.config,
            clock=self.clock,
            store=self.store,
            proposals=self,  # type: ignore[arg-type]
            digests=StateDigests(self.clock),
            status=self.status,
            submit=self._submit,
            client_addresses={name: f"127.0.0.1:74{i:02}" for i, name in enumerate(members)},
        )

    def _submit(self, inbox: Inbox) -> None:
        self.inboxes.append(inbox)
        self.submitted.set()

    async def propose(self, command: log_pb2.Command, timeout_seconds: float) -> Result:
        assert timeout_seconds > 0
        if self.failures:
            raise self.failures.pop(0)
        if self.before_apply:
            self.before_apply.pop(0)()
        return self.apply(command)

    def apply(self, command: log_pb2.Command) -> Result:
        """One entry with one command, at the clock's time."""
        self.index += 1
        self.commands.append(command)
        entry = log_pb2.Entry(time_ms=self.clock.now_ms, commands=[command])
        results, effects = self.machine.apply(self.store.tables, self.index, entry)
        self.store.commit()
        if effects.checkpoint:
            self.context.digests.take([StateSnapshot(self.store, self.index)])
        self.context.observations.note([effects])
        self._tell(effects)
        return results[0]

    def _tell(self, effects: Effects) -> None:
        for queue in self.context.changes:
            queue.put_nowait(list(effects.changed))
        waiters, self.context.applied_waiters = self.context.applied_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def status(self) -> Status:
        configuration = Configuration.of(tuple(member.name for member in self.config.members))
        return Status(
            leader=self.leader,
            is_leader=self.leader == "n1",
            may_serve=self.leader == "n1",
            term=3,
            commit_index=self.index,
            revision=self.index,
            first_index=1,
            last_index=self.index,
            has_quorum=bool(self.leader),
            match_indexes={"n2": 7},
            connected=self.connected,
            clock_correction_ms=0,
            configuration=configuration,
            committed_configuration=configuration,
        )

    # What the planner and the gateway would do

    def fire(self, job: int, session: int = 0) -> int:
        """Fires the job's next due time; answers the execution's number."""
        with self.store.read() as tables:
            state = JobState.unpack(tables.job_state.get(U64.pack(job)))
        due_ms = state.next_due_ms
        self.clock.now_ms = max(self.clock.now_ms, due_ms)
        next_ms = due_ms + state.every_ms if state.every_ms else 0
        fires = FIRE.pack(job, state.revision, due_ms, next_ms, next_ms, session, 0, 0, 0, MissedFate.NONE, 1)
        self.apply(log_pb2.Command(plan=log_pb2.Plan(fires=fires)))
        return self.counters().last_execution

    def open_session(self, worker: str = "w1", gateway: str = "n1") -> int:
        opened = log_pb2.OpenSession(
            worker=worker, incarnation="a", queues=["default"], slot_count=10, gateway=gateway, version="1"
        )
        return self.apply(log_pb2.Command(open_session=opened)).numbers[0]

    def assign(self, number: int, session: int) -> None:
        """Gives a queued execution to a session."""
        self.apply(log_pb2.Command(plan=log_pb2.Plan(assigns=ASSIGN.pack(number, session))))

    def complete(
        self, number: int, outcome: Outcome = Outcome.SUCCEEDED, *, retry_delay_ms: int = 0, **detail: object
    ) -> None:
        execution = self.execution(number)
        exit_code = detail.pop("exit_code", None)
        flags = OutcomeFlag.HAS_EXIT_CODE if exit_code is not None else 0
        packed = OUTCOME.pack(
            number, execution.token, execution.attempt, outcome, flags, exit_code or 0, 5, 100, retry_delay_ms
        )
        details = [log_pb2.OutcomeDetail(position=0, **detail)] if detail else []
        self.apply(log_pb2.Command(complete=log_pb2.Complete(outcomes=packed, details=details)))

    def execution(self, number: int) -> Execution:
        with self.store.read() as tables:
            return Execution.unpack(tables.execution.get(U64.pack(number)))

    def counters(self) -> Counters:
        with self.store.read() as tables:
            return Counters.load(tables)

    def add_services(self, server: grpc.aio.Server) -> None:
        """More of them, for nodes that have more."""

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What every call passes."""
        return [
            UnexpectedErrorInterceptor(),
            *(self.control.outer if self.control is not None else ()),
            MinRevisionInterceptor(self.context),
            LinearizableInterceptor(Barriers(self.context.proposals)),
            *(self.control.inner if self.control is not None else ()),
        ]

    def add_all_services(self, server: grpc.aio.Server) -> None:
        """To a real server, or to local calls."""
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobService(self.context), server)
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(ExecutionService(self.context), server)
        output_service_pb2_grpc.add_OutputServiceServicer_to_server(
            OutputService(self.context, self.outputs, self.peers.__getitem__), server
        )
        dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server(DeadLetterService(self.context), server)
        operation_service_pb2_grpc.add_OperationServiceServicer_to_server(OperationService(self.context), server)
        workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(self.context), server)
        backfill_service_pb2_grpc.add_BackfillServiceServicer_to_server(BackfillService(self.context), server)
        definition_service_pb2_grpc.add_DefinitionServiceServicer_to_server(DefinitionService(self.context), server)
        story_service_pb2_grpc.add_StoryServiceServicer_to_server(StoryService(self.context), server)
        watch_service_pb2_grpc.add_WatchServiceServicer_to_server(WatchService(self.context), server)
        cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(
            ClusterService(self.context, self.peers.__getitem__), server
        )
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(PeopleOnly(self.context), server)
        calendar_service_pb2_grpc.add_CalendarServiceServicer_to_server(CalendarService(self.context), server)
        pause_service_pb2_grpc.add_PauseServiceServicer_to_server(PauseService(self.context), server)
        notification_service_pb2_grpc.add_NotificationServiceServicer_to_server(
            NotificationService(self.context, Messenger(self.context, self.sender)), server
        )
        secret_service_pb2_grpc.add_SecretServiceServicer_to_server(SecretService(self.context), server)
        limit_service_pb2_grpc.add_LimitServiceServicer_to_server(LimitService(self.context), server)
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueService(self.context), server)
        namespace_service_pb2_grpc.add_NamespaceServiceServicer_to_server(NamespaceService(self.context), server)
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
            AuditService(self.context, Checkpoints(self.context)), server
        )
        activity_service_pb2_grpc.add_ActivityServiceServicer_to_server(ActivityService(self.context), server)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(AccessService(self.context), server)
        self.forecasts = Forecasts(self.context)
        forecast_service_pb2_grpc.add_ForecastServiceServicer_to_server(
            ForecastService(self.context, self.forecasts), server
        )
        schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(ScheduleService(self.context), server)
        self.add_services(server)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeNode]:
        server = grpc.aio.server(interceptors=self.interceptors())
        self.add_all_services(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
                self.dead_letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(channel)
                self.operations = operation_service_pb2_grpc.OperationServiceStub(channel)
                self.workflows = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
                self.backfills = backfill_service_pb2_grpc.BackfillServiceStub(channel)
                self.definitions = definition_service_pb2_grpc.DefinitionServiceStub(channel)
                self.executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
                self.output = output_service_pb2_grpc.OutputServiceStub(channel)
                self.stories = story_service_pb2_grpc.StoryServiceStub(channel)
                self.watching = watch_service_pb2_grpc.WatchServiceStub(channel)
                self.cluster = cluster_service_pb2_grpc.ClusterServiceStub(channel)
                self.workers = worker_service_pb2_grpc.WorkerServiceStub(channel)
                self.calendars = calendar_service_pb2_grpc.CalendarServiceStub(channel)
                self.pauses = pause_service_pb2_grpc.PauseServiceStub(channel)
                self.notifications = notification_service_pb2_grpc.NotificationServiceStub(channel)
                self.secrets = secret_service_pb2_grpc.SecretServiceStub(channel)
                self.limits = limit_service_pb2_grpc.LimitServiceStub(channel)
                self.queues = queue_service_pb2_grpc.QueueServiceStub(channel)
                self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)
                self.namespaces = namespace_service_pb2_grpc.NamespaceServiceStub(channel)
                self.activity = activity_service_pb2_grpc.ActivityServiceStub(channel)
                self.access = access_service_pb2_grpc.AccessServiceStub(channel)
                self.forecast = forecast_service_pb2_grpc.ForecastServiceStub(channel)
                self.schedules = schedule_service_pb2_grpc.ScheduleServiceStub(channel)
                self.channel = channel
                yield self
        finally:
            await server.stop(None)
            await self.context.digests.stop()
            await self.forecasts.stop()
            self.outputs.close()
            self.store.close()


def _unavailable() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


@contextmanager
def _told_by_grpc() -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise _unavailable() from None


class FakePeer:
    """Another node with the same state and an output store of its own; to the node it is a stub."""

    def __init__(self, node: FakeNode, name: str, folder: Path) -> None:
        self.is_away = False
        self.outputs = OutputStore(folder / name, node.clock)
        self.may_answer = asyncio.Event()
        """Cleared, what it is given to store is not answered."""
        self.may_answer.set()
        self.asked: list[Any] = []
        context = replace(node.context, config=node.config.model_copy(update={"name": name}))
        self._here = PeerOutputs(context, self.outputs)

    def _ask(self, request: Any) -> None:
        self.asked.append(request)
        if self.is_away:
            raise _unavailable()

    def FetchOutput(self, request: Any) -> FakePeer._Call:
        return self._Call(self, request)

    async def StoreOutput(self, request: Any, timeout: float) -> None:
        assert timeout > 0
        self._ask(request)
        await self.may_answer.wait()
        await self._here.store(request)

    async def FindInOutput(self, request: Any, timeout: float) -> Any:
        assert timeout > 0
        self._ask(request)
        with _told_by_grpc():
            return await self._here.find(request)

    class _Call:
        def __init__(self, peer: FakePeer, request: Any) -> None:
            self._peer = peer
            self._request = request
            self._responses = peer._here.fetch(request)

        async def read(self) -> Any:
            self._peer._ask(self._request)
            with _told_by_grpc():
                return await anext(self._responses, grpc.aio.EOF)

        def cancel(self) -> None:
            """The server's end goes with this object."""


class Refusal:
    """An error as a client sees it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.retry_ms: int | None = None
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                assert info.domain == "horologe"
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = {each.field: each.description for each in bad.field_violations}
            elif detail.Unpack(retry):
                self.retry_ms = retry.retry_delay.ToMilliseconds()


async def refused(call) -> Refusal:
    """The error that the call must end with."""
    try:
        answer = await asyncio.wait_for(call, 60)
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"the call was not refused: {answer}")


def interval_job(seconds: int = 60, name: str = "") -> job_pb2.Job:
    job = job_pb2.Job(name=name and f"namespaces/default/jobs/{name}")
    job.schedules.add().interval.every.FromSeconds(seconds)
    job.action.shell.argv.append("true")
    return job


def manual_job(name: str = "") -> job_pb2.Job:
    job = interval_job(name=name)
    job.schedules[0].manual.SetInParent()
    return job


def once_job(time_ms: int, *, allow_past: bool = False) -> job_pb2.Job:
    job = interval_job()
    job.schedules[0].once.time.FromMilliseconds(time_ms)
    job.schedules[0].once.allow_past = allow_past
    return job
