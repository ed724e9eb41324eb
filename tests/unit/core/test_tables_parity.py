"""The tables of the tests behave as those over LMDB do: random operations on both, everything compared."""

from __future__ import annotations

from typing import Any

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tables import dict_tables, dump

from horologe.raft.store import Store
from horologe.raft.tables import Tables

keys = st.sampled_from([bytes([first, second]) for first in (0, 1, 7, 255) for second in (0, 1, 255)] + [b"a", b"ab"])
bounds = st.one_of(keys, st.just(b"\xff\xff\xff"))
values = st.binary(max_size=4)
set_values = st.binary(min_size=3, max_size=3)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, values),
        st.tuples(st.just("put_new"), keys, values),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("scan"), st.one_of(bounds, st.just(b""))),
        st.tuples(st.just("scan_down"), bounds),
    ),
    max_size=40,
)
set_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, set_values),
        st.tuples(st.just("delete"), keys, set_values),
        st.tuples(st.just("scan"), st.one_of(bounds, st.just(b""))),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Store(tmp_path_factory.mktemp("parity") / "data", "n1", bytes_max=1 << 24)
    yield made
    made.close()


def _do(table: Any, name: str, *arguments: bytes) -> Any:
    answer = getattr(table, name)(*arguments)
    if name == "put":
        return None  # the protocol promises nothing
    return list(answer) if name.startswith("scan") else answer


@given(plain=operations, sets=set_operations)
@settings(max_examples=150)
def test_random_operations_answer_the_same(store: Store, plain: list[Any], sets: list[Any]) -> None:
    in_dicts, in_lmdb = dict_tables(), store.tables
    try:
        for operation in plain:
            assert _do(in_dicts.meta, *operation) == _do(in_lmdb.meta, *operation), operation
        for operation in sets:
            assert _do(in_dicts.timer, *operation) == _do(in_lmdb.timer, *operation), operation
        assert {name: rows for name, rows in dump(in_lmdb).items() if name in ("meta", "timer")} == {
            name: rows for name, rows in dump(in_dicts).items() if name in ("meta", "timer")
        }
    finally:
        store.abort()


@pytest.mark.parametrize("key", [b"", b"x" * 512], ids=["empty", "too long"])
def test_keys_that_lmdb_refuses_are_refused(store: Store, key: bytes) -> None:
    def calls(tables: Tables) -> list[Any]:
        return [lambda: tables.meta.get(key), lambda: tables.meta.put(key, b"value"), lambda: tables.meta.delete(key)]

    for call in calls(dict_tables()):
        with pytest.raises(ValueError, match="LMDB takes 1 to 511"):
            call()
    # LMDB itself looks up a key that is too long and finds nothing; it refuses to store it.
    with pytest.raises(lmdb.BadValsizeError):
        calls(store.tables)[1]()
    store.abort()


def test_a_table_must_not_change_under_a_scan() -> None:
    table = dict_tables().meta
    table.put(b"a", b"")
    table.put(b"b", b"")
    scan = table.scan()
    next(scan)
    table.delete(b"a")
    with pytest.raises(AssertionError, match="changed while it was scanned"):
        next(scan)
