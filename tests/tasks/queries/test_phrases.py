"""Captions of sounds as phrases, one for each sound event."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import pytest

from vidaudio.errors import QueryError
from vidaudio.tasks.queries.phrases import phrases
from vidaudio.tasks.queries.sound_words import SOUND_VERBS, conjugated, verb_form, word_set

WANTED = {
    # connected by words
    "A man speaks while a dog barks in the background": ("a man speaks", "a dog barks"),
    "Rain falls and thunder roars followed by a car passing": ("rain falls", "thunder roars", "a car passing"),
    "Music plays as people talk": ("music plays", "people talk"),
    "Wind blowing with birds chirping": ("wind blowing", "birds chirping"),
    "A door slams before a dog barks": ("a door slams", "a dog barks"),
    "A horn is then shortly followed by laughter": ("a horn", "laughter"),
    "A bell rings, which is followed by applause": ("a bell rings", "applause"),
    "A car passes by. A dog barks.": ("a car passes by", "a dog barks"),
    "A crowd cheers as well as a man shouting": ("a crowd cheers", "a man shouting"),
    "Birds chirp alongside a man talking": ("birds chirp", "a man talking"),
    "As rain falls, a man speaks": ("rain falls", "a man speaks"),
    "There is a dog barking and a man speaking": ("a dog barking", "a man speaking"),
    # the subject of an earlier phrase
    "A woman speaks and laughs": ("a woman speaks", "a woman laughs"),
    "Birds chirp and sing": ("birds chirp", "birds sing"),
    "Birds are chirping and singing": ("birds are chirping", "birds are singing"),
    "A vehicle engine idling and then revving": ("a vehicle engine idling", "a vehicle engine revving"),
    "A car engine idling then starts to rev": ("a car engine idling", "a car engine starts to rev"),
    "An engine revving as it idles": ("an engine revving", "an engine idles"),
    "An audience cheers and applaud": ("an audience cheers", "an audience applauds"),
    "A man talks loudly then laughs": ("a man talks loudly", "a man laughs"),
    "A girl sings while a machine hums and then speaks": ("a girl sings", "a machine hums", "a girl speaks"),
    # the verb or the origin of a later phrase
    "A man and woman speak": ("a man speaks", "a woman speaks"),
    "A man and a woman are talking": ("a man is talking", "a woman is talking"),
    "A horn blows with a man and woman talking": ("a horn blows", "a man talking", "a woman talking"),
    "Humming and rattling of a motor": ("humming of a motor", "rattling of a motor"),
    "Sizzling and crackling are ongoing": ("sizzling is ongoing", "crackling is ongoing"),
    "Silverware and dishes clanking": ("silverware clanking", "dishes clanking"),
    # lists
    "A dog, a cat and a bird": ("a dog", "a cat", "a bird"),
    "Music, speech, and then applause": ("music", "speech", "applause"),
    "Music and a man speaking": ("music", "a man speaking"),
    "Water splashes and waves crash": ("water splashes", "waves crash"),
    "Birds chirp, rustling occurs and a man speaks": ("birds chirp", "rustling occurs", "a man speaks"),
    "Water trickling and faint, muffled speech": ("water trickling", "faint, muffled speech"),
    "An engine runs while race cars pass by": ("an engine runs", "race cars pass by"),
    # one event
    "A man talking over a radio": ("a man talking over a radio",),
    "A child draws a bow and arrow": ("a child draws a bow and arrow",),
    "Drum and bass": ("drum and bass",),
    "A woman washing pots and pans": ("a woman washing pots and pans",),
    "A knife and fork clink on a plate": ("a knife and fork clink on a plate",),
    "A noise louder and louder": ("a noise louder and louder",),
    "Birds chirping loudly and melodically": ("birds chirping loudly and melodically",),
    "An idling and revving engine": ("an idling and revving engine",),
    "A short, high pitched beep": ("a short, high pitched beep",),
    "A conversation between a man and a woman": ("a conversation between a man and a woman",),
    "Someone is snoring while sleeping": ("someone is snoring while sleeping",),
    "A horn blows and fades away": ("a horn blows and fades away",),
    "A man hits a nail with a hammer": ("a man hits a nail with a hammer",),
    "A man speaks as if he is tired": ("a man speaks as if he is tired",),
    "A bell as loud as a siren": ("a bell as loud as a siren",),
}
# Words that connect phrases, and words that stand for a subject or for where a sound is heard.
FUNCTION_WORDS = word_set(
    """
    a alongside an and are as background before but distance foreground followed by he in is it she shortly the then
    there they until well when which while with
    """
)


def content(text: str) -> set[str]:
    """Return the words of a text without function words, verbs in their base form."""
    words = set(re.findall(r"[^\s,;.!?]+", text.lower())) - FUNCTION_WORDS
    return {next(filter(None, (verb_form(word, form) for form in ("third", "gerund", "base"))), word) for word in words}


@pytest.mark.parametrize("caption", WANTED)
def test_captions_give_the_wanted_phrases(caption: str):
    assert phrases(caption) == WANTED[caption]


@pytest.mark.parametrize("caption", WANTED)
def test_every_content_word_is_in_a_phrase_and_none_is_invented(caption: str):
    assert content(" ".join(phrases(caption))) == content(caption)


@pytest.mark.parametrize("phrase", sorted({phrase for wanted in WANTED.values() for phrase in wanted}))
def test_a_phrase_is_its_own_only_phrase(phrase: str):
    assert phrases(phrase) == (phrase,)


@pytest.mark.parametrize("caption", ["A dog barks", "  a DOG \n barks ", "A dog barks and a dog barks", "a dog barks."])
def test_case_spaces_and_repeats_do_not_matter(caption: str):
    assert phrases(caption) == ("a dog barks",)


@pytest.mark.parametrize("caption", ["In the background", "and", "then", "while", "Florbs", "犬が吠える"])
def test_a_caption_without_events_is_its_own_phrase(caption: str):
    assert phrases(caption) == (caption.lower(),)


@pytest.mark.parametrize("caption", ["", " ", ",", " . , "])
def test_a_caption_without_words_is_refused(caption: str):
    with pytest.raises(QueryError, match="the caption has no words"):
        phrases(caption)


def test_phrases_are_computed_anew_alike():
    once = [phrases(caption) for caption in WANTED]
    phrases.cache_clear()
    assert [phrases(caption) for caption in WANTED] == once


@pytest.mark.parametrize(
    ("verb", "third", "gerund"),
    [
        ("bark", "barks", "barking"),
        ("buzz", "buzzes", "buzzing"),
        ("cry", "cries", "crying"),
        ("play", "plays", "playing"),
        ("hum", "hums", "humming"),
        ("idle", "idles", "idling"),
        ("echo", "echoes", "echoing"),
        ("moo", "moos", "mooing"),
        ("screech", "screeches", "screeching"),
    ],
)
def test_verbs_are_conjugated_and_recognised(verb: str, third: str, gerund: str):
    assert conjugated(verb) == (verb, third, gerund)
    assert verb in SOUND_VERBS
    assert (verb_form(third, "third"), verb_form(gerund, "gerund")) == (verb, verb)
    assert verb_form(third, "gerund") is None


def test_any_words_give_phrases():
    rng = random.Random(0)
    said = "a the man dog car speaks laughing slow down loudly then while and as with of is are quiet fast hum rain"
    words = [*said.split(), ",", ".", "followed by"]
    # "slow" is a verb and an adverb: the second one begins with a verb, and holds nothing else.
    captions = ["dogs hum slow as slow", "a dog is while slow"]
    captions += [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(3000)]
    for caption in captions:
        if any(map(str.isalnum, caption)):
            assert all(phrases(caption))


def test_captions_of_audiocaps(shared_data: Path):
    captions = set()
    for name in ("val", "test"):
        with open(shared_data / "manifests" / "audiocaps" / f"{name}.csv", newline="", encoding="utf-8") as file:
            captions |= {row["caption"] for row in csv.DictReader(file)}
    found = {caption: phrases(caption) for caption in captions}
    every = [phrase for parts in found.values() for phrase in parts]
    assert all(phrase == phrase.strip() and phrase for phrase in every)
    assert all(len(set(parts)) == len(parts) for parts in found.values())
    assert all(phrases(phrase) == (phrase,) for phrase in every)
    # Most captions name two or three events; one phrase for all, or one for each word, would be no phrases.
    assert 2.0 < len(every) / len(found) < 3.0


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A loud bang followed by silence", ("a loud bang",)),
        ("A vehicle engine runs, but no horn is heard", ("a vehicle engine runs",)),
        ("A man speaks, a brief silence, then a dog barks", ("a man speaks", "a dog barks")),
        ("Silence", ("silence",)),
        ("A dog barks in a silent room", ("a dog barks in a silent room",)),
    ],
)
def test_what_is_not_heard_is_no_phrase(caption: str, expected: tuple[str, ...]):
    assert phrases(caption) == expected
