"""Queries by CLAP, whose vectors of sound and of words share one space (CLAP-TTA, BiModal)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vidaudio.encoders.clap import ClapEncoder, load_clap
from vidaudio.encoders.prompts import fill
from vidaudio.errors import EncoderError
from vidaudio.separation import pack_text
from vidaudio.tasks.queries.blocks import QueryBlock, modalities
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.trained_encoder import NAMED_BY_RECORD, refuse_empty


class ClapQueries(QueryEncoder):
    """Vectors of a frozen CLAP: of a label in words, or of the window's own sound.

    Args:
        query: The recipe's query block.
        sample_rate: Sample rate of the sound in batches, Hz.
        encoder: Fingerprint of the CLAP that the model was trained with; None in training.
        weights: Model name or folder that replaces the recorded one, or in training the recipe's; None for that one.
        with_states: Whether queries hold the states of a text's tokens, too, see vidaudio.separation.pack_text.

    Raises:
        EncoderError: When the CLAP cannot be loaded, or is another one than in training.
    """

    def __init__(
        self,
        query: QueryBlock,
        sample_rate: int,
        encoder: dict[str, Any] | None = None,
        weights: str | None = None,
        *,
        with_states: bool = False,
    ) -> None:
        recorded = query.clap.model if encoder is None else str(encoder.get("architecture"))
        named_by = NAMED_BY_RECORD if encoder is not None and weights is None else None
        try:
            self._clap = load_clap(weights or recorded, named_by)
        except EncoderError as error:
            if encoder is None or weights is None:
                raise
            raise EncoderError(f"{error}; the model was trained on vectors of {recorded}") from error
        self.encoder = self._clap.fingerprint
        self.dimensions = self._clap.dimensions
        self.modalities = frozenset(modalities(query))
        self._query = query
        self._sample_rate = sample_rate
        self._with_states = with_states
        self.state_dimensions = self._clap.state_dimensions if with_states else 0
        if encoder is not None and encoder.get("weights_sha256") != self._clap.weights_sha256:
            raise EncoderError(
                f"the model was trained on vectors of {recorded}, and {weights or recorded} is another encoder; "
                "vectors of two encoders do not mix. Name the right one: --encoder-weights"
            )

    @property
    def clap(self) -> ClapEncoder:
        """Return the encoder itself."""
        return self._clap

    def encode_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the vector of each source's own sound, `[B, N, D]`."""
        sound = batch["audio"].float() / 2**15
        found = self._clap.embed_audio_at(sound.flatten(0, 1), self._sample_rate)
        return found.unflatten(0, tuple(sound.shape[:2]))

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the mean vector of the text in the recipe's templates, `[D]`; with states of the one template."""
        refuse_empty(text)
        templates = self._query.train_templates if training else self._query.templates
        if self._with_states:
            return self.encode_sentences(fill(templates, text))[0]
        return self._clap.embed_label(text, templates)

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Return CLAP's vectors of sentences, `[sentences, D]`, or vectors and states, `[sentences, 1 + tokens, W]`."""
        if not self._with_states:
            # A copy that training may use.
            return self._clap.embed_text(sentences).clone()
        return pack_text(*self._clap.text_states(sentences, self._query.clap.tokens))

    def encode_joint(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one query of the sentence 'A and B'."""
        return [self.encode_text(" and ".join(text.strip() for text in texts))] if texts else []
