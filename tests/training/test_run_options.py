"""What a run can be told to do beside learning: average its weights, compile, log, be requeued, use more data."""

from __future__ import annotations

import csv
import logging
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.errors import CheckpointError, RecipeError, TrainingError, UsageError
from vidaudio.tasks.data import parse_data
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.data import streams
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.checkpoint import SOURCES_TENSOR
from vidaudio.training.spectrograms import Panel, draw_panels, pixels

QUIET = ("log.to=none", "log.every_steps=1")


def _recipe(*settings: str, name: str = "clipsep") -> SeparationRecipe:
    return load_train_recipe(name, (*TINY, *settings))


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_average_of_the_weights_is_what_is_judged_and_saved_and_it_goes_on(packed: Path, tmp_path: Path):
    settings = ("average={decay: 0.5}", "validation.every_steps=1", "schedule.steps=3", "state.every_steps=1")
    recipe = _recipe(*QUIET, *settings)
    train(recipe, str(packed), tmp_path / "run", progress=False)
    states = sorted((tmp_path / "run" / "states").glob("*.ckpt"))
    assert [path.name for path in states] == [f"step-{step:08d}.ckpt" for step in (1, 2, 3)]
    name = "unet.down.0.conv.weight"
    loaded = [torch.load(path, weights_only=True) for path in states]
    weights = [state["weights"][f"model.{name}"] for state in loaded]
    averages = [state["average"]["weights"][name] for state in loaded]
    for number in (1, 2):
        weight = 1 - min(0.5, (1 + number) / (10 + number))
        torch.testing.assert_close(averages[number], averages[number - 1].lerp(weights[number], weight))
    best = load_checkpoint(tmp_path / "run")
    torch.testing.assert_close(best.model.state_dict()[name], averages[best.step - 1])
    longer = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 5})})
    train(longer, str(packed), tmp_path / "run", resume=True, progress=False)
    train(longer, str(packed), tmp_path / "whole", progress=False)
    whole, resumed = (torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("whole", "run"))
    assert whole["average"]["steps"] == resumed["average"]["steps"] == 5
    for key, tensor in whole["average"]["weights"].items():
        assert torch.equal(tensor, resumed["average"]["weights"][key])


def test_a_compiled_run_leaves_weights_under_their_own_names(packed: Path, tmp_path: Path):
    settings = (*QUIET, "schedule.steps=2", "average={decay: 0.9}")
    compiled = _recipe(*settings, "compile=true", "compile_backend=eager")
    train(compiled, str(packed), tmp_path / "compiled", progress=False)
    # The compiler looks for CUDA's tools, and torch would warn of what it does not find.
    assert not logging.getLogger("torch.utils.cpp_extension").isEnabledFor(logging.WARNING)
    train(_recipe(*settings), str(packed), tmp_path / "plain", progress=False)
    one, other = (load_file(tmp_path / run / "best.safetensors") for run in ("compiled", "plain"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])
    longer = _recipe(*settings, "schedule.steps=3")
    assert train(longer, str(packed), tmp_path / "compiled", resume=True, progress=False).step == 3


def test_tensorboard_has_numbers_pictures_and_sounds_over_a_resume(packed: Path, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = ("log.every_steps=2", "validation={every_steps: 2, shown: 2}")
    for steps, resume in ((4, False), (6, True)):
        recipe = _recipe(*settings, f"schedule.steps={steps}", name="clipsep_nit")
        train(recipe, str(packed), tmp_path / "run", resume=resume, progress=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0, "audio": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss",
        "train/mask_loss",
        "train/noise_activation",
        "train/noise_penalty",
        "train/learning_rate",
        "train/gradient_norm",
        "speed/mixtures_per_second",
        "speed/waiting_for_data",
        "validation/loss",
        "validation/noise_activation",
        "validation/sdr_improvement",
        "validation/sdr_improvement_median",
    }
    # Files begun in one second are read in any order; what is shown goes by time.
    losses = sorted(events.Scalars("train/loss"), key=lambda event: event.wall_time)
    assert [event.step for event in losses] == [2, 4, 6]
    assert 0 <= events.Scalars("speed/waiting_for_data")[0].value <= 1
    for number in (0, 1):
        pictures = sorted(events.Images(f"validation_{number}/spectrograms"), key=lambda event: event.wall_time)
        assert [picture.step for picture in pictures] == [2, 4, 6]
        # Mixture, target, estimate, mask in one row, noise masks below.
        assert (pictures[0].width, pictures[0].height) == (4 * 320, 2 * 240)
        sound = events.Audio(f"validation_{number}/estimate")[0]
        assert (sound.sample_rate, sound.length_frames) == (16_000, 31 * 256)
    table = _rows(tmp_path / "run")
    logged = [float(row["train/loss"]) for row in table if row["train/loss"]]
    assert logged == pytest.approx([event.value for event in losses], rel=1e-5)
    assert [int(row["step"]) for row in table if row["validation/loss"]] == [2, 4, 6]


def test_every_panel_of_a_picture_has_its_name_and_what_it_shows_stands_below():
    rng = np.random.default_rng(0)
    names = ["mixture", "target", "estimate", "mask", "noise masks"]
    figure = draw_panels([Panel(name, rng.random((33, 8)), 0.0, 1.0) for name in names], 16_000, 0.5)
    assert [axis.get_title() for axis in figure.axes] == names
    assert figure.axes[0].get_ylim() == (60, 8000)
    assert figure.axes[0].get_xlim() == (0, 0.5)
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("s", "Hz")
    drawn = pixels(figure)
    assert (drawn.shape, drawn.dtype) == ((480, 1280, 3), np.uint8)
    assert drawn.std() > 10


def test_rows_of_steps_that_are_made_again_are_not_there_twice(packed: Path, tmp_path: Path):
    from vidaudio.training.metrics_log import MetricsFile

    path = tmp_path / "logs" / "metrics.csv"
    killed = MetricsFile(path, 0)
    for step in (1, 2, 3):
        killed.add(step, {"train/loss": 1 / step})
    with path.open("a") as file:
        file.write("4,0.")
    MetricsFile(path, 2).add(3, {"train/loss": 0.25, "validation/loss": 0.5})
    assert _rows(tmp_path) == [
        {"step": "1", "train/loss": "1.0", "validation/loss": ""},
        {"step": "2", "train/loss": "0.5", "validation/loss": ""},
        {"step": "3", "train/loss": "0.25", "validation/loss": "0.5"},
    ]


def test_wandb_where_it_is_not_installed_is_refused(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError, match="pip install wandb"):
        train(_recipe("log.to=wandb"), str(packed), tmp_path / "run", progress=False)


def test_one_command_begins_goes_on_and_is_content_at_the_end(packed: Path, tmp_path: Path):
    short = _recipe(*QUIET, "schedule.steps=2", "validation.every_steps=2")
    for steps in (2, 4, 4):
        recipe = short.model_copy(update={"schedule": short.schedule.model_copy(update={"steps": steps})})
        done = train(recipe, str(packed), tmp_path / "run", resume="auto", progress=False)
        assert done.step == steps
        assert done.best_loss > 0
    assert [int(row["step"]) for row in _rows(tmp_path / "run") if row["train/loss"]] == [1, 2, 3, 4]


def test_a_damaged_state_is_named_and_nothing_older_taken_unasked(packed: Path, tmp_path: Path):
    recipe = _recipe(*QUIET, "schedule.steps=2", "state.every_steps=1")
    train(recipe, str(packed), tmp_path / "run", progress=False)
    longer = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 3})})
    (tmp_path / "run" / "last.ckpt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a state .* delete it"):
        train(longer, str(packed), tmp_path / "run", resume=True, progress=False)
    (tmp_path / "run" / "last.ckpt").unlink()
    assert train(longer, str(packed), tmp_path / "run", resume=True, progress=False).step == 3


def test_a_state_is_not_replaced_by_what_cannot_be_written_whole(packed: Path, tmp_path: Path):
    import resource

    recipe = _recipe(*QUIET, "schedule.steps=2", "validation.every_steps=2")
    train(recipe, str(packed), tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    longer = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 4})})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written: .*the one written before stands"):
            train(longer, str(packed), tmp_path / "run", resume=True, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.tmp")) + list((tmp_path / "run").glob(".*.tmp"))
    assert train(longer, str(packed), tmp_path / "run", resume=True, progress=False).step == 4


def test_a_test_split_does_not_choose_the_weights_unless_it_is_said(packed: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"'test' is a test split.*validation\.allow_test=true"):
        _recipe("validation.split=test")
    assert _recipe("validation={split: test, allow_test: true}").validation.split == "test"


def test_a_batch_without_equal_parts_is_refused():
    with pytest.raises(RecipeError, match="a batch of 4 has no 3 equal parts"):
        _recipe("data.accumulate=3")


def test_a_state_goes_on_in_another_number_of_parts(packed: Path, tmp_path: Path):
    """The stream's position is counted in steps times parts."""
    train(_recipe(*QUIET, "schedule.steps=3"), str(packed), tmp_path / "run", progress=False)
    recipe = _recipe(*QUIET, "data.accumulate=2", "schedule.steps=8")
    assert train(recipe, str(packed), tmp_path / "run", resume=True, progress=False).step == 8
    rows = _rows(tmp_path / "run")
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(1, 9))
    # The first part ran to its end, 3, and validated there.
    assert [int(row["step"]) for row in rows if row["validation/loss"]] == [3, 4, 8]


def test_a_moved_encoder_is_the_same_encoder(packed: Path, tmp_path: Path, tiny_bert: Path):
    import shutil

    settings = (*QUIET, "schedule.steps=2", f"query.bert.model={tiny_bert}")
    train(_recipe(*settings, name="bertsep"), str(packed), tmp_path / "run", progress=False)
    moved = shutil.copytree(tiny_bert, tmp_path / "moved")
    recipe = _recipe(*settings, f"query.bert.model={moved}", "schedule.steps=3", name="bertsep")
    assert train(recipe, str(packed), tmp_path / "run", resume=True, progress=False).step == 3


def test_several_corpora_are_drawn_from_by_weight_with_their_own_labels(
    packed: Path, tmp_path: Path, encoder_fingerprint: dict
):
    other = make_packed(
        tmp_path / "other", encoder_fingerprint, labels=("noise", "low"), clips_per_split={"train": 8, "val": 2}
    )
    without = make_packed(tmp_path / "without", encoder_fingerprint, clips_per_split={"train": 6})
    data = parse_data([f"{packed}=2", str(other), f"{without}=0.5"])
    assert data == {str(packed): 2.0, str(other): 1.0, str(without): 0.5}
    recipe = _recipe(*QUIET, "schedule.steps=3", "data.across_corpora=true", name="labelsep")
    training, validation = streams(recipe, data)
    assert [corpus.url for corpus in validation.corpora] == [str(packed), str(other)]
    assert training.config.across_corpora
    assert train(recipe, data, tmp_path / "run", progress=False).step == 3
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.labels == ("high", "low", "middle", "noise")
    assert len(load_file(tmp_path / "run" / "best.safetensors")[SOURCES_TENSOR]) == 12
    with pytest.raises(UsageError, match="named twice"):
        parse_data([str(packed), f"{packed}=2"])
    for texts in ([f"{packed}=0"], [str(other), f"{packed}=0.0"]):
        with pytest.raises(UsageError, match="of weight 0 nothing is drawn"):
            parse_data(texts)


def test_every_option_of_the_stream_can_be_set_in_the_recipe(packed: Path):
    from dataclasses import fields

    from vidaudio.stream import StreamConfig

    blocks = SeparationRecipe.model_fields["data"].annotation.model_fields
    elsewhere = {"split", "seed", "shuffle", "shape", "frames", "sample_rate"}
    elsewhere.add("sources_between")  # Two streams share the corpus by it: data.single_share says where.
    assert {field.name for field in fields(StreamConfig)} - elsewhere <= set(blocks)
    stream, _ = streams(_recipe("data={partners: distant, distant_candidates: 3, block_shards: 2}"), str(packed))
    assert (stream.config.partners, stream.config.distant_candidates, stream.config.block_shards) == ("distant", 3, 2)


def test_ctrl_c_ends_a_step_saves_it_and_stays_a_keyboard_interrupt(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vidaudio.tasks.separation.module import SeparationModule

    original, interrupted = SeparationModule.forward, []

    def forward(self, batch, *, step, optimiser):
        if step == 2 and not interrupted:
            interrupted.append(signal.raise_signal(signal.SIGINT))
        return original(self, batch, step=step, optimiser=optimiser)

    monkeypatch.setattr(SeparationModule, "forward", forward)
    recipe = _recipe(*QUIET, "schedule.steps=5")
    # Python's own: a command that ran in this process before has left the one of the command line.
    before = signal.default_int_handler
    replaced = signal.signal(signal.SIGINT, before)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, str(packed), tmp_path / "run", progress=False)
    assert signal.signal(signal.SIGINT, replaced) is before
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["steps_done"] == 3
    assert train(recipe, str(packed), tmp_path / "run", resume=True, progress=False).step == 5


def test_stopped_after_its_last_step_a_run_makes_the_validation_that_it_owes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vidaudio.tasks.separation.module import SeparationModule

    settings = (*QUIET, "schedule.steps=4", "validation.every_steps=4")
    whole = train(_recipe(*settings), str(packed), tmp_path / "whole", progress=False)
    original, interrupted = SeparationModule.forward, []

    def forward(self, batch, *, step, optimiser):
        if step == 3 and not interrupted:
            interrupted.append(signal.raise_signal(signal.SIGINT))
        return original(self, batch, step=step, optimiser=optimiser)

    monkeypatch.setattr(SeparationModule, "forward", forward)
    run = tmp_path / "run"
    replaced = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        train(_recipe(*settings), str(packed), run, progress=False)
    signal.signal(signal.SIGINT, replaced)
    assert torch.load(run / "last.ckpt", weights_only=True)["steps_done"] == 4
    assert not (run / "best.safetensors").exists()

    finished = train(_recipe(*settings), str(packed), run, resume=True, progress=False)
    assert (finished.step, finished.best_loss) == (4, whole.best_loss)
    one, other = (load_file(folder / "best.safetensors") for folder in (tmp_path / "whole", run))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert [int(row["step"]) for row in _rows(run) if row["train/loss"]] == [1, 2, 3, 4]
    with pytest.raises(CheckpointError, match="has made all its 4 steps"):
        train(_recipe(*settings), str(packed), run, resume=True, progress=False)


def test_gradients_that_are_no_numbers_end_the_run_and_no_state_is_written_over(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vidaudio.tasks.separation.module import SeparationModule

    original = SeparationModule.forward
    recipe = _recipe(*QUIET, "schedule.steps=4", "validation.every_steps=2", "log.every_steps=50")
    bad = {"step": 3}

    def forward(self, batch, *, step, optimiser):
        loss = original(self, batch, step=step, optimiser=optimiser)
        return loss * torch.inf if step == bad["step"] else loss

    monkeypatch.setattr(SeparationModule, "forward", forward)
    with pytest.raises(TrainingError, match=r"the gradients of step 4 are not finite"):
        train(recipe, str(packed), tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["steps_done"] == 2
    with pytest.raises(TrainingError, match=r"the gradients of step 4 are not finite .* nothing was saved before"):
        train(_recipe(*QUIET, "schedule.steps=4"), str(packed), tmp_path / "none saved", progress=False)
    bad.clear()
    bad["step"] = -1
    assert train(recipe, str(packed), tmp_path / "run", resume=True, progress=False).step == 4


def test_a_run_that_goes_on_keeps_its_optimiser(packed: Path, tmp_path: Path):
    train(_recipe(*QUIET, "schedule.steps=2"), str(packed), tmp_path / "run", progress=False)
    other = _recipe(*QUIET, "schedule.steps=4", "optimiser.learning_rate=0.1")
    with pytest.raises(CheckpointError, match=r"another optimiser\.learning_rate; begin a new run .* --init"):
        train(other, str(packed), tmp_path / "run", resume=True, progress=False)


def test_a_run_is_the_plain_loop_of_the_documentation_to_the_last_bit(packed: Path, tmp_path: Path):
    """Nothing that a run does beside learning changes what it learns."""
    from vidaudio.tasks.separation.checkpoint import build_model
    from vidaudio.training.schedule import rate_factor

    recipe = _recipe("schedule.steps=4", "validation.every_steps=2", "log.every_steps=1", "average={decay: 0.9}")
    train(recipe, str(packed), tmp_path / "run", progress=False)
    stream, _ = streams(recipe, str(packed))
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, stream.index.dimensions).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.optimiser.learning_rate)
    for step in range(4):
        batch = stream.batch(step)
        optimiser.param_groups[0]["lr"] = recipe.optimiser.learning_rate * rate_factor(step, recipe.schedule)
        optimiser.zero_grad()
        model.loss(batch["audio"], batch["vectors"].float().mean(dim=2), batch["gains"])["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimiser.gradient_clip_norm)
        optimiser.step()
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["weights"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"]), name


def test_a_run_goes_on_with_its_own_order_of_examples_unless_it_is_said(packed: Path, tmp_path: Path):
    train(_recipe(*QUIET, "schedule.steps=2"), str(packed), tmp_path / "run", progress=False)
    for setting, named in (("data.batch_size=6", r"data\.batch_size"), ("data.partners=uniform", r"data\.partners")):
        other = _recipe(*QUIET, "schedule.steps=4", setting)
        with pytest.raises(CheckpointError, match=f"with another {named} .*allow_other=true"):
            train(other, str(packed), tmp_path / "run", resume=True, progress=False)
    allowed = _recipe(*QUIET, "schedule.steps=4", "data={partners: uniform, allow_other: true}")
    assert train(allowed, str(packed), tmp_path / "run", resume=True, progress=False).step == 4


def test_an_exponential_schedule_multiplies_the_rate_every_step():
    from vidaudio.training.blocks import ScheduleBlock
    from vidaudio.training.schedule import rate_factor, unfinished_warmup

    schedule = ScheduleBlock(kind="exponential", steps=10, step_factor=0.5)
    assert [rate_factor(step, schedule) for step in range(4)] == [1, 0.5, 0.25, 0.125]
    assert unfinished_warmup(schedule) is None
