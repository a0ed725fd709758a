"""Phrases of a sound caption: the caption split into parts that each name one sound event.

Weakly supervised separation (Mahmud et al., ICLR 2024) asks a natural mixture for its sources in words, and a caption
is all that is known about them. The rules here are about word order and lists of words: no parser is needed, and the
same caption gives the same phrases on every machine.

A caption is cut at words that connect (`while`, `followed by`, `with`, `and`, commas). Each piece then becomes a
phrase, or takes over the subject of an earlier phrase, or stays with the phrase before it because it is no sound event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vidaudio.errors import QueryError
from vidaudio.tasks.queries.caption_pieces import Link, Piece, pieces_of
from vidaudio.tasks.queries.sound_words import (
    ADJECTIVES,
    AUXILIARIES,
    BE,
    DETERMINERS,
    EVENTS,
    HUMAN_VERBS,
    NAMED_BY_GERUND,
    OCCURRING,
    PEOPLE,
    PREPOSITIONS,
    SOUND_VERBS,
    SOURCES,
    TRANSITIVE,
    Form,
    conjugated,
    is_adverb,
    is_event,
    is_plural,
    is_sounding,
    source_class,
    verb_form,
    word_set,
)

_PRONOUNS = word_set("it they he she")
_ABSENT = re.compile(
    r"^(no|nothing|neither|without)\b|\bis no\b|"
    r"^((a|an|the|some|complete|total|brief|short|moment of)\s+)*(silence|pause)$"
)


@dataclass(frozen=True, slots=True)
class _Verb:
    """The main verb of a phrase: its place, its form, and its auxiliary if it has one ("is barking")."""

    place: int
    form: Form
    auxiliary: str | None = None


@dataclass(slots=True)
class _Phrase:
    """A phrase while a caption is read.

    Attributes:
        words: Words of the phrase.
        verb: Main verb, if the phrase has a subject and a verb.
        in_list: Whether a comma or "and" connects the phrase with the one before.
    """

    words: list[str]
    verb: _Verb | None = None
    in_list: bool = False

    def subject(self) -> list[str]:
        """Return the words before the main verb; none in a phrase without one."""
        if self.verb is None:
            return []
        words = self.words[: self.verb.place]
        while len(words) > 1 and (words[-1] in {"that", "which", "who"} or words[-1].endswith("ly")):
            words = words[:-1]
        return words


@lru_cache(maxsize=65_536)
def phrases(caption: str) -> tuple[str, ...]:
    """Return the phrases of an English sound caption, in its order, in lower case and without repeats.

    Verbs without a subject take over an earlier one ("a woman speaks and laughs" gives "a woman laughs"), and subjects
    without a verb a later one ("a man and woman speak" gives "a man speaks"). Words that only say how near a sound is
    ("in the background") are left out, and so is what is not heard ("followed by silence", "no horn is heard"). A
    caption that is one event is returned as it is.

    Args:
        caption: A caption with at least one word.

    Raises:
        QueryError: When the caption has no words.
    """
    pieces = pieces_of(caption)
    found: list[_Phrase] = []
    for place, piece in enumerate(pieces):
        _add(found, piece, pieces[place + 1] if place + 1 < len(pieces) else None)
    texts = list(dict.fromkeys(filter(None, (_text(phrase.words) for phrase in found))))
    # What is not there is no source that could be separated.
    texts = [text for text in texts if not _ABSENT.search(text)] or texts
    if not texts:
        texts = [" ".join(caption.lower().split())]
        if not re.search(r"\w", texts[0]):
            raise QueryError("the caption has no words; describe the sounds, such as 'a man speaks while a dog barks'")
    return tuple(texts)


def _text(words: Sequence[str]) -> str:
    return " ".join(words).replace(" ,", ",").strip(" ,")


def _add(found: list[_Phrase], piece: Piece, following: Piece | None) -> None:
    """Add a piece of a caption to the phrases before it: as a new phrase, or as part of the last one.

    Args:
        found: Phrases of the pieces before, changed in place.
        piece: The piece.
        following: The piece after it.
    """
    words = list(piece.words)
    exists = words[0] == "there" and len(words) > 2 and words[1] in BE
    if exists:
        words = words[2:]
    if words[0] == "then" or (words[0] == "both" and len(words) > 1):
        words = words[1:]
    if not words:
        return
    if not found or exists or piece.link in {Link.FIRST, Link.EVENT}:
        found.append(_Phrase(words, _main_verb(words)))
        return
    shares = following is not None and _shares_verb(words, following)
    new = _Phrase(words) if shares else _new_phrase(found, piece.link, words)
    if new is None:
        last = found[-1]
        last.words += [*piece.written, *piece.words]
        last.verb = last.verb or _main_verb(last.words)
        return
    if piece.link is Link.AND:
        new.in_list = True
        _share_verb(found, new)
        _share_origin(found, new)
    found.append(new)


def _shares_verb(words: Sequence[str], following: Piece) -> bool:
    """Return whether words are a subject whose verb is in the next piece: "(with) a man (and woman talking)"."""
    if following.link is not Link.AND or _main_verb(words) is not None or not _is_noun(words[0], may_determine=True):
        return False
    verb = _main_verb(following.words, shared=True)
    if verb is None:
        return False
    if verb_form(words[-1], "gerund") is not None or words[-1] in EVENTS:
        shared = following.words[verb.place]
        return verb_form(shared, "base") in OCCURRING or shared in {"are", "were"}
    return _are_alike(words, following.words[: verb.place])


def _new_phrase(found: Sequence[_Phrase], link: Link, words: list[str]) -> _Phrase | None:
    """Return the phrase that a piece is, its subject taken over where it has none; None if it is no phrase."""
    if link is Link.AND and _continues(found[-1], words):
        return None
    if words[0] in _PRONOUNS:
        return _with_subject_for_pronoun(found, words)
    leader = _leader(found, link, words)
    if leader is not None:
        carried = _carried(leader, words)
        return carried if any(map(is_sounding, words)) else None
    verb = _main_verb(words, shared=link is Link.AND and found[-1].verb is None)
    stands = {
        Link.CLAUSE: _stands_as_clause,
        Link.MOMENT: _stands_as_moment,
        Link.WITH: _stands_after_with,
    }.get(link, _stands_in_list)
    return _Phrase(words, verb) if stands(found[-1], words, verb) else None


def _continues(last: _Phrase, words: Sequence[str]) -> bool:
    """Return whether the words after "and" or a comma belong to the noun before: "an idling and revving car"."""
    end = last.words[-1]
    if all(is_adverb(word) or (word in ADJECTIVES and word not in SOURCES) for word in words):
        return True
    if "between" in last.words and last.verb is None:
        return True
    if words[0] in DETERMINERS:
        return False
    if end in DETERMINERS:
        return True
    waits = last.verb is None or _is_inside_noun(last.words, len(last.words) - 1)
    if waits and end in ADJECTIVES and end not in SOURCES and not is_adverb(end):
        return True
    is_open = len(last.words) > 1 and verb_form(end, "gerund") is not None and last.words[-2] in DETERMINERS
    describes = len(words) > 1 and (verb_form(words[0], "gerund") is not None or words[0] in ADJECTIVES)
    return is_open and describes and _is_noun(words[1])


def _is_noun(word: str, *, may_determine: bool = False) -> bool:
    """Return whether a word can be a noun, or begin its name; `may_determine` allows for "a" and the like."""
    if is_adverb(word) or word in PREPOSITIONS or word in AUXILIARIES or word == "to":
        return False
    return verb_form(word, "base") not in OCCURRING and (may_determine or word not in DETERMINERS)


def _with_subject_for_pronoun(found: Sequence[_Phrase], words: Sequence[str]) -> _Phrase | None:
    """Return a sentence with the latest subject in place of its pronoun; None where it tells of no sound."""
    subject = next((phrase.subject() for phrase in reversed(found) if phrase.verb), [])
    replaced = [*subject, *words[1:]]
    verb = _main_verb(replaced)
    is_sentence = bool(subject) and verb is not None and verb.place == len(subject)
    return _Phrase(replaced, verb) if is_sentence and any(map(is_sounding, words[1:])) else None


def _leader(found: Sequence[_Phrase], link: Link, words: Sequence[str]) -> _Phrase | None:
    """Return the earlier phrase whose subject the words need, as they begin with a verb; None if they need none."""
    if link is Link.WITH:
        return None
    forms = _forms_at_start(words)
    if not forms:
        return None
    leaders = [
        phrase
        for phrase in reversed(found)
        if phrase.verb is not None
        # "An audience cheers and applaud": a verb that cannot be a noun.
        and (
            link is not Link.AND
            or phrase.verb.form in forms
            or ("base" in forms and words[0] not in EVENTS and phrase.verb.form == "third")
        )
    ]
    if any(verb_form(words[0], form) in HUMAN_VERBS for form in forms):
        human = (phrase for phrase in leaders if not PEOPLE.isdisjoint(phrase.subject()))
        return next(human, leaders[0] if leaders else None)
    return leaders[0] if leaders else None


def _forms_at_start(words: Sequence[str]) -> set[Form]:
    """Return the forms of the verb that the words begin with; none where they begin with something else."""
    first = next((word for word in words if not is_adverb(word)), words[0])
    place = words.index(first)
    after = words[place + 1] if place + 1 < len(words) else ""
    every: tuple[Form, ...] = ("base", "third", "gerund")
    forms = {form for form in every if verb_form(first, form) is not None}
    if after == "of" or first in SOURCES - {"fly", "flies"}:
        return set()
    if "gerund" in forms:
        # "humming gets louder", "chirping birds", "a popping noise": a noun, or part of one.
        is_subject = after in AUXILIARIES or verb_form(after, "third") is not None
        is_subject = is_subject or verb_form(after, "base") in OCCURRING
        # "frying food sizzles"
        is_subject = is_subject or (
            _is_noun(after) and verb_form("".join(words[place + 2 : place + 3]), "third") is not None
        )
        describes = (after in SOURCES or is_event(after)) and verb_form(first, "gerund") not in TRANSITIVE
        if is_subject or describes or after in NAMED_BY_GERUND:
            return set()
    elif "base" in forms and after in SOURCES and first not in TRANSITIVE:
        return set()  # "race cars"
    elif first in EVENTS:
        # "laughs occur", "clicks are heard", "thunder roars"
        base = verb_form(after, "base")
        occurs = base in OCCURRING or (base is not None and not is_event(after))
        if after in AUXILIARIES or occurs or verb_form(after, "third") is not None:
            return set()
    return forms


def _carried(leader: _Phrase, words: list[str]) -> _Phrase:
    """Return a phrase of the leader's subject and these words, which begin with a verb."""
    subject, verb = leader.subject(), leader.verb
    assert verb is not None
    # Words that are adverbs alone may still begin with a verb: "slow down".
    place = next((place for place, word in enumerate(words) if not is_adverb(word)), 0)
    form: Form
    if verb_form(words[place], "gerund") is not None:
        form = "gerund"
    else:
        form = "third" if verb_form(words[place], "third") is not None else "base"
    if form == "base" and verb.form == "third":
        words = [*words[:place], conjugated(words[place])[1], *words[place + 1 :]]
        form = "third"
    auxiliary = verb.auxiliary if form == "gerund" else None
    return _Phrase([*subject, *filter(None, [auxiliary]), *words], _Verb(len(subject), form, auxiliary))


def _main_verb(words: Sequence[str], *, shared: bool = False) -> _Verb | None:
    """Return the verb of a subject at the beginning of the words; None in words without one.

    Args:
        words: Words of a phrase.
        shared: Whether the verb may be a plural after a singular, as in "(a man and) a woman speak".
    """
    for place in range(1, len(words)):
        word = words[place]
        after = words[place + 1] if place + 1 < len(words) else ""
        if _is_inside_noun(words, place) or after == "of":
            continue
        if word in AUXILIARIES:
            is_doing = any(verb_form(next_word, "gerund") for next_word in words[place + 1 : place + 3])
            number: Form = "third" if word in {"is", "was", "has", "does"} else "base"
            return _Verb(place, "gerund" if is_doing else number, word if is_doing else None)
        form = _finite_form(words, place, after, shared=shared)
        if form is not None:
            return _Verb(place, form)
    return None


def _is_inside_noun(words: Sequence[str], place: int) -> bool:
    """Return whether the words before a place wait for a noun: "a", "a loud", "of", "a loudly"."""
    before = place - 1
    while before > 0 and words[before].endswith("ly") and is_adverb(words[before]):
        before -= 1
    word = words[before]
    if word == "another" and verb_form(words[place], "third") is not None:
        return False  # "another speaks"
    return word in DETERMINERS or word in PREPOSITIONS or word == "to" or (word in ADJECTIVES and word not in SOURCES)


def _finite_form(words: Sequence[str], place: int, after: str, *, shared: bool) -> Form | None:
    """Return the form in which the word at a place is the main verb; None if it is none."""
    word = words[place]
    if verb_form(word, "gerund") is not None:
        return None if after in NAMED_BY_GERUND else "gerund"
    if word in SOURCES:
        return None
    if verb_form(word, "third") is not None:
        # "water drips occur", "hand drums play": a noun before its verb.
        is_noun = after in AUXILIARIES or verb_form(after, "base") is not None or _occurs(after)
        return None if is_noun and word in EVENTS else "third"
    if word in ADJECTIVES or verb_form(word, "base") is None:
        return None
    if any(map(is_plural, words[:place])):
        return "base"
    # "An animal sound" and "a buzzing fly" have no verb.
    is_name = word == "sound" or (verb_form(words[place - 1], "gerund") is not None and word not in OCCURRING)
    return "base" if shared and not is_name else None


def _occurs(word: str) -> bool:
    return verb_form(word, "third") in OCCURRING


def _stands_as_clause(_: _Phrase, words: Sequence[str], verb: _Verb | None) -> bool:
    if verb is not None:
        return True
    begins_with_verb = any(verb_form(words[0], form) is not None for form in ("base", "third", "gerund"))
    if words[0] in PREPOSITIONS or is_adverb(words[0]):
        return False
    return words[0] in SOURCES or is_event(words[0]) or not begins_with_verb


def _stands_as_moment(_: _Phrase, words: Sequence[str], verb: _Verb | None) -> bool:
    return verb is not None and any(map(is_sounding, words))


def _stands_after_with(last: _Phrase, words: Sequence[str], verb: _Verb | None) -> bool:
    """Return whether the words after "with" are an event, and no tool or feature of the one before."""
    if words[0] in PREPOSITIONS or last.words[-1] in {"filled", "covered"}:
        return False
    is_heard = verb is not None and any(map(is_sounding, words))
    return is_heard or _has_event(words) or source_class(words[-1]) == source_class("rain")


def _has_event(words: Sequence[str]) -> bool:
    following = [*words[1:], ""]
    return any(is_event(word) and after not in NAMED_BY_GERUND for word, after in zip(words, following, strict=True))


def _stands_in_list(last: _Phrase, words: Sequence[str], verb: _Verb | None) -> bool:
    """Return whether the words after "and", "then" or a comma are an event, and no part of the one before."""
    has_determiner = words[0] in DETERMINERS
    if verb is not None:
        return has_determiner or any(map(is_sounding, words))
    if words[0] in PREPOSITIONS:
        return False
    if _has_event(words) or (has_determiner and verb_form(words[-1], "base") in SOUND_VERBS):
        return True
    kinds = {source_class(word) for word in words} - {None}
    if not kinds:
        return has_determiner and last.verb is None
    # "talks to a man and a woman", "paper and plastic", but "a man speaks and birds".
    rest = last.words[last.verb.place + 1 if last.verb else 0 :]
    is_object = bool(rest) and source_class(rest[-1]) in kinds
    is_object = is_object and (last.verb is not None or not PREPOSITIONS.isdisjoint(rest))
    has_object = last.verb is not None and not all(map(is_adverb, rest))
    return not is_object and not (kinds == {source_class("engine")} and has_object)


def _listed_before(found: Sequence[_Phrase]) -> list[_Phrase]:
    """Return the phrases without a verb that "and" or commas connect with the next phrase, the latest first."""
    listed: list[_Phrase] = []
    for phrase in reversed(found):
        if phrase.verb is not None:
            break
        listed.append(phrase)
        if not phrase.in_list:
            break
    return listed


def _share_verb(found: Sequence[_Phrase], new: _Phrase) -> None:
    """Give the verb of a phrase to the subjects listed before it: "a man and a woman speak"."""
    if new.verb is None:
        return
    place, form, auxiliary = new.verb.place, new.verb.form, new.verb.auxiliary
    subject, predicate = new.words[:place], new.words[place:]
    agrees_with_list = not any(map(is_plural, subject)) and (form == "base" or auxiliary in {"are", "were"})
    sharing = []
    for phrase in _listed_before(found):
        if not (agrees_with_list or _are_alike(phrase.words, subject)):
            break
        sharing.append(phrase)
    if not sharing:
        return
    article = sharing[-1].words[0]
    if article in {"a", "an"} and subject[0] not in DETERMINERS and not any(map(is_plural, subject)):
        subject = ["an" if subject[0][0] in "aeiou" else "a", *subject]
    for phrase, own in [*((phrase, phrase.words) for phrase in sharing), (new, subject)]:
        verb, *rest = predicate
        verb_of_own = verb if any(map(is_plural, own)) else _singular(verb, form)
        phrase.words = [*own, verb_of_own, *rest]
        phrase.verb = _main_verb(phrase.words, shared=True)


def _are_alike(words: Sequence[str], subject: Sequence[str]) -> bool:
    """Return whether two subjects may do the same: people, or animals, or two things named by one word each."""
    kind = source_class(words[-1])
    if kind is None or kind != source_class(subject[-1]) or any(word in EVENTS for word in words[:-1]):
        return False
    is_living = kind in {source_class("man"), source_class("dog")}
    return is_living or (len(words) == len(subject) == 1 and kind == source_class("engine"))


def _singular(verb: str, form: Form) -> str:
    if verb in {"are", "were"}:
        return {"are": "is", "were": "was"}[verb]
    base = verb_form(verb, "base")
    return conjugated(base)[1] if form == "base" and base is not None else verb


def _share_origin(found: Sequence[_Phrase], new: _Phrase) -> None:
    """Give the origin of a sound to the sounds listed before it: "humming and rattling of a motor"."""
    origin = next((place for place, word in enumerate(new.words) if word in {"of", "from"}), 0)
    if new.verb is not None or not origin or not _is_sound_name(new.words[:origin]):
        return
    for phrase in _listed_before(found):
        if not _is_sound_name(phrase.words):
            break
        phrase.words += new.words[origin:]


def _is_sound_name(words: Sequence[str]) -> bool:
    """Return whether words are a gerund, and adjectives before it."""
    return verb_form(words[-1], "gerund") in SOUND_VERBS and all(word in ADJECTIVES for word in words[:-1])
