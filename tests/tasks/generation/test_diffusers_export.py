"""A generator as diffusers opens it, in a process that cannot import vidaudio: the same mels from the same seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.errors import CheckpointError, UsageError
from vidaudio.generation import Guidance, SamplerConfig, fixed_length
from vidaudio.hashing import sha256_of
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.diffusers_export import export_generator
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.registry import load_train_recipe, train

# Opens the folder, makes one pass and some mels, and writes what came out.
PROGRAM = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vidaudio":
            raise ModuleNotFoundError("vidaudio is blocked", name=name)
sys.meta_path.insert(0, Blocked())
import json, pathlib
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, EulerDiscreteScheduler, UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
folder, given, out, how = sys.argv[1:]
named = {"custom_pipeline": f"{folder}/pipeline.py"} if how == "named" else {}
pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **named)
pipe.set_progress_bar_config(disable=True)
tensors = load_file(given)
made = {}
with torch.inference_mode():
    made["pass"] = pipe.predict(tensors["noisy"], tensors["times"], tensors["vectors"])
    made["without"] = pipe.predict(tensors["noisy"], tensors["times"], None)
call = json.loads(pathlib.Path(folder, "generator.json").read_text())["call"]
done = pipe(tensors["vectors"], seeds=[3, 4, 5], **call)
made["mels"], made["log_mels"] = done.mels, done.log_mels
made["plain"] = pipe(tensors["vectors"], seeds=[3, 4, 5], guidance=1).mels
negative = {"negative": tensors["vectors"][0], "guidance": 2.5, "guidance_rescale": 0.5, "steps": 7, "frames": 24}
made["negative"] = pipe(tensors["vectors"], seeds=[3, 4, 5], **negative).mels
if hasattr(pipe.scheduler.config, "trained_betas"):
    own = pipe.scheduler.config
    for name, other in (("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler), ("unipc", UniPCMultistepScheduler)):
        # UniPC knows no steps of noise.
        pipe.scheduler = other.from_config(own, algorithm_type="dpmsolver++", solver_type="bh2")
        made[name] = pipe(tensors["vectors"], seeds=[3, 4, 5], steps=10).mels
assert not any(name.partition(".")[0] == "vidaudio" for name in sys.modules)
save_file({name: tensor.contiguous() for name, tensor in made.items()}, out)
"""
# System, and settings of its process.
PROCESSES = {
    "noise": ("clipsonic_iq", ()),
    "deterministic": ("clipsonic_iq", ("sampling.sampler=dpm-solver++",)),
    "velocity": ("clipsonic_iq_modern", ("average=null", "model.process.offset_noise=0.2")),
    "flow": ("clipsonic_iq_modern", ("average=null", "model.process.kind=flow")),
}


def opened(folder: Path, given: Path, out: Path, cache: Path, how: str) -> dict[str, torch.Tensor]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(given), str(out), how]
    done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return load_file(out)


@pytest.mark.parametrize(
    ("process", "how"), [("noise", "named"), ("deterministic", "found"), ("velocity", "found"), ("flow", "found")]
)
def test_diffusers_alone_makes_the_same_mels(process: str, how: str, packed: Path, tmp_path: Path):
    system, settings = PROCESSES[process]
    recipe = load_train_recipe(system, (*TINY_GENERATOR, "log.to=none", "schedule.steps=40", *settings))
    train(recipe, str(packed), tmp_path / "run", progress=False)
    exported = export_generator(tmp_path / "run", tmp_path / "folder")
    loaded = load_generator(tmp_path / "run")
    generator = torch.Generator().manual_seed(0)
    given = {
        "noisy": torch.randn(3, 1, 16, 16, generator=generator),
        "times": torch.tensor([0.25, 500.5, 999.75]),
        "vectors": torch.randn(3, loaded.model.config.condition_dimensions, generator=generator),
    }
    save_file(given, tmp_path / "given.safetensors")
    made = opened(exported.folder, tmp_path / "given.safetensors", tmp_path / "out.safetensors", tmp_path, how)
    with torch.inference_mode():
        vectors = fixed_length(given["vectors"])
        assert torch.equal(made["pass"], loaded.model(given["noisy"], given["times"], vectors))
        assert torch.equal(made["without"], loaded.model(given["noisy"], given["times"], None))
    assert not torch.equal(made["pass"], made["without"])
    ours = SoundGenerator(loaded.model, loaded.recipe)
    seeds = [3, 4, 5]
    close = {"rtol": 0, "atol": 1e-4}
    mels = ours.mels(given["vectors"], seeds)
    torch.testing.assert_close(made["mels"], mels, **close)
    torch.testing.assert_close(made["log_mels"], ours.front_end.to_log(mels), rtol=0, atol=1e-3)
    torch.testing.assert_close(made["plain"], ours.mels(given["vectors"], seeds, guidance=Guidance()), **close)
    negative = ours.mels(
        given["vectors"],
        seeds,
        sampler=SamplerConfig(recipe.sampling.sampler, steps=7),
        guidance=Guidance(2.5, rescale=0.5),
        negative=given["vectors"][0],
        frames=24,
    )
    torch.testing.assert_close(made["negative"], negative, **close)
    assert ("ddim" in made) == (process != "flow")
    for name in {"ddim", "euler", "unipc"} & set(made):
        assert bool(torch.isfinite(made[name]).all())
        assert float(made[name].std()) > 0.01


def test_the_folder_says_what_it_is(trained_generator: Path, tmp_path: Path):
    exported = export_generator(trained_generator, tmp_path / "deep" / "folder")
    loaded = load_generator(trained_generator)
    folder = exported.folder
    assert set(exported.files) == {
        "generator.json",
        "model_index.json",
        "pipeline.py",
        "projection/condition_projection.py",
        "projection/config.json",
        "projection/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    facts = json.loads((folder / "generator.json").read_text())
    assert facts["checkpoint_sha256"] == sha256_of(loaded.path)
    assert facts["encoder"] == loaded.encoder
    assert (facts["mel"]["hop"], facts["mel"]["log_most"]) == (512, 3.5)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert len(config["trained_betas"]) == config["num_train_timesteps"] == 4000
    assert (config["prediction_type"], config["variance_type"]) == ("epsilon", "learned_range")
    assert np.isclose(config["lambda_min_clipped"], -5.1)
    assert {path.stat().st_mode for path in folder.rglob("*.safetensors")} == {
        (folder / "model_index.json").stat().st_mode
    }
    assert sorted(path.name for path in folder.parent.iterdir()) == ["folder"]


def test_what_is_there_is_not_overwritten(trained_generator: Path, trained: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "file"):
        with pytest.raises(UsageError, match="exists already"):
            export_generator(trained_generator, taken)
    with pytest.raises(CheckpointError, match=r"cannot be written"):
        export_generator(trained_generator, tmp_path / "full" / "file" / "below")
    with pytest.raises(CheckpointError, match="generation"):
        export_generator(trained, tmp_path / "separator")
    assert not (tmp_path / "separator").exists()
    (tmp_path / "empty").mkdir()
    assert export_generator(trained_generator, tmp_path / "empty").folder == tmp_path / "empty"
