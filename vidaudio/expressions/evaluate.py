"""The evaluation of a checked expression for all rows at once, over NumPy and Arrow columns.

A comparison with a null is false, but true with `!=` and `not in`; so `not` only ever sees true and false. Arithmetic
with a null gives null. Division by zero gives an infinity or null, as with floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.expressions.functions import FUNCTIONS
from vidaudio.expressions.tree import (
    Arithmetic,
    Call,
    Column,
    Comparison,
    Constant,
    ConstantList,
    Logic,
    Negative,
    Node,
    Not,
)
from vidaudio.expressions.values import Lists, truth

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.remainder,
}
_NUMBERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_TEXTS: Mapping[str, Callable[[Any, Any], pa.Array]] = {
    "==": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def evaluate(node: Node, columns: Mapping[str, Any]) -> Any:
    """Return the value of a node.

    Args:
        node: Node of an expression that `check_condition` has accepted.
        columns: Columns by name, as returned by `value_of`.
    """
    match node:
        case Constant():
            return node.value if isinstance(node.value, str) else np.asarray(node.value)
        case Column():
            return columns[node.name]
        case Negative():
            return -_as_number(evaluate(node.operand, columns))
        case Arithmetic():
            left, right = (_as_number(evaluate(part, columns)) for part in (node.left, node.right))
            with np.errstate(all="ignore"):
                return _ARITHMETIC[node.sign](left, right)
        case Not():
            return ~evaluate(node.operand, columns)
        case Logic():
            combine = np.logical_and if node.sign == "and" else np.logical_or
            value = evaluate(node.parts[0], columns)
            for part in node.parts[1:]:
                value = combine(value, evaluate(part, columns))
            return value
        case Comparison():
            return _comparison(node, columns)
        case Call():
            arguments = [evaluate(argument, columns) for argument in node.arguments]
            return FUNCTIONS[node.name].apply(*arguments)
    raise AssertionError(f"{type(node).__name__} was not refused")


def _comparison(node: Comparison, columns: Mapping[str, Any]) -> np.ndarray:
    values = [part if isinstance(part, ConstantList) else evaluate(part, columns) for part in node.operands]
    holds = None
    for left, sign, right in zip(values, node.signs, values[1:], strict=False):
        here = _pair(left, sign, right)
        holds = here if holds is None else holds & here
    assert holds is not None, "a comparison has two sides"
    return holds


def _pair(left: Any, sign: str, right: Any) -> np.ndarray:
    if sign in ("not in", "!="):
        return ~_pair(left, "in" if sign == "not in" else "==", right)
    if isinstance(left, ConstantList):
        return _among(right, left)
    if isinstance(right, ConstantList):
        return _among(left, right)
    if sign == "in":
        return _in_column(left, right)
    if _is_text(left) or _is_text(right):
        return truth(_TEXTS[sign](left, right))
    return _NUMBERS[sign](_as_number(left), _as_number(right))


def _among(value: Any, listed: ConstantList) -> np.ndarray:
    items = [item.value for item in listed.items]
    if isinstance(value, pa.Array):
        return truth(pc.is_in(value, pa.array(items, pa.string())))
    return np.isin(_as_number(value), np.asarray(items, np.float64))


def _in_column(value: Any, column: Any) -> np.ndarray:
    """Return whether a value is an element of a list, or a part of a text."""
    if isinstance(column, pa.Array):
        return truth(pc.match_substring(column, value))
    lists: Lists = column
    if isinstance(value, pa.Array):
        return lists.any(truth(pc.equal(lists.elements, value.take(pa.array(lists.owners)))))
    if isinstance(value, str):
        return lists.any(truth(pc.equal(lists.elements, value)))
    number = _as_number(value)
    return lists.any(lists.elements == (number if number.ndim == 0 else number[lists.owners]))


def _is_text(value: Any) -> bool:
    return isinstance(value, str | pa.Array)


def _as_number(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
