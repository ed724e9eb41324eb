"""How many files and connections this process may have open.

Every connection is a file to the kernel. The limit that a process is born with, 1,024 on most systems, is for programs that wait
with select(2), which nothing here does.
"""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Takes as many as the system allows the process to take; answers how many that are (-1: no limit).

    A system that refuses leaves the limit as it was: fewer connections are no reason not to start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard
