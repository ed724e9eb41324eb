"""Why a job ran at an instant, or did not: from its row of the ledger, or from its timetable if it has none there.

Reads tables and computes; decides nothing. What happened to one execution in detail is in `story`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.calendars import exclusions_of
from horologe.node.catalog import Catalog
from horologe.node.cron_preview import utc_text
from horologe.node.cron_sentence import duration_text
from horologe.node.story import end_text, why_later
from horologe.node.timetable import Timetable, timetable_of
from horologe.node.why_waiting import waiting_text
from horologe.node.zones import instant_from_ms
from horologe.raft.model import FINAL_STATES, ExecutionState, LedgerOutcome, Reason
from horologe.raft.records import LEDGER_KEY, Execution, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2, story_service_pb2

Response = story_service_pb2.ExplainDueTimeResponse
SECOND_MS = 1_000
ROWS_LOOKED_AT_MAX = 1_000
"""Executions beside the schedule may stand between an instant and the row that covers it."""
LOOK_BACK_MS = (60_000, 3_600_000, 86_400_000, 31 * 86_400_000, 366 * 86_400_000)
"""How far back the due time before is looked for, in wider and wider steps."""
LOOK_BACK_COUNT_MAX = 2_000

# What the reason of a row means: the policy that decided, and the sentence. {policy} is the policy's value in the job.
_REASONS: dict[Reason, tuple[str, str]] = {
    Reason.OVERLAP: ("overlap", "the execution before it had not ended, and only one may run at a time"),
    Reason.QUEUE_FULL: ("overlap", "as many executions as may wait were waiting already"),
    Reason.REPLACED: ("overlap", "a later due time came while it waited, and took its place"),
    Reason.PAUSED: ("", "the job, its namespace or the cluster was paused"),
    Reason.DEADLINE: ("deadline", "it could not start in time"),
    Reason.UPSTREAM: ("schedule", "those that it is after did not end as it asks"),
    Reason.CATCHUP_LATEST: ("catchup", "it was missed, and the latest of the missed due times runs for all of them"),
    Reason.CATCHUP_EARLIEST: (
        "catchup",
        "it was missed, and the earliest of the missed due times runs for all of them",
    ),
    Reason.CATCHUP_SKIP: ("catchup", "it was missed: nobody was there to fire it, and it is not caught up"),
    Reason.CATCHUP_WINDOW: ("catchup_window", "it was missed, and too long ago to be caught up"),
    Reason.CATCHUP_MAX: ("catchup_max", "it was missed, and more of the later ones were than are caught up"),
    Reason.SCHEDULE_CHANGED: ("schedule", "it had come, and was not fired yet when the schedule changed"),
    Reason.JOB_DELETED: ("", "it had come, and was not fired yet when the job was deleted"),
    Reason.RUN_CANCELLED: ("", "the run that it belongs to was cancelled"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger with its key."""

    due_ms: int
    number: int
    entry: LedgerEntry


class Explanation:
    """One answer, in one read transaction."""

    def __init__(self, tables: Tables, catalog: Catalog, record: log_pb2.JobRecord, now_ms: int) -> None:
        self._tables = tables
        self._catalog = catalog
        self._record = record
        self._job = record.job
        self._now_ms = now_ms
        self._timetable = timetable_of(record.job, exclusions_of(tables, record.job))
        self._response = Response(revision=views.revision(tables))

    def of(self, at_ms: int | None) -> story_service_pb2.ExplainDueTimeResponse:
        """About an instant, or about the last due time that is accounted for."""
        row = self._last_row() if at_ms is None else self._row_at(at_ms)
        if at_ms is None:
            at_ms = row.due_ms if row is not None else self._now_ms
        if row is None:
            self._explain_without_row(at_ms)
        elif row.entry.outcome == LedgerOutcome.RAN:
            self._explain_run(row)
        else:
            self._explain_no_run(row, at_ms)
        self._add_neighbours(row.due_ms if row is not None and row.entry.count == 1 else at_ms)
        return self._response

    # Finding the row

    def _row_at(self, at_ms: int) -> Row | None:
        """The row that accounts for a due time at the instant, or within the second that it stands for."""
        until_ms = at_ms if at_ms % SECOND_MS else at_ms + SECOND_MS - 1
        best: Row | None = None
        for looked_at, row in enumerate(self._rows_from(at_ms)):
            is_beside = row.number != 0
            if looked_at >= ROWS_LOOKED_AT_MAX or (not is_beside and row.entry.first_due_ms > until_ms):
                break
            if row.entry.first_due_ms > until_ms or not self._is_due_within(row, at_ms, until_ms):
                continue
            if not is_beside:
                return row
            best = best or row
        return best

    def _is_due_within(self, row: Row, at_ms: int, until_ms: int) -> bool:
        """A row of many due times covers what lies between them too."""
        if row.due_ms <= until_ms or row.entry.first_due_ms >= at_ms:
            return True
        due_ms = self._timetable.next_after(at_ms - 1)
        return due_ms is not None and due_ms <= until_ms

    def _rows_from(self, due_ms: int) -> Sequence[Row] | list[Row]:
        rows: list[Row] = []
        for key, value in self._tables.ledger.scan(LEDGER_KEY.pack(self._record.id, due_ms, 0)):
            owner, found_ms, number = LEDGER_KEY.unpack(key)
            if owner != self._record.id or len(rows) >= ROWS_LOOKED_AT_MAX:
                break
            row = Row(found_ms, number, LedgerEntry.unpack(value))
            rows.append(row)
            if not number and row.entry.first_due_ms > due_ms + SECOND_MS:
                break
        return rows

    def _rows_below(self, due_ms: int) -> Row | None:
        """The row of the schedule before a due time."""
        rows = self._tables.ledger.scan_down(LEDGER_KEY.pack(self._record.id, due_ms, 0))
        for looked_at, (key, value) in enumerate(rows):
            owner, found_ms, number = LEDGER_KEY.unpack(key)
            if owner != self._record.id or looked_at >= ROWS_LOOKED_AT_MAX:
                break
            if not number:
                return Row(found_ms, number, LedgerEntry.unpack(value))
        return None

    def _last_row(self) -> Row | None:
        for key, value in self._tables.ledger.scan_down(LEDGER_KEY.pack(self._record.id + 1, 0, 0)):
            owner, due_ms, number = LEDGER_KEY.unpack(key)
            return Row(due_ms, number, LedgerEntry.unpack(value)) if owner == self._record.id else None
        return None

    # What is said

    def _say(self, text: str) -> None:
        self._response.sentences.append(f"{text[:1].upper()}{text[1:]}.")

    def _explain_run(self, row: Row) -> None:
        number = row.entry.execution
        self._set_row(row, row.due_ms, Response.FINDING_RAN)
        execution = views.read_execution(self._tables, number)
        if execution is None:
            self._say(f"it ran as execution {number}, whose history is not kept any more")
            return
        self._add_execution(number, execution)
        waits = waiting_text(self._tables, execution)
        if waits and not execution.start_ms:
            self._response.finding = Response.FINDING_WAITING
            self._say(f"it is execution {number}{_trigger_text(execution)}, and waits for {waits}")
        else:
            self._say(f"it ran as execution {number}{_trigger_text(execution)}: {self._outcome_text(execution)}")
            if waits:
                self._say(f"it waits for {waits}")
        self._say_how_late(execution)
        self._say_what_went_wrong(number, execution)
        before = self._rows_below(row.due_ms) if not row.number else None
        if before is not None and before.entry.outcome == LedgerOutcome.COALESCED and before.entry.execution == number:
            span = f"{_at(before.entry.first_due_ms)} to {_at(before.due_ms)}"
            self._say(
                f"it also stands for {before.entry.count} missed due times, {span} (catchup: {self._value('catchup')})"
            )
            self._response.policy = f"catchup: {self._value('catchup')}"

    def _explain_no_run(self, row: Row, at_ms: int) -> None:
        entry = row.entry
        self._set_row(row, row.due_ms if entry.count == 1 else at_ms, Response.FINDING_DID_NOT_RUN)
        reason = Reason(entry.reason)
        policy, text = _REASONS.get(reason, ("", reason.text.replace("_", " ")))
        if policy:
            value = self._value(policy)
            self._response.policy = f"{policy}: {value}" if value else policy
        outcome = LedgerOutcome(entry.outcome).name
        decided = f" ({self._response.policy})" if self._response.policy else ""
        self._say(f"it did not run, it was {outcome}({reason.text}): {text}{decided}")
        if entry.count > 1:
            span = f"from {_at(entry.first_due_ms)} to {_at(row.due_ms)}"
            self._say(f"the same holds of {entry.count} due times {span}")
        if reason is Reason.OVERLAP:
            self._say_what_ran(row.due_ms)
        if entry.execution:
            execution = views.read_execution(self._tables, entry.execution)
            if execution is not None:
                self._add_execution(entry.execution, execution)
                self._say(f"its execution is {entry.execution}: {self._outcome_text(execution)}")

    def _explain_without_row(self, at_ms: int) -> None:
        self._response.time.CopyFrom(views.timestamp(at_ms))
        state = views.read_job_state(self._tables, self._record.id)
        pending_ms = 0 if state is None else state.next_due_ms
        due_ms = self._timetable.next_after(at_ms - 1)
        until_ms = at_ms if at_ms % SECOND_MS else at_ms + SECOND_MS - 1
        is_due = due_ms is not None and due_ms <= until_ms and due_ms >= self._since_ms
        if is_due and due_ms is not None and not self._record.deleted:
            self._response.time.CopyFrom(views.timestamp(due_ms))
            if due_ms > self._now_ms:
                self._response.finding = Response.FINDING_WILL_BE_DUE
                is_paused = self._record.paused or views.scope_pause_text(self._tables, state)
                self._say(
                    f"it will be due then, {'unless the pause lasts so long' if is_paused else 'if nothing changes'}"
                )
                self._say_pause()
                return
            if (
                self._record.paused
                or views.scope_pause_text(self._tables, state)
                or (pending_ms and due_ms >= pending_ms)
            ):
                self._response.finding = Response.FINDING_PENDING
                self._say("it was due, and what becomes of it is not decided yet")
                self._say_pause()
                return
        self._response.finding = Response.FINDING_NOT_DUE
        self._say(f"the job was not due: {self._why_not_due(at_ms, is_due=is_due)}")

    @property
    def _since_ms(self) -> int:
        """From when on the schedule is as it is now."""
        return max(self._record.create_time_ms, self._record.schedule_time_ms)

    def _why_not_due(self, at_ms: int, *, is_due: bool) -> str:
        record, job = self._record, self._job
        if at_ms < record.create_time_ms:
            return f"it was created later, at {_at(record.create_time_ms)}"
        if record.deleted and at_ms >= record.update_time_ms:
            return f"it was deleted at {_at(record.update_time_ms)}"
        if at_ms < record.schedule_time_ms:
            return (
                f"its schedule has been as it is only since {_at(record.schedule_time_ms)}, and no row of the ledger "
                "names the instant"
            )
        kinds = {each.WhichOneof("kind") for each in job.schedules}
        if kinds <= {"manual"}:
            return "it runs on request only"
        if kinds <= {"manual", "after"}:
            return "it runs when others have ended"
        if "fixed_delay" in kinds:
            return "it is due a fixed time after the end of each execution"
        if job.HasField("start_time") and at_ms < job.start_time.ToMilliseconds():
            return f"its schedule begins at {_at(job.start_time.ToMilliseconds())} (start_time)"
        if job.HasField("end_time") and at_ms >= job.end_time.ToMilliseconds():
            return f"its schedule ended at {_at(job.end_time.ToMilliseconds())} (end_time)"
        bare = timetable_of(job).next_after(at_ms - 1)
        if self._timetable.exclusions and bare == at_ms and not is_due:
            self._response.policy = f"calendars: {', '.join(job.calendars)}"
            return f"a calendar excludes the instant ({', '.join(job.calendars)})"
        state = views.read_job_state(self._tables, record.id)
        if state is not None and state.max_executions and state.scheduled >= state.max_executions:
            return f"it has had all of its executions (max_executions: {state.max_executions})"
        if is_due:
            return "its schedule names the instant, but no row of the ledger does: its history is not kept any more"
        return "its schedule does not name the instant"

    def _say_pause(self) -> None:
        state = views.read_job_state(self._tables, self._record.id)
        scope = views.scope_pause_text(self._tables, state)
        if self._record.paused:
            who = f" by {self._record.paused_by}" if self._record.paused_by else ""
            reason = f" ({self._record.pause_reason})" if self._record.pause_reason else ""
            self._say(
                f"the job is paused{who}{reason}; when it is resumed, its due times are skipped unless they are caught up"
            )
        elif scope:
            self._say(scope)

    def _say_how_late(self, execution: Execution) -> None:
        planned_ms = execution.planned_ms or execution.due_ms
        if planned_ms > execution.due_ms:
            spread = duration_text(planned_ms - execution.due_ms)
            why = why_later(execution, f": {self._value('jitter')}")
            self._say(f"it was to start {spread} after its due time{why}")
        fired = duration_text(max(0, execution.create_ms - planned_ms))
        if not execution.start_ms:
            self._say(f"it was fired {fired} after that instant, and has not started")
            return
        waited = duration_text(max(0, execution.start_ms - execution.create_ms))
        late = duration_text(max(0, execution.start_ms - planned_ms))
        self._say(f"it started {late} late: {fired} until it was fired, {waited} until a worker had it")

    def _say_what_went_wrong(self, number: int, execution: Execution) -> None:
        """How its last attempt that is over ended, unless all went well."""
        attempts = views.read_detail(self._tables, number, execution).attempts
        if attempts and execution.state != ExecutionState.COMPLETED:
            first_line = end_text(attempts[-1]).partition("\n")[0]
            self._say(first_line.rstrip("."))

    def _say_what_ran(self, due_ms: int) -> None:
        """The last execution before: the one that was in the way, most likely."""
        rows = self._tables.ledger.scan_down(LEDGER_KEY.pack(self._record.id, due_ms, 0))
        for looked_at, (key, value) in enumerate(rows):
            entry = LedgerEntry.unpack(value)
            if LEDGER_KEY.unpack(key)[0] != self._record.id or looked_at >= ROWS_LOOKED_AT_MAX:
                return
            execution = views.read_execution(self._tables, entry.execution) if entry.is_of_execution else None
            if execution is not None:
                self._say(f"the execution before it is {entry.execution}: {self._outcome_text(execution)}")
                waits = waiting_text(self._tables, execution)
                if waits:
                    self._say(f"execution {entry.execution} waits for {waits}")
                return

    def _outcome_text(self, execution: Execution) -> str:
        state = ExecutionState(execution.state).name
        worker = views.worker_name(self._tables, execution.worker) if execution.worker else ""
        where = f" on {worker}" if worker else ""
        attempts = f" in attempt {execution.attempt}" if execution.attempt > 1 else ""
        when = f" at {_at(execution.end_ms)}" if execution.state in FINAL_STATES else ""
        return f"{state}{when}{where}{attempts}"

    def _value(self, policy: str) -> str:
        """A policy as a job file says it."""
        match policy:
            case "overlap":
                return _word(job_pb2.OverlapPolicy.Name(self._job.overlap))
            case "catchup":
                return _word(job_pb2.CatchupPolicy.Name(self._job.catchup))
            case "catchup_max":
                return str(self._job.catchup_max)
            case "catchup_window":
                return duration_text(self._job.catchup_window.ToMilliseconds())
            case "deadline":
                return duration_text(self._job.deadline.ToMilliseconds())
            case "jitter":
                return duration_text(self._job.jitter.ToMilliseconds())
            case _:
                return ""

    # What goes along

    def _set_row(
        self, row: Row, at_ms: int, finding: story_service_pb2.ExplainDueTimeResponse.Finding.ValueType
    ) -> None:
        self._response.finding = finding
        self._response.time.CopyFrom(views.timestamp(at_ms))
        self._response.row.CopyFrom(
            views.ledger_row(self._tables, self._catalog, self._record.id, row.due_ms, row.entry, row.number)
        )

    def _add_execution(self, number: int, execution: Execution) -> None:
        self._response.execution.CopyFrom(
            views.execution_view(self._tables, self._catalog, number, execution, full=True)
        )

    def _add_neighbours(self, at_ms: int) -> None:
        if self._record.deleted:
            return
        next_ms = self._timetable.next_after(max(at_ms, self._record.create_time_ms - 1))
        if next_ms is not None:
            self._response.next_due_time.CopyFrom(views.timestamp(next_ms))
        previous_ms = self._due_before(at_ms)
        if previous_ms is not None:
            self._response.previous_due_time.CopyFrom(views.timestamp(previous_ms))

    def _due_before(self, at_ms: int) -> int | None:
        row = self._rows_below(at_ms)
        found = row.due_ms if row is not None else None
        for span_ms in LOOK_BACK_MS:
            missed = _before(self._timetable, max(self._since_ms, at_ms - span_ms), at_ms - 1)
            if missed is not None:
                return missed if found is None else max(found, missed)
            if at_ms - span_ms < self._since_ms:
                break
        return found


def _before(timetable: Timetable, from_ms: int, to_ms: int) -> int | None:
    """The last due time in a range that holds few of them."""
    if from_ms > to_ms:
        return None
    missed = timetable.missed(from_ms, to_ms, LOOK_BACK_COUNT_MAX)
    return missed.last_ms if missed.count else None


def _trigger_text(execution: Execution) -> str:
    texts = {2: ", on request", 3: ", in a backfill", 4: ", after others had ended"}
    return texts.get(execution.trigger, "")


def _word(name: str) -> str:
    return name.rpartition("POLICY_")[2].lower()


def _at(time_ms: int) -> str:
    return utc_text(instant_from_ms(time_ms))
