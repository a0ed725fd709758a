"""Kinds of values in an expression: of a column, and of the result of a part."""

from __future__ import annotations

import enum

import pyarrow as pa


class Kind(enum.Enum):
    """The kind of a value; a member's value is its name in messages."""

    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXT = "text"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"

    @property
    def is_list(self) -> bool:
        """True for lists of texts or numbers."""
        return self in (Kind.TEXTS, Kind.NUMBERS)

    @property
    def is_numeric(self) -> bool:
        """True for numbers and for booleans, which count as 1 and 0 among numbers."""
        return self in (Kind.NUMBER, Kind.BOOLEAN)


def kind_of(data_type: pa.DataType) -> Kind:
    """Return the kind of a column of an Arrow type.

    Raises:
        TypeError: When expressions cannot use such a column.
    """
    if pa.types.is_boolean(data_type):
        return Kind.BOOLEAN
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        return Kind.NUMBER
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return Kind.TEXT
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        inner = kind_of(data_type.value_type)
        if inner is Kind.TEXT:
            return Kind.TEXTS
        if inner is Kind.NUMBER:
            return Kind.NUMBERS
    raise TypeError(f"a column of type {data_type} cannot be part of an expression")
