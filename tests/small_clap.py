"""A small randomly initialised CLAP of 2 s of sound."""

from __future__ import annotations

from pathlib import Path

from benchmarks import small_clap

WORDS = ("low", "middle", "high", "sound", "of", "a")


def write_small_clap(folder: Path, *, seed: int = 0, fusion: bool = False, padding: str = "repeatpad") -> Path:
    """Write model, feature extractor and tokenizer into `folder`; returns it.

    Args:
        folder: Folder of the model.
        seed: Seed of the weights.
        fusion: Whether the model fuses the views of long sound.
        padding: How its feature extractor fills short sound.
    """
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 18,
    }
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "hidden_size": 16,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "num_hidden_layers": 2,
        "window_size": 4,
        "enable_fusion": fusion,
        "fusion_type": "aff_2d" if fusion else None,
        "aff_block_r": 2,
    }
    features = {"feature_size": 16, "max_length_s": 2, "truncation": "fusion" if fusion else "rand_trunc"}
    features["padding"] = padding
    return small_clap.write_small_clap(
        folder, WORDS, text=text, audio=audio, features=features, dimensions=24, seed=seed, deviation=0.2
    )
