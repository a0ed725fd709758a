"""Text cleaning: strings from outside are made safe to store and to show; numbers are worded for sentences.

Sites, containers, lists and file names hold strings that are not always text: half of an escaped pair from a site's
JSON, bytes of another encoding in a file name, NUL, terminal escapes, marks that reverse the reading direction, a
megabyte where a word is expected. One such string fails a whole table, so each is cleaned where it enters.
"""

from __future__ import annotations

import os
import re

# Maximum length of a title, a name or a message.
MAX_CHARACTERS = 1_000
CUT_MARK = "\N{HORIZONTAL ELLIPSIS}"

# Control characters, the marks of reading direction (overrides, embeddings, isolates), and two code points that XML
# forbids. Joiners stay: words of many languages and composed emoji need them.
_REMOVED = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff"
_ODD_LINE_ENDS = "\x0b-\x0d\x85\u2028\u2029"
_SURROGATES = "\ud800-\udfff"
_TERMINAL_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
_ODD = re.compile(f"[{_REMOVED}{_ODD_LINE_ENDS}{_SURROGATES}]")
_ODD_OR_LINE_END = re.compile(f"[{_REMOVED}{_ODD_LINE_ENDS}{_SURROGATES}\t\n]")
_LINE_END = re.compile(f"\r\n|[\n{_ODD_LINE_ENDS}]")
_TO_REMOVE = re.compile(f"[{_REMOVED}]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(f"[{_SURROGATES}]")
# For Arrow's regular expressions: texts that `storable_text` with `keep_line_ends` changes, apart from their length.
# Arrow's strings are UTF-8 and hold no surrogates.
CHANGED_IN_ARROW = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{61c}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}\x{fffe}\x{ffff}]"
)


def storable_text(text: str, *, max_characters: int = MAX_CHARACTERS, keep_line_ends: bool = False) -> str:
    """Return a text that every table, JSON file, tar, page and terminal accepts.

    A proper pair of surrogates becomes its character, a lone one U+FFFD. Control characters, terminal sequences and
    marks of reading direction are removed. A text longer than allowed is cut and ends with `CUT_MARK`. A clean text is
    returned unchanged.

    Args:
        text: Any string.
        max_characters: Maximum length of the result, including the mark.
        keep_line_ends: Whether to keep tabs, and line ends as LF; otherwise each becomes a space.
    """
    long = len(text) > max_characters
    # Limits the input of the regular expressions, whatever a site sends.
    text = text[: 2 * max_characters] if long else text
    if (_ODD if keep_line_ends else _ODD_OR_LINE_END).search(text):
        # Pairs are joined first, so that only lone halves are replaced.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = _TERMINAL_SEQUENCE.sub("", text)
        text = _LINE_END.sub("\n" if keep_line_ends else " ", text)
        text = _TO_REMOVE.sub("", text)
        text = text if keep_line_ends else text.replace("\t", " ")
    if long:
        text = text[: max_characters - len(CUT_MARK)] + CUT_MARK
    return text


def is_utf8(text: str) -> bool:
    """Return whether a text can be written as UTF-8, that is, whether it has no surrogates."""
    return _SURROGATE.search(text) is None


def escaped_name(name: str) -> str:
    """Return a file name with control characters and line ends percent-encoded, so that it fits on one line.

    Other characters, including the percent sign, stay as they are: names without such characters are not changed.
    """
    return _CONTROL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)


def shown_name(name: str) -> str:
    r"""Return a file name for messages, with bytes that are not UTF-8 as `\xe9`."""
    raw = name.encode() if is_utf8(name) else os.fsencode(name)
    return storable_text(raw.decode("utf-8", "backslashreplace"))


def first_line(error: BaseException, *, without_paths: bool = False) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message.

    Args:
        error: The error.
        without_paths: Whether to prefer the operating system's reason, which names no path and is equal between runs.
    """
    text = (getattr(error, "strerror", None) if without_paths else None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def number_of(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, such as `1 clip` or `2,000 clips`; `many` is an irregular plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
