"""train/clipsep.yaml says what the paper and its code say, and the schedule is theirs."""

from __future__ import annotations

import re

import pytest

from vidaudio.config.recipes import load_values
from vidaudio.errors import RecipeError
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.schedule import rate_factor, unfinished_warmup


def test_clipsep_has_every_number_of_the_paper_and_its_code():
    recipe = load_train_recipe("clipsep")
    front_end = recipe.model.front_end
    assert (front_end.sample_rate, front_end.n_fft, front_end.hop, front_end.window_samples) == (
        16000,
        1024,
        256,
        65535,
    )
    assert (front_end.log_rows, front_end.frames) == (256, 256)
    assert (recipe.model.unet.levels, recipe.model.unet.width, recipe.model.unet.max_multiplier) == (7, 64, 8)
    assert recipe.model.channels == 32
    assert (recipe.data.sources, recipe.data.window_frames, recipe.data.frame_spacing_seconds) == (2, 3, 1.0)
    assert recipe.data.gain_range == (0.5, 1.5)
    assert (recipe.data.batch_size, recipe.data.workers, recipe.seed) == (32, 8, 1234)
    optimiser = recipe.optimiser
    assert (optimiser.learning_rate, optimiser.betas, optimiser.epsilon) == (1e-3, (0.9, 0.999), 1e-8)
    assert (optimiser.weight_decay, optimiser.gradient_clip_norm) == (0.0, 1.0)
    schedule = recipe.schedule
    assert (schedule.steps, schedule.warmup_steps, schedule.decay_until_step) == (200_000, 5_000, 100_000)
    assert schedule.final_factor == 0.1
    assert recipe.validation.every_steps == 10_000
    assert (recipe.query.train, recipe.query.validation) == ("image", "image")
    assert recipe.query.templates == (
        "a photo of {}",
        "a photo of the small {}",
        "a low resolution photo of a {}",
        "a photo of many {}",
    )


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1 / 5000), (2499, 0.5), (4999, 1.0), (5000, 1.0), (52_500, 0.55), (100_000, 0.1), (199_999, 0.1)],
)
def test_the_learning_rate_warms_up_then_falls_linearly_then_stays(step: int, factor: float):
    assert rate_factor(step, load_train_recipe("clipsep").schedule) == pytest.approx(factor)


def test_a_run_that_ends_within_its_warmup_is_told_how_far_the_learning_rate_comes():
    def said(*settings: str) -> str | None:
        return unfinished_warmup(load_train_recipe("clipsep", settings).schedule)

    assert said("schedule.steps=5000") is None
    assert said("schedule.steps=4", "schedule.kind=milestones") is None
    assert said("schedule.steps=50") == (
        "schedule.warmup_steps=5000 is longer than the run, schedule.steps=50: the learning rate ends at 1.00% of "
        "optimiser.learning_rate"
    )


def test_of_a_system_with_two_compositions_the_one_with_the_chosen_kind_of_query_is_meant():
    assert load_train_recipe("sop", ["query.kind=pictures", "query.pictures.trained=false"])
    with pytest.raises(RecipeError, match=r"for sop, query\.pictures\.trained must be False, not True\. Call"):
        load_train_recipe("sop", ["query.kind=pictures"])
    with pytest.raises(RecipeError, match=r"for sop, query\.encoder must be 'resnet18-dilated', not 'clip'"):
        load_train_recipe("sop", ["query.encoder=clip"])


def test_the_demo_differs_only_in_sizes_steps_and_the_way_to_ask():
    import yaml

    from vidaudio.config.recipes import find_recipe

    listed = yaml.safe_load(find_recipe("demo", "train").read_text())
    allowed = {"extends", "model", "query", "data", "schedule", "validation"}
    assert set(listed) <= allowed
    assert set(listed["model"]) <= {"front_end", "unet"}
    assert set(listed["data"]) <= {"batch_size", "workers"}
    assert listed["query"] == {"gap": {"ask": "retrieval"}}
    demo, full = load_values("demo", "train"), load_values("clipsep", "train")
    for key in set(full) - set(listed):
        assert demo[key] == full[key]


@pytest.mark.parametrize("name", ["clipsep_nit", "clipsep_text", "clipsep_hybrid", "labelsep", "bertsep", "sop", "pit"])
def test_systems_differ_from_clipsep_in_name_queries_and_noise_heads_alone(name: str):
    full, other = load_train_recipe("clipsep").model_dump(), load_train_recipe(name).model_dump()
    full["model"].pop("noise")
    noise = other["model"].pop("noise")
    assert {key for key in full if full[key] != other[key]} == {"system", "query"} - ({"query"} if noise else set())
    numbers = {"input": "mean", "gamma": 0.25, "activation_weight": 0.1, "start_step": 0}
    numbers |= {"query_weight": 0.0, "query_margin": 0.1, "initial_bias": None}
    assert noise == (numbers if name == "clipsep_nit" else None)


def test_short_runs_begin_without_noise_heads():
    """A fifth of the steps; the paper's 200,000 steps have them from the beginning."""

    def start(*settings: str) -> int | None:
        noise = load_train_recipe("clipsep_nit", settings).model.noise
        assert noise is not None
        return noise.start_step

    assert start() == 0
    assert start("schedule.steps=3000") == 600
    assert start("schedule.steps=10000") == 2000
    assert start("schedule.steps=10001") == 0
    assert start("schedule.steps=3000", "model.noise.start_step=0") == 0
    recipe = load_train_recipe("clipsep_nit", ["schedule.steps=3000"])
    assert SeparationRecipe.model_validate(recipe.model_dump()) == recipe


def test_the_original_sop_validates_every_epoch():
    """364 videos, the list 100 times over, in batches of 80; 100 epochs."""
    recipe = load_train_recipe("sop_original")
    assert recipe.validation.every_steps == 364 * 100 // recipe.data.batch_size
    assert recipe.schedule.steps == 100 * recipe.validation.every_steps


def test_a_mistake_in_a_recipe_is_named_with_the_nearest_key():
    with pytest.raises(RecipeError, match=r"unknown key data\.batchsize \(did you mean batch_size\?\)"):
        load_train_recipe("clipsep", ["data.batchsize=4"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.front_end.n_fft=8589934592", "model.front_end.n_fft wants 65536 or less"),
        ("model.front_end.log_rows=100000000", "model.front_end.log_rows wants 65536 or less"),
        ("model.front_end.log_rows=2048", "log_rows is 2048: at most n_fft, 1024"),
        ("model.front_end.sample_rate=1000000000", "model.front_end.sample_rate wants 384000 or less"),
        ("model.front_end.sample_rate=0", "model.front_end.sample_rate wants 1 or more"),
        ("model.front_end.hop=0", "model.front_end.hop wants 1 or more"),
        ("model.front_end.hop=-5", "model.front_end.hop wants 1 or more"),
        ("model.front_end.window_samples=-3", "model.front_end.window_samples wants 1 or more"),
        ("model.front_end.window_samples=200000000", "a window's spectrogram would have 781,251 frames of 513"),
        ("model.unet.levels=1000000", "model.unet.levels wants 16 or less"),
        ("model.unet.levels=-1", "model.unet.levels wants 2 or more"),
        ("data.window_seconds=.inf", "data.window_seconds wants 3600.0 or less"),
    ],
)
def test_sizes_that_no_memory_holds_are_refused_by_name(setting: str, said: str):
    with pytest.raises(RecipeError, match=re.escape(said)):
        load_train_recipe("clipsep", [setting])


def test_generous_sizes_are_no_mistake():
    sizes = "{sample_rate: 192000, n_fft: 16384, hop: 4096, log_rows: 1024}"
    recipe = load_train_recipe("clipsep", [f"model.front_end={sizes}", "data.window_seconds=60"])
    assert (recipe.model.front_end.frames, recipe.model.front_end.window_samples) == (2816, 2816 * 4096 - 1)
