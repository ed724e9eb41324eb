"""The API's NotificationService: rules, what they have sent, and tests of them. See `notification_rules`."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from contextlib import suppress

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.channels import SendError
from horologe.node.context import NodeContext
from horologe.node.drafts import read_etag
from horologe.node.messages import plain
from horologe.node.names import CLUSTER, WILDCARD, read_namespace, read_notification_name
from horologe.node.notification_rules import complete_rule
from horologe.node.notifier import Messenger
from horologe.node.proposals import ProposalError
from horologe.node.writes import Context, Writer, WriteRequest, propose_seconds
from horologe.raft.model import Code, Result
from horologe.raft.notices import deliveries_key, progress_of
from horologe.raft.notifications import CLUSTER_PREFIX, find_rule, prefix_of
from horologe.raft.records import PAIR
from horologe.raft.tables import Tables
from horologe.v1 import notification_service_pb2, notification_service_pb2_grpc
from horologe.v1.notification_pb2 import Delivery, NotificationRule

_NUMBER_END = (1 << 64) - 1


class NotificationService(notification_service_pb2_grpc.NotificationServiceServicer):
    """See notification_service.proto."""

    def __init__(self, context: NodeContext, messenger: Messenger) -> None:
        self._node = context
        self._messenger = messenger
        self._writer = Writer(context)

    async def SetNotification(
        self, request: notification_service_pb2.SetNotificationRequest, context: Context
    ) -> notification_service_pb2.SetNotificationResponse:
        name = read_notification_name(request.rule.name, "rule.name")
        complete, found = complete_rule(request.rule, "rule")
        if found:
            raise errors.invalid(found)
        change = log_pb2.SetNotification(rule=complete, expected_revision=read_etag(request.rule.etag, "rule.etag"))
        write = WriteRequest.of("SetNotification", request)
        await self._writer.settle(log_pb2.Command(set_notification=change), write, context, needs_space=True)
        with self._node.store.read() as tables:
            return notification_service_pb2.SetNotificationResponse(
                rule=_view(tables, _find(tables, name)), revision=views.revision(tables)
            )

    async def GetNotification(
        self, request: notification_service_pb2.GetNotificationRequest, context: Context
    ) -> notification_service_pb2.GetNotificationResponse:
        del context
        name = read_notification_name(request.name, "name")
        with self._node.store.read() as tables:
            return notification_service_pb2.GetNotificationResponse(
                rule=_view(tables, _find(tables, name)), revision=views.revision(tables)
            )

    async def ListNotifications(
        self, request: notification_service_pb2.ListNotificationsRequest, context: Context
    ) -> notification_service_pb2.ListNotificationsResponse:
        del context
        prefix = _prefix_in(request.parent).encode()
        size, start = paging.page_size(request), paging.start_key(request)
        response = notification_service_pb2.ListNotificationsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, raw in tables.notification.scan(start or prefix):
                if not bytes(key).startswith(prefix):
                    break
                if len(response.rules) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                response.rules.append(_view(tables, log_pb2.NotificationRecord.FromString(bytes(raw))))
        return response

    async def DeleteNotification(
        self, request: notification_service_pb2.DeleteNotificationRequest, context: Context
    ) -> notification_service_pb2.DeleteNotificationResponse:
        change = log_pb2.DeleteNotification(
            name=read_notification_name(request.name, "name"), expected_revision=read_etag(request.etag, "etag")
        )
        write = WriteRequest.of("DeleteNotification", request)
        await self._writer.settle(log_pb2.Command(delete_notification=change), write, context)
        return notification_service_pb2.DeleteNotificationResponse(revision=self._node.status().revision)

    async def ListDeliveries(
        self, request: notification_service_pb2.ListDeliveriesRequest, context: Context
    ) -> notification_service_pb2.ListDeliveriesResponse:
        del context
        name = read_notification_name(request.parent, "parent")
        size, start = paging.page_size(request), paging.start_key(request, PAIR.size)
        response = notification_service_pb2.ListDeliveriesResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            rule = _find(tables, name).id
            # A token may be of a rule that had this name before.
            begin = min(start or deliveries_key(rule, _NUMBER_END), deliveries_key(rule, _NUMBER_END))
            last = b""
            for key, raw in tables.delivery.scan_down(begin):
                if PAIR.unpack(key)[0] != rule:
                    break
                if len(response.deliveries) >= size:
                    response.next_page_token = paging.next_token(request, last)
                    break
                last = bytes(key)
                delivery = response.deliveries.add()
                delivery.CopyFrom(Delivery.FromString(bytes(raw)))
                delivery.name = f"{name}/deliveries/{PAIR.unpack(key)[1]}"
        return response

    async def TestNotification(
        self, request: notification_service_pb2.TestNotificationRequest, context: Context
    ) -> notification_service_pb2.TestNotificationResponse:
        name = read_notification_name(request.name, "name")
        error = ""
        with self._node.store.read() as tables:
            record = _find(tables, name)
        try:
            with self._node.store.read() as tables:
                letter = self._messenger.letter(tables, record, log_pb2.NoticeGroup(), is_test=True)
            await self._messenger.send(letter)
        except SendError as failure:
            error = plain(str(failure))
        kind = log_pb2.NoteDelivery
        outcome = kind.OUTCOME_TEST_FAILED if error else kind.OUTCOME_TEST_DELIVERED
        note = log_pb2.NoteDeliveries(deliveries=[kind(rule=record.id, outcome=outcome, error=error)])
        # Whether it can be written down or not: it was sent.
        with suppress(ProposalError):
            await self._node.proposals.propose(log_pb2.Command(note_deliveries=note), propose_seconds(context))
        return notification_service_pb2.TestNotificationResponse(delivered=not error, error=error)


def _prefix_in(parent: str) -> str:
    """How the names of the rules that are asked for begin."""
    if parent == CLUSTER:
        return CLUSTER_PREFIX
    namespace = read_namespace(parent, "parent", wildcard=True)
    return "" if namespace == WILDCARD else prefix_of(namespace)


def _find(tables: Tables, name: str) -> log_pb2.NotificationRecord:
    record = find_rule(tables, name)
    if record is None:
        raise errors.of_result(Result(Code.NOTIFICATION_NOT_FOUND, text=name))
    return record


def _view(tables: Tables, record: log_pb2.NotificationRecord) -> NotificationRule:
    view = NotificationRule()
    view.CopyFrom(record.rule)
    view.etag = str(record.revision)
    view.create_time.CopyFrom(views.timestamp(record.create_time_ms))
    view.update_time.CopyFrom(views.timestamp(record.update_time_ms))
    groups = progress_of(tables, record.id).groups
    view.pending_count = sum(group.count for group in groups)
    view.held_back_count = sum(group.count for group in groups if group.held_back)
    view.last_error = next((group.error for group in reversed(groups) if group.error), "")
    return view
