"""How fast a generator trains, and how many seconds of sound it generates a second, by sampler.

    python -m benchmarks.generation_speed [--recipe demo_generation] [--vocoder demo_vocoder] [--device cpu] [--quick]

Weights are random: only speed counts. Three comparisons, each in turn within one run:

    training      steps a second of the trainer's own loop: on a batch that lies ready, and fed by loader processes
    generation    seconds of sound a second, one sound alone and `--together` in a block, guided as the recipe says, up
                  to the mel and up to the vocoder's sound; a flow's network is trained otherwise and is as large
    to sound      the vocoder and Griffin-Lim on ready mels
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import compared, print_compared, side_by_side, use_device, write_result
from benchmarks.gpu_steps import QUICK_GENERATOR
from benchmarks.loader import DIMENSIONS, write_corpus
from benchmarks.step_rates import Clock, RecipeSteps
from vidaudio.errors import VidaudioError
from vidaudio.generation import Denoiser, MelFrontEnd, SamplerConfig, Vocoder, griffin_lim
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.vocoder.checkpoint import VocoderCheckpoint
from vidaudio.tasks.vocoder.recipe import VocoderRecipe

# Samplers of a diffusion model and their steps; a flow has its own.
DIFFUSION = (("sde-dpm-solver++", 25), ("dpm-solver++", 25), ("dpm-solver++", 50), ("ddim", 50), ("ancestral", 250))
FLOW = (("euler", 25),)
READY, FED, VOCODER, GRIFFIN_LIM = "ready batch", "loader", "vocoder", "Griffin-Lim"
CLOCK, CLIPS, ROUNDS = Clock(warm_up=3, steps=20, windows=1), 128, 2
QUICK_CLOCK, QUICK_CLIPS = Clock(warm_up=1, steps=1, windows=1), 8
# A tenth of the steps, and the mel of `QUICK_GENERATOR`.
QUICK_DIVISOR, QUICK_TOGETHER, WARM_STEPS = 10, 2, 2
QUICK_VOCODER = (
    "model.mel={bands: 16}",
    "model.generator={channels: 32, rates: [32, 16], block_kernels: [3], block_dilations: [[1]]}",
)
AS_FLOW = ("system=clipsonic_iq_modern", "model.process={kind: flow, learned_variance: false}")


def training_rates(recipe: GenerationRecipe, clock: Clock, clips: int, rounds: int) -> dict[str, list[float]]:
    """Steps a second on a ready batch and fed by the loader, in turn."""
    rates: dict[str, list[float]] = {READY: [], FED: []}
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), "wav", clips, rate=recipe.model.mel.sample_rate)
        steps = RecipeSteps(recipe, Path(folder))
        for _ in range(rounds):
            found = {READY: steps.on_ready_batch(clock), FED: steps.fed(clock, max(1, recipe.data.workers))}
            for name, each in found.items():
                rates[name].append(each.median / recipe.data.batch_size)
    return rates


def random_vocoder(name: str, settings: tuple[str, ...], device: str) -> VocoderCheckpoint:
    """A vocoder of a recipe's sizes.

    Raises:
        SystemExit: The recipe is another system's.
    """
    recipe = load_train_recipe(name, settings)
    if not isinstance(recipe, VocoderRecipe):
        raise SystemExit(f"{name} is no recipe of a vocoder")
    return VocoderCheckpoint(Vocoder(recipe.model.vocoder()).eval().fold().to(device), Path(name), "")


@dataclass(frozen=True)
class Contestant:
    """One sampler, with sounds alone or in a block.

    Attributes:
        generator: With a vocoder.
        sampler: And its steps.
        count: Sounds of a block.
    """

    generator: SoundGenerator
    sampler: SamplerConfig
    count: int

    def rates(self) -> dict[str, float]:
        """Seconds of sound a second up to the mel and up to the vocoder's sound, of one generation."""
        conditions = torch.randn(self.count, DIMENSIONS, generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        mels = self.generator.mels(conditions, range(self.count), sampler=self.sampler)
        # Nothing is done before it is here.
        mels.cpu()
        mel_done = time.perf_counter()
        self.generator.sound(mels).cpu()
        seconds = self.count * seconds_of(self.generator.recipe)
        return {"mel": seconds / (mel_done - began), VOCODER: seconds / (time.perf_counter() - began)}

    def warm_up(self) -> None:
        """Generate with few steps."""
        replace(self, sampler=replace(self.sampler, steps=WARM_STEPS)).rates()


def seconds_of(recipe: GenerationRecipe) -> float:
    """How long a sound is."""
    return recipe.model.mel.config().seconds(recipe.frames)


def contestants_of(
    recipe: GenerationRecipe, samplers: Sequence[tuple[str, int]], vocoder: VocoderCheckpoint, together: int
) -> dict[str, Contestant]:
    """One random network with some samplers and their steps, sounds alone and together."""
    torch.manual_seed(0)
    model = Denoiser(recipe.denoiser(DIMENSIONS)).eval().to(next(vocoder.model.parameters()).device)
    return {
        f"{name} {steps}, {words}": Contestant(
            SoundGenerator(model, recipe, vocoder, block=count), SamplerConfig(name, steps), count
        )
        for name, steps in samplers
        for count, words in ((1, "alone"), (together, f"{together} together"))
    }


def generation_rates(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of sound a second of every contestant in every round, in turn, up to the mel and up to sound."""
    rates: dict[str, list[float]] = {f"{name}, {end}": [] for name in contestants for end in ("mel", VOCODER)}
    for contestant in contestants.values():
        contestant.warm_up()
    for _ in range(rounds):
        for name, contestant in contestants.items():
            for end, rate in contestant.rates().items():
                rates[f"{name}, {end}"].append(rate)
    return rates


def ways_to_sound(recipe: GenerationRecipe, vocoder: VocoderCheckpoint) -> dict[str, Callable[[], float]]:
    """From a ready mel to sound; each returns the seconds of sound it made."""
    front_end = MelFrontEnd(recipe.model.mel.config()).to(next(vocoder.model.parameters()).device)
    log_mel = front_end.to_log(torch.rand(1, recipe.model.mel.bands, recipe.frames) * 2 - 1).to(front_end.window.device)

    def way(make: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        @torch.inference_mode()
        def work() -> float:
            make(log_mel).cpu()
            return seconds_of(recipe)

        return work

    return {VOCODER: way(vocoder.model), GRIFFIN_LIM: way(lambda mel: griffin_lim(mel, front_end))}


def recipes(name: str, *, quick: bool) -> tuple[GenerationRecipe, GenerationRecipe]:
    """A generator's recipe, and the same network as a flow's.

    Raises:
        SystemExit: The recipe is another system's.
    """
    sizes = (*QUICK_GENERATOR, "data.batch_size=2") if quick else ()
    recipe, flow = load_train_recipe(name, sizes), None
    if isinstance(recipe, GenerationRecipe) and recipe.model.process.kind == "diffusion":
        flow = load_train_recipe(name, (*sizes, *AS_FLOW))
    if flow is None:
        raise SystemExit(f"{name} is no recipe of a generator by diffusion")
    return recipe, flow


def run(chosen: argparse.Namespace) -> None:
    recipe, flow = recipes(chosen.recipe, quick=chosen.quick)
    clock, clips, divisor = (QUICK_CLOCK, QUICK_CLIPS, QUICK_DIVISOR) if chosen.quick else (CLOCK, CLIPS, 1)
    training = compared(training_rates(recipe, clock, clips, chosen.rounds), READY)
    print(f"training {chosen.recipe}, steps a second")
    print_compared(training, READY)
    vocoder = random_vocoder(chosen.vocoder, QUICK_VOCODER if chosen.quick else (), chosen.device)
    diffusion, by_flow = ([(name, steps // divisor) for name, steps in each] for each in (DIFFUSION, FLOW))
    contestants = contestants_of(recipe, diffusion, vocoder, chosen.together)
    contestants |= contestants_of(flow, by_flow, vocoder, chosen.together)
    found = generation_rates(contestants, chosen.rounds)
    reference = next(iter(found))
    print("generation, seconds of sound a second")
    generation = compared(found, reference)
    print_compared(generation, reference)
    print("from a mel to sound, seconds of sound a second")
    to_sound = compared(side_by_side(ways_to_sound(recipe, vocoder), rounds=chosen.rounds), VOCODER)
    print_compared(to_sound, VOCODER)
    settings = {
        "recipe": chosen.recipe,
        "vocoder": chosen.vocoder,
        "seconds_a_sound": seconds_of(recipe),
        "guidance": recipe.sampling.guidance,
        "batch_size": recipe.data.batch_size,
        "device": chosen.device if chosen.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "rounds": chosen.rounds,
        "quick": chosen.quick,
    }
    results = {
        "training_steps_per_second": training,
        "reference": reference,
        "sound_seconds_per_second": generation,
        "mel_to_sound_seconds_per_second": to_sound,
    }
    write_result("generation_speed", settings, results)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo_generation", help="of a generator by diffusion")
    parser.add_argument("--vocoder", default="demo_vocoder", help="recipe of a vocoder of the same mel")
    parser.add_argument("--together", type=int, default=16, help="sounds of a block")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few steps, one round: only to see it work")
    chosen = parser.parse_args(arguments)
    if min(chosen.together, chosen.rounds) < 1:
        parser.error("--together and --rounds must be 1 or more")
    use_device(chosen.device)
    if chosen.quick:
        chosen.together, chosen.rounds = min(chosen.together, QUICK_TOGETHER), 1
    try:
        run(chosen)
    except VidaudioError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
