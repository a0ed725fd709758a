"""Validation samples: sounds generated from what a few fixed validation windows show, logged while a run learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidaudio.tasks.generation.module import VALIDATION, GenerationModule
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.spectrograms import draw_mels, pixels


class ValidationSamples:
    """Generated sounds of the first validation windows, logged after every validation, each from a seed of its own.

    Logged are, of each window, the generated sound and its mel beside that of the window's own sound. Where the system
    is trained with words, a window without a label has nothing to be asked by and is left out.

    Args:
        sounds: Number of sounds to log.
    """

    def __init__(self, sounds: int) -> None:
        self._sounds = sounds

    @torch.no_grad()
    def log(self, module: GenerationModule, writers: Sequence[LogWriter], step: int) -> None:
        """Log sounds and mels."""
        assert module.validation_stream is not None, "there are no samples without a validation split"
        batch = {
            name: value.to(module.device) if isinstance(value, torch.Tensor) else value
            for name, value in module.validation_stream.first(self._sounds).items()
        }
        vectors, known = module.conditions(batch, VALIDATION)
        shown = known.nonzero()[:, 0].tolist()
        if not shown:
            return
        real = module.mels(batch)[:, 0]
        generator = SoundGenerator(module.eval_model, module.recipe)
        made = generator.mels(vectors[shown], shown)
        sounds = generator.sound(made)
        config = module.front_end.config
        for number, mel, sound in zip(shown, made, sounds, strict=True):
            panels = {"its own sound": real[number], "generated": mel}
            drawn = pixels(
                draw_mels({name: panel.cpu().numpy() for name, panel in panels.items()}, config.seconds(mel.shape[-1]))
            )
            for writer in writers:
                writer.add_image(f"validation_{number}/mels", drawn, step)
                writer.add_audio(f"validation_{number}/generated", sound.cpu().numpy(), config.sample_rate, step)
                own = batch["audio"][number, 0].float().cpu().numpy() / 2**15
                writer.add_audio(f"validation_{number}/own", own, config.sample_rate, step)
