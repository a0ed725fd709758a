"""Test material: the corpora, lists and split of a protocol, and the mixtures planned from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vidaudio.errors import PackError, UsageError
from vidaudio.stream.index import encoder_in_words, open_index
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.separation.checkpoint import Checkpoint
from vidaudio.tasks.separation.evaluation.eval_mixtures import TestSet, plan_lists, plan_split
from vidaudio.tasks.separation.evaluation.locate import EvalCorpus
from vidaudio.tasks.separation.evaluation.protocols import (
    ListedClip,
    Protocol,
    load_protocol,
    read_manifest_list,
    read_published_list,
)


@dataclass(frozen=True, slots=True)
class TestMaterial:
    """Origin of the test sounds.

    Attributes:
        data: A packed corpus, `CORPUS/training/NAME`.
        interference_data: Another packed corpus for the interference; None for the same one.
        protocol: A name of `manifests/protocols/`, a YAML file, `split`, or `manifest`.
        list_dir: Folder of the published lists, if the protocol needs them.
        targets: Manifest of the targets, for the protocol `manifest`.
        interference: Manifest of the interference, for the protocol `manifest`; None for that of the targets.
        split: Split that targets and interference are drawn from, if the protocol does not name clips.
        different_labels: Whether all sounds of a mixture have different labels; the papers draw from all clips.
        mixtures: Maximum number of mixtures, each counted once; None for all.
        offscreen_db: Level of an additional sound in every mixture relative to the target's, dB; None for none.
        sources: Number of sounds in a mixture, 2 or more, each at its own level divided by this number. More than 2 are
            for tests drawn from a split.
        every_source: Whether each sound of a mixture is asked for in turn, a test item each, so that means are averages
            over sources; for tests drawn from a split.
    """

    __test__ = False  # the name begins with Test, but pytest must not collect it

    data: str
    interference_data: str | None = None
    protocol: str = "split"
    list_dir: str | Path | None = None
    targets: str | Path | None = None
    interference: str | Path | None = None
    split: str = "test"
    different_labels: bool = False
    mixtures: int | None = None
    offscreen_db: float | None = None
    sources: int = 2
    every_source: bool = False


def plan(loaded: Checkpoint, material: TestMaterial) -> tuple[Protocol | None, TestSet]:
    """Return the protocol (None for a bare split) and its mixtures.

    Raises:
        PackError: When a corpus does not fit, or no mixture can be made.
        ManifestError: When a list or manifest is missing or differs.
        RecipeError: When the protocol is missing or invalid.
        UsageError: When the level of the sound from off screen is no number or every sound is asked for beside it, the
            number of sounds is below 2, or the protocol lists pairs and more sounds, or every one, are asked for.
    """
    if material.offscreen_db is not None and not math.isfinite(material.offscreen_db):
        raise UsageError(f"--offscreen-db is {material.offscreen_db}; name a level in dB, such as 0 or -6")
    if material.offscreen_db is not None and material.every_source:
        raise UsageError(
            "--offscreen-db adds a sound to a mixture by the level of its one target: leave --every-source out"
        )
    if material.sources < 2:
        raise UsageError(f"--sources is {material.sources}; a mixture has 2 sounds or more")
    protocol, tests = _plan_pairs(loaded, material)
    return protocol, tests if material.offscreen_db is None else tests.with_offscreen(material.offscreen_db)


def _plan_pairs(loaded: Checkpoint, material: TestMaterial) -> tuple[Protocol | None, TestSet]:
    shape = window_shape(loaded)
    named = material.protocol not in ("split", "manifest")
    protocol = load_protocol(material.protocol) if named else None
    by_split = material.protocol == "split" or (protocol is not None and protocol.targets is None)
    if not by_split:
        _refuse_split_options(material)
    target = _corpus(material.data, material.split if by_split else None, shape, loaded, asked=True)
    if by_split:
        return protocol, plan_split(
            target,
            different_labels=material.different_labels or (protocol is not None and protocol.different_labels),
            every_source=material.every_source or (protocol is not None and protocol.both_directions),
            mixtures=material.mixtures,
            sources=material.sources,
        )
    other = target
    if material.interference_data is not None:
        other = _corpus(material.interference_data, None, shape, loaded, asked=False)
    targets, interference, protocol = _lists(material, protocol)
    return protocol, plan_lists(protocol, targets, interference, (target, other), mixtures=material.mixtures)


def _refuse_split_options(material: TestMaterial) -> None:
    """Refuse the options that only fit tests drawn from a split.

    Raises:
        UsageError: When one of them is given.
    """
    given = [f"--sources {material.sources}"] if material.sources != 2 else []
    given += ["--every-source"] if material.every_source else []
    given += ["--different-labels"] if material.different_labels else []
    if given:
        raise UsageError(
            f"{' and '.join(given)} cannot be used with the protocol {material.protocol}, which mixes the clips of "
            "lists in pairs; draw the test from a split (--protocol split)"
        )


def _lists(material: TestMaterial, protocol: Protocol | None) -> tuple[list[ListedClip], list[ListedClip], Protocol]:
    if protocol is None:
        if material.targets is None:
            raise UsageError("the protocol `manifest` needs --targets, a manifest, and maybe --interference")
        targets = read_manifest_list(material.targets)
        return (
            targets,
            targets if material.interference is None else read_manifest_list(material.interference),
            Protocol(name="manifest", title=f"{material.targets}"),
        )
    if material.list_dir is None:
        raise UsageError(
            f"the protocol {protocol.name} is made of the authors' lists, which are not part of this package; name the "
            "folder that holds them with --list-dir (see manifests/clipsep.yaml)"
        )
    assert protocol.targets is not None, "a protocol that is no bare split has lists"
    return (
        read_published_list(protocol.targets, material.list_dir),
        read_published_list(protocol.interference or protocol.targets, material.list_dir),
        protocol,
    )


def _corpus(data: str, split: str | None, shape: WindowShape, loaded: Checkpoint, *, asked: bool) -> EvalCorpus:
    index = open_index(data, split)
    rate = loaded.recipe.model.front_end.sample_rate
    if index.sample_rate != rate:
        raise PackError(f"{data} holds sound at {index.sample_rate} Hz, and {loaded.path} hears {rate} Hz")
    of_corpus = asked and loaded.recipe.query.kind == "corpus"
    if not of_corpus:
        return EvalCorpus.of(index, shape)
    assert loaded.encoder is not None, "queries of the corpus have an encoder"
    wanted = loaded.encoder["weights_sha256"]
    encoder = next((c.encoder for c in index.vectors if c.fingerprint.get("weights_sha256") == wanted), None)
    if encoder is None:
        raise PackError(
            f"{data} holds vectors of {' and '.join(encoder_in_words(c.fingerprint) for c in index.vectors)}, and "
            f"{loaded.path} was trained with {encoder_in_words(loaded.encoder)}; build the test clips with that encoder"
        )
    return EvalCorpus.of(index, shape, encoder)


def window_shape(loaded: Checkpoint) -> WindowShape:
    """Return the shape of the windows that a system was trained on."""
    block = loaded.recipe.data
    return WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=loaded.recipe.model.front_end.window_samples,
        max_padding_seconds=block.max_padding_seconds,
    )
