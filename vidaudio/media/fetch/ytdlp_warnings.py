"""yt-dlp's warnings that name why an extraction failed.

The error that ends an extraction often names only its effect ("Requested format is not available"). The cause was said
before, as a warning, or as a debug message for the clients that yt-dlp asks by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vidaudio.media.fetch.reasons import first_line

_CAUSES = re.compile(
    r"JavaScript runtime|JS runtime|challenge|SABR|PO.?Token|formats have been skipped|they will be skipped"
    r"|DRM protected|impersonat|cookies? (are|is) no longer valid|cookies have expired|Only images are available"
    r"|player response|experiment|formats may be missing|does not support cookies|incomplete data",
    re.IGNORECASE,
)
_MOST_HEARD = 50
_MOST_CAUSES = 2
_LONGEST_CAUSE = 140


class HeardWarnings:
    """The warnings of one source's extraction, as they come."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def clear(self) -> None:
        """Begin with another source."""
        self._messages.clear()

    def add(self, message: str) -> None:
        """Keep a warning; of very many the first ones."""
        if len(self._messages) < _MOST_HEARD:
            self._messages.append(message)

    def causes(self) -> str:
        """Return the warnings that name a cause, in one line; empty where none does."""
        return " / ".join(named_causes(self._messages))


def named_causes(messages: Iterable[str]) -> list[str]:
    """Return at most two different messages that name a cause, without ids, addresses and advice for a command line."""
    causes = dict.fromkeys(_shortened(message) for message in messages if _CAUSES.search(message))
    return [cause for cause in causes if cause][:_MOST_CAUSES]


def _shortened(message: str) -> str:
    """The message's first sentences, as far as they are about the cause."""
    text = re.sub(r"^(\[debug\] )?\[[^\]]+\] (?:[^\s:]+: )?", "", message)
    text = re.split(r"\s*(?:For more information|See\s+https?://|You can manually pass|to use another runtime)", text)[
        0
    ]
    return first_line(text)[:_LONGEST_CAUSE].strip(" .;")
