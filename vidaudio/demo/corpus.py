"""Packed corpora of the demo world for training and measuring; each is built once and then reused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.demo.render import FULL, Video, read_world, render_world
from vidaudio.errors import UsageError
from vidaudio.manifest import Clip, write_manifest
from vidaudio.pipeline.build import build
from vidaudio.stream.index import INDEX_FILE

WORLD_FOLDER = "world"
MADE_FILE = "made.json"
# The world's own encoders by name, as settings of the corpus recipe.
ENCODERS: Mapping[str, tuple[str, ...]] = {
    "clip": (),
    "resnet": (
        "embed.encoder.architecture=resnet18-dilated-64",
        # Quoted because values are read as YAML, in which a brace begins a mapping.
        "embed.encoder.pretrained='{package}/demo/resnet/resnet18.safetensors'",
    ),
}


def render_once(
    root: Path,
    *,
    seed: int = 0,
    videos_per_kind: Mapping[str, int] = FULL,
    flawed_per_flaw: int = 2,
    offscreen_share: float = 0.0,
    mismatched_share: float = 0.0,
) -> list[Video]:
    """Render a world into `root/world`, unless it exists already; return its list of videos.

    Raises:
        UsageError: When a world of other settings exists there.
    """
    world = root / WORLD_FOLDER
    described = {"seed": seed, "videos_per_kind": dict(videos_per_kind), "flawed": flawed_per_flaw}
    if offscreen_share:
        described["offscreen_share"] = offscreen_share
    if mismatched_share:
        described["mismatched_share"] = mismatched_share
    made = world / MADE_FILE
    if made.is_file():
        if json.loads(made.read_text()) != described:
            raise UsageError(f"{root} holds a demo of another size or seed; name another folder with --output")
        return read_world(world)
    with tqdm(desc="rendering", unit="video", dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        videos = render_world(
            world,
            seed=seed,
            videos_per_kind=videos_per_kind,
            flawed_per_flaw=flawed_per_flaw,
            offscreen_share=offscreen_share,
            mismatched_share=mismatched_share,
            progress=show,
        )
    made.write_text(json.dumps(described))
    return videos


def build_world(
    root: str | Path,
    *,
    encoder: str = "clip",
    seed: int = 0,
    videos_per_kind: Mapping[str, int] = FULL,
    flawed_per_flaw: int = 2,
    offscreen_share: float = 0.0,
    mismatched_share: float = 0.0,
    settings: Sequence[str] = (),
) -> Path:
    """Render a world and build a corpus from its local files; a later call continues an interrupted one.

    Args:
        root: Folder of everything: `world/`, and beside it `corpus-ENCODER/`. Several corpora can share one world.
        encoder: One of the world's own encoders, `clip` or `resnet`.
        seed: Seed of the world.
        videos_per_kind: Number of videos per kind in each split.
        flawed_per_flaw: Number of training videos with each flaw.
        offscreen_share: Share of videos with a sound from off screen, see `render_world`.
        mismatched_share: Share of videos with the sound of another kind, see `render_world`.
        settings: Further settings for the corpus recipe `demo`.

    Returns:
        The folder to train on.

    Raises:
        VidaudioError: When another world exists there, the encoder is unknown, or the build fails.
    """
    if encoder not in ENCODERS:
        raise UsageError(f"the demo world has no encoder {encoder!r}; it has {', '.join(ENCODERS)}")
    root = Path(root)
    videos = render_once(
        root,
        seed=seed,
        videos_per_kind=videos_per_kind,
        flawed_per_flaw=flawed_per_flaw,
        offscreen_share=offscreen_share,
        mismatched_share=mismatched_share,
    )
    world, manifest, corpus = (root / WORLD_FOLDER).absolute(), root / "world.parquet", root / f"corpus-{encoder}"
    data = corpus / "training" / "default"
    if (data / INDEX_FILE).is_file():
        return data
    write_manifest([_clip(world, video) for video in videos], manifest)
    build(load_corpus_recipe("demo", (*ENCODERS[encoder], *settings)), str(manifest), str(corpus))
    return data


def _clip(world: Path, video: Video) -> Clip:
    name = Path(video.file).stem
    return Clip(
        id=name,
        source=f"demo:{name}",
        dataset="demo",
        url=str(world / video.file),
        split=video.split,
        labels=(video.label,),
    )
