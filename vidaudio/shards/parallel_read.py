"""Many small files of a store at once: where each answer takes long, waiting for one at a time would take days.

Answers come in the order asked for, and only a bounded number is held at a time.
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
    """`map(work, items)` in the threads of `pool`, with at most `ahead` items begun whose result was not taken."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        if len(waiting) == ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, item))
    while waiting:
        yield waiting.popleft().result()


def in_parallel(store: Store, ask: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(ask, items)` with as many questions open as the store is worth, in order."""
    readers = REMOTE_READERS if store.local_path("") is None else LOCAL_READERS
    with ThreadPoolExecutor(readers) as pool:
        try:
            yield from in_order(pool, ask, items, ahead=2 * readers)
        finally:
            pool.shutdown(cancel_futures=True)


def read_tables(
    store: Store, names: Iterable[str], *, columns: Sequence[str] | None = None
) -> Iterator[tuple[pa.Table, CommitRecord]]:
    """Committed tables and their records, in order, read side by side.

    Args:
        store: Of the corpus.
        names: Of the tables.
        columns: Those that are needed; all by default. Of a name that a table has not, nothing comes.

    Raises:
        Damaged: A table is.
    """

    def read(name: str) -> tuple[pa.Table, CommitRecord]:
        data = store.read(name)
        try:
            return decode_table(data, columns)
        except TABLE_DAMAGE as error:
            raise damaged_table(store, name, error) from error

    return in_parallel(store, read, names)
