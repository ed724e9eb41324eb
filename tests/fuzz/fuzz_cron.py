"""Cron expressions for a fuzzer that watches which branches its inputs reach; `make fuzz` runs it.

The same question as in tests/unit/schedule/test_cron_bounds.py: any text, in any dialect, leads to an answer or to a refusal.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["horologe"]):
    from horologe.node.cron import CronRule
    from horologe.node.cron_preview import due_times, warnings
    from horologe.node.cron_words import CronError, DayMatch, Dialect, GapPolicy, OverlapPolicy

NOW_MS = 1_800_000_000_000


def try_one(data: bytes) -> None:
    """Reads a rule out of the fuzzer's bytes, and asks for its next due time."""
    provider = atheris.FuzzedDataProvider(data)
    gap, overlap, day_match, dialect = (
        provider.PickValueInList(list(words)) for words in (GapPolicy, OverlapPolicy, DayMatch, Dialect)
    )
    identity = provider.PickValueInList(["", "namespaces/default/jobs/nightly"])
    expression = (
        provider.ConsumeUnicode(1_100) if provider.ConsumeBool() else provider.ConsumeBytes(200).decode("latin-1")
    )
    rule = CronRule(expression, "Europe/Berlin", gap, overlap, day_match, dialect, identity)
    try:
        found = list(due_times(rule, NOW_MS, 1))
        assert len(found) == 1
        assert found[0] > NOW_MS
        assert all("\n" not in warning for warning in warnings(rule, NOW_MS))
    except CronError as error:
        assert "\n" not in str(error)


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
