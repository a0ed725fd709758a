"""Separation with a generator, without training: the mixture is inverted, and denoised under the query.

ZeroSep (Huang et al., 2025). The mel that results is not the answer: it becomes a mask on the mixture's spectrum. So
the separated sound has the mixture's phases, and nothing that is not in the mixture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import UsageError
from vidaudio.generation import Guidance, apply_mask, change_prompt, mel_ratio
from vidaudio.generation.inversion import MOST_ROUNDS, ROUNDS, reversible
from vidaudio.generation.samplers import sampler_levels
from vidaudio.media.audio_files import check_output, read_sound, write_result
from vidaudio.separation import Request, resample
from vidaudio.separation.overlap_add import crossfade, repeat_to, window_starts
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.conditions import condition_encoder
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.separation.separate import SeparationResult, SoundQuery, described, like_mixture, make_request
from vidaudio.training.checkpoint import best_device

# Windows that are computed together on a GPU.
GPU_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class GeneratorSeparationOptions:
    """Settings of a separation with a generator; None for those of the recipe.

    Attributes:
        steps: Steps of the inversion, and of the sampler.
        guidance: Scale of guidance under the query; 1 is none.
        mixture: Text that describes the mixture, under which it is inverted; None for no condition.
        rounds: Rounds for each step of the inversion, see `vidaudio.generation.invert`.
        threshold: Threshold of a binary mask; None for a soft mask.
        render: Whether the result is the sound of the generated mel, instead of the masked mixture.
        gap: Name or file of a method against the modality gap that words go through, or `none`.
        encoder_weights: Local weights of the encoder, used instead of the recorded place.

    Raises:
        UsageError: When a value is out of its range, or two do not go together.
    """

    steps: int | None = None
    guidance: float = 1.0
    mixture: str | None = None
    rounds: int = ROUNDS
    threshold: float | None = None
    render: bool = False
    gap: str | None = None
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        Guidance(self.guidance)
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise UsageError(f"{self.rounds} rounds for a step back: a number between 1 and {MOST_ROUNDS} is wanted")
        if self.render and self.threshold is not None:
            raise UsageError("a rendered sound has no mask: leave out the threshold, or --render")


def separate_with_generator(
    mixture: str | Path,
    out: str | Path,
    checkpoint: str | Path,
    *,
    query: str | SoundQuery,
    options: GeneratorSeparationOptions | None = None,
    progress: bool = False,
) -> SeparationResult:
    """Extract the sound that a query describes from a sound file or a video, with a generator.

    Several queries together, and unwanted sounds, combine as for separators, see `vidaudio.separation.Request`. The
    result is written at the mixture's rate, with its channels and length.

    Args:
        mixture: A file that libsndfile reads (wav, flac, ogg, mp3 ...), or a video.
        out: Output path; the suffix decides the format, as in `vidaudio.separate`.
        checkpoint: A generator's run folder or its weights file.
        query: Wanted sound: a text, or a `SoundQuery` for several texts, images or a video.
        options: Settings; None for the defaults.
        progress: Whether to show a progress bar.

    Raises:
        MediaError: When a file cannot be read or written.
        QueryError, UsageError: When query or settings do not fit.
        CheckpointError: When the checkpoint cannot be read.
        EncoderError: When the encoder cannot be loaded.
        GapError: When the method is not there, or belongs to another encoder.
    """
    asked = SoundQuery(words=[query]) if isinstance(query, str) else query
    options = options or GeneratorSeparationOptions()
    asked.check()
    if options.render and asked.without:
        raise UsageError("--render is the sound of what is asked for; with --without there is none to render")
    heard = read_sound(mixture)
    check_output(out, mixture)
    loaded = load_generator(checkpoint)
    queries = condition_encoder(loaded.recipe, loaded.encoder, options.encoder_weights, trained=True)
    queries.gap = trained_gap(loaded, options.gap)
    request = make_request(asked, queries, loaded.recipe.data.window_frames)
    described_by = None if options.mixture is None else queries.encode_text(options.mixture)
    generator = SoundGenerator(loaded.model.to(best_device()), loaded.recipe)
    separator = GeneratorSeparator(generator, options)
    rate = generator.front_end.config.sample_rate
    sound = torch.from_numpy(np.asarray(resample(heard.samples, heard.sample_rate, rate), np.float32))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with tqdm(desc="separating", unit="step", disable=not progress, dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        separated = separator.separate(sound, request, described_by, progress=show)
    result = like_mixture(separated.numpy(), rate, heard)
    return described([Path(out)], [write_result(out, result, mixture)])


# With one step, the first level is noise and the next the mel: nothing in between tells the noise.
LEAST_STEPS = 2


class GeneratorSeparator:
    """A generator that separates.

    Args:
        generator: The generator.
        options: Settings.

    Raises:
        UsageError: When the number of steps is out of range.
    """

    def __init__(self, generator: SoundGenerator, options: GeneratorSeparationOptions) -> None:
        self.generator = generator
        self.options = options
        self.steps = generator.recipe.sampling.steps if options.steps is None else options.steps
        if self.steps < LEAST_STEPS:
            raise UsageError(f"--steps {self.steps}: the way to noise and back takes {LEAST_STEPS} steps or more")
        sampler_levels(generator.process, reversible(generator.process, self.steps))

    @torch.inference_mode()
    def separate(
        self,
        sound: Tensor,
        request: Request,
        described_by: Tensor | None = None,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """Return the requested part of a sound of any length, float32 `[channels, samples]`.

        The mask is made from the mean of the channels, and is the same for all.

        Args:
            sound: Sound at the generator's rate, `[channels, samples]`.
            request: Vectors of the wanted and the unwanted sounds.
            described_by: Vector that describes the mixture, `[D]`; None for no condition.
            progress: Called with the number of steps made and the total.
        """
        front_end, samples = self.generator.front_end, sound.shape[1]
        config = front_end.config
        frames = max(self.generator.recipe.frames, math.ceil(samples / config.hop))
        # A sound that is shorter than a window is repeated, as for separators.
        whole = repeat_to(sound, config.samples(frames)) if samples < config.samples(frames) else sound
        whole = whole.to(self.generator.device)
        mask, mel = self._mask(whole.mean(0), request, described_by, progress)
        if self.options.render:
            made = self.generator.sound(mel[None]).expand(len(sound), -1)
        else:
            if self.options.threshold is not None:
                mask = (mask > self.options.threshold).float()
            made = apply_mask(whole, mask, front_end)
        return made[:, :samples].cpu()

    def _mask(
        self, mono: Tensor, request: Request, described_by: Tensor | None, progress: Callable[[int, int], None]
    ) -> tuple[Tensor, Tensor]:
        """Return the mask of a request, and the loudest mel of the wanted sounds, both `[bands, frames]`."""
        config, window = self.generator.front_end.config, self.generator.recipe.frames
        starts = window_starts(len(mono) // config.hop, window)
        fade = crossfade(window).to(mono.device)
        mask = mono.new_zeros(config.bands, len(mono) // config.hop)
        mel, total = torch.zeros_like(mask), torch.zeros_like(mask)
        block = GPU_WINDOWS if mono.device.type == "cuda" else 1
        prompts = len(request.wanted) + len(request.unwanted)
        steps, done = -(-len(starts) // block) * self.steps * (1 + prompts), 0

        def count() -> None:
            nonlocal done
            done += 1
            progress(done, steps)

        progress(0, steps)
        for first in range(0, len(starts), block):
            chunk = starts[first : first + block]
            cut = [mono[config.samples(start) : config.samples(start + window)] for start in chunk]
            found = self._window_masks(torch.stack(cut), request, described_by, count)
            for start, each_mask, each_mel in zip(chunk, *found, strict=True):
                place = slice(start, start + window)
                mask[:, place] += each_mask * fade
                mel[:, place] += each_mel * fade
                total[:, place] += fade
        return mask / total, mel / total

    def _window_masks(
        self, sounds: Tensor, request: Request, described_by: Tensor | None, on_step: Callable[[], object]
    ) -> tuple[Tensor, Tensor]:
        """Return mask and mel of each window, `[B, bands, window]`, see `_mask`."""
        generator, count = self.generator, len(sounds)
        mel = generator.front_end(sounds)[:, None]
        guidance = Guidance(self.options.guidance)
        plain = None if described_by is None else described_by.expand(count, -1)
        found = change_prompt(
            generator.process,
            mel,
            generator.predictor(plain, Guidance()),
            [
                generator.predictor(vector.expand(count, -1), guidance)
                for vector in (*request.wanted, *request.unwanted)
            ],
            self.steps,
            rounds=self.options.rounds,
            on_step=on_step,
        )
        mels = torch.cat([mel, *found], 1)
        masks = mel_ratio(mels[:, 1:], mel, generator.front_end)
        wanted = len(request.wanted)
        chosen = masks[:, :wanted].amax(1) if wanted else torch.ones_like(mel[:, 0])
        loudest = mels[:, 1 : 1 + wanted].amax(1) if wanted else mel[:, 0]
        return chosen * (1 - masks[:, wanted:]).prod(1), loudest
