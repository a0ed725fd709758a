"""Validation samples: windows of the validation through the vocoder, logged while it learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidaudio.tasks.vocoder.module import VocoderModule
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.spectrograms import draw_mels, pixels


@torch.no_grad()
def log_samples(module: VocoderModule, writers: Sequence[LogWriter], step: int) -> None:
    """Log the first validation windows, each with its copy through the vocoder, and the mels of both."""
    assert module.validation_stream is not None, "there are no samples without a validation split"
    batch = module.validation_stream.first(module.recipe.validation.shown)
    shown = {name: batch[name].to(module.device) for name in ("audio", "gains")}
    own = module.sounds(shown)
    made = module.eval_model(module.mels(own)).float()
    sounds = {"own": own, "vocoder": made}
    mels = {name: module.front_end(audio).cpu().numpy() for name, audio in sounds.items()}
    config = module.front_end.config
    for number in range(len(own)):
        panels = {"its own sound": mels["own"][number], "through the vocoder": mels["vocoder"][number]}
        drawn = pixels(draw_mels(panels, own.shape[-1] / config.sample_rate))
        for writer in writers:
            writer.add_image(f"validation_{number}/mels", drawn, step)
            for name, audio in sounds.items():
                writer.add_audio(f"validation_{number}/{name}", audio[number].cpu().numpy(), config.sample_rate, step)
