"""Texts that are longer than an encoder reads: a warning names what is left out, once for each encoder."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)

SHOWN_CHARACTERS = 60


class LongTexts:
    """Watch over the length of an encoder's texts.

    Args:
        encoder: Name of the encoder in the warning.
        most: Tokens that the encoder reads, with those that mark begin and end.
    """

    def __init__(self, encoder: str, most: int) -> None:
        self._encoder, self._most = encoder, most
        self._has_warned = False

    def check(self, text: str, tokens: int) -> None:
        """Warn about the first text that has more tokens than are read."""
        if tokens <= self._most or self._has_warned:
            return
        self._has_warned = True
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS].rstrip()} ..."
        _log.warning(
            f"{shown!r} has {tokens} tokens, and {self._encoder} reads the first {self._most} of a text: the rest does "
            "not count"
        )
