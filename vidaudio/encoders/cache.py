"""Encoders that this process has loaded, kept until their files change."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from vidaudio.config.corpus import EncoderBlock
from vidaudio.encoders.files import file_versions
from vidaudio.encoders.named_by import NamedByFile, may_be_opened

if TYPE_CHECKING:
    from vidaudio.encoders.spec import EncoderSpec


def cached_encoder(block: EncoderBlock, named_by: NamedByFile | None = None):
    """Return the encoder of a recipe, loaded once per process and kept until its files change.

    Args:
        block: Encoder settings of the recipe.
        named_by: The corpus whose recipe names the encoder; None where the user named it.
    """
    from vidaudio.encoders.spec import EncoderSpec

    return cached_by_spec(EncoderSpec(**block.model_dump(), named_by=named_by))


def cached_by_spec(spec: EncoderSpec):
    """Return an encoder, loaded once per process and kept until its files change."""
    return _loaded(spec, _stamps(spec))


@functools.lru_cache(maxsize=2)
def _loaded(spec: EncoderSpec, stamps: tuple[tuple[str, int, int], ...]):
    from vidaudio.encoders.load import load_encoder

    return load_encoder(spec)


def _stamps(spec: EncoderSpec) -> tuple[tuple[str, int, int], ...]:
    """Return age and size of an encoder's local files: replaced weights are another encoder."""
    from vidaudio.encoders.load import local_places

    return file_versions(*(str(place) for place in local_places(spec) if may_be_opened(place, spec.named_by)))
