"""The error of an expression: the position in its text, what is wrong there, and what to write instead."""

from __future__ import annotations

from vidaudio.errors import VidaudioError

SHOWN_CHARACTERS = 40


class ExpressionError(VidaudioError):
    """An expression that is not valid in this language, or that does not fit the columns.

    Attributes:
        start: Start of the faulty part in the text, characters counted from 0.
        end: End of the faulty part, exclusive.
        reason: What is wrong there and what to write instead.
    """

    def __init__(self, text: str, start: int, end: int, reason: str) -> None:
        # All four arguments, so that the error can be pickled between processes.
        super().__init__(text, start, end, reason)
        self.start, self.end, self.reason = start, end, reason

    def __str__(self) -> str:
        text, start, end, reason = self.args
        place = text[start:end].strip()
        at_end = not place and start >= len(text.rstrip())
        where = "at its end" if at_end else f"at character {start + 1}"
        shown = f" ({shortened(place)})" if place else ""
        return f"{where}{shown}: {reason}"


def shortened(text: str, longest: int = SHOWN_CHARACTERS) -> str:
    """Return a printable form of the beginning of a text, without control characters."""
    shown = text[:longest] + ("..." if len(text) > longest else "")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
