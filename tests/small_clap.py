"""A small randomly initialised CLAP of 2 s of sound, as transformers saves one."""

from __future__ import annotations

from pathlib import Path

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "low", "middle", "high", "sound", "of", "a"]


def write_small_clap(folder: Path, *, seed: int = 0, fusion: bool = False, padding: str = "repeatpad") -> Path:
    """Write model, feature extractor and tokenizer into `folder`; returns it.

    Args:
        folder: Folder of the model.
        seed: Seed of the weights.
        fusion: Whether the model fuses the views of long sound.
        padding: How its feature extractor fills short sound.
    """
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
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

    text = ClapTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=18,
        projection_dim=24,
    )
    audio = ClapAudioConfig(
        spec_size=64,
        num_mel_bins=16,
        hidden_size=16,
        patch_embeds_hidden_size=8,
        depths=[1, 1],
        num_attention_heads=[1, 2],
        num_hidden_layers=2,
        window_size=4,
        projection_dim=24,
        enable_fusion=fusion,
        fusion_type="aff_2d" if fusion else None,
        aff_block_r=2,
    )
    torch.manual_seed(seed)
    model = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=24))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    truncation = "fusion" if fusion else "rand_trunc"
    features = ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation=truncation, padding=padding)
    features.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder
