"""What the leader finds, sends and writes down: over a real state, with a sender that only remembers."""

from __future__ import annotations

import json

import pytest
from service_harness import FakeNode, interval_job, manual_job

from horologe.log.v1 import log_pb2
from horologe.node import notifier as notifier_module
from horologe.node.notice_finder import key_of, matches
from horologe.node.notifier import ATTEMPTS_MAX, Messenger, Notifier
from horologe.node.proposals import NoLeaderError
from horologe.raft.commands import FIRE, GIVE_UP, NO_RETRY, SESSION, MissedFate, Outcome
from horologe.raft.notices import place_of
from horologe.raft.records import U64, JobState
from horologe.v1 import job_pb2, job_service_pb2, secret_service_pb2
from horologe.v1 import notification_service_pb2 as api
from horologe.v1.notification_pb2 import Delivery, Notice, NotificationEvent, NotificationRule

RULE = "namespaces/default/notifications/ops"
HOUR_MS = 3_600_000


class Leader:
    """A notifier whose looks are made by hand."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.begin()

    def begin(self) -> None:
        """Another one comes to lead."""
        self.notifier = Notifier(self.node.context, Messenger(self.node.context, self.node.sender))

    async def work(self) -> None:
        """One look, and all that is sent because of it."""
        await self.notifier._work()
        for task in list(self.notifier._sending.values()):
            await task

    def told(self) -> list[list[tuple[str, str]]]:
        """Of each message the events, with the last part of what they are about."""
        return [
            [(each["event"], each.get("execution", each.get("job", "")).rpartition("/")[2]) for each in body["notices"]]
            for body in self.bodies()
        ]

    def bodies(self) -> list[dict]:
        return [json.loads(body) for _, body, _ in self.node.sender.posts]


@pytest.fixture
def leader(node: FakeNode) -> Leader:
    return Leader(node)


def a_rule(*events: str, name: str = RULE, **fields: object) -> NotificationRule:
    rule = NotificationRule(name=name, events=[f"NOTIFICATION_EVENT_{event}" for event in events or ("FAILED",)])
    rule.webhook.url = "https://hooks.example/1"
    rule.MergeFrom(NotificationRule(**fields))
    return rule


async def set_rule(node: FakeNode, rule: NotificationRule) -> NotificationRule:
    return (await node.notifications.SetNotification(api.SetNotificationRequest(rule=rule))).rule


async def deliveries(node: FakeNode, name: str = RULE) -> list[Delivery]:
    return list((await node.notifications.ListDeliveries(api.ListDeliveriesRequest(parent=name))).deliveries)


async def create(node: FakeNode, job_id: str = "tick", job: job_pb2.Job | None = None) -> int:
    request = job_service_pb2.CreateJobRequest(job_id=job_id, job=job or manual_job())
    await node.jobs.CreateJob(request)
    with node.store.read() as tables:
        return int(U64.unpack(tables.job_name.get(f"namespaces/default/jobs/{job_id}".encode()))[0])


async def run(node: FakeNode, job_id: str, outcome: Outcome = Outcome.SUCCEEDED, **detail: object) -> int:
    request = job_service_pb2.RunJobRequest(name=f"namespaces/default/jobs/{job_id}", force=True)
    number = int((await node.jobs.RunJob(request)).execution.name.rpartition("/")[2])
    node.assign(number, node.open_session())
    node.complete(number, outcome, retry_delay_ms=GIVE_UP if outcome is Outcome.FAILED else 0, **detail)
    return number


# Finding


async def test_without_rules_nothing_is_looked_at_and_nothing_written(node, leader):
    await create(node)
    await run(node, "tick", Outcome.FAILED)
    before = node.index
    await leader.work()
    assert node.index == before
    assert not node.sender.posts


async def test_a_failure_and_the_recovery_from_it(node, leader):
    await create(node)
    await run(node, "tick", Outcome.FAILED)
    await set_rule(node, a_rule("FAILED", "RECOVERED"))
    failed = await run(node, "tick", Outcome.FAILED, error="no such table", fingerprint=7)
    await leader.work()
    recovered = await run(node, "tick")
    await run(node, "tick")
    await leader.work()
    assert leader.told() == [[("failed", str(failed))], [("recovered", str(recovered))]]
    notice = leader.bodies()[0]["notices"][0]
    assert (notice["reason"], notice["fingerprint"], notice["job"]) == (
        "no such table",
        "0000000000000007",
        "namespaces/default/jobs/tick",
    )
    assert [each.outcome for each in await deliveries(node)] == [Delivery.OUTCOME_DELIVERED] * 2


async def test_a_dead_letter_is_told_as_what_the_rule_calls_it(node, leader):
    await create(node)
    names = {"both": ("FAILED", "DEAD_LETTER"), "dead": ("DEAD_LETTER",), "failed": ("FAILED",), "late": ("LATE",)}
    for id_, events in names.items():
        await set_rule(node, a_rule(*events, name=f"namespaces/default/notifications/{id_}"))
    job = job_service_pb2.RunJobRequest(name="namespaces/default/jobs/tick")
    number = int((await node.jobs.RunJob(job)).execution.name.rpartition("/")[2])
    node.assign(number, node.open_session())
    node.complete(number, Outcome.FAILED, retry_delay_ms=NO_RETRY)
    await leader.work()
    told = {body["rule"].rpartition("/")[2]: body["notices"][0]["event"] for body in leader.bodies()}
    assert told == {"both": "dead_letter", "dead": "dead_letter", "failed": "failed"}


async def test_a_start_is_late_if_the_rule_says_so(node, leader):
    made = interval_job(60)
    made.overlap = job_pb2.OVERLAP_POLICY_ALLOW
    job = await create(node, job=made)
    rule = a_rule("LATE")
    rule.late_after.FromSeconds(30)
    await set_rule(node, rule)
    session = node.open_session()
    node.assign(node.fire(job), session)
    late = node.fire(job)
    node.clock.now_ms += 31_000
    node.assign(late, session)
    await run(node, "tick")
    await leader.work()
    assert leader.told() == [[("late", str(late))]]
    notice = leader.bodies()[0]["notices"][-1]
    assert notice["due_time"] < notice["time"]


async def test_missed_due_times_are_counted(node, leader):
    job = await create(node, job=interval_job(60))
    await set_rule(node, a_rule("MISSED"))
    with node.store.read() as tables:
        state = JobState.unpack(tables.job_state.get(U64.pack(job)))
    first, last = state.next_due_ms, state.next_due_ms + 4 * 60_000
    node.clock.now_ms = last + 60_000
    due_ms = last + 60_000
    fate = MissedFate.MISSED_CATCHUP_SKIP
    fires = FIRE.pack(job, state.revision, due_ms, due_ms + 60_000, due_ms + 60_000, 0, first, last, 5, fate, 1)
    node.apply(log_pb2.Command(plan=log_pb2.Plan(fires=fires)))
    await leader.work()
    (notice,) = leader.bodies()[0]["notices"]
    assert (notice["event"], notice["missed_count"], notice["job"].rpartition("/")[2]) == ("missed", 5, "tick")


async def test_a_rule_of_the_cluster_hears_of_workers_and_of_all_namespaces(node, leader):
    await set_rule(node, a_rule("WORKER_LOST", "FAILED", name="notifications/ops"))
    await create(node)
    session = node.open_session("w7")
    node.apply(log_pb2.Command(plan=log_pb2.Plan(expired_sessions=SESSION.pack(session))))
    failed = await run(node, "tick", Outcome.FAILED)
    await leader.work()
    assert leader.told() == [[("worker_lost", "")], [("failed", str(failed))]]
    assert leader.bodies()[0]["notices"][0]["worker"] == "w7"


async def test_the_quorum_is_at_risk_when_a_member_is_gone_for_a_while(tmp_path):
    async with FakeNode(tmp_path, ("n1", "n2", "n3")).serve() as node:
        leader = Leader(node)
        await set_rule(node, a_rule("QUORUM_AT_RISK", "QUORUM_RESTORED", name="notifications/ops"))
        node.connected = frozenset({"n2"})
        for _ in range(2):
            await leader.work()
            assert not node.sender.posts
            node.clock.now_ms += 5_000
        await leader.work()
        node.connected = frozenset({"n2", "n3"})
        await leader.work()
        node.clock.now_ms += 10_000
        await leader.work()
        assert leader.told() == [[("quorum_at_risk", "")], [("quorum_restored", "")]]
        assert leader.bodies()[0]["notices"][0]["members"] == ["n3"]


async def test_a_gap_in_the_events_is_admitted(node, leader):
    await create(node)
    await set_rule(node, a_rule())
    await run(node, "tick", Outcome.FAILED)
    # An hour later the window has moved on, and nobody has looked.
    node.clock.now_ms += 2 * HOUR_MS
    while True:
        await create(node, f"j{node.index}")
        with node.store.read() as tables:
            if (
                place_of(tables)[0]
                < notifier_module.NoticeFinder([]).look(tables, notifier_module.Place(0, 0)).lost_before
            ):
                break
    await leader.work()
    assert [each.outcome for each in await deliveries(node)] == [Delivery.OUTCOME_EVENTS_LOST]


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ({}, True),
        ({"jobs": ["nightly-*"]}, True),
        ({"jobs": ["weekly", "*report"]}, True),
        ({"jobs": ["nightly"]}, False),
        ({"labels": {"team": "data"}}, True),
        ({"labels": {"team": "web"}}, False),
        ({"labels": {"team": "data", "tier": "1"}}, False),
        ({"name": "namespaces/shop/notifications/ops"}, False),
        ({"name": "notifications/ops"}, True),
    ],
)
def test_which_jobs_a_rule_is_about(fields: dict, is_one: bool) -> None:
    job = job_pb2.Job(name="namespaces/default/jobs/nightly-report", labels={"team": "data"})
    assert matches(a_rule(**{"name": RULE, **fields}), job) is is_one


def test_what_goes_out_together() -> None:
    failed = Notice(event=NotificationEvent.NOTIFICATION_EVENT_FAILED, job="a", fingerprint="7")
    lost = Notice(event=NotificationEvent.NOTIFICATION_EVENT_WORKER_LOST, worker="w1")
    keys = {
        NotificationRule.GROUP_BY_JOB: ("a", "worker w1"),
        NotificationRule.GROUP_BY_FINGERPRINT: ("fingerprint 7", "worker w1"),
        NotificationRule.GROUP_BY_EVENT: ("NOTIFICATION_EVENT_FAILED", "NOTIFICATION_EVENT_WORKER_LOST"),
        NotificationRule.GROUP_BY_RULE: ("", ""),
    }
    for group_by, expected in keys.items():
        rule = a_rule(group_by=group_by)
        assert (key_of(rule, failed), key_of(rule, lost)) == expected


# Sending


async def test_what_comes_within_the_window_goes_out_together(node, leader):
    await create(node)
    rule = a_rule()
    rule.group_window.FromSeconds(60)
    await set_rule(node, rule)
    for _ in range(12):
        await run(node, "tick", Outcome.FAILED)
        await leader.work()
    assert not node.sender.posts
    node.clock.now_ms += 60_000
    await leader.work()
    (body,) = leader.bodies()
    assert (body["notice_count"], len(body["notices"])) == (12, 10)


async def test_too_many_are_held_back_counted_and_told(node, leader):
    for name in ("a", "b", "c", "d"):
        await create(node, name)
    await set_rule(node, a_rule(max_per_hour=2))
    for name in ("a", "b", "c", "d"):
        await run(node, name, Outcome.FAILED)
    await leader.work()
    assert [body["held_back"] for body in leader.bodies()] == [False, False]
    shown = (await node.notifications.GetNotification(api.GetNotificationRequest(name=RULE))).rule
    assert (shown.pending_count, shown.held_back_count) == (2, 2)
    node.clock.now_ms += HOUR_MS
    await leader.work()
    assert (leader.bodies()[-1]["notice_count"], leader.bodies()[-1]["held_back"]) == (2, True)


async def test_a_leader_that_dies_before_it_writes_leaves_it_to_the_next_one(node, leader):
    await create(node)
    await set_rule(node, a_rule())
    await run(node, "tick", Outcome.FAILED)

    def die() -> None:
        node.failures.append(NoLeaderError("gone"))

    # The first proposal says what there is to send; the one behind the sending does not get through.
    node.before_apply = [die]
    await leader.work()
    assert len(node.sender.posts) == 1
    assert await deliveries(node) == []
    leader.begin()
    await leader.work()
    first, second = node.sender.posts
    assert first[2]["Horologe-Notification-Id"] == second[2]["Horologe-Notification-Id"]
    (record,) = await deliveries(node)
    assert record.id == first[2]["Horologe-Notification-Id"]
    leader.begin()
    await leader.work()
    assert len(node.sender.posts) == 2


async def test_retries_come_later_each_time_and_end(node, leader):
    await create(node)
    await set_rule(node, a_rule())
    await run(node, "tick", Outcome.FAILED)
    node.sender.errors = ["the receiver answered with status 503"] * ATTEMPTS_MAX
    waits = []
    for _ in range(ATTEMPTS_MAX):
        await leader.work()
        tried = len(node.sender.posts)
        waited = 0
        while len(node.sender.posts) == tried and waited < 3 * HOUR_MS and tried < ATTEMPTS_MAX:
            node.clock.now_ms += 5_000
            waited += 5_000
            await leader.work()
        waits.append(waited)
        if len(node.sender.posts) >= ATTEMPTS_MAX:
            break
    assert waits == sorted(waits)
    assert len({headers["Horologe-Notification-Id"] for _, _, headers in node.sender.posts}) == 1
    (record,) = await deliveries(node)
    assert (record.outcome, record.attempt_count) == (Delivery.OUTCOME_FAILED, ATTEMPTS_MAX)
    assert record.error == "the receiver answered with status 503"


async def test_a_defect_of_ours_counts_as_an_attempt_and_others_go_on(node, leader, monkeypatch):
    """Else the same message would be tried again every second, for ever."""
    await create(node)
    await set_rule(node, a_rule())
    await run(node, "tick", Outcome.FAILED)

    async def post(url: str, body: bytes, headers: dict[str, str]) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as defect:
        defect.setattr(node.sender, "post", post)
        for _ in range(3):
            await leader.work()
    assert node.sender.posts == []
    node.clock.now_ms += HOUR_MS
    await leader.work()
    (record,) = await deliveries(node)
    assert (record.outcome, record.attempt_count) == (Delivery.OUTCOME_DELIVERED, 2)


async def test_a_follower_does_nothing(node, leader):
    await create(node)
    await set_rule(node, a_rule())
    await run(node, "tick", Outcome.FAILED)
    node.leader = "n2"
    rule_record = log_pb2.NotificationRecord(id=1)
    await leader.notifier._serve(rule_record)
    assert not node.sender.posts


async def test_secrets_are_read_when_something_is_sent(node, leader):
    await create(node)
    for name, value in (("url", "https://hooks.example/hush\n"), ("key", "hush-hush")):
        full = f"namespaces/default/secrets/{name}"
        await node.secrets.SetSecret(secret_service_pb2.SetSecretRequest(name=full, value=value.encode()))
    rule = a_rule()
    rule.webhook.url, rule.webhook.url_secret, rule.webhook.signing_secret = "", "url", "key"
    await set_rule(node, rule)
    await run(node, "tick", Outcome.FAILED)
    await leader.work()
    ((url, body, headers),) = node.sender.posts
    assert url == "https://hooks.example/hush"
    assert headers["Horologe-Signature"].startswith("t=")
    assert b"hush" not in body
    with node.store.read() as tables:
        assert not any(b"hush" in raw for _, raw in tables.delivery.scan())


async def test_rules_that_are_switched_off_keep_nobody_from_being_told(node, leader, monkeypatch):
    monkeypatch.setattr(notifier_module, "SENDERS_MAX", 2)
    await create(node)
    off = [f"namespaces/default/notifications/a{number}" for number in range(3)]
    for name in off:
        await set_rule(node, a_rule("FAILED", name=name))
    await set_rule(node, a_rule("FAILED"))
    failed = await run(node, "tick", Outcome.FAILED)
    leader.notifier._read_rules()
    await leader.notifier._look()
    for name in off:
        await set_rule(node, a_rule("FAILED", name=name, disabled=True))
    leader.node.sender.posts.clear()
    await leader.work()
    await leader.work()
    assert leader.told() == [[("failed", str(failed))]]
