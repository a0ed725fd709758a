"""yt-dlp's warnings that name why an extraction failed.

The error that ends an extraction often names only its effect ("Requested format is not available"). yt-dlp reports the
cause earlier, as a warning, or as a debug message for the clients that it asks by default.
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
    """Warnings of one source's extraction, in order of arrival."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def clear(self) -> None:
        """Remove all warnings, for the next source."""
        self._messages.clear()

    def add(self, message: str) -> None:
        """Keep a warning; only the first 50 are kept."""
        if len(self._messages) < _MOST_HEARD:
            self._messages.append(message)

    def causes(self) -> str:
        """Return the warnings that name a cause, in one line; empty if none does."""
        return " / ".join(named_causes(self._messages))


def named_causes(messages: Iterable[str]) -> list[str]:
    """Return at most two different messages that name a cause, without ids, addresses and advice for a command line."""
    causes = dict.fromkeys(_shortened(message) for message in messages if _CAUSES.search(message))
    return [cause for cause in causes if cause][:_MOST_CAUSES]


def _shortened(message: str) -> str:
    """Return the message's first sentences, as far as they are about the cause."""
    text = re.sub(r"^(\[debug\] )?\[[^\]]+\] (?:[^\s:]+: )?", "", message)
    text = re.split(r"\s*(?:For more information|See\s+https?://|You can manually pass|to use another runtime)", text)[
        0
    ]
    return first_line(text)[:_LONGEST_CAUSE].strip(" .;")
