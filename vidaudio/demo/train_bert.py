"""Training of the demo's BERT: a small transformers model of the demo world's captions, for BERTSep.

    python -m vidaudio.demo.train_bert

writes a folder that `transformers` reads (`config.json`, `model.safetensors` in half precision, `vocab.txt`), with
`training.json` and a README of the measurements, into the package's folder `demo/bert`. Like the original BERT, it has
two objectives. The first is to predict masked words (masked language model). The second takes the place of
next-sentence prediction: to find, among a batch's captions, the two of the same picture by their pooled first token.
The model learns from captions alone, without pictures or sounds.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from vidaudio.cpus import available_cores
from vidaudio.demo.captions import NOTHING, PLACE_WORDS, Facts, draw_caption, true_pairs, vocabulary_texts
from vidaudio.demo.training_facts import TrainingFacts, write_facts
from vidaudio.demo.world import KINDS, Purpose, derive_seed
from vidaudio.encoders.bert import BertEncoder, BertSpec, load_bert

FOLDER = Path(__file__).parent / "bert"
COMMAND = "python -m vidaudio.demo.train_bert"

HIDDEN = 256
LAYERS = 2
HEADS = 4
INTERMEDIATE = 320
MAX_TOKENS = 32

MASKED_SHARE = 0.15
TEMPERATURE = 0.1
PAIR_WEIGHT = 1.0
IGNORED = -100  # target that cross_entropy ignores

STEPS = 600
BATCH = 64
LEARNING_RATE = 1e-3
WARM_UP = 60
WEIGHT_DECAY = 0.01
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> list[str]:
    """Return the special tokens, then every word and punctuation mark of the world's captions, sorted."""
    words = {word for text in vocabulary_texts() for word in re.findall(r"\w+|[^\w\s]", text.lower())}
    return [*SPECIAL, *sorted(words)]


def write_tokenizer(folder: Path, words: list[str]) -> None:
    """Write a WordPiece tokenizer of whole words."""
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": MAX_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def draw_facts(rng: np.random.Generator) -> Facts:
    """Draw the facts of an imagined picture."""
    kind = int(rng.integers(NOTHING + 1))
    colour = None if kind == NOTHING else str(rng.choice(KINDS[kind].colours))
    return Facts(kind, colour, str(rng.choice(list(PLACE_WORDS))))


def mask_tokens(tokens: Tensor, special: Tensor, mask: int, words: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide some tokens as BERT does (Devlin et al. 2019, section 3.1): of 15 %, 8 in 10 masked, 1 another word.

    Args:
        tokens: Numbers of the tokens, [B, T].
        special: Which tokens are never hidden, bool [B, T].
        mask: Number of the mask token.
        words: Size of the vocabulary.
        rng: Generator for the choice.

    Returns:
        The tokens with some hidden, and the original tokens where they were chosen; IGNORED elsewhere.
    """
    chosen = (torch.rand(tokens.shape, generator=rng) < MASKED_SHARE) & ~special
    fate = torch.rand(tokens.shape, generator=rng)
    hidden = torch.where(chosen & (fate < 0.8), torch.tensor(mask), tokens)
    others = torch.randint(len(SPECIAL), words, tokens.shape, generator=rng)
    hidden = torch.where(chosen & (fate >= 0.9), others, hidden)
    return hidden, torch.where(chosen, tokens, torch.tensor(IGNORED))


def pair_loss(first: Tensor, second: Tensor, true: Tensor) -> Tensor:
    """Compute the contrastive loss of two captions per picture; all true pairs of the batch are targets.

    Args:
        first: Pooled vectors of each picture's first caption, [B, D].
        second: Pooled vectors of each picture's second caption, [B, D], in the same order.
        true: Whether caption j of `second` is true of picture i, bool [B, B].
    """
    logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / TEMPERATURE
    wanted = true.float()
    return F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))


def train(folder: Path, *, seed: int = 0, steps: int = STEPS) -> TrainingFacts:
    """Train the model, write its files, and measure it on separately drawn captions.

    Args:
        folder: Output folder.
        seed: Seed of captions, masks and initial weights.
        steps: Number of optimiser steps.
    """
    from transformers import AutoTokenizer, BertConfig, BertForPreTraining

    started = time.monotonic()
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    words = vocabulary()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE,
        max_position_embeddings=MAX_TOKENS,
        attn_implementation="eager",  # type: ignore[call-arg] # of the base class, as further arguments
    )
    model = BertForPreTraining(config)
    config.save_pretrained(folder)
    write_tokenizer(folder, words)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(derive_seed(Purpose.CLIP_TRAIN, seed, "sentences"))
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        shown = [draw_facts(rng) for _ in range(BATCH)]
        texts, claims = zip(*(draw_caption(facts, rng) for facts in shown * 2), strict=True)
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, return_special_tokens_mask=True)
        special = batch.pop("special_tokens_mask").bool()
        batch["input_ids"], hidden = mask_tokens(
            batch["input_ids"], special, tokenizer.mask_token_id, len(words), generator
        )
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        output = model.bert(**batch)
        predicted = model.cls.predictions(output.last_hidden_state)
        first, second = output.pooler_output.chunk(2)
        true = torch.from_numpy(true_pairs(shown, list(claims[BATCH:])))
        masked = F.cross_entropy(predicted.flatten(0, 1), hidden.flatten(), ignore_index=IGNORED)
        loss = masked + PAIR_WEIGHT * pair_loss(first, second, true)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 99:
            seconds = time.monotonic() - started
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}, masked {masked.item():.4f}, {seconds:.0f} s")
    model.eval()
    tensors = {name: tensor.half().contiguous() for name, tensor in model.bert.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    encoder = open_bert(folder)
    facts = TrainingFacts(
        command=COMMAND,
        seed=seed,
        steps=steps,
        examples=2 * BATCH * steps,
        trained_on=f"captions of the demo world's {len(KINDS)} kinds and of none",
        weights_sha256=encoder.weights_sha256,
        measured=evaluate_bert(encoder),
    )
    write_facts(folder, facts)
    parameters = sum(p.numel() for p in model.bert.parameters())
    text = _readme(facts, parameters, len(words), time.monotonic() - started)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return facts


def open_bert(folder: Path = FOLDER) -> BertEncoder:
    """Load the encoder in a folder as BERTSep does."""
    return load_bert(BertSpec(str(folder), "cls"))


def evaluate_bert(encoder: BertEncoder, *, seed: int = 0, captions: int = 400) -> dict[str, float]:
    """Measure an encoder on captions drawn from separate seeds (purpose `CLIP_TEST`).

    Args:
        encoder: A BERT.
        seed: Seed of the captions.
        captions: Number of captions.

    Returns:
        retrieval: share of captions whose nearest label (cosine), of all labels, is that of their own kind.
        synonyms: share of bare synonyms whose nearest label is that of their own kind.
        label_cosine: largest cosine of two kinds' labels, since equal vectors would query the same sound.
    """
    rng = np.random.default_rng(derive_seed(Purpose.CLIP_TEST, seed, "sentences"))
    labels = _unit(encoder.embed_texts([kind.label for kind in KINDS]))
    shown = [Facts(int(rng.integers(len(KINDS))), None, str(rng.choice(list(PLACE_WORDS)))) for _ in range(captions)]
    told = _unit(encoder.embed_texts([draw_caption(facts, rng)[0] for facts in shown]))
    named = [(number, synonym) for number, kind in enumerate(KINDS) for synonym in kind.synonyms]
    bare = _unit(encoder.embed_texts([synonym for _, synonym in named]))
    between = labels @ labels.T - 2 * np.eye(len(labels))
    return {
        "retrieval": float(np.mean(np.argmax(told @ labels.T, axis=1) == [facts.kind for facts in shown])),
        "synonyms": float(np.mean(np.argmax(bare @ labels.T, axis=1) == [number for number, _ in named])),
        "label_cosine": float(between.max()),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _readme(facts: TrainingFacts, parameters: int, words: int, seconds: float) -> str:
    return f"""# The demo's BERT

A BERT of {LAYERS} layers and {HIDDEN} hidden numbers ({parameters:,} parameters, {words} words) that knows captions of
the rendered demo world and nothing else. BERTSep asks with its vectors in the demo's tables.

Written by `{facts.command}` on a CPU in {seconds:.0f} s, with seed {facts.seed}: {facts.steps} steps over
{facts.examples:,} {facts.trained_on}, worded as for the demo's CLIP.
It finds masked words again (BERT's first objective) and tells captions of one
picture from those of others by their pooled first token (in the place of BERT's
second). No picture and no sound was seen. A query is the last state of the first token.

| measured on captions drawn apart | |
| --- | --- |
| captions nearest to their own kind's label | {facts.measured["retrieval"]:.1%} |
| bare synonyms nearest to their own kind's label | {facts.measured["synonyms"]:.1%} |
| largest cosine of two labels | {facts.measured["label_cosine"]:.3f} |

`config.json`, `model.safetensors` (half precision), `vocab.txt` and `tokenizer_config.json` open with transformers'
`AutoModel` and `AutoTokenizer`; `training.json` holds the facts for scripts.
"""


def main() -> None:
    """Train with the settings of the command line, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=available_cores(), help="threads to compute with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    facts = train(arguments.folder, seed=arguments.seed, steps=arguments.steps)
    for name, value in facts.measured.items():
        print(f"{name.replace('_', ' ')}: {value:.4g}")


if __name__ == "__main__":
    main()
