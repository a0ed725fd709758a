"""A small published prior, as diffusers saves one, whose text encoder is that of a small open_clip model."""

from __future__ import annotations

import json
from pathlib import Path

# Names of open_clip's text tower, and those of transformers.
NAMES = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.": "final_layer_norm.",
    "transformer.resblocks.": "encoder.layers.",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def write_small_prior(folder: Path, clip: Path, *, dimensions: int = 32, own_clip: bool = True) -> Path:
    """Write a randomly initialised prior of `dimensions` into `folder`; returns it.

    Args:
        folder: Folder of the prior.
        clip: Folder of `tests.small_clip.write_small_clip`.
        dimensions: Dimensions of the vectors.
        own_clip: Whether the text encoder has that model's weights; otherwise it has random ones.
    """
    import torch
    from diffusers import PriorTransformer, UnCLIPScheduler
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(1)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "embedding_dim": dimensions}
    prior = PriorTransformer(**sizes)
    torch.nn.init.normal_(prior.clip_mean)
    torch.nn.init.uniform_(prior.clip_std, 0.5, 2)
    torch.nn.init.normal_(prior.positional_embedding)
    torch.nn.init.normal_(prior.prd_embedding)
    prior.save_pretrained(folder / "prior")
    UnCLIPScheduler(prediction_type="sample", clip_sample_range=10.0).save_pretrained(folder / "prior_scheduler")
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=dimensions,
        intermediate_size=4 * dimensions,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=dimensions,
        hidden_act="gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    text_encoder = CLIPTextModelWithProjection(config)
    if own_clip:
        weights = text_weights(load_file(clip / "open_clip_model.safetensors"))
        known = text_encoder.state_dict()
        text_encoder.load_state_dict({name: weights[name.removeprefix("text_model.")] for name in known})
    text_encoder.save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    listed = {"prior": ["diffusers", "PriorTransformer"], "prior_scheduler": ["diffusers", "UnCLIPScheduler"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "UnCLIPPipeline", **listed}))
    return folder


def text_weights(tensors: dict) -> dict:
    """Return the text tower's weights of an open_clip model under the names of transformers."""
    weights = {"text_projection.weight": tensors["text_projection"].T.contiguous()}
    for name, tensor in tensors.items():
        if name.startswith("visual.") or name in ("text_projection", "logit_scale"):
            continue
        renamed = name
        for ours, theirs in NAMES.items():
            renamed = renamed.replace(ours, theirs)
        if ".attn.in_proj_" in renamed:
            for part, values in zip("qkv", tensor.chunk(3), strict=True):
                weights[renamed.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = values.contiguous()
        else:
            weights[renamed] = tensor
    return weights


def write_tokenizer(folder: Path) -> None:
    """Write CLIP's tokenizer, from open_clip's copy of its vocabulary."""
    from open_clip.tokenizer import SimpleTokenizer

    folder.mkdir(parents=True)
    tokenizer = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(token, token): number for token, number in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
