"""The tokens of an expression, words and signs, with their positions in the text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from vidaudio.expressions.errors import ExpressionError

LONGEST_EXPRESSION = 10_000
LONGEST_CONSTANT_TEXT = 1_000
# Above this number a 64-bit float cannot hold every whole number.
LARGEST_NUMBER = 2**53

KEYWORDS = frozenset({"and", "or", "not", "in", "True", "False"})
# Words of Python and SQL that people write out of habit, and what to write instead.
_FOREIGN_WORDS = {
    "None": "there is no None here; ask is_null(column) or not is_null(column)",
    "is": "there is no `is` here; write == or !=, or is_null(column)",
    "lambda": "functions cannot be defined here",
    "if": "there is no `if` here; write a condition with and, or, not",
    "else": "there is no `else` here; write a condition with and, or, not",
    "for": "there are no loops here",
    "await": "there is no `await` here",
    "yield": "there is no `yield` here",
    "import": "nothing can be imported here",
    "true": "write True",
    "false": "write False",
    "null": "there is no null here; ask is_null(column)",
    "AND": "write and",
    "OR": "write or",
    "NOT": "write not",
    "LIKE": "there is no LIKE here; write contains(column, 'part'), startswith(column, 'beginning')",
    "like": "there is no like here; write contains(column, 'part'), startswith(column, 'beginning')",
}
_FOREIGN_SIGNS = {
    "**": "there is no power here; multiply, as in seconds * seconds",
    ":=": "nothing can be assigned here",
    "=": "to compare, write ==; arguments of functions have no names here",
    "<>": "write != for unequal",
    "<<": "there is no << here",
    ">>": "there is no >> here",
    "&&": "write and",
    "||": "write or",
    "!": "write not, or != for unequal",
    "@": "no variables of Python are known here: write the value itself",
    "`": "write the column's name, without `",
    "^": "there is no ^ here; write a condition with and, or, not",
    "{": "there are no sets and no mappings here; a list is written ['a', 'b']",
    "}": "there are no sets and no mappings here; a list is written ['a', 'b']",
    ";": "one expression is wanted, not several",
    ":": "there is no : here",
    "$": "no variables are known here: write the value itself",
    "?": "there is no ? here",
    "#": "comments cannot be written here",
    "\\": "there is no \\ here outside of quotes",
}
_SPACE = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A column quoted as in pandas' expressions.
_QUOTED_NAME = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*)`")
_NUMBER = re.compile(r"(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
_TEXT = re.compile(r"(?P<raw>[rR]?)(?P<quote>['\"])(?P<inside>(?:\\.|(?!\\|(?P=quote)).)*)(?P=quote)", re.DOTALL)
_SIGN = re.compile(r"==|!=|<=|>=|//|[<>+\-*/%()\[\],.&|~]")
# Signs of two characters that begin like a valid sign.
_FOREIGN_PAIR = re.compile(r"\*\*|:=|<>|<<|>>|&&|\|\|")
_FOREIGN_SIGN = re.compile(r"[=!@`^{};:$?#\\]")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
# In Python these give a control character or need a table of names; in a pattern people mean something else.
_REFUSED_ESCAPES = frozenset("abfvNxuU01234567\n\r")


@dataclass(frozen=True, slots=True)
class Token:
    """A word or sign of an expression.

    Attributes:
        kind: `name` (not a keyword), `number`, `text`, `sign` (signs and keywords), or `end`.
        value: The name, the sign, or the value of the number or text.
        start: Start in the expression, characters counted from 0.
        end: End in the expression, exclusive.
    """

    kind: Literal["name", "number", "text", "sign", "end"]
    value: str | float
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """Cut an expression into its tokens, the last one of kind `end`.

    Raises:
        ExpressionError: When the text is too long, or contains something that no expression may contain.
    """
    if len(text) > LONGEST_EXPRESSION:
        raise ExpressionError(
            text, LONGEST_EXPRESSION, LONGEST_EXPRESSION, f"an expression has at most {LONGEST_EXPRESSION:,} characters"
        )
    found: list[Token] = []
    place = _end_of_space(text, 0)
    while place < len(text):
        token = _token_at(text, place)
        found.append(token)
        place = _end_of_space(text, token.end)
    found.append(Token("end", "", len(text), len(text)))
    return found


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return start if space is None else space.end()


def _token_at(text: str, start: int) -> Token:
    if (match := _TEXT.match(text, start)) is not None:
        return Token("text", _constant_text(text, match), start, match.end())
    if (match := _NUMBER.match(text, start)) is not None:
        return Token("number", _constant_number(text, match), start, match.end())
    if (match := _NAME.match(text, start)) is not None:
        return _word(text, match)
    if (match := _QUOTED_NAME.match(text, start)) is not None:
        return Token("name", match[1], start, match.end())
    for pattern, is_ours in ((_FOREIGN_PAIR, False), (_SIGN, True), (_FOREIGN_SIGN, False)):
        if (match := pattern.match(text, start)) is not None:
            if not is_ours:
                raise ExpressionError(text, start, match.end(), _FOREIGN_SIGNS[match[0]])
            return Token("sign", match[0], start, match.end())
    raise ExpressionError(text, start, start + 1, _strange_character(text[start]))


def _word(text: str, match: re.Match[str]) -> Token:
    start, end = match.span()
    word = match[0]
    if text[end : end + 1] in ("'", '"') and word not in KEYWORDS:
        kind = {"b": "bytes", "f": "formatted texts"}.get(word.lower()[:1], "such texts")
        raise ExpressionError(text, start, end + 1, f"there are no {kind} here; a text is written 'like this'")
    if word in _FOREIGN_WORDS:
        raise ExpressionError(text, start, end, _FOREIGN_WORDS[word])
    if text[end : end + 1] and not text[end].isascii() and text[end].isidentifier():
        raise ExpressionError(text, end, end + 1, _strange_character(text[end]))
    return Token("sign" if word in KEYWORDS else "name", word, start, end)


def _constant_number(text: str, match: re.Match[str]) -> float:
    start, end = match.span()
    following = text[end : end + 1]
    digits = match[0]
    if following and (following.isalnum() or following in "._"):
        reason = "this is not a number; numbers are written 4, 0.5, 1_000 or 1e-3"
        raise ExpressionError(text, start, end + 1, reason)
    # The length is checked before the conversion, so that no number of 5,000 digits is ever made.
    if len(digits) > 40 or not abs(value := float(digits.replace("_", ""))) <= LARGEST_NUMBER:
        raise ExpressionError(text, start, end, f"numbers go up to 2**53, {LARGEST_NUMBER:,}")
    return value


def _constant_text(text: str, match: re.Match[str]) -> str:
    start, end = match.span()
    inside = match["inside"]
    if len(inside) > LONGEST_CONSTANT_TEXT:
        raise ExpressionError(text, start, end, f"a text has at most {LONGEST_CONSTANT_TEXT:,} characters")
    if text[end : end + 1] in ("'", '"') and end - start == 2:
        raise ExpressionError(text, start, end + 1, "texts are written between single quotation marks, 'like this'")
    if not match["raw"]:
        inside = _ESCAPE.sub(lambda escape: _unescaped(text, start, end, escape), inside)
    for character in inside:
        # A surrogate cannot be stored as UTF-8, so no column has one; other control characters are invisible.
        if unicodedata.category(character) in ("Cs", "Cc") and character not in "\n\r\t":
            reason = f"a text cannot hold the character U+{ord(character):04X}"
            raise ExpressionError(text, start, end, reason)
    return inside


def _unescaped(text: str, start: int, end: int, escape: re.Match[str]) -> str:
    """Return the character that an escape in a text stands for; an unknown escape is kept, as in Python."""
    sign = escape[1]
    if len(sign) > 1:
        number = int(sign[1:], 16)
        if number > 0x10FFFF:
            raise ExpressionError(text, start, end, f"{escape[0]} is no character")
        return chr(number)
    if sign in _REFUSED_ESCAPES:
        reason = "this \\ and what follows it is not known here; for a pattern write r'...', for a \\ itself \\\\"
        raise ExpressionError(text, start, end, reason)
    return _ESCAPED.get(sign, escape[0])


def _strange_character(character: str) -> str:
    if character in "'\"":
        return "this text has no closing quotation mark"
    if character in "‘’“”«»‚„`´":
        return "write straight quotation marks, 'like this'"
    name = unicodedata.name(character, "a control character")
    return f"{name} (U+{ord(character):04X}) cannot be part of an expression outside of quotation marks"
