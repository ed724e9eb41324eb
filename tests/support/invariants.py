"""What must hold of the replicated state after every entry, whatever the commands were."""

from __future__ import annotations

from collections import Counter

from horologe.log.v1 import log_pb2
from horologe.raft.lanes import LANE_USE, Lane
from horologe.raft.limits import limit_name, namespace_of
from horologe.raft.lines import LINE_KEY
from horologe.raft.model import (
    FINAL_STATES,
    AttemptState,
    Counters,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    LedgerOutcome,
    TimerKind,
    Trigger,
)
from horologe.raft.permits import LIMIT_USE, LimitKind, kind_of, limit_of
from horologe.raft.rates import QueueRule
from horologe.raft.records import (
    LEDGER_KEY,
    PAIR,
    READY_KEY,
    RUNNING_VALUE,
    U32,
    U64,
    WORKER_VALUE,
    Execution,
    JobState,
    LedgerEntry,
)
from horologe.raft.secrets import secret_name
from horologe.raft.tables import Tables
from horologe.raft.versions import VERSIONS_MAX
from horologe.raft.wheel import BUCKET, BUCKET_BITS, LEVEL_BITS, LEVEL_COUNT, TIMER
from support import invariants_search
from support.access_invariants import check_access
from support.audit_invariants import check_chain
from support.history_invariants import check_history
from support.notification_invariants import check_notifications
from support.operation_invariants import check_dead_letters, check_operations
from support.run_invariants import check_edges, check_runs
from support.timetable_invariants import check_calendars, check_pauses, check_schedules

Executions = dict[int, Execution]
JobStates = dict[int, JobState]
Ledger = dict[tuple[int, int, int], LedgerEntry]


def check(tables: Tables, *, clocks_agree: bool = True) -> None:
    """Raises AssertionError, with the contradiction in its text.

    If clocks do not agree, a new schedule may begin with due times that the old one has accounted for; a row that stands for
    several missed due times may then contain one of them.
    """
    counters = Counters.load(tables)
    executions = read_executions(tables)
    job_states = {U64.unpack(key)[0]: JobState.unpack(value) for key, value in tables.job_state.scan()}
    ledger = read_ledger(tables)
    check_chain(tables)
    _check_recent(tables)
    _check_jobs(tables, counters, executions, job_states)
    _check_definitions(tables)
    _check_executions(tables, executions)
    _check_lines(tables, counters, executions)
    _check_limits(tables, executions, job_states)
    _check_secrets(tables)
    _check_lanes(tables, executions)
    _check_timers(tables, counters, executions, job_states)
    check_schedules(tables, executions, job_states)
    check_pauses(tables)
    check_calendars(tables)
    _check_ledger(counters, executions, ledger, clocks_agree)
    _check_sessions(tables, counters)
    check_edges(tables)
    check_runs(tables, executions)
    _check_requests(tables)
    invariants_search.check(tables)
    check_history(tables, executions, ledger)
    check_dead_letters(tables, counters, executions)
    check_operations(tables, counters, executions)
    check_access(tables)
    check_notifications(tables, counters)


def read_executions(tables: Tables) -> Executions:
    return {U64.unpack(key)[0]: Execution.unpack(value) for key, value in tables.execution.scan()}


def is_held(execution: Execution) -> bool:
    """Waits behind others of its job."""
    return bool(execution.flags & ExecutionFlag.HELD)


def is_of_workflow(tables: Tables, execution: Execution) -> bool:
    """Runs without a worker."""
    return bool(JobState.unpack(tables.job_state.get(U64.pack(execution.job)) or b"").flags & JobFlag.WORKFLOW)


def read_ledger(tables: Tables) -> Ledger:
    return {LEDGER_KEY.unpack(key): LedgerEntry.unpack(value) for key, value in tables.ledger.scan()}


def _check_recent(tables: Tables) -> None:
    """What is kept decoded is what is stored: nobody has changed a record and not put it back."""
    recent = tables.recent
    for number, execution in recent.executions.items().items():
        assert execution.pack() == tables.execution.get(U64.pack(number)), (
            f"execution {number} was changed and not stored"
        )
    for job, job_state in recent.job_states.items().items():
        assert job_state.pack() == tables.job_state.get(U64.pack(job)), (
            f"the state of job {job} was changed and not stored"
        )


def _check_jobs(tables: Tables, counters: Counters, executions: Executions, job_states: JobStates) -> None:
    records = {U64.unpack(key)[0]: log_pb2.JobRecord.FromString(value) for key, value in tables.job.scan()}
    names = {key.decode(): U64.unpack(value)[0] for key, value in tables.job_name.scan()}
    assert records.keys() == job_states.keys()
    assert names == {record.job.name: job for job, record in records.items() if not record.deleted}
    assert counters.jobs == len(names)
    spaces = {key.decode(): log_pb2.NamespaceRecord.FromString(value) for key, value in tables.namespace.scan()}
    assert {name: space.job_count for name, space in spaces.items() if space.job_count} == Counter(
        map(namespace_of, names)
    )
    for key, _ in tables.cancelling.scan():
        (job,) = U64.unpack(key)
        assert job not in records or records[job].deleted, f"job {job} is cancelled, and is not deleted"
    assert counters.last_job >= len(records)
    unfinished = Counter(found.job for found in executions.values() if found.state not in FINAL_STATES)
    for job, state in job_states.items():
        record = records[job]
        assert record.id == job
        assert record.revision == state.revision <= counters.revision, f"job {job}"
        assert bool(state.flags & JobFlag.PAUSED) == record.paused, f"job {job}"
        assert bool(state.flags & JobFlag.DELETED) == record.deleted, f"job {job}"
        assert state.unfinished == unfinished[job], f"job {job}: counts {state.unfinished}, has {unfinished[job]}"
        waiting = [number for number, found in executions.items() if found.job == job and is_held(found)]
        assert state.held == len(waiting), f"job {job}: counts {state.held} held, has {waiting}"
        assert not state.held or state.held < state.unfinished, f"job {job}: {waiting} wait for nobody"


def _check_definitions(tables: Tables) -> None:
    """Each job that exists has its versions, the last of which is what it says now, and is in the set that it names."""
    jobs = [log_pb2.JobRecord.FromString(value) for _, value in tables.job.scan()]
    versions: dict[int, list[log_pb2.JobRecord]] = {record.id: [] for record in jobs if not record.deleted}
    for key, value in tables.version.scan():
        job, revision = PAIR.unpack(key)
        version = log_pb2.JobRecord.FromString(value)
        assert (version.id, version.revision) == (job, revision)
        versions[job].append(version)
    for record in jobs:
        if not record.deleted:
            kept = versions[record.id]
            assert 1 <= len(kept) <= VERSIONS_MAX, f"job {record.id} has {len(kept)} versions"
            assert kept[-1].job == record.job and kept[-1].author == record.author, f"job {record.id}"
            assert kept[-1].revision <= record.revision, f"job {record.id}"
    assert {(key[:-9].decode(), U64.unpack(key[-8:])[0]) for key, _ in tables.apply_set.scan()} == {
        (record.job.apply_set, record.id) for record in jobs if record.job.apply_set and not record.deleted
    }


def _check_executions(tables: Tables, executions: Executions) -> None:
    details = {U64.unpack(key)[0] for key, _ in tables.detail.scan()}
    assert details == {number for number, found in executions.items() if found.flags & ExecutionFlag.HAS_DETAIL}
    for number, found in executions.items():
        story = f"execution {number}: {found}"
        state = ExecutionState(found.state)
        assert (found.end_ms > 0) == (state in FINAL_STATES), story
        assert (found.next_attempt_ms > 0) == (state is ExecutionState.SCHEDULED and not is_held(found)), story
        assert state is ExecutionState.SCHEDULED or not is_held(found), story
        runs = state is ExecutionState.RUNNING and not is_of_workflow(tables, found)
        assert (found.attempt_state == AttemptState.RUNNING) == runs, story
        if found.flags & (ExecutionFlag.CANCEL_REQUESTED | ExecutionFlag.TIME_IS_UP):
            assert state is ExecutionState.RUNNING or state in FINAL_STATES, story
        if found.end_by_ms:
            assert found.attempt > found.attempt_base and state not in FINAL_STATES, story
        if number in details:
            record = log_pb2.ExecutionRecord.FromString(tables.detail.get(U64.pack(number)) or b"")
            tokens = [attempt.token for attempt in record.attempts]
            assert tokens == sorted(set(tokens)), story
            assert all(
                attempt.state not in (AttemptState.NONE, AttemptState.RUNNING)
                and attempt.start_time_ms in (0, max(attempt.start_time_ms, attempt.assign_time_ms))
                and attempt.start_time_ms <= attempt.end_time_ms
                for attempt in record.attempts
            ), f"{story}\n{record}"


def _check_lines(tables: Tables, counters: Counters, executions: Executions) -> None:
    """The ready queue and the running attempts, each the same in the executions, in its table and in the counters."""
    assert [READY_KEY.unpack(key) for key, _ in tables.ready.scan()] == sorted(
        (found.queue, 9 - found.priority, found.due_ms, number)
        for number, found in executions.items()
        if found.state == ExecutionState.QUEUED and not found.line
    )
    assert [LINE_KEY.unpack(key) for key, _ in tables.limit_line.scan()] == sorted(
        (found.line, found.queue, 9 - found.priority, found.due_ms, number)
        for number, found in executions.items()
        if found.line
    )
    assert all(found.state == ExecutionState.QUEUED for found in executions.values() if found.line)
    assert counters.queued == sum(found.state == ExecutionState.QUEUED for found in executions.values())
    rows = {PAIR.unpack(key): RUNNING_VALUE.unpack(value)[1:] for key, value in tables.running.scan()}
    assert rows == {
        (found.session, number): (found.token, found.attempt)
        for number, found in executions.items()
        if found.state == ExecutionState.RUNNING and not is_of_workflow(tables, found)
    }
    assert counters.running == len(rows)
    assert [PAIR.unpack(key) for key, _ in tables.held.scan()] == sorted(
        (found.job, number) for number, found in executions.items() if is_held(found)
    )
    for session, number in rows:
        assert tables.session.get(U64.pack(session)) is not None, f"execution {number} runs on a forgotten session"


def _check_limits(tables: Tables, executions: Executions, job_states: JobStates) -> None:
    """What is counted under each limit is what runs under it."""
    records = {key.decode(): log_pb2.LimitRecord.FromString(value) for key, value in tables.limit.scan()}
    by_id = {record.id: record for record in records.values()}
    names = {
        U64.unpack(key)[0]: {number for (number,) in U32.iter_unpack(value)} for key, value in tables.job_limit.scan()
    }
    wanted: Counter[int] = Counter()
    naming: Counter[str] = Counter()
    for job, state in job_states.items():
        record = log_pb2.JobRecord.FromString(tables.job.get(U64.pack(job)) or b"")
        assert bool(state.flags & JobFlag.LIMITED) == bool(record.job.limits or record.job.max_running), f"job {job}"
        if not record.deleted:
            own = {limit_name(record.job, id_) for id_ in record.job.limits}
            naming.update(own)
            assert names.get(job, set()) == {records[name].id for name in own}, f"job {job}"
    for found in executions.values():
        if found.attempt_state == AttemptState.RUNNING:
            wanted[limit_of(LimitKind.NAMESPACE, found.namespace)] += 1
            for number in names.get(found.job, ()) if found.flags & ExecutionFlag.LIMITED else ():
                wanted[limit_of(LimitKind.NAMED, number)] += number in by_id
            wanted[limit_of(LimitKind.JOB, found.job)] += bool(found.flags & ExecutionFlag.LIMITED)
        else:
            assert not found.flags & ExecutionFlag.LIMITED, f"it counts, and does not run: {found}"
    uses = {U64.unpack(key)[0]: LIMIT_USE.unpack(value) for key, value in tables.limit_use.scan()}
    assert {limit: running for limit, (_, running) in uses.items() if running} == +wanted
    own_limits = {limit_of(LimitKind.JOB, job) for job in job_states}
    assert {limit for limit in uses if kind_of(limit) is LimitKind.JOB} <= own_limits, (
        "a job is gone, and its limit is not"
    )
    for name, record in records.items():
        assert uses[limit_of(LimitKind.NAMED, record.id)][0] == record.max_running > 0, name
        assert record.job_count == naming[name], name


def _check_secrets(tables: Tables) -> None:
    """Each one knows how many jobs name it, and nobody names one that is not there."""
    naming: Counter[str] = Counter()
    for _, value in tables.job.scan():
        record = log_pb2.JobRecord.FromString(value)
        if not record.deleted:
            naming.update(secret_name(record.job.name, id_) for id_ in record.secrets)
    records = {key.decode(): log_pb2.SecretRecord.FromString(value) for key, value in tables.secret.scan()}
    assert naming == +Counter({name: record.job_count for name, record in records.items()})


def _check_lanes(tables: Tables, executions: Executions) -> None:
    """Each lane is there under its key and its number, and counts what waits in it and what runs."""
    keys = {U32.unpack(value)[0]: key for key, value in tables.queue.scan()}
    lanes = {U32.unpack(key)[0]: (U32.unpack(value[:4])[0], value[4:]) for key, value in tables.lane.scan()}
    assert keys == {number: key for number, (_, key) in lanes.items()}
    for queue, key in lanes.values():
        assert keys[queue] == Lane.from_key(key).queue.encode() and Lane.from_key(key).key == key
    uses = {U32.unpack(key)[0]: LANE_USE.unpack(value) for key, value in tables.lane_use.scan()}
    waiting = Counter(found.queue for found in executions.values() if found.state == ExecutionState.QUEUED)
    running = Counter(found.queue for found in executions.values() if found.attempt_state == AttemptState.RUNNING)
    assert {lane: use for lane, use in uses.items() if any(use)} == {
        lane: (waiting[lane], running[lane]) for lane in waiting | running
    }
    for key, value in tables.queue_setting.scan():
        record = log_pb2.QueueRecord.FromString(value)
        raw = tables.bucket.get(tables.queue.get(key) or b"?")
        assert raw is not None, f"queue {key!r} has settings that no start asks"
        rule = QueueRule.unpack(raw)
        assert (bool(rule.paused), rule.count) == (record.paused, record.start_rate.count), key
        assert rule.level <= rule.burst * rule.per_ms, key
    buckets = {key: QueueRule.unpack(value) for key, value in tables.bucket.scan()}
    assert sum(len(key) == U32.size for key in buckets) == len(list(tables.queue_setting.scan()))
    rates = {U64.unpack(key)[0]: rule.count for key, rule in buckets.items() if len(key) == U64.size}
    spaces = [log_pb2.NamespaceRecord.FromString(value) for _, value in tables.namespace.scan()]
    assert rates == {space.id: space.start_rate.count for space in spaces if space.HasField("start_rate")}


def _check_timers(tables: Tables, counters: Counters, executions: Executions, job_states: JobStates) -> None:
    found = []
    for key, value in tables.timer.scan():
        level, start_ms = BUCKET.unpack(key)
        timer = TIMER.unpack(value)
        found.append(timer)
        shift = BUCKET_BITS + LEVEL_BITS * level
        assert level < LEVEL_COUNT and start_ms == timer[0] >> shift << shift, f"{timer} lies in {level, start_ms}"
        assert level == 0 or start_ms > counters.cursor_ms, f"the cursor has passed {timer} in {level, start_ms}"
    wanted = [(state.next_fire_ms, TimerKind.FIRE, job) for job, state in job_states.items() if state.next_due_ms]
    wanted += [
        (execution.next_attempt_ms, TimerKind.RETRY, number)
        for number, execution in executions.items()
        if execution.state == ExecutionState.SCHEDULED and not is_held(execution)
    ]
    wanted += [
        (execution.end_by_ms, TimerKind.EXECUTION_TIMEOUT, number)
        for number, execution in executions.items()
        if execution.end_by_ms
    ]
    wanted += [
        (execution.deadline_ms, TimerKind.DEADLINE, number)
        for number, execution in executions.items()
        if execution.deadline_ms
    ]
    assert sorted(found) == sorted(wanted)


def _check_ledger(counters: Counters, executions: Executions, ledger: Ledger, clocks_agree: bool) -> None:
    rows = [(entry.execution, key) for key, entry in ledger.items() if entry.is_of_execution]
    assert sorted(number for number, _ in rows) == sorted(executions)
    for number, key in rows:
        execution = executions[number]
        own = 0 if execution.trigger == Trigger.SCHEDULE else number
        assert key == (execution.job, execution.due_ms, own), f"execution {number}: {execution}, ledger {key}"
        is_skipped = execution.state == ExecutionState.SKIPPED
        assert (ledger[key].outcome == LedgerOutcome.SKIPPED) == is_skipped, f"execution {number}: {execution}"
    last_of_job: dict[int, int] = {}
    for (job, due_ms, number), entry in sorted(ledger.items()):
        if number:
            continue
        if clocks_agree:
            assert last_of_job.get(job, -1) < entry.first_due_ms, f"job {job}: {due_ms} is accounted for twice"
        assert entry.first_due_ms <= due_ms and entry.count >= 1, f"job {job}, {due_ms}: {entry}"
        assert entry.count == 1 or entry.first_due_ms < due_ms, f"job {job}, {due_ms}: {entry}"
        last_of_job[job] = due_ms
    # Since the cluster began: rows that were pruned stay counted.
    assert counters.not_run >= sum(entry.count for entry in ledger.values() if entry.outcome != LedgerOutcome.RAN)
    assert counters.fired == counters.last_execution
    if len(executions) == counters.last_execution:  # nothing was pruned
        states = Counter(ExecutionState(execution.state) for execution in executions.values())
        assert counters.completed == states[ExecutionState.COMPLETED]
        assert counters.failed == states[ExecutionState.FAILED] + states[ExecutionState.DEAD]


def _check_sessions(tables: Tables, counters: Counters) -> None:
    sessions = {U64.unpack(key)[0]: log_pb2.SessionRecord.FromString(value) for key, value in tables.session.scan()}
    workers = {key.decode(): WORKER_VALUE.unpack(value) for key, value in tables.worker.scan()}
    assert counters.workers == len(sessions)
    assert {U32.unpack(key)[0]: value.decode() for key, value in tables.worker_name.scan()} == {
        worker: name for name, (worker, _) in workers.items()
    }
    for session, record in sessions.items():
        worker, latest = workers[record.open.worker]
        assert record.id == session and record.worker_number == worker
        assert record.closed or session == latest, f"{record.open.worker} has two open sessions: {session}, {latest}"


def _check_requests(tables: Tables) -> None:
    dated = [key for key, _ in tables.request_time.scan()]
    assert sorted(key[8:] for key in dated) == [key for key, _ in tables.request.scan()]
    for key in dated:
        record = log_pb2.RequestRecord.FromString(tables.request.get(key[8:]) or b"")
        assert U64.pack(record.time_ms) == key[:8]
