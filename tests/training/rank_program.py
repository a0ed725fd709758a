"""Training by several processes, run after run, without paying for imports each time: `python -m ... JOBS.json`.

Everything is imported once; each run's ranks are forked from here, before any of PyTorch's threads exist, and find
their place in the environment as under torchrun. A job says what `train` is called with and what is watched:

    recipe, settings, data, run, resume   as for `vidaudio train`
    ranks         processes
    record        folder: RANK.jsonl gets a line a part of a step: stream step, rows, loss to the last bit; RANK.judged
                  a line a validation: the hash of the model that was validated
    kill_after    steps after which all ranks end by SIGKILL
    term_after    steps after which the ranks in `term_ranks` send themselves and their loader processes `signal`
    term_in_validation   the same, but at the first batch of a validation
    signal        its name; SIGTERM if not given
    freeze        BatchNorm uses and keeps its statistics, so that parts of a batch do not see one another
    gradients     folder: STEP.pt gets rank 0's gradients of every step, before they are clipped
    copy          [from, to]: nothing is trained, a folder is copied

Prints each job's exit codes as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

import vidaudio.training.train as training
from vidaudio.cli import _stop
from vidaudio.encoders.base import weights_hash
from vidaudio.errors import VidaudioError
from vidaudio.tasks.separation.recipe import load_train_recipe


class Watch(pl.Callback):
    """Records, disturbs and freezes, as the job says."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        if "record" in job:
            folder = Path(job["record"])
            folder.mkdir(parents=True, exist_ok=True)
            self.file = (folder / f"{os.environ['RANK']}.jsonl").open("a")

    def on_train_batch_start(self, trainer, module, batch, _number) -> None:
        if self.job.get("freeze"):
            for part in module.modules():
                if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                    part.eval()

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if "gradients" in self.job and trainer.is_global_zero:
            folder = Path(self.job["gradients"])
            folder.mkdir(parents=True, exist_ok=True)
            found = {name: parameter.grad.clone() for name, parameter in module.model.named_parameters()}
            torch.save(found, folder / f"{trainer.global_step}.pt")

    def on_train_batch_end(self, trainer, module, outputs, batch, _number) -> None:
        if "record" in self.job:
            line = {"part": batch["step"], "rows": batch["rows"].tolist(), "loss": float(outputs["loss"]).hex()}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        if self.job.get("term_after") == trainer.global_step:
            self._signal(trainer)

    def on_validation_batch_start(self, trainer, *_: Any) -> None:
        if self.job.get("term_in_validation"):
            self._signal(trainer)

    def _signal(self, trainer) -> None:
        if trainer.global_rank in self.job["term_ranks"]:
            number = signal.Signals[self.job.get("signal", "SIGTERM")]
            for process in multiprocessing.active_children():
                os.kill(process.pid, number)
            os.kill(os.getpid(), number)

    def on_validation_end(self, trainer, module) -> None:
        if "record" in self.job:
            path = Path(self.job["record"]) / f"{os.environ['RANK']}.judged"
            with path.open("a") as file:
                file.write(f"{weights_hash(module.eval_model)}\n")


class KillAfter(pl.Callback):
    """Ends the process when the next step begins, so that whatever belongs to the step before has been done."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer, *_: Any) -> None:
        if trainer.global_step >= self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def run_rank(job: dict[str, Any]) -> None:
    """As the command line would."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    make = training.make_trainer

    def with_watch(recipe, folder, callbacks, logger):
        watching = [Watch(job), *([KillAfter(job["kill_after"])] if "kill_after" in job else [])]
        return make(recipe, folder, [*watching, *callbacks], logger)

    training.make_trainer = with_watch
    recipe = load_train_recipe(job.get("recipe", "clipsep"), job["settings"])
    training.train(recipe, job["data"], job["run"], resume=job.get("resume", False), progress=False)


def run_job(job: dict[str, Any]) -> list[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(job["ranks"]):
        child = os.fork()
        if child:
            children.append(child)
            continue
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["ranks"], "LOCAL_WORLD_SIZE": job["ranks"]}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        code = 70
        try:
            run_rank(job)
            code = 0
        except VidaudioError as error:
            print(f"rank {rank}: {error}", file=sys.stderr)
            code = error.exit_code
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main() -> None:
    codes = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if "copy" in job:
            shutil.copytree(*job["copy"])
            codes.append([])
        else:
            codes.append(run_job(job))
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
