"""The tree of an expression. Every node has its position in the text, so that messages can point there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression.

    Attributes:
        start: Start of the part in the text, characters counted from 0.
        end: End of the part in the text, exclusive.
    """

    start: int
    end: int

    @property
    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return ()


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A number, a text, True or False."""

    value: float | str | bool


@dataclass(frozen=True, slots=True)
class ConstantList(Node):
    """A list of constants after `in`."""

    items: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class Column(Node):
    """A column, given by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """A number with its sign changed."""

    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The negation of a condition; `sign` is how it was written, `not` or `~`."""

    sign: str
    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """An operation on two numbers, one of `+ - * / // %`."""

    sign: str
    left: Node
    right: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The left and the right operand."""
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """A chain of comparisons, all of which must hold: `4 <= seconds < 10`.

    Attributes:
        operands: Compared values, one more than signs.
        signs: Comparison signs, each one of `== != < <= > >= in` and `not in`.
    """

    operands: tuple[Node, ...]
    signs: tuple[str, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return self.operands


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """Conditions of which all (`and`) or any (`or`) must hold."""

    sign: str
    parts: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The conditions."""
        return self.parts


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A call of a named function.

    Attributes:
        name: Name of the function.
        arguments: Arguments of the function.
        method: The call as it was written if it was a method of pandas, such as `.str.len()`; otherwise empty.
    """

    name: str
    arguments: tuple[Node, ...]
    method: str = ""

    @property
    def children(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def columns_of(node: Node) -> frozenset[str]:
    """Return the names of the columns that a node uses."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Column))
