"""Training of the demo's CLIP: a small open_clip model of drawings and captions; the demo then needs no model hub.

    python -m vidaudio.demo.train_clip

writes `open_clip_config.json`, `open_clip_model.safetensors` (half precision), `bpe_vocabulary.txt.gz`, `training.json`
and a README of the measurements into the package's folder `demo/clip`. The pictures come from seeds of a purpose of
their own (`Purpose.CLIP_TRAIN`), which no demo world can draw.

The objective has three terms:

- The symmetric contrastive loss of CLIP at CLIP's highest logit scale, 100. Every true pair of the batch is a target,
  not only the diagonal. At this scale, a margin of 0.1 between matched and mismatched cosines is enough, and nothing
  brings the two modalities nearer (Liang et al. 2022).
- A term that puts the two cones where those of ViT-B/32 are: mean cosines of two pictures, of two texts and of a
  picture and a text of another kind, `CONES`. So the demo has the gap that users of real CLIP have.
- A weak pull of all norms to `NORM`, about that of the published CLIP models.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import itertools
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from PIL import Image, ImageFilter
from safetensors.torch import save
from torch import Tensor

from vidaudio.cpus import available_cores
from vidaudio.demo.captions import NOTHING, Facts, draw_caption, true_pairs, vocabulary_texts
from vidaudio.demo.clip_quality import FRAME_SIZE, as_frame, evaluate_clip
from vidaudio.demo.drawing import Scene
from vidaudio.demo.training_facts import TrainingFacts, write_facts
from vidaudio.demo.world import KINDS, Instance, Purpose, derive_seed
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec, best_precision

FOLDER = Path(__file__).parent / "clip"

IMAGE_SIZE = 64
EMBED_DIM = 128
CONTEXT_LENGTH = 24
MERGES = 700

LOGIT_SCALE = 100.0
# Mean cosines between examples of different kinds: two pictures, two texts, a picture and a text.
CONES = (0.30, 0.72, 0.185)
CONE_WEIGHT = 50.0
NORM = 10.0
NORM_WEIGHT = 0.5

PICTURES_PER_KIND = 1500
EMPTY_PICTURES = 1000
STEPS = 2000
BATCH = 128
LEARNING_RATE = 1e-3
WARM_UP = 100
WEIGHT_DECAY = 0.05
SHIFT = 4  # largest shift of a picture in pixels, each way


def model_config(vocab_size: int) -> dict:
    """Return the open_clip configuration of a small modified ResNet and a small text transformer."""
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 2,
                # Relative to the configuration's folder; code that loads the tokenizer must prepend the folder.
                "tokenizer_kwargs": {"bpe_path": "bpe_vocabulary.txt.gz"},
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def learn_merges(texts: list[str], count: int) -> list[tuple[str, str]]:
    """Return at most `count` byte-pair merges, most frequent first (Sennrich et al. 2016), ties alphabetically."""
    encoder = bytes_to_unicode()
    words: collections.Counter[tuple[str, ...]] = collections.Counter()
    for text in texts:
        for word in text.lower().replace("-", " - ").split():
            symbols = [encoder[b] for b in word.encode()]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for symbols_of_word, number in words.items():
            for pair in itertools.pairwise(symbols_of_word):
                pairs[pair] += number
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = collections.Counter({_merged(word, best): number for word, number in words.items()})
    return merges


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    index = 0
    while index < len(word):
        if word[index : index + 2] == pair:
            out.append(word[index] + word[index + 1])
            index += 2
        else:
            out.append(word[index])
            index += 1
    return tuple(out)


def write_vocabulary(path: Path, merges: list[tuple[str, str]]) -> None:
    """Write merges as `SimpleTokenizer` reads them: gzip, a heading, one pair per line, nothing after the last."""
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        file.write(text.encode())


def draw_example(number: int, kind: int, run: int) -> tuple[NDArray[np.uint8], Facts]:
    """Draw a training picture at the model's size, processed like a video frame; return it with its facts."""
    name = "nothing" if kind == NOTHING else KINDS[kind].label
    seed = derive_seed(Purpose.CLIP_TRAIN, run, name, number)
    rng = np.random.default_rng([seed, 9])
    instance = Instance(KINDS[0 if kind == NOTHING else kind], seed)
    look = instance.look()
    scene = instance.scene() if kind != NOTHING else Scene(None, look, None)
    picture = scene.at(float(rng.uniform(0, instance.duration)))
    # JPEG at a random quality imitates a video codec's effects on a frame: blocks and lost detail.
    if rng.random() < 0.8:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(20, 90)))
        picture = Image.open(buffer)
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.5))))
    frame = as_frame(picture)
    small = frame.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(small), Facts(kind, None if kind == NOTHING else look.colour, look.place)


def _draw_examples(jobs: list[tuple[int, int, int]]) -> list[tuple[NDArray[np.uint8], Facts]]:
    return [draw_example(*job) for job in jobs]


def draw_pictures(run: int, per_kind: int, empty: int) -> tuple[Tensor, list[Facts]]:
    """Draw all training pictures, uint8 [N, 3, size, size]; return them with their facts."""
    jobs = [(number, kind, run) for kind in range(len(KINDS)) for number in range(per_kind)]
    jobs += [(number, NOTHING, run) for number in range(empty)]
    chunks = [jobs[i : i + 100] for i in range(0, len(jobs), 100)]
    with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
        examples = [example for chunk in pool.map(_draw_examples, chunks) for example in chunk]
    pixels = torch.from_numpy(np.stack([pixel for pixel, _ in examples])).permute(0, 3, 1, 2).contiguous()
    return pixels, [facts for _, facts in examples]


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Move, mirror and relight each picture of a uint8 batch; returns float32 in about 0 .. 1."""
    batch, _, height, width = pixels.shape
    padded = F.pad(pixels.float() / 255, (SHIFT,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * SHIFT + 1, (batch, 2), generator=generator)
    rows = (offsets[:, :1] + torch.arange(height))[:, None, :, None]
    columns = (offsets[:, 1:] + torch.arange(width))[:, None, None, :]
    moved = padded[torch.arange(batch)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
    mirrored = torch.rand(batch, generator=generator) < 0.5
    moved[mirrored] = moved[mirrored].flip(-1)
    gain = 0.8 + 0.4 * torch.rand(batch, 1, 1, 1, generator=generator)
    tint = 0.95 + 0.1 * torch.rand(batch, 3, 1, 1, generator=generator)
    noise = torch.randn(moved.shape, generator=generator) * 0.02
    return moved * gain * tint + noise


def objective(image: Tensor, text: Tensor, true: Tensor, kinds: Tensor) -> Tensor:
    """Compute the sum of the three terms in the module's docstring.

    Args:
        image: Raw image embeddings [B, D].
        text: Raw text embeddings [B, D]; row i belongs to picture i.
        true: Whether caption j is true of picture i, bool [B, B].
        kinds: Kind of each picture, int64 [B].
    """
    unit_image, unit_text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    logits = LOGIT_SCALE * unit_image @ unit_text.T
    targets = true.float()
    by_picture = F.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    by_caption = F.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
    cones = (mean_cosines(image, text, kinds) - torch.tensor(CONES)).square().sum()
    norms = torch.cat([image, text]).norm(dim=-1)
    return (by_picture + by_caption) / 2 + CONE_WEIGHT * cones + NORM_WEIGHT * (norms / NORM - 1).square().mean()


def mean_cosines(image: Tensor, text: Tensor, kinds: Tensor) -> Tensor:
    """Return mean cosines over examples of different kinds, `[3]`: of two pictures, of two texts, of one of each."""
    unit_image, unit_text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    other = kinds[:, None] != kinds[None]
    pairs = (unit_image, unit_image), (unit_text, unit_text), (unit_image, unit_text)
    return torch.stack([(one @ another.T)[other].mean() for one, another in pairs])


def train(folder: Path, *, run: int = 0, steps: int = STEPS, per_kind: int = PICTURES_PER_KIND) -> dict[str, float]:
    """Train the model and write its files.

    Args:
        folder: Output folder.
        run: Seed of the pictures, the captions and the initial weights.
        steps: Number of optimiser steps.
        per_kind: Number of pictures per kind.

    Returns:
        The measurements of `evaluate_clip`, `parameters` and `training_seconds`.
    """
    started = time.monotonic()
    torch.manual_seed(run)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "bpe_vocabulary.txt.gz"
    write_vocabulary(vocabulary, learn_merges(vocabulary_texts(), MERGES))
    tokenizer = SimpleTokenizer(bpe_path=str(vocabulary), context_length=CONTEXT_LENGTH)
    config = model_config(tokenizer.vocab_size)
    pixels, facts = draw_pictures(run, per_kind, EMPTY_PICTURES * per_kind // PICTURES_PER_KIND)
    print(f"{len(facts)} pictures of {IMAGE_SIZE} px drawn in {time.monotonic() - started:.0f} s")

    model = open_clip.model.CLIP(**config["model_cfg"])
    model.logit_scale.data.fill_(math.log(LOGIT_SCALE))
    model.logit_scale.requires_grad_(False)
    model.visual.to(memory_format=torch.channels_last)  # makes convolutions with few channels 1.5 times as fast
    optimizer = torch.optim.AdamW(_groups(model), lr=LEARNING_RATE, betas=(0.9, 0.98))
    mean = torch.tensor(config["preprocess_cfg"]["mean"])[:, None, None]
    std = torch.tensor(config["preprocess_cfg"]["std"])[:, None, None]
    generator = torch.Generator().manual_seed(run)
    rng = np.random.default_rng(derive_seed(Purpose.CLIP_TRAIN, run, "captions"))
    order = torch.empty(0, dtype=torch.long)
    model.train()
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(facts), generator=generator)
        rows, order = order[:BATCH], order[BATCH:]
        shown = [facts[int(i)] for i in rows]
        texts, claims = zip(*(draw_caption(fact, rng) for fact in shown), strict=True)
        warm = min(1.0, (step + 1) / WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        # Without the processor's instructions for it, bfloat16 is ten times slower than float32.
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision() == "bfloat16"):
            batch = (augment(pixels[rows], generator) - mean) / std
            image = model.encode_image(batch.contiguous(memory_format=torch.channels_last))
            text = model.encode_text(tokenizer(list(texts)))
        true = torch.from_numpy(true_pairs(shown, list(claims)))
        loss = objective(image.float(), text.float(), true, torch.tensor([fact.kind for fact in shown]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)

    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    (folder / "open_clip_model.safetensors").write_bytes(save({k: v.contiguous() for k, v in weights.items()}))
    seconds = time.monotonic() - started
    measured = evaluate_clip(folder)
    facts_of_run = TrainingFacts(
        command="python -m vidaudio.demo.train_clip",
        seed=run,
        steps=steps,
        examples=len(facts),
        trained_on=f"drawings of the demo world's {len(KINDS)} kinds and of none, with captions",
        weights_sha256=load_encoder(EncoderSpec(str(folder), None, "float32", 64)).weights_sha256,
        measured=dict(measured),
    )
    write_facts(folder, facts_of_run)
    measured["parameters"] = float(sum(p.numel() for p in model.parameters()))
    measured["training_seconds"] = seconds
    (folder / "README.md").write_text(_readme(measured, len(facts), steps, run), encoding="utf-8")
    return measured


def _groups(model: torch.nn.Module) -> list[dict]:
    """Return parameter groups with weight decay for matrices and kernels only."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def _readme(measured: dict[str, float], pictures: int, steps: int, run: int) -> str:
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in measured.items())
    return f"""# The demo's CLIP

A small open_clip model that knows the {len(KINDS)} kinds of things of the rendered demo world and nothing else.
It is here so that the demo runs where no model hub can be reached; it is no use on real pictures.

Written by `python -m vidaudio.demo.train_clip` on a CPU, with seed {run}: {steps} steps of batch {BATCH}
over {pictures} drawings of {IMAGE_SIZE} x {IMAGE_SIZE} px,
put through the frame chain of real videos (crop to {FRAME_SIZE} px, JPEG).
The drawings' seeds carry the purpose `CLIP_TRAIN`, which no demo world can draw. The figures below come from another
one, `CLIP_TEST`, rendered to H.264 video and decoded again.

The loss is CLIP's symmetric contrastive one (all true pairs of a batch are targets; logit scale {LOGIT_SCALE:g}), plus
{CONE_WEIGHT:g} times the squared distance of three mean cosines from those of ViT-B/32 (two pictures {CONES[0]:g}, two
texts {CONES[1]:g}, a picture and a text of another kind {CONES[2]:g}), plus a weak pull of the norms to {NORM:g}.
So the gap between pictures and words is like that of published CLIP models. Words such as "small",
"many" or "low resolution" are put into captions whatever the picture shows, so the model reads nothing into them.

| measured on held-out drawings | |
| --- | --- |
{rows}

What each figure means stands in `vidaudio/demo/clip_quality.py`.

Files: `open_clip_config.json` and `open_clip_model.safetensors` (half precision) open with open_clip's `local-dir:`
scheme; `bpe_vocabulary.txt.gz` is for `SimpleTokenizer(bpe_path=...)`, as the config's `tokenizer_kwargs` say (the path
there is relative to this folder).
"""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def main() -> None:
    """Train with the settings of the command line, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pictures-per-kind", type=int, default=PICTURES_PER_KIND)
    parser.add_argument("--threads", type=int, default=available_cores(), help="threads to compute with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = train(arguments.folder, run=arguments.seed, steps=arguments.steps, per_kind=arguments.pictures_per_kind)
    for name, value in measured.items():
        print(f"{name.replace('_', ' ')}: {value:.4g}")


if __name__ == "__main__":
    main()
