"""Ids that nobody else has, from the randomness of one node."""

from __future__ import annotations

import random
import uuid


def new_uuid(randomness: random.Random) -> uuid.UUID:
    """A random UUID (version 4)."""
    return uuid.UUID(int=randomness.getrandbits(128), version=4)
