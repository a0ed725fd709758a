"""A small CLAP of the demo world: transformers' ClapModel, trained on captions of single sounds or of mixtures.

    python -m benchmarks.demo_clap --output runs/benchmarks/demo-clap

Sounds are of `Purpose.CLIP_TRAIN`, whose seeds no corpus of the world can draw. With `--sources 2`, every example is a
mixture of two kinds, and its caption names both: then nothing tells the model what one kind sounds like alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.small_clap import write_small_clap
from vidaudio.demo.training_facts import TrainingFacts, write_facts
from vidaudio.demo.world import KINDS, LABELS, Instance, Purpose, derive_seed, kind_of
from vidaudio.encoders.clap import ClapEncoder, load_clap

# As published; a lower one saves the resampling where a CLAP hears sounds in training.
SAMPLE_RATE = 48_000
SECONDS = 4.0
INSTANCES_PER_KIND, HELD_OUT_PER_KIND = 60, 16
STEPS, BATCH = 500, 24
LEARNING_RATE = 1e-3
TEMPLATES = ("{}", "a sound of a {}", "This is a sound of {}", "The sound of {}")
MIXTURE_TEMPLATES = (*TEMPLATES, "The sound mixture of {}")


def write_untrained(folder: Path, *, sample_rate: int = SAMPLE_RATE, seed: int = 0) -> Path:
    """Write a small CLAP with random weights whose tokenizer knows the captions' words."""
    texts = [*MIXTURE_TEMPLATES, "and", *(name for kind in KINDS for name in (kind.label, *kind.synonyms))]
    words = sorted({word for text in texts for word in text.replace("{}", "").lower().split()})
    text = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 34,
    }
    audio = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "hidden_size": 64,
        "patch_embeds_hidden_size": 32,
        "depths": [1, 2],
        "num_attention_heads": [2, 4],
        "num_hidden_layers": 2,
        "window_size": 4,
        "enable_fusion": False,
        "drop_path_rate": 0.0,
    }
    features: dict[str, Any] = {
        "feature_size": 64,
        "sampling_rate": sample_rate,
        "hop_length": sample_rate * 16 // 1000,
        "fft_window_size": 1024 * sample_rate // SAMPLE_RATE // 2 * 2,
        "frequency_max": min(14_000, sample_rate // 2),
        "max_length_s": SECONDS,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
    }
    return write_small_clap(folder, words, text=text, audio=audio, features=features, dimensions=64, seed=seed)


def render(purpose: Purpose, count: int, sample_rate: int) -> np.ndarray:
    """Return sounds of each kind, float16 `[kinds, count, samples]`."""
    samples = int(SECONDS * sample_rate)

    def sound(label: str, number: int) -> np.ndarray:
        instance = Instance(kind_of(label), derive_seed(purpose, "clap", label, number), SECONDS)
        return instance.sound(sample_rate)[:samples].astype(np.float16)

    return np.stack([[sound(label, number) for number in range(count)] for label in LABELS])


def caption(kinds: Sequence[int], rng: np.random.Generator) -> str:
    """Return a sentence that names some kinds, each by its label or another wording."""
    names = [str(rng.choice((KINDS[kind].label, *KINDS[kind].synonyms))) for kind in kinds]
    return str(rng.choice(TEMPLATES if len(names) == 1 else MIXTURE_TEMPLATES)).format(" and ".join(names))


def train_clap(
    folder: Path, *, sources: int = 1, steps: int = STEPS, sample_rate: int = SAMPLE_RATE, seed: int = 0
) -> dict[str, float]:
    """Train a small CLAP, write it into a folder, and return how often it tells held-out sounds apart by words.

    Args:
        folder: Folder of the model.
        sources: Kinds in every example.
        steps: Steps of the optimiser.
        sample_rate: Sample rate that the model hears, Hz.
        seed: Seed of weights and examples.
    """
    encoder = load_clap(str(write_untrained(folder, sample_rate=sample_rate, seed=seed)))
    model = encoder._model.train().requires_grad_(True)
    sounds = render(Purpose.CLIP_TRAIN, INSTANCES_PER_KIND, sample_rate)
    groups = list(itertools.combinations(range(len(KINDS)), sources))
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for step in range(steps):
        chosen = [groups[number] for number in rng.integers(len(groups), size=BATCH)]
        mixed = np.stack(
            [
                sum(sounds[kind, rng.integers(INSTANCES_PER_KIND)].astype(np.float32) for kind in kinds)
                for kinds in chosen
            ]
        )
        gains = 10 ** (rng.uniform(-9, 9, (BATCH, 1)) / 20) / sources
        texts = [caption(kinds, rng) for kinds in chosen]
        loss = _loss(encoder, torch.from_numpy((mixed * gains).astype(np.float32)), texts, chosen)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.eval().save_pretrained(folder)
    trained = load_clap(str(folder))
    found = judge(trained)
    facts = TrainingFacts(
        command=f"python -m benchmarks.demo_clap --sources {sources} --steps {steps} "
        f"--sample-rate {sample_rate} --seed {seed}",
        seed=seed,
        steps=steps,
        examples=steps * BATCH,
        trained_on=f"rendered sounds with captions, {sources} of {len(KINDS)} kinds in each, none of the world's",
        weights_sha256=trained.weights_sha256,
        measured=found,
    )
    write_facts(folder, facts)
    return found


def _loss(encoder: ClapEncoder, sounds: Tensor, texts: list[str], kinds: Sequence[Sequence[int]]) -> Tensor:
    """Return the symmetric contrastive loss; every pair of the same kinds is a true one."""
    model = encoder._model
    mels = encoder._mel(sounds)
    heard = model.get_audio_features(input_features=mels, is_longer=torch.zeros(len(mels), 1, dtype=torch.bool))
    tokens = encoder._tokenizer(texts, return_tensors="pt", padding=True)
    said = model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    vectors = [functional.normalize(each.pooler_output, dim=-1) for each in (heard, said)]
    logits = vectors[0] @ vectors[1].T * model.logit_scale_a.exp().clamp(max=100)
    same = torch.tensor([[one == other for other in kinds] for one in kinds])
    targets = same.float() / same.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def judge(encoder: ClapEncoder) -> dict[str, float]:
    """Return how often the nearest label of held-out single sounds is their own, and the mean cosine to it."""
    sounds = render(Purpose.CLIP_TEST, HELD_OUT_PER_KIND, encoder.sample_rate).astype(np.float32)
    words = functional.normalize(torch.stack([encoder.embed_label(kind.label, TEMPLATES) for kind in KINDS]), dim=-1)
    right, cosines = [], []
    for kind in range(len(KINDS)):
        heard = functional.normalize(encoder.embed_audio(torch.from_numpy(sounds[kind])), dim=-1)
        found = heard @ words.T
        right += (found.argmax(1) == kind).tolist()
        cosines += found[:, kind].tolist()
    return {"right": float(np.mean(right)), "cosine": float(np.mean(cosines))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs") / "benchmarks" / "demo-clap")
    parser.add_argument("--sources", type=int, default=1, help="kinds in every example")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sample-rate", type=int, default=SAMPLE_RATE, help="that the model hears")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = {"steps": chosen.steps, "sample_rate": chosen.sample_rate, "seed": chosen.seed}
    print(train_clap(chosen.output, sources=chosen.sources, **settings))


if __name__ == "__main__":
    main()
