"""A failing seed made smaller: fewer seconds, fewer classes of faults, fewer machines, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from horologe.chaos.sim.nemesis import FAULTS
from horologe.chaos.sim.seeds import SeedOptions, SeedResult, run_seed

RUNS_MAX = 60
EVERYTHING = "all"


def shrink(failed: SeedResult, tell: Callable[[str], None] = lambda line: None) -> SeedResult:
    """The smallest run found that breaks the same invariant, with its story."""
    best = failed
    runs = 0
    progress = True
    while progress and runs < RUNS_MAX:
        progress = False
        for change, options in _smaller(best):
            runs += 1
            result = run_seed(failed.seed, options)
            if result.invariant == failed.invariant:
                tell(f"smaller: {change}")
                best, progress = result, True
                break
            if runs >= RUNS_MAX:
                break
    return run_seed(failed.seed, replace(best.options, keep_story=True))


def _smaller(result: SeedResult) -> Iterator[tuple[str, SeedOptions]]:
    options = result.options
    happened = [name for name in FAULTS if name not in options.off and result.counts[f"fault: {name}"]]
    silent = frozenset(FAULTS) - set(happened)
    if silent - options.off:
        yield "without the faults that did not happen", replace(options, off=options.off | silent)
    if result.failed_at + 1.0 < options.seconds:
        yield f"{result.failed_at + 1.0:.0f} s", replace(options, seconds=float(round(result.failed_at + 1.0)))
    for name in happened:
        yield f"without {name}", replace(options, off=options.off | {name})
    if options.seconds > 2.0:
        yield f"{options.seconds / 2:.0f} s", replace(options, seconds=float(round(options.seconds / 2)))
    for nodes in range(1, result.nodes):
        yield f"{nodes} nodes", replace(options, nodes=nodes)
    if options.workers != 1:
        yield "1 worker", replace(options, workers=1)


def command_of(result: SeedResult) -> str:
    """The command that does the same again."""
    options = result.options
    words = [f"horologe chaos sim --seed {result.seed} --seconds {options.seconds:g}"]
    if options.nodes:
        words.append(f"--nodes {options.nodes}")
    if options.workers:
        words.append(f"--workers {options.workers}")
    happen = sorted(FAULTS.keys() - options.off)
    if not happen:
        words.append(f"--without {EVERYTHING}")
    elif len(happen) < len(options.off):
        words += [f"--only {name}" for name in happen]
    else:
        words += [f"--without {name}" for name in sorted(options.off)]
    if options.quiet:
        words.append("--quiet")
    return " ".join(words)
