"""Pieces of a sound caption: its words, cut at those that connect, such as `while`, `followed by`, `and` and commas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from vidaudio.tasks.queries.sound_words import ADJECTIVES, BE, DETERMINERS, IDIOMS, SOURCES, is_adverb, word_set

# Where a sound is heard, not which; the caption itself keeps these words.
_SETTING = re.compile(
    r"(?:\b(?:far |away |off )*)\bin (?:the |a )?(?:\w+ )?(?:background|foreground|distance)\b", re.IGNORECASE
)
_TOKEN = re.compile(r"[^\s,;.!?]+|[,;.!?]")
_SENTENCE_ENDS = frozenset(";.!?")


class Link(Enum):
    """How a piece of a caption is connected with the piece before it."""

    FIRST = auto()
    EVENT = auto()  # "followed by": a new event
    CLAUSE = auto()  # "as", "while": a sentence of its own
    MOMENT = auto()  # "before", "when": a sentence of its own, or no event
    WITH = auto()
    THEN = auto()
    AND = auto()


_LINKS: dict[tuple[str, ...], Link] = {
    ("all", "the", "while"): Link.CLAUSE,
    ("during", "which", "time"): Link.CLAUSE,
    ("during", "which"): Link.CLAUSE,
    ("after", "which"): Link.CLAUSE,
    ("as",): Link.CLAUSE,
    ("while",): Link.CLAUSE,
    ("whilst",): Link.CLAUSE,
    ("meanwhile",): Link.CLAUSE,
    ("when",): Link.MOMENT,
    ("before",): Link.MOMENT,
    ("after",): Link.MOMENT,
    ("until",): Link.MOMENT,
    ("along", "with"): Link.WITH,
    ("together", "with"): Link.WITH,
    ("mixed", "with"): Link.WITH,
    ("alongside",): Link.WITH,
    ("amid",): Link.WITH,
    ("amidst",): Link.WITH,
    ("with",): Link.WITH,
    ("then",): Link.THEN,
    ("as", "well", "as"): Link.AND,
    ("and",): Link.AND,
    ("plus",): Link.AND,
    ("but",): Link.AND,
    (",",): Link.AND,
}
_LONGEST_LINK = max(map(len, _LINKS))
# The link that counts where several meet, as in ", and then".
_STRENGTH = (Link.AND, Link.THEN, Link.MOMENT, Link.WITH, Link.CLAUSE, Link.EVENT)
_FOLLOWING = word_set("followed proceeded preceded accompanied interrupted joined")
_SOON = word_set("closely immediately instantly later promptly quickly shortly soon")
# "as" is part of these expressions: the word before it, the word after it.
_NO_LINK_AFTER = word_set("such same well known soon")
_NO_LINK_BEFORE = word_set("if though well usual opposed")


@dataclass(frozen=True, slots=True)
class Piece:
    """Words between two connections, with the connection before them as it was written."""

    link: Link
    written: tuple[str, ...]
    words: tuple[str, ...]


def pieces_of(caption: str) -> list[Piece]:
    """Return the pieces of a caption, in lower case, without words for where a sound is heard ("in the background")."""
    return _with_adjectives(_pieces(_with_idioms(_TOKEN.findall(_SETTING.sub(" ", caption).lower()))))


def _with_idioms(words: Sequence[str]) -> list[str]:
    """Return the words with each idiom as one word ("pots and pans"), and "X and X" too."""
    found: list[str] = []
    place = 0
    while place < len(words):
        three = tuple(words[place : place + 3])
        repeats = len(three) == 3 and three[1] == "and" and three[0] == three[2]
        count = 3 if three in IDIOMS or repeats else 1
        found.append(" ".join(words[place : place + count]))
        place += count
    return found


def _pieces(words: Sequence[str]) -> list[Piece]:
    """Cut the words of a caption at the words that connect."""
    pieces: list[Piece] = []
    link, start, place = Link.FIRST, 0, 0
    written: tuple[str, ...] = ()
    while place < len(words):
        found = _link_at(words, place)
        if found is None:
            place += 1
            continue
        kind, end = found
        if start < place:
            pieces.append(Piece(link, written, tuple(words[start:place])))
            link, written = kind, ()
        elif link is not Link.FIRST:
            link = max(link, kind, key=_STRENGTH.index)
        written = (*written, *words[place:end])
        start = place = end
    if start < len(words):
        pieces.append(Piece(link, written, tuple(words[start:])))
    return pieces


def _link_at(words: Sequence[str], place: int) -> tuple[Link, int] | None:
    """Return the connection that begins at a place and the place after it; None where none begins."""
    if words[place] in _SENTENCE_ENDS:
        return Link.EVENT, place + 1
    following = _end_of_following(words, place)
    if following is not None:
        return Link.EVENT, following
    for count in range(_LONGEST_LINK, 0, -1):
        link = _LINKS.get(tuple(words[place : place + count]))
        if link is None or (words[place] == "as" and count == 1 and not _as_connects(words, place)):
            continue
        return link, place + count
    return None


def _end_of_following(words: Sequence[str], place: int) -> int | None:
    """Return the place after "which is shortly followed by" or the like; None if it does not begin here."""
    if words[place] in {"which", "that", "it"} and place + 1 < len(words) and words[place + 1] in BE:
        place += 1
    has_auxiliary = words[place] in BE
    place += has_auxiliary
    while place < len(words) and (words[place] in _SOON or (has_auxiliary and _is_between(words[place]))):
        place += 1
    if place >= len(words) or words[place] not in _FOLLOWING:
        return None
    for end in range(place + 1, min(place + 4, len(words))):
        if words[end] == "by":
            return end + 1
    after = place + 1
    is_short = words[place] == "followed" and after < len(words) and words[after] in DETERMINERS
    return after if is_short else None


def _is_between(word: str) -> bool:
    return is_adverb(word) or word == "then"


def _as_connects(words: Sequence[str], place: int) -> bool:
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    # "as loud as"
    compares = (words[max(place - 2, 0)] == "as" and before in ADJECTIVES) or (
        after in ADJECTIVES and "as" in words[place + 2 : place + 3]
    )
    return not (before in _NO_LINK_AFTER or after in _NO_LINK_BEFORE or compares or not after)


def _with_adjectives(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces, those of adjectives and a comma joined to the next: "(and) faint, muffled speech"."""
    found: list[Piece] = []
    for piece in reversed(pieces):
        describes = all(word in ADJECTIVES and word not in SOURCES and not is_adverb(word) for word in piece.words)
        if describes and found and found[-1].written == (",",):
            following = found.pop()
            piece = Piece(piece.link, piece.written, (*piece.words, ",", *following.words))
        found.append(piece)
    return found[::-1]
