"""Buckets: at the limit, one beyond it, after a while, and with too many keys."""

from __future__ import annotations

from horologe.node.rate_limits import TokenBuckets


def test_at_the_limit_and_one_beyond():
    buckets = TokenBuckets(per_second=2.0, burst=3.0)
    assert [buckets.take("a", 10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a", 10.0) == 0.5
    assert buckets.take("b", 10.0) == 0.0
    assert buckets.take("a", 10.25) == 0.25
    assert buckets.take("a", 10.5) == 0.0
    assert buckets.take("a", 10.5) > 0.0


def test_a_bucket_is_never_more_than_full():
    buckets = TokenBuckets(per_second=2.0, burst=2.0)
    assert [buckets.take("a", 1_000.0) > 0 for _ in range(3)] == [False, False, True]
    assert [buckets.take("a", 9_000.0) > 0 for _ in range(3)] == [False, False, True]


def test_a_clock_that_goes_back_gives_nothing():
    buckets = TokenBuckets(per_second=1.0, burst=1.0)
    assert buckets.take("a", 10.0) == 0.0
    assert buckets.take("a", 5.0) == 1.0


def test_memory_is_bounded_and_those_seen_last_are_kept():
    buckets = TokenBuckets(per_second=0.001, burst=1.0, keys_max=3)
    for key in "abc":
        assert buckets.take(key, 0.0) == 0.0
    assert buckets.take("a", 0.0) > 0.0
    assert buckets.take("d", 0.0) == 0.0
    assert len(buckets) == 3
    assert buckets.take("a", 0.0) > 0.0
    assert buckets.take("b", 0.0) == 0.0
