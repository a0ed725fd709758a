"""A small CLAP with random weights, as transformers saves one: model, feature extractor and a tokenizer of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def write_small_clap(
    folder: Path,
    words: Sequence[str],
    *,
    text: Mapping[str, Any],
    audio: Mapping[str, Any],
    features: Mapping[str, Any],
    dimensions: int,
    seed: int = 0,
    deviation: float | None = None,
) -> Path:
    """Write it into a folder, and return the folder.

    Args:
        folder: Folder of the model.
        words: Words that the tokenizer knows.
        text, audio: Sizes of both towers, see transformers' ClapTextConfig and ClapAudioConfig.
        features: Settings of the feature extractor.
        dimensions: Dimensions of the common space.
        seed: Seed of the weights.
        deviation: Standard deviation of all weights; None for transformers' own initial values.
    """
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        ClapAudioConfig,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapTextConfig,
        PreTrainedTokenizerFast,
    )

    vocabulary = [*SPECIAL, *words]
    sizes = {"text_config": ClapTextConfig(vocab_size=len(vocabulary), projection_dim=dimensions, **text).to_dict()}
    sizes["audio_config"] = ClapAudioConfig(projection_dim=dimensions, **audio).to_dict()
    torch.manual_seed(seed)
    model = ClapModel(ClapConfig(projection_dim=dimensions, **sizes))
    for parameter in model.parameters() if deviation is not None else ():
        torch.nn.init.normal_(parameter, std=deviation)
    model.save_pretrained(folder)
    ClapFeatureExtractor(**features).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder
