"""What the page of a video stated: its title, uploader and licence. Sites and strangers write these texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vidaudio.json_values import parse_object
from vidaudio.text import storable_text

LONGEST_NAME = 120
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Page:
    """Statements of a video's page, as texts that may be shown; empty where it states nothing."""

    title: str = ""
    uploader: str = ""
    licence: str = ""


def read_page(info: str | None) -> Page:
    """Return what the page stated, from the field `info` of the download's table.

    A field that is no JSON object states nothing: somebody else may have made the table.
    """
    try:
        stated = parse_object(info) if info else {}
    except ValueError:
        return Page()
    return Page(
        shown_text(stated.get("title")),
        shown_text(stated.get("uploader") or stated.get("channel")),
        shown_text(stated.get("licence")),
    )


def shown_text(text: Any) -> str:
    """Return an external text on one line, without control characters, and not too long; empty if it is no text."""
    if not isinstance(text, str | int | float) or isinstance(text, bool):
        return ""
    return storable_text(" ".join(str(text).split()), max_characters=LONGEST_NAME)


def shown_labels(labels: Iterable[str | None] | None) -> tuple[str, ...]:
    """Return a clip's labels as texts that may be shown, each once."""
    return tuple(dict.fromkeys(filter(None, map(shown_text, labels or ()))))
