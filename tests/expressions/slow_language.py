"""Random expressions, each with what it means in plain Python, a row at a time: what the fast evaluation must equal."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]
TYPES = pa.schema(
    [
        ("seconds", pa.float64()),
        ("decode_errors", pa.int32()),
        ("silent", pa.bool_()),
        ("split", pa.string()),
        ("id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("frame_seconds", pa.list_(pa.float64())),
    ]
)
WORDS = ("dog", "Dog barking", "cat", "", "a'b", 'a"b', "größe", "日本", "-", "dog, cat", "ſ", "x" * 30)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.5, 3.0, 1e-3, 7.25, 100.0)


@dataclass(frozen=True)
class Meant:
    """An expression and its value for one row; a null is None."""

    text: str
    value: Callable[[Row], Any]


def random_table(rng: random.Random, rows: int) -> pa.Table:
    """Return a table with nulls, NaN, infinities and empty lists."""

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.2 else value

    numbers = (*NUMBERS, math.nan, math.inf, -math.inf)
    found = [
        {
            "seconds": maybe(rng.choice(numbers)),
            "decode_errors": maybe(rng.randrange(-3, 4)),
            "silent": maybe(rng.random() < 0.5),
            "split": maybe(rng.choice(WORDS)),
            "id": rng.choice(WORDS),
            "labels": maybe([rng.choice(WORDS) for _ in range(rng.randrange(4))]),
            "frame_seconds": maybe([rng.choice(numbers) for _ in range(rng.randrange(4))]),
        }
        for _ in range(rows)
    ]
    return pa.Table.from_pylist(found, schema=TYPES)


class Writer:
    """Writes random conditions over the columns of `TYPES`.

    Every part is put into parentheses, so that precedence has tests of its own.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def condition(self, depth: int) -> Meant:
        """Return a condition that looks at a column."""
        kinds = [self._silent, self._numbers, self._texts, self._among, self._listed, self._asked, self._null]
        if depth > 0:
            kinds += [self._logic] * 6
        return self._rng.choice(kinds)(depth)

    def _silent(self, depth: int) -> Meant:
        return Meant("silent", lambda row: bool(row["silent"]))

    def _logic(self, depth: int) -> Meant:
        left, right = self.condition(depth - 1), self.condition(depth - 1)
        return self._rng.choice(
            [
                Meant(f"({left.text}) and ({right.text})", lambda row: left.value(row) and right.value(row)),
                Meant(f"({left.text}) & ({right.text})", lambda row: left.value(row) and right.value(row)),
                Meant(f"({left.text}) or ({right.text})", lambda row: left.value(row) or right.value(row)),
                Meant(f"({left.text}) | ({right.text})", lambda row: left.value(row) or right.value(row)),
                Meant(f"not ({left.text})", lambda row: not left.value(row)),
                Meant(f"~({left.text})", lambda row: not left.value(row)),
            ]
        )

    def _number(self, depth: int) -> Meant:
        """Return a number that looks at a column."""
        rng = self._rng
        name = rng.choice(["seconds", "decode_errors"])
        plain = Meant(name, lambda row: _float(row[name]))
        if depth <= 0 or rng.random() < 0.3:
            return plain
        inner, other = self._number(depth - 1), self._constant() if rng.random() < 0.5 else self._number(depth - 1)
        sign = rng.choice(["+", "-", "*", "/", "//", "%"])
        call, called = rng.choice([("abs", abs), ("floor", _floor), ("ceil", _ceil)])
        text = self._text(depth - 1)
        return rng.choice(
            [
                Meant(
                    f"({inner.text} {sign} {other.text})", lambda row: _sum(sign, inner.value(row), other.value(row))
                ),
                Meant(f"{call}({inner.text})", lambda row: _apply(called, inner.value(row))),
                Meant(f"-({inner.text})", lambda row: _apply(lambda x: -x, inner.value(row))),
                Meant(f"len({text.text})", lambda row: _apply(lambda t: float(len(t)), text.value(row))),
                Meant("len(labels)", lambda row: float(len(row["labels"] or ()))),
                Meant(f"min({inner.text}, 1)", lambda row: _apply(lambda x: min(x, 1.0), inner.value(row))),
                Meant("min(frame_seconds)", lambda row: _extreme(min, row["frame_seconds"])),
                Meant("max(frame_seconds)", lambda row: _extreme(max, row["frame_seconds"])),
            ]
        )

    def _constant(self) -> Meant:
        number = self._rng.choice(NUMBERS)
        return Meant(repr(number), lambda row: number)

    def _text(self, depth: int) -> Meant:
        """Return a text that looks at a column."""
        name = self._rng.choice(["split", "id"])
        plain = Meant(name, lambda row: row[name])
        if depth <= 0:
            return plain
        inner = self._text(depth - 1)
        return self._rng.choice(
            [
                plain,
                Meant(f"lower({inner.text})", lambda row: _apply(str.lower, inner.value(row))),
                Meant(f"({inner.text}).str.upper()", lambda row: _apply(str.upper, inner.value(row))),
                Meant("join(labels, ',')", lambda row: ",".join(row["labels"] or ())),
            ]
        )

    def _numbers(self, depth: int) -> Meant:
        left, right = self._number(depth), self._constant() if self._rng.random() < 0.6 else self._number(depth)
        sign = self._rng.choice(list(_COMPARED))
        if self._rng.random() < 0.3:
            bound = self._constant()
            return Meant(
                f"{bound.text} <= {left.text} {sign} {right.text}",
                lambda row: (
                    _compare("<=", bound.value(row), left.value(row))
                    and _compare(sign, left.value(row), right.value(row))
                ),
            )
        return Meant(f"{left.text} {sign} {right.text}", lambda row: _compare(sign, left.value(row), right.value(row)))

    def _texts(self, depth: int) -> Meant:
        left, word = self._text(depth), self._rng.choice(WORDS)
        right = self._text(depth) if self._rng.random() < 0.3 else Meant(_quoted(word), lambda row: word)
        sign = self._rng.choice(list(_COMPARED))
        return Meant(f"{left.text} {sign} {right.text}", lambda row: _compare(sign, left.value(row), right.value(row)))

    def _among(self, depth: int) -> Meant:
        rng = self._rng
        is_not = rng.random() < 0.5
        sign = rng.choice(["not in", "!="]) if is_not else rng.choice(["in", "=="])
        if rng.random() < 0.5:
            value, items = self._number(depth), tuple(rng.choice(NUMBERS) for _ in range(rng.randrange(3)))
            written = f"[{', '.join(map(repr, items))}]"
        else:
            value, items = self._text(depth), tuple(rng.choice(WORDS) for _ in range(rng.randrange(3)))
            written = f"[{', '.join(map(_quoted, items))}]"
        return Meant(
            f"{value.text} {sign} {written}",
            lambda row: (_known(value.value(row)) and value.value(row) in items) != is_not,
        )

    def _listed(self, depth: int) -> Meant:
        rng = self._rng
        is_not = rng.random() < 0.5
        sign = "not in" if is_not else "in"
        word = rng.choice(WORDS)
        text, number = self._text(depth), self._number(depth)
        return rng.choice(
            [
                Meant(f"{_quoted(word)} {sign} labels", lambda row: (word in (row["labels"] or ())) != is_not),
                Meant(f"{_quoted(word)} {sign} split", lambda row: _is_part(word, row["split"]) != is_not),
                Meant(
                    f"{text.text} {sign} labels",
                    lambda row: (text.value(row) is not None and text.value(row) in (row["labels"] or ())) != is_not,
                ),
                Meant(
                    f"{number.text} {sign} frame_seconds",
                    lambda row: (
                        any(_compare("==", number.value(row), _float(x)) for x in row["frame_seconds"] or ()) != is_not
                    ),
                ),
            ]
        )

    def _asked(self, depth: int) -> Meant:
        word = self._rng.choice(WORDS)
        name, asked = self._rng.choice(
            [
                ("contains", lambda text: word in text),
                ("startswith", lambda text: text.startswith(word)),
                ("endswith", lambda text: text.endswith(word)),
                ("matches", lambda text: re.search(f"^{re.escape(word)}.", text) is not None),
            ]
        )
        part = _quoted(word) if name != "matches" else f"r{_quoted('^' + re.escape(word) + '.', raw=True)}"
        if name == "matches" and ("'" in word or '"' in word):
            return self._asked(depth)
        if self._rng.random() < 0.5:
            return Meant(f"{name}(labels, {part})", lambda row: any(map(asked, row["labels"] or ())))
        text = self._text(depth)
        return Meant(f"{name}({text.text}, {part})", lambda row: bool(_apply(asked, text.value(row))))

    def _null(self, depth: int) -> Meant:
        part = self._number(depth) if self._rng.random() < 0.5 else self._text(depth)
        text = self._rng.choice([f"is_null({part.text})", f"({part.text}).isna()"])
        return Meant(text, lambda row: not _known(part.value(row)))


_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _quoted(word: str, *, raw: bool = False) -> str:
    return f"'{word}'" if raw else repr(word)


def _is_part(word: str, text: str | None) -> bool:
    return text is not None and word in text


def _known(value: Any) -> bool:
    return value is not None and value == value


def _float(value: Any) -> float | None:
    return float(value) if _known(value) else None


def _compare(sign: str, left: Any, right: Any) -> bool:
    if not (_known(left) and _known(right)):
        return sign == "!="
    return _COMPARED[sign](left, right)


def _apply(change: Callable[[Any], Any], value: Any) -> Any:
    return change(value) if _known(value) else None


def _floor(number: float) -> float:
    return float(math.floor(number)) if math.isfinite(number) else number


def _ceil(number: float) -> float:
    return float(math.ceil(number)) if math.isfinite(number) else number


def _extreme(extreme: Callable[[Any], Any], numbers: list[float | None] | None) -> float | None:
    found = [_float(number) for number in numbers or ()]
    return extreme(found) if found and None not in found else None


def _sum(sign: str, left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    if sign in ("/", "//", "%") and right == 0:
        if sign == "%" or left == 0:
            return None
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    if sign in ("//", "%") and not (math.isfinite(left) and math.isfinite(right)):
        return _with_infinity(sign, left, right)
    found = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
        "//": lambda: left // right,
        "%": lambda: left % right,
    }[sign]()
    return _float(found)


def _with_infinity(sign: str, left: float, right: float) -> float | None:
    if not math.isfinite(left):
        return None
    if sign == "%":
        return left % right
    return left // right
