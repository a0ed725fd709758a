"""Export of a generator as a folder that diffusers opens where vidaudio is not installed.

The folder holds the U-Net, the projection of the conditions and a scheduler in diffusers' own formats, and the little
code around them: times between 0 and 1000, heads, guidance, vectors of one length, and the map back to logarithms.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from vidaudio import __version__
from vidaudio.errors import CheckpointError, UsageError
from vidaudio.generation import cosine_betas
from vidaudio.generation.libraries import require
from vidaudio.generation.mel import LOG_LEAST
from vidaudio.generation.samplers import LEAST_LOG_SNR
from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint, load_generator

CODE_FOLDER = Path(__file__).with_name("diffusers_folder")
FACTS_FILE = "generator.json"
# Samplers whose steps the exported schedulers make; of others, only the default number of steps fits.
_EXPORTED_SAMPLERS = (None, "dpm-solver++", "sde-dpm-solver++", "euler")
_DEFAULT_STEPS = 25


@dataclass(frozen=True, slots=True)
class ExportedGenerator:
    """Result of `export_generator`.

    Attributes:
        folder: The folder.
        scheduler: Class of its scheduler.
        files: Names of its files.
    """

    folder: Path
    scheduler: str
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"folder": str(self.folder), "scheduler": self.scheduler, "files": list(self.files)}

    def __str__(self) -> str:
        return f"{self.folder}: {len(self.files)} files, with a {self.scheduler}"


def export_generator(checkpoint: str | Path, folder: str | Path) -> ExportedGenerator:
    """Write a generator as a folder for `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.

    The folder appears complete or not at all.

    Args:
        checkpoint: A run's folder or its weights file.
        folder: Folder to write; it must not exist, or be empty.

    Raises:
        CheckpointError: When the checkpoint cannot be read, or the folder cannot be written.
        UsageError: When the folder holds something, or diffusers is not installed.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already; name a new folder")
    loaded = load_generator(checkpoint)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            made = Path(scratch) / "folder"
            made.mkdir()
            scheduler = _write(loaded, made)
            files = sorted(path for path in made.rglob("*") if path.is_file())
            names = tuple(path.relative_to(made).as_posix() for path in files)
            for path in files:
                # Libraries give some files another mode than the umask.
                path.chmod(made.stat().st_mode & 0o666)
            os.replace(made, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be written ({error})") from error
    return ExportedGenerator(folder, scheduler, names)


def _write(loaded: GeneratorCheckpoint, folder: Path) -> str:
    """Write all files; return the class of the scheduler."""
    # Their modules need diffusers, which `load_generator` has asked for.
    from vidaudio.tasks.generation.diffusers_folder.condition_projection import ConditionProjection

    model, mel = loaded.model, loaded.recipe.model.mel.config()
    assert model.projection is not None, "generators have a condition"
    projection = ConditionProjection(model.config.condition_dimensions, model.embedding_dimensions)
    projection.linear.load_state_dict(model.projection.state_dict())
    scheduler = _scheduler(loaded)
    model.unet.save_pretrained(folder / "unet")
    projection.save_pretrained(folder / "projection")
    scheduler.save_pretrained(folder / "scheduler")
    shutil.copyfile(CODE_FOLDER / "condition_projection.py", folder / "projection" / "condition_projection.py")
    shutil.copyfile(CODE_FOLDER / "pipeline.py", folder / "pipeline.py")
    name = type(scheduler).__name__
    index = {
        "_class_name": ["pipeline", "SoundPipeline"],
        "_diffusers_version": require("diffusers").__version__,
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", name],
        "projection": ["condition_projection", "ConditionProjection"],
        "heads": model.config.heads,
        "bands": mel.bands,
        "frames": loaded.recipe.frames,
        "offset_noise": loaded.recipe.model.process.offset_noise,
        "log_least": LOG_LEAST,
        "log_most": mel.log_most,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / FACTS_FILE).write_text(json.dumps(_facts(loaded), indent=2) + "\n")
    return name


def _scheduler(loaded: GeneratorCheckpoint) -> Any:
    """Return diffusers' scheduler of a generator's process."""
    diffusers, process = require("diffusers"), loaded.recipe.model.process
    if process.kind == "flow":
        return diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    return diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=process.steps,
        trained_betas=cosine_betas(process.steps).tolist(),
        rescale_betas_zero_snr=process.zero_terminal_snr,
        prediction_type="v_prediction" if process.prediction == "velocity" else "epsilon",
        variance_type="learned_range" if process.learned_variance else None,
        algorithm_type="dpmsolver++" if loaded.recipe.sampling.sampler == "dpm-solver++" else "sde-dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lambda_min_clipped=LEAST_LOG_SNR,
        timestep_spacing="trailing" if process.zero_terminal_snr else "linspace",
        # At most 1, so that mels are clipped to [-1, 1].
        thresholding=True,
        sample_max_value=1.0,
    )


def _facts(loaded: GeneratorCheckpoint) -> dict[str, Any]:
    """Return what else a user of the folder must know; plain JSON values."""
    recipe, sampling = loaded.recipe, loaded.recipe.sampling
    mel = recipe.model.mel.config()
    return {
        "format": 1,
        "vidaudio": __version__,
        "system": recipe.system,
        "checkpoint_sha256": loaded.sha256,
        "steps_trained": loaded.step,
        "encoder": loaded.encoder,
        "trained_with": recipe.query.train,
        "mel": recipe.model.mel.model_dump() | {"highest": mel.top, "log_least": LOG_LEAST},
        "call": {
            "steps": sampling.steps if sampling.sampler in _EXPORTED_SAMPLERS else _DEFAULT_STEPS,
            "guidance": sampling.guidance,
            "guidance_interval": list(sampling.guidance_interval),
            "guidance_rescale": sampling.guidance_rescale,
        },
    }
