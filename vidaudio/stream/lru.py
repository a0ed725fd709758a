"""A small LRU cache of computed values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

Value = TypeVar("Value")
Key = TypeVar("Key", bound=Hashable)


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

    def get_many(self, keys: Sequence[Key], make: Callable[[list[Key]], Iterable[Value]]) -> list[Value]:
        """Return the values under some keys; `make` computes those that are missing, each once."""
        wanted = list(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self]
        # Nothing is added, and so nothing is dropped, before all that is there is read.
        found = {key: self._values[key] for key in wanted if key in self}
        if missing:
            found |= dict(zip(missing, make(missing), strict=True))
        for key in wanted:
            self.get(key, partial(found.__getitem__, key))
        return [found[key] for key in keys]

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
