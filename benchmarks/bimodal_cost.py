"""What a training step of weakly supervised separation costs: by network, by number of prompts, by contrast.

    python -m benchmarks.bimodal_cost [--recipe demo_bimodal] [--mixed 2 4] [--device cpu] [--quick]

The training loop's own steps, on a batch that lies ready, in turn within one run for every number K of sources a part:

    CLIPSep           CLIPSep with a U-Net of the same sizes, trained on single sounds: one pass a mixture
    CLIPSep's U-Net   the same U-Net, trained weakly: one pass a mixture, and N + N K masks of its maps
    shared            the conditional U-Net, which computes once a mixture what prompts cannot change
    each prompt       the same network the published code's way: all of it for each of the N + N K prompts, in one batch

All but the first are measured with the contrast, for which the joint encoder hears N K sounds a mixture, and without.
Ratios are to `each prompt` of the same kind. Weights are random, those of the CLAP too: only time counts. Unless
`--clap` names another one, the CLAP is small, and so is the contrast's share.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import compared, median_ratio, print_compared, side_by_side, use_device, write_result
from benchmarks.demo_clap import write_untrained
from benchmarks.loader import write_corpus
from benchmarks.recipe_parts import parts_of
from vidaudio.encoders.spec import best_precision
from vidaudio.errors import VidaudioError
from vidaudio.separation.conditional_unet import ConditionalUNet
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.tasks.separation.task import SeparationTask
from vidaudio.training.base import TrainingModule, TrainingTask
from vidaudio.training.checkpointing import RunFiles
from vidaudio.training.fabric import make_fabric, prepare_for_device
from vidaudio.training.graceful_stop import GracefulStop
from vidaudio.training.loader_processes import LoaderProcesses
from vidaudio.training.loop import TrainingLoop
from vidaudio.training.metrics_log import MetricsLogger

CLIPSEP, PLAIN, SHARED, EACH = "CLIPSep", "CLIPSep's U-Net", "shared", "each prompt"
WEAK = (PLAIN, SHARED, EACH)
CONTRAST, NO_CONTRAST = "contrast", "no contrast"
CLIPS, ROUNDS, STEPS = 128, 5, 2
# Of a recipe with CLIPSep's U-Net; and all tokens that the small CLAP reads.
LEVELS, TOKENS = 2, 32
QUICK_CLIPS = 16
QUICK_SIZES = (
    "model.front_end.log_rows=32", "model.unet={levels: 5, width: 4}", "data={window_seconds: 1.024, batch_size: 2}",
)  # fmt: skip


class ReadyBatch:
    """The training loop of a recipe, with its first batch on the device.

    Args:
        task: Task of the run.
        module: Its module, with initial weights.
        folder: Folder for what a run writes.

    Attributes:
        module: The module.
        mixtures: Mixtures a step.
    """

    def __init__(self, task: TrainingTask, module: TrainingModule, folder: Path) -> None:
        self.module = module
        prepare_for_device(module, task.recipe)
        fabric = make_fabric(task.recipe)
        logger = MetricsLogger(folder, task.recipe.data.batch_size, task.example, [], writes=False)
        logger.begin(0)
        self._loop = TrainingLoop(
            task,
            module,
            fabric=fabric,
            files=RunFiles(folder, task),
            logger=logger,
            stop=GracefulStop(),
            loaders=LoaderProcesses(),
        )
        self._batches = itertools.repeat(fabric.to_device(next(iter(task.train_stream))))
        self.mixtures = task.recipe.data.batch_size
        self._device = fabric.device

    def make_steps(self, steps: int) -> int:
        """Make some steps, wait for the device, and return how many mixtures they were made on."""
        for _ in range(steps):
            self._loop.step(self._batches)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return steps * self.mixtures


def weak(recipe: SeparationRecipe, corpus: Path, folder: Path, *, prompt_by_prompt: bool) -> ReadyBatch:
    """Return a weakly supervised training on a corpus.

    Args:
        recipe: Its recipe.
        corpus: A packed corpus.
        folder: Folder for what a run writes.
        prompt_by_prompt: Whether the whole network runs for each prompt.
    """
    task = SeparationTask.open(recipe, str(corpus), recorded=None, encoder_weights=None)
    for sentence in task.prepare(folder):
        print(f"  {sentence}")
    torch.manual_seed(recipe.seed)
    module = task.make_module()
    if prompt_by_prompt:
        unet = module.model.unet
        assert isinstance(unet, ConditionalUNet)
        unet.forward = unet.forward_each  # type: ignore[method-assign]
    return ReadyBatch(task, module, folder)


def clipsep(recipe: SeparationRecipe, corpus: Path, folder: Path) -> ReadyBatch:
    """Return CLIPSep's training with the front end, the sizes of the U-Net and the batch of another recipe."""
    own = load_train_recipe("clipsep", (f"data.batch_size={recipe.data.batch_size}",))
    assert isinstance(own, SeparationRecipe)
    sizes = {name: getattr(recipe.model, name) for name in ("front_end", "unet", "channels")}
    same = {name: getattr(recipe, name) for name in ("precision", "channels_last", "compile", "compile_backend")}
    own = own.model_copy(update={"model": own.model.model_copy(update=sizes), **same})
    parts = parts_of(own, corpus)
    torch.manual_seed(own.seed)
    return ReadyBatch(parts.make_task(own), parts.make_module(own, parts.make_model()), folder)


def weak_recipe(name: str, settings: Sequence[str], way: str) -> SeparationRecipe:
    """Return the recipe of a way to train.

    Raises:
        SystemExit: The recipe does not train on parts.
    """
    recipe = load_train_recipe(name, settings)
    if not isinstance(recipe, SeparationRecipe) or recipe.objective.kind != "parts" or recipe.query.kind != "clap":
        raise SystemExit(f"{name} is no recipe of a system that is trained on mixtures of parts and asked by CLAP")
    if way == PLAIN:
        return load_train_recipe(name, (*settings, "model.condition=null"))
    if recipe.model.condition is None:
        return load_train_recipe(name, (*settings, f"model.condition={{levels: {LEVELS}}}"))
    return recipe


def contestants(name: str, settings: Sequence[str], corpus: Path, folder: Path) -> dict[str, ReadyBatch]:
    """Return the trainings of one K: CLIPSep's, and every weak one with the contrast and without."""
    found = {CLIPSEP: clipsep(weak_recipe(name, settings, PLAIN), corpus, folder)}
    for way, kind in itertools.product(WEAK, (CONTRAST, NO_CONTRAST)):
        own = settings if kind == CONTRAST else (*settings, "objective.contrast=0")
        found[f"{way}, {kind}"] = weak(weak_recipe(name, own, way), corpus, folder, prompt_by_prompt=way == EACH)
    return found


def measured(trainings: Mapping[str, ReadyBatch], steps: int, rounds: int) -> dict[str, Any]:
    """Measure the trainings of one K in turn, print and return their figures."""

    def work(training: ReadyBatch) -> Callable[[], int]:
        return lambda: training.make_steps(steps)

    rates = side_by_side({name: work(training) for name, training in trainings.items()}, rounds=rounds)
    found: dict[str, Any] = {}
    mixtures = trainings[CLIPSEP].mixtures
    for kind in (CONTRAST, NO_CONTRAST):
        names = [CLIPSEP, *(f"{way}, {kind}" for way in WEAK)]
        rows = compared({name: rates[name] for name in names}, f"{EACH}, {kind}")
        print_compared(rows, EACH)
        found[kind] = [{**row, "seconds_a_step": round(mixtures / row["per_second"], 4)} for row in rows]
    shares = {way: 1 - median_ratio(rates, f"{way}, {CONTRAST}", f"{way}, {NO_CONTRAST}") for way in WEAK}
    print("  share of the contrast: " + ", ".join(f"{way} {share:.0%}" for way, share in shares.items()))
    return {**found, "share_of_contrast": {way: round(share, 4) for way, share in shares.items()}}


def run(chosen: argparse.Namespace) -> None:
    """Measure every K and write the result."""
    settings = [*(QUICK_SIZES if chosen.quick else ()), *chosen.set]
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, corpus = Path(scratch), Path(scratch) / "corpus"
        corpus.mkdir()
        if chosen.clap is None:
            clap = write_untrained(folder / "clap", sample_rate=16_000)
            settings += [f"query.clap.model={clap}", f"query.clap.tokens={TOKENS}"]
        else:
            settings.append(f"query.clap.model={chosen.clap}")
        recipe = weak_recipe(chosen.recipe, settings, SHARED)
        clips = QUICK_CLIPS if chosen.quick else CLIPS
        write_corpus(corpus, "wav", clips, rate=recipe.model.front_end.sample_rate)
        for mixed in chosen.mixed:
            print(f"K = {mixed}, mixtures a second")
            trainings = contestants(chosen.recipe, (*settings, f"data.mixed={mixed}"), corpus, folder)
            found[str(mixed)] = measured(trainings, chosen.steps, chosen.rounds)
    written = {
        "recipe": chosen.recipe,
        "set": chosen.set,
        "condition_levels": recipe.model.condition.levels if recipe.model.condition else 0,
        "batch_size": recipe.data.batch_size,
        "precision": best_precision() if recipe.precision == "auto" else recipe.precision,
        "clap": chosen.clap or "small, untrained, 16 kHz",
        "device": chosen.device if chosen.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "steps": chosen.steps,
        "rounds": chosen.rounds,
        "quick": chosen.quick,
    }
    write_result("bimodal_cost", written, {"reference": EACH, "mixtures_per_second": found})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo_bimodal", help="of a system trained on mixtures of parts")
    parser.add_argument("--mixed", type=int, nargs="+", default=[2, 4], metavar="K", help="sources a part")
    parser.add_argument("--clap", help="folder or name of another CLAP; a small untrained one by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the recipe")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one step: only to see it work")
    chosen = parser.parse_args(arguments)
    if min(chosen.steps, chosen.rounds) < 1 or min(chosen.mixed) < 2:
        parser.error("--steps and --rounds must be 1 or more, and K 2 or more")
    use_device(chosen.device)
    if chosen.quick:
        chosen.rounds = chosen.steps = 1
    try:
        run(chosen)
    except VidaudioError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
