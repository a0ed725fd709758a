"""The question of a search: words, a picture or a sound, encoded as the vectors that it is compared with are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.encoders import is_own_encoder
from vidaudio.correspondence.model import SAMPLE_RATE
from vidaudio.correspondence.scorer import FULL_SCALE, ScoredClip, Scorer, encode_windows
from vidaudio.correspondence.windows import unit
from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.errors import CorpusError, QueryError, UsageError
from vidaudio.media.audio_files import read_sound
from vidaudio.media.pictures import read_picture
from vidaudio.separation.resampling import resample
from vidaudio.shards.commit import committed_shards
from vidaudio.text import storable_text

# Of a longer sound, the beginning is compared.
MOST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to search for: exactly one of words, a picture and a sound.

    Attributes:
        text: Words.
        image: File of a picture.
        sound: File of a sound, or of a video with sound.
        sounds_like: Whether a sound is compared with the clips' sounds; otherwise with their pictures.
        scorer: Name of the scorer that compares sounds; the corpus's only one by default. A selection reads its scores.
    """

    text: str | None = None
    image: str | Path | None = None
    sound: str | Path | None = None
    sounds_like: bool = False
    scorer: str | None = None

    def check(self) -> None:
        """Check that the query asks for exactly one thing.

        Raises:
            UsageError: When it asks for none or several, or `sounds_like` is set without a sound.
            QueryError: When its text has no words.
        """
        given = [value for value in (self.text, self.image, self.sound) if value is not None]
        if len(given) != 1:
            raise UsageError("search for exactly one thing: words, --image FILE or --sound FILE")
        if self.sounds_like and self.sound is None:
            raise UsageError("--sounds-like compares sounds with each other; name one with --sound FILE")
        if self.text is not None and not storable_text(self.text).strip():
            raise QueryError("the query is empty; describe what to find in words, such as 'dog barking in the rain'")

    def __str__(self) -> str:
        if self.text is not None:
            return f'"{storable_text(self.text)}"'
        if self.image is not None:
            return f"clips that look like {self.image}"
        return f"clips that {'sound like' if self.sounds_like else 'look like the sound of'} {self.sound}"


def chosen_encoder(corpus: Corpus, name: str | None) -> str:
    """Return the name of the encoder whose vectors are searched: the given one, the corpus's own, or the only one.

    Raises:
        CorpusError: When no shard is embedded by it, or several encoders could be meant.
    """
    names = [each for each in corpus.store.folders(EMBED.folder) if committed_shards(corpus.store, _folder(each))]
    if not names:
        raise CorpusError(f"{corpus.url} has no vectors of pictures yet; `vidaudio build` with embed makes them")
    if name is not None and name not in names:
        raise CorpusError(f"{corpus.url} has no vectors of the encoder {name}; it has those of {', '.join(names)}")
    if name is not None or len(names) == 1:
        return name or names[0]
    own = [each for each in names if is_own_encoder(corpus, each)]
    if len(own) != 1:
        raise CorpusError(f"{corpus.url} has vectors of {', '.join(names)}; name an encoder with --encoder")
    return own[0]


def _folder(encoder: str) -> str:
    return EMBED.model_folder(encoder)


def encode_seen(encoder: PictureEncoder, query: SearchQuery) -> np.ndarray:
    """Return the unit vector of the words or the picture of a query, float32 `[D]`.

    Words are encoded in CLIPSep's four templates and averaged, as in evaluations.

    Raises:
        QueryError: When the encoder encodes no words.
        MediaError: When the picture cannot be read.
    """
    if query.image is not None:
        return unit(encoder.embed_images([read_picture(query.image)])[0])
    if not isinstance(encoder, ClipEncoder):
        raise QueryError(f"{encoder.name} encodes no words; search by a picture: --image FILE")
    return unit(encoder.embed_label(storable_text(query.text or "")))


def heard(path: str | Path) -> np.ndarray:
    """Return the sound of a file as scorers hear it, mono int16 `[samples]` at 16 kHz: 60 s at most.

    Raises:
        MediaError: When it cannot be read.
    """
    sound = read_sound(path)
    kept = sound.samples[:, : round(MOST_SECONDS * sound.sample_rate)].mean(axis=0)
    samples = resample(kept, sound.sample_rate, SAMPLE_RATE).clip(-1, 1)
    return np.rint(samples * (FULL_SCALE - 1)).astype(np.int16)


def encode_heard(scorer: Scorer, samples: np.ndarray) -> list[np.ndarray]:
    """Return the unit vector of a sound by each fold's model of a scorer, float32 `[D]` each."""
    clip = ScoredClip(samples, 0.0, (), np.zeros((0, 0), np.float32), 0)
    return [unit(encode_windows(model, clip).mean(axis=0)) for model in scorer.models]
