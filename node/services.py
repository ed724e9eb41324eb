"""The whole API of a node: which services there are, and how they are put onto a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from horologe.node.access_service import AccessService
from horologe.node.activity_service import ActivityService
from horologe.node.audit_checkpoints import Checkpoints
from horologe.node.audit_service import AuditService
from horologe.node.backfill_service import BackfillService
from horologe.node.backup_service import BackupService
from horologe.node.backups import Backups
from horologe.node.calendar_service import CalendarService
from horologe.node.cluster_service import ClusterService
from horologe.node.context import NodeContext
from horologe.node.dead_letter_service import DeadLetterService
from horologe.node.definition_service import DefinitionService
from horologe.node.diagnostics_service import DiagnosticsService
from horologe.node.encryption import Encryption
from horologe.node.encryption_service import EncryptionService
from horologe.node.execution_service import ExecutionService
from horologe.node.forecast_service import Forecasts, ForecastService
from horologe.node.job_service import JobService
from horologe.node.limit_service import LimitService
from horologe.node.log_levels import LogLevels
from horologe.node.namespace_service import NamespaceService
from horologe.node.notification_service import NotificationService
from horologe.node.notifier import Messenger
from horologe.node.operation_service import OperationService
from horologe.node.output_service import OutputService
from horologe.node.outputs import OutputStore
from horologe.node.pause_service import PauseService
from horologe.node.queue_service import QueueService
from horologe.node.schedule_service import ScheduleService
from horologe.node.secret_service import SecretService
from horologe.node.story_service import StoryService
from horologe.node.watch_service import WatchService
from horologe.node.worker_service import WorkerService
from horologe.node.workflow_service import WorkflowService
from horologe.v1 import (
    access_service_pb2_grpc,
    activity_service_pb2_grpc,
    audit_service_pb2_grpc,
    backfill_service_pb2_grpc,
    backup_service_pb2_grpc,
    calendar_service_pb2_grpc,
    cluster_service_pb2_grpc,
    dead_letter_service_pb2_grpc,
    definition_service_pb2_grpc,
    diagnostics_service_pb2_grpc,
    encryption_service_pb2_grpc,
    execution_service_pb2_grpc,
    forecast_service_pb2_grpc,
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

SERVICES = tuple(
    f"horologe.v1.{name}"
    for name in (
        "AccessService",
        "ActivityService",
        "EncryptionService",
        "BackupService",
        "DeadLetterService",
        "OperationService",
        "BackfillService",
        "DefinitionService",
        "DiagnosticsService",
        "CalendarService",
        "PauseService",
        "SecretService",
        "JobService",
        "ExecutionService",
        "OutputService",
        "LimitService",
        "QueueService",
        "NamespaceService",
        "NotificationService",
        "WorkerService",
        "WorkflowService",
        "ClusterService",
        "StoryService",
        "WatchService",
        "AuditService",
        "ForecastService",
        "ScheduleService",
    )
)
"""All of them, by their full names, for health and reflection."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the services of a node stand on."""

    context: NodeContext
    outputs: OutputStore
    stub_of: Callable[[str], Any]
    workers: WorkerService
    checkpoints: Checkpoints
    encryption: Encryption
    messenger: Messenger
    forecasts: Forecasts
    backups: Backups
    levels: LogLevels

    def add_to(self, server: Any) -> None:
        """All of them, to a server of gRPC, or to what stands for one (local_calls.py)."""
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobService(self.context), server)
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(ExecutionService(self.context), server)
        output_service_pb2_grpc.add_OutputServiceServicer_to_server(
            OutputService(self.context, self.outputs, self.stub_of), server
        )
        dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server(DeadLetterService(self.context), server)
        operation_service_pb2_grpc.add_OperationServiceServicer_to_server(OperationService(self.context), server)
        workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(self.context), server)
        backfill_service_pb2_grpc.add_BackfillServiceServicer_to_server(BackfillService(self.context), server)
        definition_service_pb2_grpc.add_DefinitionServiceServicer_to_server(DefinitionService(self.context), server)
        diagnostics_service_pb2_grpc.add_DiagnosticsServiceServicer_to_server(
            DiagnosticsService(self.context, self.levels), server
        )
        limit_service_pb2_grpc.add_LimitServiceServicer_to_server(LimitService(self.context), server)
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueService(self.context), server)
        notification_service_pb2_grpc.add_NotificationServiceServicer_to_server(
            NotificationService(self.context, self.messenger), server
        )
        namespace_service_pb2_grpc.add_NamespaceServiceServicer_to_server(NamespaceService(self.context), server)
        calendar_service_pb2_grpc.add_CalendarServiceServicer_to_server(CalendarService(self.context), server)
        pause_service_pb2_grpc.add_PauseServiceServicer_to_server(PauseService(self.context), server)
        secret_service_pb2_grpc.add_SecretServiceServicer_to_server(SecretService(self.context), server)
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self.workers, server)
        story_service_pb2_grpc.add_StoryServiceServicer_to_server(StoryService(self.context), server)
        watch_service_pb2_grpc.add_WatchServiceServicer_to_server(WatchService(self.context), server)
        cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(
            ClusterService(self.context, self.stub_of), server
        )
        forecast_service_pb2_grpc.add_ForecastServiceServicer_to_server(
            ForecastService(self.context, self.forecasts), server
        )
        schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(ScheduleService(self.context), server)
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(self.context, self.checkpoints), server)
        activity_service_pb2_grpc.add_ActivityServiceServicer_to_server(ActivityService(self.context), server)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(AccessService(self.context), server)
        encryption_service_pb2_grpc.add_EncryptionServiceServicer_to_server(EncryptionService(self.encryption), server)
        backup_service_pb2_grpc.add_BackupServiceServicer_to_server(BackupService(self.backups), server)
