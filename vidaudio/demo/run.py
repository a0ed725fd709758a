"""`vidaudio demo`: the whole pipeline once, small, on one machine, with nothing to fetch from outside.

A small world of sounding things is rendered and served on loopback. From there on, every step is what any user would
run: manifest, build, train, evaluate, separate. Each of these steps prints the command that it corresponds to. A demo
that was interrupted continues where it stopped.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile
import torch

from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.demo.corpus import render_once
from vidaudio.demo.picture import Panel, draw_kinds, draw_panels
from vidaudio.demo.render import FULL, OFFSCREEN_SHARE, SMALL, read_world
from vidaudio.demo.serve import FolderServer
from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES
from vidaudio.errors import EncoderError, UsageError
from vidaudio.manifest import TableOptions, read_table, write_manifest
from vidaudio.modality_gap import measure_gap
from vidaudio.pipeline.build import build
from vidaudio.separation import mix_sources
from vidaudio.stream.index import INDEX_FILE, open_index
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.tasks.queries.trained_encoder import load_query_encoder, text_queries
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import (
    EvaluateRequest,
    EvaluationReport,
    TestMaterial,
    draw_pairs,
    evaluate,
    write_report,
)
from vidaudio.tasks.separation.separate import separate
from vidaudio.training.checkpoint import BEST_FILE

Tell = Callable[[str], object]

PORT_FILE = "port.txt"
SHOWN_MIXTURES = 3
METHODS = ("mixture", "text", "image", "wrong_text", "fixed_filter", "ideal_binary_mask")


@dataclass(frozen=True, slots=True)
class DemoSize:
    """Amounts of a demo.

    Attributes:
        videos_per_kind: Number of videos per kind in each split.
        flawed_per_flaw: Number of training videos with each flaw.
        train_settings: Settings of the training recipe.
        mixtures: Number of test mixtures; None for all.
    """

    videos_per_kind: Mapping[str, int]
    flawed_per_flaw: int
    train_settings: tuple[str, ...]
    mixtures: int | None


SIZES: Mapping[str, DemoSize] = MappingProxyType(
    {
        "full": DemoSize(FULL, 2, (), None),
        "small": DemoSize(
            SMALL,
            1,
            (
                "schedule.steps=12",
                "schedule.warmup_steps=4",
                "schedule.decay_until_step=12",
                "validation.every_steps=6",
            ),
            4,
        ),
    }
)


def run_demo(
    folder: str | Path = "vidaudio-demo",
    *,
    size: str = "full",
    seed: int = 0,
    noisy: bool = False,
    tell: Tell = print,
) -> EvaluationReport:
    """Render, serve, list, build, train, evaluate and separate; report each step and its results.

    Args:
        folder: Folder of everything that the demo writes.
        size: `full` learns to separate in some minutes; `small` runs every step once, too briefly to learn.
        seed: Seed of the world; drawings and sounds of train, val and test are disjoint for every seed.
        noisy: Whether half of the training and validation videos also contain a sound from off screen.
        tell: Function that is called with each report, of one or more lines; prints by default.

    Raises:
        VidaudioError: When a step fails; the message says what to do.
    """
    if size not in SIZES:
        raise UsageError(f"there is no demo size {size!r}; there are {', '.join(SIZES)}")
    chosen = SIZES[size]
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    data = root / "corpus" / "training" / "default"
    _check_encoder(root, data)
    began = time.monotonic()
    with _step(tell, f"1/6  a world of sounding things in {root}/world"):
        _render(root, chosen, seed, noisy, tell)
        draw_kinds(seed, root / "world.png")
        tell(f"{root / 'world.png'}: one thing of every kind")
    manifest = root / "world.parquet"
    with FolderServer(root / "world", port=_port(root)) as server:
        with _step(tell, "2/6  its list", f"vidaudio manifest table {root}/videos.csv --dataset demo -o {manifest}"):
            (root / PORT_FILE).write_text(server.url.rsplit(":", 1)[1])
            _write_list(root, server)
            listing = read_table(root / "videos.csv", options=TableOptions(dataset="demo"))
            write_manifest(listing.clips, manifest)
            tell(f"{len(listing.clips)} clips at {server.url}")
        with _step(tell, "3/6  the corpus", f"vidaudio build demo --manifest {manifest} --corpus {root}/corpus"):
            tell(str(build(load_corpus_recipe("demo"), str(manifest), str(root / "corpus"))))
    _describe_encoder(data, tell)
    run = root / "clipsep"
    with _step(
        tell, "4/6  CLIPSep, asked by pictures", f"vidaudio train demo --data {data} --run {run}{_as_options(chosen)}"
    ):
        _train(root, data, chosen, tell)
    command = f"vidaudio evaluate {run} --data {data} --different-labels --methods {','.join(METHODS)} --processes 2"
    command += f" --mixtures {chosen.mixtures}" if chosen.mixtures else ""
    with _step(tell, "5/6  held-out videos, asked by words", command):
        material = TestMaterial(str(data), different_labels=True, mixtures=chosen.mixtures)
        report = evaluate(EvaluateRequest(run, material, methods=METHODS, processes=2))
        write_report(report, run)
        tell(str(report))
        plain = evaluate(
            EvaluateRequest(run, material, methods=("text",), scorer="batched", gap="none", progress=False)
        )
        _tell_result(report, plain, size, tell)
    command = f"vidaudio separate {root}/separated/1/mixture.wav --query ... --checkpoint {run} -o ..."
    with _step(tell, "6/6  sounds to listen to", command):
        _separate_some(root, data, run, tell)
    tell(f"\ndone in {(time.monotonic() - began) / 60:.1f} min; everything is in {root}/")
    return report


def _check_encoder(root: Path, data: Path) -> None:
    """Refuse a folder whose corpus was packed with the encoder of another version of the package.

    Raises:
        UsageError: When it was.
    """
    if not (data / INDEX_FILE).is_file():
        return
    try:
        load_query_encoder(open_index(str(data)).encoder)
    except EncoderError as error:
        raise UsageError(
            f"{root} holds a demo of another version, whose pictures were embedded by another encoder; name another "
            "folder with --output"
        ) from error


@contextmanager
def _step(tell: Tell, title: str, command: str | None = None) -> Iterator[None]:
    tell(f"\n== {title}")
    if command:
        tell(f"$ {command}")
    began = time.monotonic()
    yield
    tell(f"   ({time.monotonic() - began:.0f} s)")


def _render(root: Path, size: DemoSize, seed: int, noisy: bool, tell: Tell) -> None:
    videos = render_once(
        root,
        seed=seed,
        videos_per_kind=size.videos_per_kind,
        flawed_per_flaw=size.flawed_per_flaw,
        offscreen_share=OFFSCREEN_SHARE if noisy else 0.0,
    )
    flawed = [video for video in videos if video.flaw]
    kinds = sorted({video.label for video in videos})
    tell(f"{len(videos)} videos of {len(kinds)} kinds: {', '.join(kinds)}")
    tell(f"{len(flawed)} of them are flawed on purpose: {', '.join(sorted({v.flaw.value for v in flawed}))}")
    if noisy:
        tell(f"{sum(bool(video.offscreen) for video in videos)} of them hold a sound from off screen, too")


def _as_options(size: DemoSize) -> str:
    """Return the size's training settings as command-line options."""
    return "".join(f" --set {setting}" for setting in size.train_settings)


def _port(root: Path) -> int:
    """Return the port of an earlier run, because the list's URLs contain it; 0 (any free port) the first time."""
    remembered = root / PORT_FILE
    return int(remembered.read_text()) if remembered.is_file() else 0


def _write_list(root: Path, server: FolderServer) -> None:
    with (root / "videos.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "url", "label", "split"])
        for video in read_world(root / "world"):
            writer.writerow([Path(video.file).stem, server.url_of(video.file), video.label, video.split])


def _describe_encoder(data: Path, tell: Tell) -> None:
    """Report how far the encoder's pictures and words are apart, on the held-out videos."""
    index = open_index(str(data), "test")
    encoder = load_query_encoder(index.encoder)
    labels = [row[0] for row in index.table["labels"].to_pylist()]
    assert isinstance(encoder, ClipEncoder), "the demo embeds with a CLIP"
    queries = text_queries(encoder, labels, CLIPSEP_TEMPLATES)
    names = sorted(queries)
    reader = SampleReader(index)
    frames = [reader.vectors(row).astype(np.float32) for row in range(len(index))]
    shown = [label for label, vectors in zip(labels, frames, strict=True) for _ in vectors]
    pictures, words = (torch.from_numpy(v) for v in (np.concatenate(frames), np.stack([queries[n] for n in names])))
    gap = measure_gap(pictures, words, shown, names)
    tell(
        "\nThe encoder here is the package's own small CLIP, trained on drawings and captions of other seeds\n"
        "(vidaudio/demo/train_clip.py). Its pictures and words lie as far apart as those of ViT-B/32.\n"
        f"On the held-out videos: cosine of a picture and its own word {gap.matched_cosine:.2f}, another word "
        f"{gap.mismatched_cosine:.2f}, of two words {gap.text_cosine:.2f};\n"
        f"distance of the mean unit vectors {gap.centroid_distance:.2f}; zero-shot accuracy {gap.image_recall:.1%} "
        f"over {len(names)} kinds.\n"
        "With ViT-B/32 the same commands run, in a corpus of its own: vidaudio build demo --manifest ... --corpus ...\n"
        "  --set embed.encoder.architecture=ViT-B-32-quickgelu --set embed.encoder.pretrained=openai"
    )


def _train(root: Path, data: Path, size: DemoSize, tell: Tell) -> None:
    recipe = load_train_recipe("demo", size.train_settings)
    run = root / "clipsep"
    if (run / "done.json").is_file():
        tell(f"{run} is trained already")
        return
    result = train(recipe, str(data), run, resume=(run / "last.ckpt").is_file())
    (run / "done.json").write_text(json.dumps({"steps": result.step}))
    tell(f"{result.step:,} steps, {result.examples:,} mixtures; validation (asked by pictures): {result.gains()}")


def _tell_result(report: EvaluationReport, plain: EvaluationReport, size: str, tell: Tell) -> None:
    """Report the measured values of the demo's claims; first the one that a change of level alone does not move.

    Args:
        report: Scores of the demo's way to ask.
        plain: Scores of words as they are, `--gap none`.
        size: Size of the demo.
        tell: Function that is called with each line.
    """
    if size == "small":
        tell("(trained for a few steps only: these numbers show that the path runs, not what it learns)")
        return
    rows = (
        ("the text query over the mixture, SDR", report.improvement("text").mean, 8.0),
        ("the right text over a wrong one, SDR", report.difference("text", "wrong_text"), 6.0),
        ("the text query over the best fixed filter", report.difference("text", "fixed_filter"), 2.0),
    )
    tell(f"  {'the text query over the mixture, SI-SDR':<44}{report.improvement('text', 'si_sdr').mean:+6.2f} dB")
    words, pictures = plain.improvement("text").mean, report.improvement("image").mean
    tell(f"  {'words as they are, over the mixture, SDR':<44}{words:+6.2f} dB  (by pictures {pictures:+.2f} dB)")
    for what, measured, bar in rows:
        tell(f"  {what:<44}{measured:+6.2f} dB  (bar: {bar:g} dB{'' if measured >= bar else ', missed'})")


def _separate_some(root: Path, data: Path, run: Path, tell: Tell) -> None:
    """Mix held-out clips, separate them with the command's own function, and draw the spectrograms."""
    loaded = load_checkpoint(run)
    index = open_index(str(data), "test")
    front_end = loaded.model.front_end
    config = front_end.config
    windows = Windows(index, WindowShape(samples=config.window_samples))
    labels = [row[0] for row in index.table["labels"].to_pylist()]
    reader = SampleReader(index)
    pairs = draw_pairs(index, windows, labels)
    step = max(1, len(pairs) // SHOWN_MIXTURES)
    panels = []
    for number, pair in enumerate(pairs[::step][:SHOWN_MIXTURES], start=1):
        rows = (pair.target, pair.interference)
        audio = np.stack([reader.window(row, windows.middle(row))[0] for row in rows])[None]
        sources, mixture = mix_sources(torch.from_numpy(audio))
        folder = root / "separated" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        mixture_wav, target_wav = folder / "mixture.wav", folder / "target.wav"
        soundfile.write(mixture_wav, mixture[0].numpy(), config.sample_rate, subtype="PCM_16")
        soundfile.write(target_wav, sources[0, 0].numpy(), config.sample_rate, subtype="PCM_16")
        query = labels[pair.target]
        predicted_wav = folder / f"{query.replace(' ', '_')}.wav"
        separate(mixture_wav, predicted_wav, run, query=query)
        tell(f"  {mixture_wav}: {query} + {labels[pair.interference]}")
        tell(f'  {predicted_wav}: asked for "{query}"; {target_wav.name} is the truth')
        prediction = soundfile.read(predicted_wav, dtype="float32")[0]
        sounds = (mixture[0].numpy(), sources[0, 0].numpy(), prediction)
        panels.append(Panel(f"{query} + {labels[pair.interference]}", query, sounds))
    picture = root / "separated.png"
    draw_panels(panels, config.sample_rate, picture)
    tell(f"  {picture}: spectrograms of mixture, target and prediction")
    tell(f"  weights: {run / BEST_FILE}")
