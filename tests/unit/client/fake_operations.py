"""What the fake cluster answers about dead letters, operations and backfills: every operation is done when it is read again."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.v1 import backfill_service_pb2 as backfills
from horologe.v1 import dead_letter_service_pb2 as dead_letters
from horologe.v1 import operation_service_pb2 as operations
from horologe.v1.dead_letter_service_pb2 import DeadLetter, DeadLetterGroup
from horologe.v1.execution_pb2 import Execution
from horologe.v1.operation_pb2 import Operation


class FakeOperations:
    """Part of FakeCluster."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: dict[str, DeadLetter] = {}
        self.operations: list[Operation] = []
        self.operation_end = Operation.STATE_DONE

    def add_dead_letter(self, execution: Execution, error: str, fingerprint: str) -> DeadLetter:
        """Puts an execution into the dead letter queue."""
        number = execution.name.rpartition("/")[2]
        letter = DeadLetter(execution=execution, error=error, fingerprint=fingerprint)
        self.dead[f"namespaces/-/jobs/-/executions/{number}"] = letter
        return letter

    def _GetDeadLetter(self, request: Any, context: Any) -> dead_letters.GetDeadLetterResponse:
        return dead_letters.GetDeadLetterResponse(dead_letter=self.dead[request.name])

    def _ListDeadLetters(self, request: Any, context: Any) -> dead_letters.ListDeadLettersResponse:
        wanted = request.filter.fingerprint
        found = [letter for letter in self.dead.values() if wanted in ("", letter.fingerprint)]
        return dead_letters.ListDeadLettersResponse(dead_letters=found)

    def _ListDeadLetterGroups(self, request: Any, context: Any) -> dead_letters.ListDeadLetterGroupsResponse:
        groups = [
            DeadLetterGroup(
                fingerprint=letter.fingerprint,
                count=3,
                first_time=letter.execution.due_time,
                last_time=letter.execution.due_time,
                sample=letter,
            )
            for letter in self.dead.values()
        ]
        return dead_letters.ListDeadLetterGroupsResponse(groups=groups, incomplete=len(groups) > 1)

    def _RedriveDeadLetter(self, request: Any, context: Any) -> dead_letters.RedriveDeadLetterResponse:
        execution = self.dead.pop(request.name).execution
        execution.state = Execution.STATE_QUEUED
        return dead_letters.RedriveDeadLetterResponse(execution=execution)

    def _PurgeDeadLetter(self, request: Any, context: Any) -> dead_letters.PurgeDeadLetterResponse:
        del self.dead[request.name]
        return dead_letters.PurgeDeadLetterResponse()

    def _RedriveDeadLetters(self, request: Any, context: Any) -> dead_letters.RedriveDeadLettersResponse:
        begun = self._begin_operation(Operation.KIND_REDRIVE, "drive again all dead letters")
        return dead_letters.RedriveDeadLettersResponse(operation=begun)

    def _PurgeDeadLetters(self, request: Any, context: Any) -> dead_letters.PurgeDeadLettersResponse:
        return dead_letters.PurgeDeadLettersResponse(
            operation=self._begin_operation(Operation.KIND_PURGE, "purge 2 dead letters")
        )

    def _BackfillJob(self, request: Any, context: Any) -> backfills.BackfillJobResponse:
        if request.validate_only:
            preview = Operation(kind=Operation.KIND_BACKFILL, job=request.name, description="run", total_count=30)
            due_times = [Timestamp(seconds=request.start_time.seconds + number) for number in range(10)]
            return backfills.BackfillJobResponse(operation=preview, wanted_count=12, first_due_times=due_times)
        begun = self._begin_operation(
            Operation.KIND_BACKFILL, "run missing due times", job=request.name, total_count=30
        )
        return backfills.BackfillJobResponse(operation=begun)

    def _GetOperation(self, request: Any, context: Any) -> operations.GetOperationResponse:
        operation = self.operations[int(request.name.rpartition("/")[2]) - 1]
        if operation.state == Operation.STATE_RUNNING:
            operation.state = self.operation_end
            operation.looked_at_count = 30
        return operations.GetOperationResponse(operation=operation)

    def _ListOperations(self, request: Any, context: Any) -> operations.ListOperationsResponse:
        return operations.ListOperationsResponse(operations=self.operations[::-1])

    def _CancelOperation(self, request: Any, context: Any) -> operations.CancelOperationResponse:
        operation = self.operations[int(request.name.rpartition("/")[2]) - 1]
        operation.state, operation.reason = Operation.STATE_CANCELLED, request.reason
        return operations.CancelOperationResponse(operation=operation)

    def _begin_operation(self, kind: Operation.Kind.ValueType, description: str, **fields: Any) -> Operation:
        name = f"namespaces/default/operations/{len(self.operations) + 1}"
        state = Operation.STATE_RUNNING
        operation = Operation(name=name, kind=kind, state=state, description=description, done_count=2, **fields)
        self.operations.append(operation)
        return operation
