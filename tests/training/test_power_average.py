"""Power-function averages: their profiles, and averages of other widths from snapshots of two."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.trained import TINY
from tests.training import toy_family
from vidaudio.config.recipes import override
from vidaudio.errors import CheckpointError, RecipeError, UsageError
from vidaudio.tasks import registry
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.training.checkpoint import read_checkpoint, save_checkpoint
from vidaudio.training.ema import PowerEma
from vidaudio.training.power_average import average
from vidaudio.training.power_profiles import PowerProfile, coefficients, exponent_of, inner_product, new_weight
from vidaudio.training.snapshots import read_snapshots, snapshot_path, write_snapshot

WIDTHS = (0.05, 0.1)
POWER = "average={kind: power, sigma_rel: [0.05, 0.1], snapshot_every_steps: 2}"


def sampled(profile: PowerProfile, times: np.ndarray) -> np.ndarray:
    """Return a profile written out."""
    gamma = profile.exponent
    values = (gamma + 1) * times**gamma / profile.steps ** (gamma + 1)
    return np.where(times <= profile.steps, values, 0.0)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25])
def test_the_width_is_the_standard_deviation_of_the_averaged_steps(sigma_rel: float):
    times = (np.arange(1_000_000) + 0.5) / 1_000_000
    weights = sampled(PowerProfile(sigma_rel, 1), times) / len(times)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    mean = (weights * times).sum()
    assert np.sqrt((weights * (times - mean) ** 2).sum()) == pytest.approx(sigma_rel, rel=1e-4)


@pytest.mark.parametrize(("one", "other"), [((0.05, 10), (0.1, 7)), ((0.1, 4), (0.02, 9)), ((0.2, 5), (0.2, 5))])
def test_inner_products_are_integrals(one: tuple[float, int], other: tuple[float, int]):
    first, second = PowerProfile(*one), PowerProfile(*other)
    width = 1e-5
    times = np.arange(width / 2, max(first.steps, second.steps), width)
    integral = (sampled(first, times) * sampled(second, times)).sum() * width
    assert inner_product(first, second) == pytest.approx(integral, rel=1e-4)
    assert inner_product(second, first) == pytest.approx(inner_product(first, second))


def test_an_update_gives_each_step_the_integral_of_the_profile_over_it():
    gamma, steps = exponent_of(0.1), 20
    weights = np.zeros(steps)
    for step in range(1, steps + 1):
        weight = new_weight(gamma, step)
        weights *= 1 - weight
        weights[step - 1] = weight
    edges = (np.arange(steps + 1) / steps) ** (gamma + 1)
    np.testing.assert_allclose(weights, np.diff(edges), rtol=1e-9)


def test_more_snapshots_and_nearer_widths_give_a_smaller_error():
    def error(count: int, width: float) -> float:
        profiles = [PowerProfile(each, 1000 * (n + 1) // count) for n in range(count) for each in WIDTHS]
        return coefficients(profiles, PowerProfile(width, 1000))[1]

    assert error(16, 0.08) < error(4, 0.08) < error(1, 0.08)
    assert error(16, 0.08) < 0.01
    assert error(16, 0.08) < error(16, 0.02)
    assert error(1, 0.1) == 0


def walked(run: Path, *, half: bool = False, further: tuple[float, ...] = ()) -> PowerEma:
    """Write the snapshots of a random walk of weights; return what was tracked, also at further widths."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40)).double()
    tracked = PowerEma(model, (*WIDTHS, *further), WIDTHS[0])
    for step in range(1, 401):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        model[1].num_batches_tracked.fill_(step)
        tracked.update(model)
        if step % 50 == 0:
            weights = {width: tracked.weights()[width] for width in WIDTHS}
            weights = {width: {name: _single(each) for name, each in own.items()} for width, own in weights.items()}
            write_snapshot(snapshot_path(run, step), weights, step, half=half)
    described = {"system": "toy", "recipe": {}, "step": 400, "metrics": {"validation/loss": 1.0}}
    save_checkpoint(run / "best.safetensors", model.float(), described, np.array([1, 2]))
    return tracked


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("half", [False, True])
def test_an_average_from_snapshots_equals_one_that_was_tracked(half: bool, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    tracked = walked(run, half=half, further=(0.07, 0.12))
    name = "0.weight"
    own = {width: weights[name] for width, weights in tracked.weights().items()}
    for width in (0.05, 0.1, 0.07, 0.12):
        made = average(run, tmp_path / "made.safetensors", width)
        tensors, described, _ = read_checkpoint(tmp_path / "made.safetensors")
        if width in WIDTHS:
            assert torch.equal(tensors[name], own[width].half().float() if half else own[width].float())
            assert made.error == 0
        else:
            distance = (tensors[name] - own[width]).norm()
            assert distance < 0.002 * own[width].norm()
            # Of its way from the nearest of those that were tracked.
            assert distance < 0.04 * min((own[width] - own[other]).norm() for other in WIDTHS)
            assert made.error < 0.02
        assert int(tensors["1.num_batches_tracked"]) == 400
        assert tensors["vidaudio.training_sources"].tolist() == [1, 2]
        assert (described["system"], described["step"], described["averaged"]["sigma_rel"]) == ("toy", 400, width)
        assert "metrics" not in described


def test_an_average_that_ends_at_an_earlier_snapshot(tmp_path: Path):
    walked(tmp_path)
    average(tmp_path, tmp_path / "made.safetensors", 0.1, step=200)
    tensors, described, _ = read_checkpoint(tmp_path / "made.safetensors")
    with read_snapshots(tmp_path)[3].open() as opened:
        assert torch.equal(tensors["0.weight"], opened.tensor(1, "0.weight"))
    assert described["step"] == 200
    with pytest.raises(CheckpointError, match=r"no snapshot of step 210; there are those of 50, 100, .*400"):
        average(tmp_path, tmp_path / "made.safetensors", 0.1, step=210)


def test_a_width_far_from_those_that_were_tracked_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture):
    walked(tmp_path)
    assert average(tmp_path, tmp_path / "made.safetensors", 0.005).error > 0.1
    assert "only roughly" in capsys.readouterr().err


def test_values_beyond_half_precision_stay_whole(tmp_path: Path):
    weights = {0.1: {"large": torch.tensor([1e6]), "small": torch.tensor([0.1]), "count": torch.tensor(70_000)}}
    write_snapshot(snapshot_path(tmp_path, 3), weights, 3, half=True)
    with read_snapshots(tmp_path)[0].open() as opened:
        assert opened.tensor(0, "large").item() == 1e6
        assert opened.tensor(0, "small").dtype == torch.float16
        assert opened.tensor(0, "count").item() == 70_000


def test_what_cannot_be_averaged_is_refused(tmp_path: Path):
    out = tmp_path / "made.safetensors"
    with pytest.raises(UsageError, match=r"between 0.001 and 0.28"):
        average(tmp_path, out, 0.5)
    with pytest.raises(UsageError, match="must end in"):
        average(tmp_path, tmp_path / "made", 0.1)
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        average(tmp_path / "missing", out, 0.1)
    with pytest.raises(CheckpointError, match=r"no snapshots in averages/; a run with average.kind=power"):
        average(tmp_path, out, 0.1)
    walked(tmp_path)
    path = snapshot_path(tmp_path, 400)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"step-00000400.safetensors is not a whole snapshot"):
        average(tmp_path, out, 0.1)
    shutil.copyfile(tmp_path / "best.safetensors", path)
    with pytest.raises(CheckpointError, match=r"step-00000400.safetensors is not a snapshot of averages"):
        average(tmp_path, out, 0.1)
    write_snapshot(path, {0.1: {"0.weight": torch.zeros(3)}}, 400, half=False)
    with pytest.raises(CheckpointError, match=r"step-00000400.safetensors does not fit the run's weights"):
        average(tmp_path, out, 0.1)
    assert not out.exists()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "toy", "tests.training.toy_family:ToyTask")


TOY = (
    "schedule={warmup_steps: 2, decay_until_step: 7, steps: 7}",
    "validation={every_steps: 3}",
    "state={every_steps: 1, keep_last: 100}",
    "log={to: none}",
)


def toy_recipe(*settings: str) -> toy_family.ToyRecipe:
    return registry.check_train_recipe(override({"system": "toy"}, (*TOY, *settings)), "the toy")


def test_a_run_goes_on_from_an_earlier_state_to_the_same_averages(packed: Path, tmp_path: Path, toy: None):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    registry.train(toy_recipe(POWER), str(packed), whole, progress=False)
    steps = [snapshot.step for snapshot in read_snapshots(whole)]
    assert steps == [2, 4, 6, 7]
    shutil.copytree(whole, resumed)
    (resumed / "last.ckpt").unlink()
    for path in (resumed / "states").iterdir():
        if path.name > "step-00000003.ckpt":
            path.unlink()
    # As another schedule would have left it.
    shutil.copyfile(snapshot_path(whole, 6), snapshot_path(resumed, 5))
    registry.train(toy_recipe(POWER), str(packed), resumed, resume=True, progress=False)
    assert [snapshot.step for snapshot in read_snapshots(resumed)] == steps
    for step in steps:
        assert snapshot_path(whole, step).read_bytes() == snapshot_path(resumed, step).read_bytes()
    one, other = (torch.load(run / "last.ckpt", weights_only=True)["average"] for run in (whole, resumed))
    assert one["steps"] == other["steps"] == 7
    for mine, theirs in zip(one["widths"], other["widths"], strict=True):
        assert mine["sigma_rel"] == theirs["sigma_rel"]
        assert all(torch.equal(tensor, theirs["weights"][name]) for name, tensor in mine["weights"].items())


def test_the_wanted_average_is_validated_and_saved_as_best(packed: Path, tmp_path: Path, toy: None):
    registry.train(toy_recipe(POWER, "average.validated=0.1"), str(packed), tmp_path / "run", progress=False)
    tensors, described, _ = read_checkpoint(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "states" / f"step-{described['step']:08d}.ckpt", weights_only=True)
    saved = {each["sigma_rel"]: each["weights"] for each in state["average"]["widths"]}
    assert torch.equal(tensors["0.weight"], saved[0.1]["0.weight"])
    assert not torch.equal(tensors["0.weight"], saved[0.05]["0.weight"])


def test_averages_that_were_not_tracked_from_the_first_step_on_are_refused(packed: Path, tmp_path: Path, toy: None):
    run = tmp_path / "run"
    registry.train(toy_recipe("schedule.steps=2"), str(packed), run, progress=False)
    with pytest.raises(CheckpointError, match="run tracked none, not of"):
        registry.train(toy_recipe(POWER), str(packed), run, resume=True, progress=False)
    registry.train(toy_recipe(POWER, "schedule.steps=2"), str(packed), tmp_path / "power", progress=False)
    with pytest.raises(CheckpointError, match=r"tracked those of sigma_rel \[0.05, 0.1\], not of \[0.05\]"):
        registry.train(
            toy_recipe(POWER, "average.sigma_rel=[0.05]"), str(packed), tmp_path / "power", resume=True, progress=False
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("average={sigma_rel: [0.05]}", "set average.kind=power"),
        ("average={kind: power}", "needs widths"),
        ("average={kind: power, sigma_rel: [0.1, 0.1]}", "no two of them equal"),
        ("average={kind: power, sigma_rel: [0.5]}", "between 0.001 and 0.28"),
        ("average={kind: power, sigma_rel: [0.1], validated: 0.2}", "none of sigma_rel"),
    ],
)
def test_averages_that_do_not_fit_are_refused(settings: str, words: str, toy: None):
    with pytest.raises(RecipeError, match=words):
        toy_recipe(settings)


def test_a_separator_is_read_from_an_average(packed: Path, tmp_path: Path):
    run = tmp_path / "run"
    registry.train(registry.load_train_recipe("clipsep", (*TINY, POWER)), str(packed), run, progress=False)
    made = average(run, run / "wide.safetensors", 0.09)
    assert (made.step, made.snapshots) == (8, 4)
    loaded, best = load_checkpoint(run / "wide.safetensors"), load_checkpoint(run)
    assert (loaded.step, loaded.labels, loaded.encoder) == (8, best.labels, best.encoder)
    own, other = loaded.model.state_dict(), best.model.state_dict()
    assert own.keys() == other.keys()
    assert any(not torch.equal(own[name], other[name]) for name in own)
