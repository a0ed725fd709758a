"""Checks of queries: methods against the gap, and whether a pack's vectors are what a system is asked by."""

from __future__ import annotations

from typing import Any

from vidaudio.encoders.spec import RESNET
from vidaudio.errors import GapError, PackError, RecipeError
from vidaudio.modality_gap import method_options
from vidaudio.stream.packed_corpus import PackedCorpus
from vidaudio.stream.vector_columns import columns_in_words
from vidaudio.tasks.queries.blocks import QueryBlock


def check_gap(query: QueryBlock, where: str) -> None:
    """Check that methods against the modality gap are of a system that is trained with CLIP's vectors of pictures.

    Raises:
        RecipeError: When they are not, or have unknown options.
    """
    gap = query.gap
    chosen = {key: name for key, name in (("train", gap.train), ("ask", gap.ask)) if name != "none"}
    if chosen and (query.kind != "corpus" or query.encoder != "clip" or query.train == "text"):
        key, name = next(iter(chosen.items()))
        raise RecipeError(
            f"{where}: query.gap.{key} is {name}, and this system is not trained with CLIP's vectors of pictures: "
            "there is no gap to close"
        )
    for method, options in gap.options.items():
        try:
            known = method_options(method)
        except GapError as error:
            raise RecipeError(f"{where}: query.gap.options: {error}") from error
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise RecipeError(f"{where}: query.gap.options.{method} has {', '.join(known) or 'none'}, not {unknown[0]}")


def check_vectors(query: QueryBlock, encoder: dict[str, Any]) -> None:
    """Check that a corpus's vectors are of the kind that a recipe needs.

    Raises:
        PackError: When they are of another kind or missing; the message explains how to get such vectors.
    """
    if not encoder["dimensions"]:
        raise PackError(
            "the corpus holds sounds without pictures, so no vectors; train labelsep, bertsep or pit on it, or ask by "
            "a table of vectors: --set query.kind=vectors --set query.vectors=FILE.npz"
        )
    is_resnet = encoder["architecture"].startswith(RESNET)
    if query.encoder == "clip" and is_resnet:
        raise PackError(
            f"the corpus holds vectors of {encoder['architecture']}, and this system wants CLIP's; build a corpus with "
            "embed.encoder.architecture=ViT-B-32-quickgelu"
        )
    if query.encoder == RESNET and not is_resnet:
        raise PackError(
            f"the corpus holds vectors of {encoder['architecture']}, and this system wants a ResNet's: either train on "
            "its pictures, if it is packed with them (pack.frames=true), with --set query.kind=pictures --set "
            "query.pictures.trained=false --set query.pictures.weights=WEIGHTS, or build a corpus with "
            f"embed.encoder.architecture={RESNET} and embed.encoder.pretrained=WEIGHTS"
        )


def check_asked_by(system: str, query: QueryBlock, corpus: PackedCorpus) -> None:
    """Refuse vectors that are no pictures', or not of the wanted kind of encoder if the pack has such vectors too.

    Raises:
        PackError: When they are not; names vectors of the pack that are, or how to pack some.
    """
    (given,), wants_resnet = corpus.vectors, query.encoder == RESNET
    fitting = [
        column.encoder
        for column in corpus.index.vectors
        if column.input == "frames" and str(column.fingerprint.get("architecture")).startswith(RESNET) == wants_resnet
    ]
    if given.encoder in fitting or (given.input == "frames" and not fitting):
        return  # another kind of encoder is refused where queries are made
    remedy = f"name it: --set data.vectors={fitting[0]}" if fitting else "pack those of pictures, too (pack.vectors)"
    raise PackError(
        f"{system} is asked by the vectors of pictures of a {query.encoder}, and not by those of "
        f"{given.encoder} ({given.input}); {corpus.url} holds those of {columns_in_words(corpus.index.vectors)}: "
        f"{remedy}"
    )
