"""The encoder that made a corpus's vectors of pictures, loaded to encode further pictures and words."""

from __future__ import annotations

from typing import Any

from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.encoders.cache import cached_by_spec
from vidaudio.encoders.image import PictureEncoder
from vidaudio.errors import EncoderError
from vidaudio.json_values import parse_object
from vidaudio.stream.index_checks import check_fingerprint
from vidaudio.tasks.queries.trained_encoder import IDENTITY_KEYS, encoder_spec


def load_picture_encoder(corpus: Corpus, name: str, weights: str | None = None) -> PictureEncoder:
    """Return the encoder that made the corpus's vectors of this name, loaded once per process.

    Args:
        corpus: The corpus.
        name: Name of the encoder's folder in `embeddings/`.
        weights: Weights file, folder, tag or hub's name that replaces the recorded place; None for the recorded place.

    Raises:
        EncoderError: When the encoder is not described or encodes no pictures, cannot be loaded, or is another one.
    """
    described = f"{corpus.url}/{EMBED.described_in(name)}"
    try:
        fingerprint: dict[str, Any] = parse_object(corpus.store.read(EMBED.described_in(name)))
        check_fingerprint(fingerprint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{described} does not describe an encoder ({error}); embed the corpus again") from error
    if fingerprint.get("input", "frames") != "frames":
        raise EncoderError(f"{name} encodes no pictures; name an encoder of pictures with --encoder")
    encoder: PictureEncoder = cached_by_spec(encoder_spec(fingerprint, weights))
    differing = [key for key in IDENTITY_KEYS if encoder.fingerprint[key] != fingerprint[key]]
    if differing:
        raise EncoderError(
            f"{encoder.spec.architecture} is not the encoder that {described} describes ({', '.join(differing)} "
            "differ), and vectors of two encoders do not mix; name the right one with --encoder-weights"
        )
    return encoder
