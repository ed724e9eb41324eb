"""The work of a run: families of recurring jobs whose due times are known by arithmetic, each with a policy of its own.

Most do nothing, so that the cluster is what works. Some prove each start by a file, fail and are tried again, must never
start twice, last longer than their period, skip what was missed, or belong to a caller who pauses and changes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from horologe.chaos.history import Due, LedgerLine, Policy
from horologe.chaos.recording_worker import FAIL, HOLD, NOOP, PROVE
from horologe.chaos.workload import RecurringJobs, each
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.v1.job_pb2 import Action

PROVEN_EACH = 20
"""Each so manieth tick makes a durable file before its code begins; one for every start would measure the disk."""
TICK_PERIOD_MS = 5_000
TRIES = jobs.retry(max_attempts=100, backoff="exponential", base="100ms", cap="2s")
CATCHUP = frozenset({"CATCHUP_LATEST", "CATCHUP_WINDOW"})


@dataclass(frozen=True, slots=True)
class Load:
    """All families of one run."""

    families: tuple[RecurringJobs, ...]
    owned: RecurringJobs
    """One job for each caller; also among the families."""

    @classmethod
    def of(cls, rate: float, callers: int) -> Load:
        """About `rate` executions per second in all."""
        owned = RecurringJobs(callers, 1_000, "owned", 600_001, policy=Policy(CATCHUP | {"PAUSED"}), retry=TRIES)
        special = (
            RecurringJobs(6, 2_000, "fails", 200_001, action=_fails, policy=Policy(CATCHUP), retry=TRIES),
            RecurringJobs(
                5, 5_000, "once", 300_001, action=_lasts_a_second, on_lease_loss="fail", retry=jobs.retry(max_attempts=1),
                policy=Policy(CATCHUP, at_most_once=True),
            ),
            RecurringJobs(
                4, 4_000, "long", 400_001, action=_lasts_too_long, overlap="skip", retry=TRIES,
                policy=Policy(CATCHUP | {"OVERLAP"}),
            ),
            RecurringJobs(
                10, 2_000, "skips", 500_001, catchup="skip", policy=Policy(frozenset({"CATCHUP_SKIP"})), retry=TRIES
            ),
            owned,
        )  # fmt: skip
        others = sum(family.count * 1000 / family.period_ms for family in special)
        ticks = max(10, round((rate - others) * TICK_PERIOD_MS / 1000))
        tick = RecurringJobs(ticks, TICK_PERIOD_MS, "tick", 1, action=_tick, policy=Policy(CATCHUP), retry=TRIES)
        return cls((tick, *special), owned)

    async def create(self, client: AsyncClient) -> None:
        """Creates all jobs."""
        for family in self.families:
            await family.create(client)

    def expected(self, from_ms: int, until_ms: int) -> list[Due]:
        """All due times in [from_ms, until_ms)."""
        return [due for family in self.families for due in family.expected(from_ms, until_ms)]

    async def ledger(self, client: AsyncClient) -> list[LedgerLine]:
        """What the cluster says became of them."""
        found: list[LedgerLine] = []
        for family in self.families:
            found += await family.ledger(client)
        return found

    def policies(self) -> dict[int, Policy]:
        """By job number."""
        return {number: family.policy for family in self.families for number in family.numbers}

    def proven(self) -> frozenset[int]:
        """Jobs whose every start makes a file."""
        return frozenset(number for number in self.families[0].numbers if number % PROVEN_EACH == 0)

    def owned_numbers(self) -> dict[str, int]:
        """By job id."""
        return {self.owned.job_id(number): number for number in self.owned.numbers}

    async def pause(self, client: AsyncClient) -> None:
        """Stops all of it, so that the end of a run can be read in peace."""
        ids = [family.job_id(number) for family in self.families for number in family.numbers]

        async def pause(position: int) -> None:
            await client.pause_job(ids[position])

        await each(range(len(ids)), pause)

    @property
    def description(self) -> str:
        """One line."""
        return ", ".join(
            f"{family.count} {family.prefix} every {family.period_ms / 1000:g} s" for family in self.families
        )


def _tick(number: int) -> Action:
    return jobs.python(PROVE if number % PROVEN_EACH == 0 else NOOP)


def _fails(number: int) -> Action:
    return jobs.python(FAIL, {"failures": number % 3})


def _lasts_a_second(number: int) -> Action:
    del number
    return jobs.python(HOLD, {"seconds": 1})


def _lasts_too_long(number: int) -> Action:
    del number
    return jobs.python(HOLD, {"seconds": 5})
