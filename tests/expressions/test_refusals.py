"""What is no expression is refused in a sentence that points at the place, in bounded time and memory."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys

import pytest

from tests.expressions.slow_language import TYPES
from vidaudio.errors import VidaudioError
from vidaudio.expressions import Expression, ExpressionError, kind_of
from vidaudio.expressions.parser import MOST_NESTED, MOST_NODES

COLUMNS = {field.name: kind_of(field.type) for field in TYPES}
# What a stranger may write into a corpus.
HOSTILE = {
    "attribute chain": "seconds.__init__.__globals__['os'].system('touch /tmp/owned')",
    "class of a constant": "''.__class__.__mro__[1].__subclasses__()",
    "class of a number": "(1).__class__",
    "dunder name": "__import__('os').system('id')",
    "builtins": "__builtins__['eval']('1')",
    "eval": "eval('1')",
    "exec": "exec('import os')",
    "open": "open('/etc/passwd')",
    "getattr": "getattr(seconds, 'real')",
    "lambda": "(lambda: silent)()",
    "list comprehension": "[x for x in labels]",
    "generator": "any(x == 'dog' for x in labels)",
    "set": "id in {'a', 'b'}",
    "dictionary": "{'a': 1}['a']",
    "f-string": "f'{id}' == 'a'",
    "nested f-string": "f'{open(\"/etc/passwd\")}' == id",
    "bytes": "b'dog' == id",
    "walrus": "(x := seconds) > 1",
    "assignment": "seconds = 1",
    "star arguments": "len(*labels)",
    "double star arguments": "len(**labels)",
    "keyword argument": "contains(id, 'a', case=False)",
    "subscript": "labels[0] == 'dog'",
    "slice": "id[0:3] == 'dog'",
    "local variable of pandas": "@pd.compat.os.system('id')",
    "backtick": "`a column` > 1",
    "backtick around code": "`seconds.__class__`",
    "call of a column": "seconds('x')",
    "call of a call": "len(id)('x')",
    "call of a constant": "'a'('b')",
    "huge power": "9**9**9**9 > seconds",
    "huge shift": "1 << 10**10 > seconds",
    "repeated text": "'a' * 10000000000 == id",
    "integer of 5,000 digits": "seconds > " + "9" * 5_000,
    "integer of 100,000 digits": "seconds > " + "9" * 100_000,
    "infinite number": "seconds < 1e999",
    "hexadecimal number": "seconds > 0xFFFFFFFFFFFFFFFFFFFF",
    "complex number": "seconds > 1j",
    "nested parentheses": "(" * 100_000 + "silent" + ")" * 100_000,
    "nested parentheses below the limit of length": "(" * 4_000 + "silent" + ")" * 4_000,
    "nested brackets": "id in " + "[" * 4_000 + "]" * 4_000,
    "nested not": "not " * 100_000 + "silent",
    "nested not below the limit of length": "not " * 2_000 + "silent",
    "nested signs": "-" * 9_000 + "seconds > 1",
    "nested functions": "abs(" * 2_000 + "seconds" + ")" * 2_000 + " > 1",
    "many terms": " + ".join(["seconds"] * 1_000) + " > 1",
    "many conditions": " or ".join(["silent"] * 1_000),
    "long chain": "seconds" + " < 1" * 2_000,
    "long list": "seconds in [" + "1," * 4_000 + "1]",
    "long text": "id == '" + "a" * 9_000 + "'",
    "long name": "a" * 9_000 + " > 1",
    "long function": "a" * 9_000 + "()",
    "catastrophic pattern of Python": "matches(id, '(a+)+$(?=b)')",
    "pattern of much memory": "matches(id, '((((a{100}){100}){100}){100}){100}')",
    "pattern that is none": "matches(id, '(')",
    "pattern from a column": "matches(id, split)",
    "long separator": "join(labels, '" + "," * 500 + "') == ''",
    "confusable letter": "ѕilent",
    "full-width letter": "ｓilent",
    "confusable operator": "seconds ＞ 1",
    "curly quotes": "id == ‘dog’",
    "no-break space": "not\u00a0silent",
    "zero-width space": "sil\u200bent",
    "right-to-left override": "silent \u202e",
    "null byte": "silent\0",
    "null byte in a text": "id == 'a\0'",
    "half of a surrogate pair": "id == '\ud800'",
    "half of a surrogate pair outside": "silent \ud800",
    "escaped surrogate": "id == '\\ud800'",
    "escape beyond Unicode": "id == '\\U00110000'",
    "comment": "silent # and more",
    "two statements": "silent; silent",
    "line continuation": "silent \\\n and silent",
    "conditional": "1 if silent else 2",
    "await": "await silent",
    "yield": "(yield silent)",
    "import": "import os",
    "is": "split is None",
    "None": "split == None",
    "ellipsis": "...",
    "only a dot": ".",
    "type of a column": "seconds.dtype == 'float64'",
    "file of a column": "seconds.to_csv('/tmp/owned')",
    "pickle of a column": "id.to_pickle('/tmp/owned')",
    "apply": "labels.apply(len) > 1",
    "method without a call": "id.str.len > 1",
    "str of a number": "seconds.str.len() > 1",
    "empty": "",
    "only spaces": " \n\t ",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_is_refused_in_a_short_sentence(text: str):
    with pytest.raises(ExpressionError) as refused:
        Expression.parse(text, COLUMNS)
    told = str(refused.value)
    assert re.match(r"at (its end|character [\d,]+)", told)
    assert len(told) < 700
    assert told.isprintable()
    assert 0 <= refused.value.start <= refused.value.end <= len(text)
    # As it is where it comes back from another process.
    assert str(pickle.loads(pickle.dumps(refused.value))) == told


def test_all_of_them_together_stay_within_the_kernels_limits():
    """In a process that may use 60 s of one processor and a little memory beside what the libraries map."""
    code = """
import resource, sys
from tests.expressions.test_refusals import COLUMNS, HOSTILE
from vidaudio.expressions import Expression, ExpressionError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
refused = 0
for text in HOSTILE.values():
    try:
        Expression.parse(text, COLUMNS)
    except ExpressionError:
        refused += 1
print(refused, len(HOSTILE))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(len(HOSTILE))] * 2, done.stderr


def test_what_is_as_large_as_an_expression_may_be_is_evaluated():
    nested = "(" * MOST_NESTED + "silent" + ")" * MOST_NESTED
    Expression.parse(nested, COLUMNS)
    terms = " + ".join(["seconds"] * (MOST_NODES // 2 - 1)) + " > 1"
    for text in (nested, terms):
        expression = Expression.parse(text, COLUMNS)
        table = TYPES.empty_table().select(sorted(expression.columns))
        assert expression.evaluate({name: table[name] for name in table.column_names}).tolist() == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("labels == 'dog'", "at character 1 (labels)", r"labels is a list of texts .* ask 'dog' in labels"),
        ("'dog' == labels", "at character 10 (labels)", "ask 'dog' in labels"),
        ("silent or labels != 'cat'", "at character 11 (labels)", "ask 'cat' not in labels"),
        ("captions == 'x'", "at character 1 (captions)", "there is no such column. The columns are seconds, "),
        ("labels in ['dog', 'cat']", "at character 1 (labels)", "ask 'dog' in labels"),
        ("labels not in ['dog']", "at character 1 (labels)", "ask 'dog' not in labels"),
        ("['dog'] in labels", "at character 1 (['dog'])", "write it for each"),
        ("labels.str.contains('dog')", "at character 1 (labels.str.contains('dog'))", r"contains\(labels, 'dog'\)"),
        ("labels.str.startswith('d')", "at character 1", r"startswith\(labels, 'd'\)"),
        ("labels.str.lower() == 'dog'", "at character 1", r"'dog' in lower\(labels\)"),
        ("labels", "at character 1 (labels)", r"true or false for every clip.*'dog' in labels"),
        ("not labels", "at character 5 (labels)", r"len\(labels\)"),
        ("frame_seconds > 3", "at character 1 (frame_seconds)", r"ask len\(frame_seconds\), min\(frame_seconds\)"),
        ("frame_seconds.abs() > 3", "at character 1", r"ask len\(frame_seconds\), min\(frame_seconds\)"),
        ("1 in labels", "at character 1 (1 in labels)", "labels is a list of texts, and 1 is a number"),
        ("seconds in split", "at character 1 (seconds)", "a text in quotation marks is wanted before `in split`"),
        ("split in 'val'", "at character 10 ('val')", r"as in \['val', 'test'\]"),
        ("id == 3", "at character 1 (id == 3)", "quotation marks, '3'"),
        ("id == val", "at character 7 (val)", "there is no such column"),
        ("secnds > 1", "at character 1 (secnds)", "did you mean seconds"),
        ("lenght(id) > 1", "at character 1 (lenght)", "there is no such function.* Functions are len, contains"),
        ("seconds", "at character 1 (seconds)", "must be true or false for every clip.* as in seconds > 0"),
        ("seconds and silent", "at character 1 (seconds)", "and takes what is true or false"),
        ("~seconds > 1", "at character 2 (seconds)", r"put the condition into \( \)"),
        ("seconds >", "at its end", "something is missing here"),
        ("silent and (seconds > 1", r"at character 12 (()", r"this \( is never closed"),
        ("silent)", "at character 7 ())", "does not fit here"),
        ("silent seconds", "at character 8 (seconds)", "an operator such as and, or, == is missing"),
        ("silent and", "at its end", "something is missing"),
        ("and silent", "at character 1 (and)", "is missing before this"),
        ("id == 'dog", "at character 7 (')", "no closing quotation mark"),
        ("seconds > 1 && silent", "at character 13 (&&)", "write and"),
        ("SILENT", "at character 1 (SILENT)", "no such column"),
        ("silent AND silent", "at character 8 (AND)", "write and"),
        ("split == 'a' not 'b'", "at character 14 (not)", "`and` or `or` is missing"),
        ("id in [id]", "at character 8 (id)", "a list holds texts and numbers only"),
        ("id in ['a', 1]", "at character 13 (1)", "this is a number, and id is text"),
        ("1 < 2 and silent", "at character 1 (1 < 2)", "two constants"),
        ("True", "at character 1 (True)", "looks at no column"),
        ("is_null(labels)", "at character 1", "lists are never null"),
        ("contains(id)", "at character 1", r"write contains\(id, 'part'\)"),
        ("contains('dog', 'd')", "at character 1", "no column"),
        ("matches(id, '(?=a)')", "at character 13", "no pattern of RE2"),
    ],
)
def test_the_sentence_points_at_the_place_and_says_what_to_write(text: str, place: str, words: str):
    with pytest.raises(VidaudioError) as refused:
        Expression.parse(text, COLUMNS)
    assert str(refused.value).startswith(place)
    assert re.search(words, str(refused.value))
