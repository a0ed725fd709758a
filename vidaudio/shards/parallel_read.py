"""Parallel reading of many small files of a store: with slow answers, reading one at a time would take days.

Results come in the order of the requests, and only a limited number of results is held at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa

from vidaudio.shards.commit import TABLE_DAMAGE, CommitRecord, damaged_table, decode_table
from vidaudio.shards.store import Store

Item = TypeVar("Item")
Result = TypeVar("Result")

REMOTE_READERS = 64
LOCAL_READERS = 4


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """Yield `map(work, items)` from the threads of `pool`, in order.

    At most `ahead` items are begun whose result has not been yielded.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        if len(waiting) == ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, item))
    while waiting:
        yield waiting.popleft().result()


def in_parallel(store: Store, ask: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `map(ask, items)` in order, with a number of threads that suits the store (local or remote)."""
    readers = REMOTE_READERS if store.local_path("") is None else LOCAL_READERS
    with ThreadPoolExecutor(readers) as pool:
        try:
            yield from in_order(pool, ask, items, ahead=2 * readers)
        finally:
            pool.shutdown(cancel_futures=True)


def read_tables(
    store: Store, names: Iterable[str], *, columns: Sequence[str] | None = None
) -> Iterator[tuple[pa.Table, CommitRecord]]:
    """Yield committed tables and their records, in order, read in parallel.

    Args:
        store: Store of the corpus.
        names: Names of the tables.
        columns: Columns to read; None means all. A column that a table does not have is left out.

    Raises:
        CorruptFileError: When a table is damaged.
    """

    def read(name: str) -> tuple[pa.Table, CommitRecord]:
        data = store.read(name)
        try:
            return decode_table(data, columns)
        except TABLE_DAMAGE as error:
            raise damaged_table(store, name, error) from error

    return in_parallel(store, read, names)
