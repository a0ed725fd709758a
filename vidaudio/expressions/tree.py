"""The tree of an expression. Every node knows its place in the text, so that messages can point there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression.

    Attributes:
        start, end: Its place in the text, characters counted from 0.
    """

    start: int
    end: int

    @property
    def children(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A number, a text, True or False."""

    value: float | str | bool


@dataclass(frozen=True, slots=True)
class ConstantList(Node):
    """A list of constants behind `in`."""

    items: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class Column(Node):
    """A column by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """A number with its sign changed."""

    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The opposite of true or false; `sign` is how it was written, `not` or `~`."""

    sign: str
    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """Two numbers and one of `+ - * / // %`."""

    sign: str
    left: Node
    right: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """A chain of comparisons, all of which must hold: `4 <= seconds < 10`.

    Attributes:
        operands: One more than there are signs.
        signs: Of `== != < <= > >= in` and `not in`.
    """

    operands: tuple[Node, ...]
    signs: tuple[str, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.operands


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """Parts of which all (`and`) or any (`or`) must hold."""

    sign: str
    parts: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.parts


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A named function and its arguments.

    Attributes:
        method: How it was written where that was a method of pandas, such as `.str.len()`; else empty.
    """

    name: str
    arguments: tuple[Node, ...]
    method: str = ""

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def columns_of(node: Node) -> frozenset[str]:
    """Return the names of the columns that a node looks at."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Column))
