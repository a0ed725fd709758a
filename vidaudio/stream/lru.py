"""A small LRU cache of computed values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """An LRU cache of at most `limit` values; `forget` is called with each value that is dropped."""

    def __init__(self, limit: int, forget: Callable[[Value], object] | None = None) -> None:
        self._limit = limit
        self._forget = forget
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value under `key`; `make` computes it if it is missing."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
            return value
        value = make()
        self._values[key] = value
        if len(self._values) > self._limit:
            self._drop(self._values.popitem(last=False)[1])
        return value

    def drop(self, key: Hashable) -> None:
        """Drop the value under `key`, if there is one."""
        if key in self._values:
            self._drop(self._values.pop(key))

    def clear(self) -> None:
        """Drop all values."""
        while self._values:
            self._drop(self._values.popitem()[1])

    def _drop(self, value: Value) -> None:
        if self._forget is not None:
            self._forget(value)
