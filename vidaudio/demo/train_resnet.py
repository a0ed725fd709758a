"""Training of the demo's ResNet: a small ResNet-18 that classifies the demo world's drawings, for Sound-of-Pixels.

    python -m vidaudio.demo.train_resnet

writes `resnet18.safetensors` (half precision), `training.json` and a README of the measurements into the package's
folder `demo/resnet`. It is trained like ImageNet's ResNets, to name what a picture shows: the kind of thing, its colour
and the place, so that a vector contains more than the kind. The drawings are those that the demo's CLIP learns from,
with seeds that no demo world can draw. The file's `fc` is the classifier of kinds.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vidaudio.cpus import available_cores
from vidaudio.demo.captions import NOTHING, PLACE_WORDS, Facts
from vidaudio.demo.clip_quality import FRAME_SIZE, as_frame, frames_each_second
from vidaudio.demo.render import render_video
from vidaudio.demo.train_clip import IMAGE_SIZE, augment, draw_pictures
from vidaudio.demo.training_facts import TrainingFacts, write_facts
from vidaudio.demo.world import KINDS, Purpose, derive_seed
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.separation import DilatedResNet18

FOLDER = Path(__file__).parent / "resnet"
WEIGHTS_FILE = "resnet18.safetensors"
ARCHITECTURE = f"resnet18-dilated-{IMAGE_SIZE}"
COMMAND = "python -m vidaudio.demo.train_resnet"

WIDTH = 16
COLOURS = tuple(sorted({colour for kind in KINDS for colour in kind.colours}))
PLACES = tuple(PLACE_WORDS)
SIDE_WEIGHT = 0.3  # weight of colour and of place; that of the kind is 1
UNKNOWN = -100  # target that cross_entropy ignores

PICTURES_PER_KIND = 300
STEPS = 500
BATCH = 128
LEARNING_RATE = 3e-3
WARM_UP = 50
WEIGHT_DECAY = 0.05


class Namer(nn.Module):
    """ResNet with a linear classifier each of kinds, colours and places on its max-pooled features, pooled as in SOP.

    Args:
        width: Channels of the ResNet's first stage; 64 is ResNet-18.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.body = DilatedResNet18(width)
        sizes = (NOTHING + 1, len(COLOURS), len(PLACES))
        self.heads = nn.ModuleList(nn.Linear(self.body.channels, size) for size in sizes)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the logits of kind, colour and place, each [B, names], for normalised pictures [B, 3, H, W]."""
        vectors = self.body(pixels).amax(dim=(-2, -1))
        return [head(vectors) for head in self.heads]


def targets(facts: list[Facts]) -> Tensor:
    """Return the numbers of kind, colour and place of every picture, [N, 3]; the loss ignores an unknown colour."""
    return torch.tensor(
        [[f.kind, UNKNOWN if f.colour is None else COLOURS.index(f.colour), PLACES.index(f.place)] for f in facts]
    )


def naming_loss(logits: list[Tensor], wanted: Tensor) -> Tensor:
    """Compute the cross entropy of the kind, plus that of colour and place with a smaller weight."""
    losses = [F.cross_entropy(each.float(), wanted[:, n], ignore_index=UNKNOWN) for n, each in enumerate(logits)]
    return losses[0] + SIDE_WEIGHT * (losses[1] + losses[2])


def train(folder: Path, *, seed: int = 0, steps: int = STEPS, per_kind: int = PICTURES_PER_KIND) -> TrainingFacts:
    """Train the model, write its files, and measure it on videos of drawings that it never saw.

    Args:
        folder: Output folder.
        seed: Seed of the drawings, their order and the initial weights.
        steps: Number of optimiser steps.
        per_kind: Number of drawings per kind, and of pictures without a thing.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pixels, facts = draw_pictures(seed, per_kind, per_kind)
    print(f"{len(facts)} pictures of {IMAGE_SIZE} px drawn in {time.monotonic() - started:.0f} s")
    wanted = targets(facts)
    model = Namer().to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    model.train()
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(facts), generator=generator)
        rows, order = order[:BATCH], order[BATCH:]
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = ((augment(pixels[rows], generator) - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch)
        loss = naming_loss(logits, wanted[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)
    tensors = {**model.body.state_dict(), "fc.weight": model.heads[0].weight, "fc.bias": model.heads[0].bias}
    halved = {k: v.detach().half() if v.is_floating_point() else v for k, v in tensors.items()}
    (folder / WEIGHTS_FILE).write_bytes(save({k: v.contiguous() for k, v in halved.items()}))
    measured = evaluate_resnet(folder)
    trained = TrainingFacts(
        command=COMMAND,
        seed=seed,
        steps=steps,
        examples=len(facts),
        trained_on=f"drawings of the demo world's {len(KINDS)} kinds and of none, with their kind, colour and place",
        weights_sha256=open_resnet(folder).weights_sha256,
        measured=measured,
    )
    write_facts(folder, trained)
    parameters = sum(p.numel() for p in model.body.parameters())
    text = _readme(trained, parameters, time.monotonic() - started)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return trained


def open_resnet(folder: Path = FOLDER):
    """Load the encoder in a folder as a corpus does, in float32."""
    return load_encoder(EncoderSpec(ARCHITECTURE, str(folder / WEIGHTS_FILE), "float32", 64))


def evaluate_resnet(folder: Path, *, seed: int = 0, videos_per_kind: int = 12) -> dict[str, float]:
    """Measure a model on held-out drawings, rendered to H.264 video and decoded again.

    Args:
        folder: Folder of the model's files.
        seed: Seed of the drawings, of purpose `CLIP_TEST`.
        videos_per_kind: Number of videos per kind, with three frames each.

    Returns:
        accuracy: share of frames whose kind the classifier names, out of the kinds and `nothing`.
        nearest_kind: share of frames whose vector is nearest (cosine) to the mean vector of their own kind. This needs
            no classifier: it is what a system that has only the vectors can use.
    """
    encoder = open_resnet(folder)
    classifier = load_file(folder / WEIGHTS_FILE)
    vectors = []
    with tempfile.TemporaryDirectory(prefix="vidaudio-resnet-") as scratch:
        path = Path(scratch) / "video.mp4"
        for kind in KINDS:
            frames = []
            for number in range(videos_per_kind):
                video_seed = derive_seed(Purpose.CLIP_TEST, seed, kind.label, number)
                render_video(path, kind, video_seed, duration=2.5)
                frames += [as_frame(picture) for picture in frames_each_second(path, 3)]
            vectors.append(torch.from_numpy(encoder.embed_images(frames)))
    found = torch.stack(vectors)
    logits = found @ classifier["fc.weight"].float().T + classifier["fc.bias"].float()
    kinds = torch.arange(len(KINDS))[:, None]
    unit = F.normalize(found, dim=-1)
    nearest = (unit @ F.normalize(found.mean(1), dim=-1).T).argmax(-1)
    return {
        "accuracy": float((logits.argmax(-1) == kinds).float().mean()),
        "nearest_kind": float((nearest == kinds).float().mean()),
    }


def _readme(facts: TrainingFacts, parameters: int, seconds: float) -> str:
    return f"""# The demo's ResNet

A ResNet-18 a quarter as wide ({parameters:,} parameters), last stage dilated, that knows the {len(KINDS)} kinds of
things of the rendered demo world and nothing else. Sound-of-Pixels asks with its vectors in the demo's tables; it is
no use on real pictures.

Written by `{facts.command}` on a CPU in {seconds:.0f} s, with seed {facts.seed}: {facts.steps} steps of batch {BATCH}
over {facts.examples:,} {facts.trained_on},
put through the frame chain of real videos (crop to {FRAME_SIZE} px, JPEG), {IMAGE_SIZE} x {IMAGE_SIZE} px.
The drawings' seeds carry the purpose `CLIP_TRAIN`, which no demo world can draw.
The figures below come from another one, `CLIP_TEST`, rendered to H.264 video and decoded again.

| measured on held-out drawings | |
| --- | --- |
| frames whose kind the classifier names | {facts.measured["accuracy"]:.1%} |
| frames whose vector is nearest to their own kind's mean | {facts.measured["nearest_kind"]:.1%} |

`{WEIGHTS_FILE}` (half precision) has torchvision's names and is opened by the encoder `{ARCHITECTURE}`; its
`fc` is the classifier of kinds, which the encoder leaves out. `training.json` holds the facts for scripts.
"""


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
    facts = train(arguments.folder, seed=arguments.seed, steps=arguments.steps, per_kind=arguments.pictures_per_kind)
    for name, value in facts.measured.items():
        print(f"{name.replace('_', ' ')}: {value:.4g}")


if __name__ == "__main__":
    main()
