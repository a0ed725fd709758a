"""Mixtures a second that a GPU trains on, every system with and without torch.compile, and the loaders that feed it.

    python -m benchmarks.gpu_steps [--systems clipsep pit] [--batch-size 64] [--output FILE] [--again]
    python -m benchmarks.gpu_steps --device cpu --quick      # tiny sizes, on a processor: only to see it work

For every recipe of train/ at the papers' sizes: the trainer's own optimiser step on a batch that lies on the device,
median of windows of steps between which alone the device is waited for. `first_step_seconds` is the step before the
warm-up, compilation included. Then what one loader process reads in that recipe's shapes (PCM, page cache warm),
`loader_processes` = ceil(mixtures a second x sources / windows a second of one process), and, where the machine has as
many cores, the same steps fed by so many: `fed_mixtures_per_second`.

Every variant is written as soon as it is measured, into benchmarks/gpu_steps.json, which `benchmarks.loader_waiting`
reads. The same command goes on: what stands there of this commit and machine is not measured again, unless `--again`
says so. A variant that fails, for want of memory or of a compiler, is noted with its sentence, and tried again next
time.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.common import commit, machine, use_device
from benchmarks.gpu_steps_file import StepsFile, Variant
from benchmarks.loader import write_corpus
from benchmarks.loader_waiting import CLIPS, GPU_STEPS, free_rate, waits
from benchmarks.matrix_rate import matrix_rate
from benchmarks.recipe_parts import Recipe
from benchmarks.step_rates import READ_AHEAD, Clock, RecipeSteps, compile_into, forget_compiled
from vidaudio.errors import VidaudioError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.recipe import SeparationRecipe

# Each has a recipe of its name in train/, at the paper's sizes.
# What learns from mixtures has a bench of its own, `bimodal_cost`.
SEPARATORS = tuple(
    name
    for name in get_args(SeparationRecipe.model_fields["system"].annotation)
    if name != "custom" and not name.startswith(("bimodal", "mixit"))
)
# The others have its network.
GENERATORS = ("clipsonic_iq",)
SYSTEMS = (*SEPARATORS, *GENERATORS)
CLOCK, LOADER_SECONDS = Clock(warm_up=20, steps=50, windows=5), 10.0
QUICK_CLOCK, QUICK_CLIPS, QUICK_LOADER_SECONDS = Clock(warm_up=2, steps=2, windows=2), 8, 0.1
# Compiled without a compiler, so that it can be tried anywhere.
QUICK_SIZES = (
    "model.front_end.log_rows=32", "model.unet.levels=5", "model.unet.width=4", "compile_backend=aot_eager",
)  # fmt: skip
QUICK_GENERATOR = (
    "model.mel={bands: 16}", "model.unet={channels: 16, multipliers: [1, 2], blocks: 1, attention: [2], heads: 2}",
    "data.window_seconds=0.512", "compile_backend=aot_eager",
)  # fmt: skip
QUICK_BATCH_SIZE = 2


class Corpora:
    """Packed corpora in a scratch folder, each written when it is first asked for."""

    def __init__(self, scratch: Path, clips: int) -> None:
        self._scratch, self._clips = scratch, clips

    def of(self, recipe: Recipe) -> Path:
        """One with the sound and, if wanted, the pictures that a recipe trains on."""
        sound = recipe.model.front_end if isinstance(recipe, SeparationRecipe) else recipe.model.mel
        rate, pictures = sound.sample_rate, recipe.query.kind == "pictures"
        folder = self._scratch / f"{rate}{'-pictures' if pictures else ''}"
        if not folder.is_dir():
            folder.mkdir()
            write_corpus(folder, "wav", self._clips, rate=rate, pictures=pictures)
        return folder


class LoaderRates:
    """Windows a second of one loader process; of streams alike in all settings one is measured."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[Any, float] = {}

    def of(self, stream: MixtureStream) -> float:
        key = (stream.url, stream.config)
        if key not in self._known:
            stream.set_start_step(0)
            batches = iter(stream.loader(workers=1))
            free_rate(batches, 2 * READ_AHEAD)
            found, _, took = waits(batches, 0.0, self._seconds)
            self._known[key] = len(found) * stream.config.batch_size * stream.config.sources / took
        return self._known[key]


def loader_processes(mixtures_per_second: float, sources: int, windows_per_second: float) -> int:
    """How many loader processes read as fast as a system trains; `windows_per_second` is one's."""
    return max(1, math.ceil(mixtures_per_second * sources / windows_per_second))


def measured(recipe: Recipe, corpus: Path, clock: Clock, loaders: LoaderRates, cores: int) -> dict[str, Any]:
    """A row of figures of one variant, see the module's words; without those that this machine cannot give.

    Raises:
        RuntimeError: As PyTorch raises it where memory or a compiler is missing.
    """
    steps = RecipeSteps(recipe, corpus)
    ready = steps.on_ready_batch(clock)
    sources, one = steps.stream.config.sources, loaders.of(steps.stream)
    device = "cpu" if ready.peak_memory_gib is None else "cuda"
    operations = ready.median * steps.operations
    processes = loader_processes(ready.median, sources, one)
    row = {
        "mixtures_per_second": round(ready.median, 2),
        "slowest": round(min(ready.mixtures_per_second), 2),
        "fastest": round(max(ready.mixtures_per_second), 2),
        "sources": sources,
        "precision": ready.precision,
        "teraflops": round(operations / 1e12, 3),
        "matrix_share": round(operations / matrix_rate(device, ready.precision), 4),
        "first_step_seconds": round(ready.first_step_seconds, 2),
        "loader_windows_per_second": round(one, 1),
        "loader_processes": processes,
    }
    if ready.peak_memory_gib is not None:
        row["peak_memory_gib"] = round(ready.peak_memory_gib, 2)
    if processes <= cores:
        row["fed_mixtures_per_second"] = round(steps.fed(clock, processes).median, 2)
    return row


def told(variant: Variant, row: dict[str, Any], cores: int) -> str:
    """A variant's figures in a line."""
    line = f"  {variant}: {row['mixtures_per_second']:.1f} mixtures/s ({row['slowest']:.1f} to {row['fastest']:.1f})"
    line += f", {row['matrix_share']:.0%} of the matrix rate, first step {row['first_step_seconds']:.1f} s"
    if "peak_memory_gib" in row:
        line += f", {row['peak_memory_gib']:.1f} GiB"
    line += f"; loader processes: {row['loader_processes']}"
    if "fed_mixtures_per_second" not in row:
        return f"{line}, more than the {cores} cores here: not tried"
    return f"{line}, fed by them {row['fed_mixtures_per_second'] / row['mixtures_per_second']:.0%} of it"


def sentence_of(error: Exception) -> str:
    """What went wrong, in one line that is not too long to be kept."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:400]


def measure(
    file: StepsFile,
    chosen: argparse.Namespace,
    place: dict[str, Any],
    work: Callable[[Recipe], dict[str, Any]],
) -> int:
    """Measure all variants that `file` does not know; how many failed."""
    failed = 0
    for system in chosen.systems:
        for compiled in (False, True):
            recipe = recipe_of(system, compiled, batch_size=chosen.batch_size, quick=chosen.quick)
            variant = Variant(system, compiled, recipe.data.batch_size, place["machine"], chosen.quick)
            if not chosen.again and file.supports(variant, place["commit"]):
                print(f"  {variant}: measured already", flush=True)
                continue
            when = {"torch": torch.__version__, "commit": place["commit"], "date": f"{datetime.now(UTC):%Y-%m-%d}"}
            try:
                row = work(recipe)
            # Too little memory has a type of its own; what compilers and CUDA say is of many, all of this kind.
            except RuntimeError as error:
                failed += 1
                file.note_failure(variant, {"sentence": sentence_of(error), **when})
                print(f"  {variant}: {sentence_of(error)}", flush=True)
            else:
                file.add(variant, {**row, **when})
                print(told(variant, row, place["cores"]), flush=True)
            forget_compiled()
    return failed


def recipe_of(system: str, compiled: bool, *, batch_size: int | None, quick: bool) -> Recipe:
    """A system's recipe as it is measured: as it stands in train/, or at tiny sizes."""
    batch_size = batch_size or (QUICK_BATCH_SIZE if quick else None)
    sizes = QUICK_GENERATOR if system in GENERATORS else QUICK_SIZES
    settings = [f"compile={str(compiled).lower()}", *(sizes if quick else ())]
    return load_train_recipe(system, [*settings, *([f"data.batch_size={batch_size}"] if batch_size else [])])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, metavar="SYSTEM")
    parser.add_argument("--batch-size", type=_whole, help="mixtures a step; the recipe's by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--again", action="store_true", help="measure also what is there of this commit and machine")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few steps: only to see it work")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"{GPU_STEPS.name} beside this; with --quick or on a processor none"
    )
    chosen = parser.parse_args(arguments)
    use_device(chosen.device, "on others nothing is to be measured here; to see it work: --device cpu --quick")
    only_tried = chosen.quick or chosen.device == "cpu"
    here = machine()
    device = torch.cuda.get_device_name() if chosen.device == "cuda" else "no GPU"
    place = {"machine": f"{device}, {here['cores']} x {here['cpu']}", "commit": commit(), "cores": here["cores"]}
    clock = QUICK_CLOCK if chosen.quick else CLOCK
    try:
        file = StepsFile(chosen.output or (None if only_tried else GPU_STEPS), here)
        with tempfile.TemporaryDirectory() as scratch:
            compile_into(Path(scratch) / "compiled")
            corpora = Corpora(Path(scratch), QUICK_CLIPS if chosen.quick else CLIPS)
            loaders = LoaderRates(QUICK_LOADER_SECONDS if chosen.quick else LOADER_SECONDS)
            work = functools.partial(_measured_on, corpora, clock, loaders, here["cores"])
            failed = measure(file, chosen, place, work)
    except VidaudioError as error:
        raise SystemExit(str(error)) from None
    print(f"  {place['machine']}; {file.path or 'only tried: nothing is written'}")
    if failed:
        raise SystemExit(f"{failed} could not be measured, see above; the same command tries them again")


def _measured_on(corpora: Corpora, clock: Clock, loaders: LoaderRates, cores: int, recipe: Recipe) -> dict[str, Any]:
    return measured(recipe, corpora.of(recipe), clock, loaders, cores)


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


if __name__ == "__main__":
    main()
