"""The parser of expressions: turns tokens into a tree, or raises an error that points at what does not fit.

Operators from loosest to tightest: `or` and `|`; `and` and `&`; `not`; comparisons, which may be chained; `+ -`; `* /
// %`; a sign; the methods of pandas that have a function here. As in pandas, and unlike in Python, `&` and `|` bind
like `and` and `or`: `seconds > 4 & motion > 1` needs no parentheses. Python's own parser could not do that, and the
language that it accepts changes from version to version.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypeVar

from vidaudio.expressions.errors import ExpressionError
from vidaudio.expressions.functions import FUNCTIONS, METHODS
from vidaudio.expressions.tokens import Token, tokens_of
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

MOST_NODES = 256
MOST_NESTED = 24
MOST_LISTED = 1_000
PartT = TypeVar("PartT")
NodeT = TypeVar("NodeT", bound=Node)
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_SUMS, _PRODUCTS = frozenset({"+", "-"}), frozenset({"*", "/", "//", "%"})


def parse(text: str) -> Node:
    """Return the tree of an expression.

    Raises:
        ExpressionError: When the text is not an expression, or is too large.
    """
    try:
        return _Parser(text).whole()
    except ExpressionError as error:
        # Drop the frames of the recursive descent: processes that pickle a traceback would nest as deep as its frames.
        raise error.with_traceback(None) from None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._place = 0
        self._nodes = 0
        self._nested = 0

    def whole(self) -> Node:
        if self._next.kind == "end":
            raise self._error(self._next, "the expression is empty")
        node = self._or()
        if self._next.kind != "end":
            raise self._error(self._next, self._unexpected())
        return node

    def _or(self) -> Node:
        return self._logic("or", "|", self._and)

    def _and(self) -> Node:
        return self._logic("and", "&", self._not)

    def _logic(self, word: str, sign: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take(word, sign):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return self._counted(Logic(parts[0].start, parts[-1].end, word, tuple(parts)))

    def _not(self) -> Node:
        if (token := self._take("not")) is None:
            return self._comparison()
        with_in = self._next.value == "in" and self._next.kind == "sign"
        if with_in:
            raise self._error(self._next, "`not in` needs something before it, as in split not in ['test']")
        operand = self._deeper(token, self._not)
        return self._counted(Not(token.start, operand.end, "not", operand))

    def _comparison(self) -> Node:
        operands, signs = [self._arithmetic()], []
        while True:
            token = self._next
            if token.kind == "sign" and token.value in _COMPARISONS:
                self._place += 1
                signs.append(str(token.value))
            elif token.value == "not" and token.kind == "sign":
                self._place += 1
                if not self._take("in"):
                    raise self._error(token, "an `and` or `or` is missing before not, or an `in` behind it")
                signs.append("not in")
            else:
                break
            operands.append(self._arithmetic())
        if not signs:
            return operands[0]
        return self._counted(Comparison(operands[0].start, operands[-1].end, tuple(operands), tuple(signs)))

    def _arithmetic(self) -> Node:
        return self._left_to_right(_SUMS, lambda: self._left_to_right(_PRODUCTS, self._signed))

    def _left_to_right(self, signs: frozenset[str], part: Callable[[], Node]) -> Node:
        node = part()
        while self._next.kind == "sign" and self._next.value in signs:
            sign = str(self._next.value)
            self._place += 1
            right = part()
            node = self._counted(Arithmetic(node.start, right.end, sign, node, right))
        return node

    def _signed(self) -> Node:
        if (token := self._take("-", "+", "~")) is None:
            return self._with_methods()
        operand = self._deeper(token, self._signed)
        if token.value == "~":
            return self._counted(Not(token.start, operand.end, "~", operand))
        if token.value == "+":
            return operand
        if isinstance(operand, Constant) and isinstance(operand.value, float):
            return Constant(token.start, operand.end, -operand.value)
        return self._counted(Negative(token.start, operand.end, operand))

    def _with_methods(self) -> Node:
        node = self._primary()
        while True:
            if (token := self._take("[")) is not None:
                reason = (
                    "items cannot be taken by [ ]; a list is asked with 'dog' in labels, len(...), min(...), max(...)"
                )
                raise self._error(token, reason)
            if (token := self._take("(")) is not None:
                raise self._error(token, "only named functions can be called")
            if (token := self._take(".")) is None:
                return node
            node = self._method(node, token)

    def _method(self, node: Node, dot: Token) -> Node:
        name = self._name(dot)
        if name.value == "str" and self._take("."):
            part = self._name(dot)
            method, end = f"str.{part.value}", part.end
        else:
            method, end = str(name.value), name.end
        if method not in METHODS:
            known = ", ".join(f".{known}()" for known in METHODS)
            reason = f"nothing can be reached with a dot but {known}; functions are {_names_of_functions()}"
            raise ExpressionError(self._text, dot.start, end, reason)
        opening = self._take("(")
        if opening is None:
            raise ExpressionError(self._text, dot.start, end, f"this needs parentheses: .{method}()")
        arguments = self._deeper(opening, self._arguments)
        end = self._tokens[self._place - 1].end
        called = METHODS[method]
        call = Call(node.start, end, called.removeprefix("not "), (node, *arguments), f".{method}()")
        if called == "in":
            return self._membership(node, arguments, end, dot)
        if called == "between":
            if len(arguments) != 2:
                raise ExpressionError(self._text, dot.start, end, "this needs two bounds, as in seconds.between(4, 10)")
            low, high = arguments
            return self._counted(Comparison(node.start, end, (low, node, high), ("<=", "<=")))
        self._counted(call)
        return self._counted(Not(node.start, end, "not", call)) if called.startswith("not ") else call

    def _membership(self, node: Node, arguments: tuple[Node, ...], end: int, dot: Token) -> Node:
        if len(arguments) != 1 or not isinstance(arguments[0], ConstantList):
            raise ExpressionError(self._text, dot.start, end, "this needs a list, as in split.isin(['val', 'test'])")
        return self._counted(Comparison(node.start, end, (node, arguments[0]), ("in",)))

    def _primary(self) -> Node:
        token = self._next
        if token.kind in ("number", "text"):
            self._place += 1
            if token.kind == "text" and self._next.kind == "text":
                raise self._error(self._next, "two texts in a row; is a comma or an `in` missing between them?")
            return self._counted(Constant(token.start, token.end, token.value))
        if token.kind == "name":
            self._place += 1
            return (
                self._call(token)
                if self._take("(")
                else self._counted(Column(token.start, token.end, str(token.value)))
            )
        if self._take("True", "False"):
            return self._counted(Constant(token.start, token.end, token.value == "True"))
        if self._take("("):
            return self._deeper(token, lambda: self._parenthesised(token))
        if self._take("["):
            return self._list(token, "]", [])
        raise self._error(token, self._unexpected(wanted=True))

    def _parenthesised(self, opening: Token) -> Node:
        node = self._or()
        if self._take(","):
            return self._list(opening, ")", [node])
        self._expect(")", opening)
        return node

    def _list(self, opening: Token, closing: str, items: list[Node]) -> ConstantList:
        while not self._take(closing):
            if len(items) >= MOST_LISTED:
                raise self._error(self._next, f"a list has at most {MOST_LISTED:,} values")
            # An item is only a sign and a constant. No tree is built for a list, so its items are not counted as nodes.
            items.append(self._item(opening))
            if not self._take(","):
                self._expect(closing, opening)
                break
        constants = [item for item in items if isinstance(item, Constant)]
        for item in items:
            if not isinstance(item, Constant):
                reason = "a list holds texts and numbers only, as in ['val', 'test']"
                raise ExpressionError(self._text, item.start, item.end, reason)
        return self._counted(ConstantList(opening.start, self._tokens[self._place - 1].end, tuple(constants)))

    def _item(self, opening: Token) -> Node:
        before = self._nodes
        node = self._deeper(opening, self._arithmetic)
        if isinstance(node, Constant):
            self._nodes = before
        return node

    def _call(self, name: Token) -> Node:
        if name.value not in FUNCTIONS:
            near = difflib.get_close_matches(str(name.value)[:64], FUNCTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise self._error(name, f"there is no such function{hint} Functions are {_names_of_functions()}")
        arguments = self._deeper(name, self._arguments)
        end = self._tokens[self._place - 1].end
        return self._counted(Call(name.start, end, str(name.value), arguments))

    def _arguments(self) -> tuple[Node, ...]:
        """Parse the arguments of a call, up to and including the closing parenthesis."""
        opening = self._tokens[self._place - 1]
        arguments: list[Node] = []
        while not self._take(")"):
            arguments.append(self._or())
            if not self._take(","):
                self._expect(")", opening)
                break
        return tuple(arguments)

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self, *signs: str) -> Token | None:
        """Consume and return the next token if it is one of these signs; otherwise return None."""
        token = self._next
        if token.kind != "sign" or token.value not in signs:
            return None
        self._place += 1
        return token

    def _name(self, dot: Token) -> Token:
        token = self._next
        if token.kind not in ("name", "sign") or not str(token.value).isidentifier():
            raise self._error(dot, "a dot can only stand inside of a number or before the name of a method")
        self._place += 1
        return token

    def _expect(self, sign: str, opening: Token) -> None:
        if not self._take(sign):
            if self._next.kind == "end":
                raise self._error(opening, f"this {opening.value} is never closed")
            raise self._error(self._next, self._unexpected())

    def _deeper(self, token: Token, part: Callable[[], PartT]) -> PartT:
        """Parse a part that is nested one level deeper."""
        self._nested += 1
        if self._nested > MOST_NESTED:
            raise self._error(token, f"parentheses, functions, signs and `not` nest at most {MOST_NESTED} deep")
        node = part()
        self._nested -= 1
        return node

    def _counted(self, node: NodeT) -> NodeT:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            reason = f"an expression has at most {MOST_NODES} parts; many values are asked with column in ['a', 'b']"
            raise ExpressionError(self._text, node.start, node.start + 1, reason)
        return node

    def _unexpected(self, *, wanted: bool = False) -> str:
        token = self._next
        if token.kind == "end":
            return "something is missing here: a column, a number or a text"
        if wanted:
            return "a column, a number or a text is missing before this"
        if token.kind == "sign":
            return "this does not fit here"
        return "an operator such as and, or, == is missing before this"

    def _error(self, token: Token, reason: str) -> ExpressionError:
        return ExpressionError(self._text, token.start, token.end, reason)


def _names_of_functions() -> str:
    return ", ".join(FUNCTIONS)
