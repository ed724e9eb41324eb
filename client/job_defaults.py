"""What a cluster stores where a definition says nothing, as people read it in helps and descriptions.

The cluster decides (`node/validation.py`); a test compares the two.
"""

from __future__ import annotations

from typing import Final

TIME_ZONE: Final = "UTC"
DIALECT: Final = "unix"
DST_GAP: Final = "run_after"
DST_OVERLAP: Final = "first"
DAY_MATCH: Final = "either"
CONDITION: Final = "all_succeeded"
ON_EXCLUSION: Final = "skip"

TIMEOUT: Final = "1h"
GRACE: Final = "10s"
MAX_ATTEMPTS: Final = 3
RETRY_BACKOFF: Final = "exponential"
RETRY_BASE: Final = "5s"
RETRY_FACTOR: Final = 2.0
RETRY_CAP: Final = "1h"
RETRY_JITTER: Final = "full"
OVERLAP: Final = "skip"
QUEUE_MAX: Final = 1_000
CATCHUP: Final = "latest"
CATCHUP_MAX: Final = 100
ON_LEASE_LOSS: Final = "retry"
QUEUE: Final = "default"
PRIORITY: Final = 5
