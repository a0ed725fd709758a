"""Checks that an expression fits the columns: finds the kind of every part, or reports what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from vidaudio.expressions.errors import ExpressionError, shortened
from vidaudio.expressions.functions import FUNCTIONS, Function, check_pattern
from vidaudio.expressions.kinds import Kind
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
    columns_of,
)

# Methods that pandas applies to a list as a whole; its other methods test texts and give nothing for lists.
_METHODS_OF_LISTS = frozenset({".str.len()", ".str.join()"})


def check_condition(text: str, tree: Node, columns: Mapping[str, Kind]) -> None:
    """Refuse an expression that is not a condition over these columns.

    Args:
        text: The expression.
        tree: The parsed expression.
        columns: Kind of every column that the expression may use.

    Raises:
        ExpressionError: When a column does not exist, kinds do not fit together, the expression as a whole is not true
            or false for every row, or it uses no column.
    """
    _Checker(text, columns).condition(tree)


class _Checker:
    def __init__(self, text: str, columns: Mapping[str, Kind]) -> None:
        self._text, self._columns = text, columns

    def kind(self, node: Node) -> Kind:
        match node:
            case Constant():
                if isinstance(node.value, bool):
                    return Kind.BOOLEAN
                return Kind.TEXT if isinstance(node.value, str) else Kind.NUMBER
            case Column():
                return self._column(node)
            case Negative():
                self._number(node.operand, "-")
                return Kind.NUMBER
            case Arithmetic():
                self._number(node.left, node.sign)
                self._number(node.right, node.sign)
                return Kind.NUMBER
            case Not():
                self._boolean(node.operand, node.sign)
                return Kind.BOOLEAN
            case Logic():
                for part in node.parts:
                    self._boolean(part, node.sign)
                return Kind.BOOLEAN
            case Comparison():
                return self._comparison(node)
            case Call():
                return self._call(node)
        raise self._error(node, "a list can only stand behind `in` and `not in`")

    def condition(self, node: Node) -> None:
        kind = self.kind(node)
        if not columns_of(node):
            raise self._error(node, "this looks at no column, so it says nothing of a clip")
        if kind is not Kind.BOOLEAN:
            reason = f"this must be true or false for every clip, and is {kind.value}"
            raise self._error(node, f"{reason}; {self._condition(node, kind)}")

    def _column(self, node: Column) -> Kind:
        if node.name not in self._columns:
            near = difflib.get_close_matches(node.name[:64], self._columns, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            names = ", ".join(self._columns)
            raise self._error(node, f"there is no such column{hint} The columns are {names}")
        return self._columns[node.name]

    def _number(self, node: Node, sign: str) -> None:
        kind = self.kind(node)
        if not kind.is_numeric:
            hint = f"; {_of_list(self._shown(node), kind)}" if kind.is_list else ""
            raise self._error(node, f"{sign} takes numbers, and this is {kind.value}{hint}")

    def _boolean(self, node: Node, sign: str) -> None:
        kind = self.kind(node)
        if kind is not Kind.BOOLEAN:
            narrow = "; ~ takes only what follows it at once, so put the condition into ( )" if sign == "~" else ""
            reason = f"{sign} takes what is true or false, and this is {kind.value}; {self._condition(node, kind)}"
            raise self._error(node, f"{reason}{narrow}")

    def _condition(self, node: Node, kind: Kind) -> str:
        """Return how to make a condition out of a part that is not one."""
        shown = self._shown(node)
        if kind.is_list:
            return _of_list(shown, kind)
        return f"compare it, as in {shown} > 0" if kind is Kind.NUMBER else f"compare it, as in {shown} == 'this'"

    def _comparison(self, node: Comparison) -> Kind:
        pairs = zip(node.operands, node.signs, node.operands[1:], strict=False)
        for left, sign, right in pairs:
            if not columns_of(left) and not columns_of(right):
                raise ExpressionError(self._text, left.start, right.end, "this compares two constants, and no column")
            if sign in ("in", "not in"):
                self._membership(left, sign, right)
            elif isinstance(left, ConstantList) or isinstance(right, ConstantList):
                self._one_of_list(left, sign, right)
            else:
                self._pair(left, sign, right)
        return Kind.BOOLEAN

    def _pair(self, left: Node, sign: str, right: Node) -> None:
        kinds = self.kind(left), self.kind(right)
        for node, other, kind in ((left, right, kinds[0]), (right, left, kinds[1])):
            if kind.is_list:
                reason = f"{self._shown(node)} is {kind.value} and cannot be compared with {sign}"
                raise self._error(node, f"{reason}; {_of_list(self._shown(node), kind, other, sign)}")
        if all(kind.is_numeric for kind in kinds) or kinds[0] is kinds[1]:
            return
        reason = f"{self._shown(left)} is {kinds[0].value} and {self._shown(right)} is {kinds[1].value}"
        number = next((n for n in (left, right) if isinstance(n, Constant) and not isinstance(n.value, str)), None)
        hint = f"; a text is written in quotation marks, '{self._shown(number)}'" if number is not None else ""
        raise ExpressionError(self._text, left.start, right.end, f"{reason}: they cannot be compared{hint}")

    def _one_of_list(self, left: Node, sign: str, right: Node) -> None:
        """Check `==` and `!=` with a list, which mean `in` and `not in`, as in pandas' expressions."""
        if sign not in ("==", "!=") or (isinstance(left, ConstantList) and isinstance(right, ConstantList)):
            raise ExpressionError(self._text, left.start, right.end, "a list is asked with `in` and `not in`")
        value, listed = (left, right) if isinstance(right, ConstantList) else (right, left)
        self._membership(value, "in" if sign == "==" else "not in", listed)

    def _membership(self, left: Node, sign: str, right: Node) -> None:
        if isinstance(left, ConstantList):
            reason = f"write it for each, as in 'dog' {sign} labels or 'cat' {sign} labels"
            raise self._error(left, f"one value is wanted before `{sign}`, and this is a list; {reason}")
        kind = self.kind(left)
        if kind.is_list:
            wanted = right.items[0] if isinstance(right, ConstantList) and right.items else None
            hint = _of_list(self._shown(left), kind, wanted, "!=" if sign == "not in" else "==")
            raise self._error(left, f"{self._shown(left)} is {kind.value}; {hint}")
        if isinstance(right, ConstantList):
            self._among_constants(left, kind, right)
            return
        inside = self.kind(right)
        if isinstance(right, Constant):
            raise self._error(right, f"a list is wanted behind `{sign}`, as in ['val', 'test']")
        if inside is Kind.TEXT:
            if not isinstance(left, Constant) or kind is not Kind.TEXT:
                raise self._error(left, f"a text in quotation marks is wanted before `{sign} {self._shown(right)}`")
        elif not ((inside is Kind.TEXTS and kind is Kind.TEXT) or (inside is Kind.NUMBERS and kind.is_numeric)):
            hint = f"; a single value is compared with {'==' if sign == 'in' else '!='}" if not inside.is_list else ""
            reason = f"{self._shown(right)} is {inside.value}, and {self._shown(left)} is {kind.value}{hint}"
            raise ExpressionError(self._text, left.start, right.end, reason)

    def _among_constants(self, left: Node, kind: Kind, right: ConstantList) -> None:
        for item in right.items:
            of_item = self.kind(item)
            if not (of_item is kind or (of_item.is_numeric and kind.is_numeric)):
                reason = f"this is {of_item.value}, and {self._shown(left)} is {kind.value}"
                raise self._error(item, reason)

    def _call(self, node: Call) -> Kind:
        function = FUNCTIONS[node.name]
        if any(isinstance(argument, ConstantList) for argument in node.arguments):
            raise self._error(node, f"a list can only stand behind `in` and `not in`; write {function.usage}")
        kinds = tuple(self.kind(argument) for argument in node.arguments)
        if node.method and kinds[0].is_list and node.method not in _METHODS_OF_LISTS:
            raise self._error(node, self._method_of_list(node, kinds[0]))
        taken = kinds
        if function.repeats and len(kinds) > 2 and set(kinds) == {kinds[1]}:
            taken = kinds[:2]
        if taken not in function.results:
            shown = ", ".join(kind.value for kind in kinds) or "nothing"
            null = " (true or false and lists are never null)" if node.name == "is_null" else ""
            raise self._error(node, f"{node.name} cannot be asked of {shown}{null}; write {function.usage}")
        self._constants(node, function)
        return function.results[taken]

    def _constants(self, node: Call, function: Function) -> None:
        if not columns_of(node):
            raise self._error(node, "this looks at no column")
        if not columns_of(node.arguments[0]) and not function.repeats:
            raise self._error(node.arguments[0], f"a column is wanted here, as in {function.usage}")
        for place in function.constants:
            constant = node.arguments[place]
            if not isinstance(constant, Constant) or not isinstance(constant.value, str):
                reason = f"a text in quotation marks is wanted here, as in {function.usage}"
                raise self._error(constant, reason)
            if len(constant.value) > function.longest_constant:
                raise self._error(constant, f"this text has at most {function.longest_constant} characters")
            if node.name == "matches" and (wrong := check_pattern(constant.value)):
                reason = f"this is no pattern of RE2 ({shortened(wrong, 120)}); letters alone: contains(id, 'part')"
                raise self._error(constant, reason)

    def _method_of_list(self, node: Call, kind: Kind) -> str:
        column = self._shown(node.arguments[0])
        reason = f"{column} is {kind.value}, of which {node.method} says nothing"
        if kind is Kind.NUMBERS:
            return f"{reason}; {_of_list(column, kind)}"
        rest = "".join(f", {self._shown(argument)}" for argument in node.arguments[1:])
        name = "contains" if node.name == "matches" else node.name
        wanted = f"; {_of_list(column, kind, node.arguments[1])}" if rest else f"; {_of_list(column, kind)}"
        if node.name == "is_null":
            return f"{reason}{wanted}"
        if node.name in ("lower", "upper"):
            return f"{reason}; write 'dog' in {name}({column})"
        return f"{reason}; write {name}({column}{rest}) for any of its elements{wanted}"

    def _shown(self, node: Node) -> str:
        return shortened(self._text[node.start : node.end])

    def _error(self, node: Node, reason: str) -> ExpressionError:
        return ExpressionError(self._text, node.start, node.end, reason)


def _of_list(column: str, kind: Kind, wanted: Node | None = None, sign: str = "==") -> str:
    """Return how to write a condition on a column of lists.

    Args:
        column: The column as it was written.
        kind: A list of texts or numbers.
        wanted: What the column was compared with; None if it was compared with nothing.
        sign: Sign of the comparison.
    """
    if kind is Kind.NUMBERS:
        return f"ask len({column}), min({column}), max({column}), or 1.0 in {column}"
    value = wanted.value if isinstance(wanted, Constant) and isinstance(wanted.value, str) else "dog"
    inside = "not in" if sign == "!=" else "in"
    ask: Sequence[str] = (f"{shortened(repr(value))} {inside} {column}", f"contains({column}, 'part')")
    return f"ask {' or '.join(ask)}, and len({column}) for how many it has"
