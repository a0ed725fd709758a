"""The functions that an expression may call, each with the kinds of its arguments and result; there are no others.

Results stay about as long as the texts in the columns: only `join` adds text, and its separator is short. Patterns are
RE2's, which takes time linear in the text and refuses patterns that would need much memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.expressions.kinds import Kind
from vidaudio.expressions.values import Lists, truth

_NUMBER, _BOOLEAN, _TEXT, _TEXTS, _NUMBERS = Kind.NUMBER, Kind.BOOLEAN, Kind.TEXT, Kind.TEXTS, Kind.NUMBERS


@dataclass(frozen=True, slots=True)
class Function:
    """A function of expressions.

    Attributes:
        usage: Examples of a call, for messages.
        results: Kind of the result, by the kinds of the arguments.
        apply: Callable that computes the result for all rows.
        constants: Numbers of the arguments that must be constant texts, counted from 0.
        longest_constant: Limit of the length of such a text, characters.
        repeats: Whether the function takes two or more arguments of the last kind.
    """

    usage: str
    results: Mapping[tuple[Kind, ...], Kind]
    apply: Callable[..., Any]
    constants: frozenset[int] = frozenset()
    longest_constant: int = 1_000
    repeats: bool = False


def check_pattern(pattern: str) -> str:
    """Return what is wrong with a pattern; empty for a valid pattern."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        return str(error).partition(": ")[2] or str(error)
    return ""


def _texts(change: Callable[[str], str]) -> Callable[[Any], Any]:
    """Return a function that changes every text of a column or of a column's lists."""

    def changed(value: Any) -> Any:
        if isinstance(value, Lists):
            return Lists(changed(value.elements), value.owners, value.rows)
        return pa.array([None if text is None else change(text) for text in value.to_pylist()], pa.string())

    return changed


def _holds(match: Callable[[pa.Array, str], pa.Array]) -> Callable[[Any, str], np.ndarray]:
    """Return a function that tests every text of a column; for a column of lists, whether any element passes."""

    def asked(value: Any, part: str) -> np.ndarray:
        if isinstance(value, Lists):
            return value.any(truth(match(value.elements, part)))
        return truth(match(value, part))

    return asked


def _length(value: Any) -> np.ndarray:
    if isinstance(value, Lists):
        return value.lengths
    return pc.utf8_length(value).cast(pa.float64()).to_numpy(zero_copy_only=False)


def _joined(value: Lists, separator: str) -> pa.Array:
    rows: list[list[str]] = [[] for _ in range(value.rows)]
    for owner, text in zip(value.owners.tolist(), value.elements.to_pylist(), strict=True):
        rows[owner].append(text or "")
    return pa.array([separator.join(texts) for texts in rows], pa.string())


def _extreme(extreme: np.ufunc, start: float) -> Callable[..., np.ndarray]:
    """Return a function for the smallest or largest number of a list or of arguments; null for an empty list."""

    def found(*values: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            if not isinstance(values[0], Lists):
                return functools.reduce(extreme, values)
            lists = values[0]
            result = np.full(lists.rows, start)
            extreme.at(result, lists.owners, lists.elements)
        result[lists.lengths == 0] = np.nan
        return result

    return found


def _is_null(value: Any) -> np.ndarray:
    return np.isnan(value) if isinstance(value, np.ndarray) else value.is_null().to_numpy(zero_copy_only=False)


def _quiet(ufunc: np.ufunc) -> Callable[[Any], Any]:
    def computed(value: Any) -> Any:
        with np.errstate(all="ignore"):
            return ufunc(value)

    return computed


# Kind of a function's value by the kinds of its arguments.
_Kinds = dict[tuple[Kind, ...], Kind]
_OF_TEXTS: _Kinds = {(_TEXT,): _TEXT, (_TEXTS,): _TEXTS}
_ASKED: _Kinds = {(_TEXT, _TEXT): _BOOLEAN, (_TEXTS, _TEXT): _BOOLEAN}
_OF_NUMBER: _Kinds = {(_NUMBER,): _NUMBER}
_OF_NUMBERS: _Kinds = {(_NUMBERS,): _NUMBER, (_NUMBER, _NUMBER): _NUMBER}
_SECOND = frozenset({1})

FUNCTIONS: Mapping[str, Function] = {
    "len": Function("len(id), len(labels)", {(k,): _NUMBER for k in (_TEXT, _TEXTS, _NUMBERS)}, _length),
    "contains": Function("contains(id, 'part')", _ASKED, _holds(pc.match_substring), _SECOND),
    "startswith": Function("startswith(id, 'beginning')", _ASKED, _holds(pc.starts_with), _SECOND),
    "endswith": Function("endswith(id, 'end')", _ASKED, _holds(pc.ends_with), _SECOND),
    "matches": Function("matches(id, r'pattern')", _ASKED, _holds(pc.match_substring_regex), _SECOND),
    "lower": Function("lower(id)", _OF_TEXTS, _texts(str.lower)),
    "upper": Function("upper(id)", _OF_TEXTS, _texts(str.upper)),
    "join": Function("join(labels, ',')", {(_TEXTS, _TEXT): _TEXT}, _joined, _SECOND, longest_constant=16),
    "abs": Function("abs(motion)", _OF_NUMBER, np.abs),
    "floor": Function("floor(seconds)", _OF_NUMBER, np.floor),
    "ceil": Function("ceil(seconds)", _OF_NUMBER, np.ceil),
    "sqrt": Function("sqrt(motion)", _OF_NUMBER, _quiet(np.sqrt)),
    "log10": Function("log10(motion)", _OF_NUMBER, _quiet(np.log10)),
    "min": Function("min(frame_seconds), min(seconds, 4)", _OF_NUMBERS, _extreme(np.minimum, np.inf), repeats=True),
    "max": Function("max(frame_seconds), max(seconds, 4)", _OF_NUMBERS, _extreme(np.maximum, -np.inf), repeats=True),
    "is_null": Function("is_null(split)", {(_NUMBER,): _BOOLEAN, (_TEXT,): _BOOLEAN}, _is_null),
}

# Methods of pandas that older selections use, and the function that replaces each.
METHODS: Mapping[str, str] = {
    "str.len": "len",
    "str.contains": "matches",
    "str.startswith": "startswith",
    "str.endswith": "endswith",
    "str.lower": "lower",
    "str.upper": "upper",
    "str.join": "join",
    "abs": "abs",
    "isin": "in",
    "between": "between",
    "isna": "is_null",
    "isnull": "is_null",
    "notna": "not is_null",
    "notnull": "not is_null",
}
