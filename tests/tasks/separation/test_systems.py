"""All systems through the one training loop: each recipe trains, saves, loads, is asked and is evaluated."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tests.packed import make_packed
from tests.tasks.conftest import ASKED_BY_PICTURES, ASKED_IN_WORDS, SYSTEMS
from vidaudio.config.recipes import recipe_names
from vidaudio.errors import CheckpointError, CorpusError, MediaError, QueryError, RecipeError, UsageError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.queries.encoders import PictureQueries
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.data import streams
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.module import SeparationModule
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.tasks.separation.separate import SoundQuery, separate
from vidaudio.tasks.separation.systems import modality_at
from vidaudio.training.schedule import rate_factor


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpora: dict, recipes: dict[str, SeparationRecipe]):
    """Trains a system when it is first asked for; gives folder and corpus."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> tuple[Path, str]:
        data = str(corpora["resnet" if name == "sop" else "clip"])
        if name not in made:
            made[name] = train(recipes[name], data, folder / name, progress=False)
        return folder / name, data

    return run


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "mixture.wav", 0.2 * np.sin(np.arange(16_000) / 7), 16_000)
    return tmp_path / "mixture.wav"


def test_every_recipe_of_the_folder_is_one_of_these_or_the_demo():
    assert {name for name in recipe_names("train") if _system(name)} >= {s for s in SYSTEMS if s != "sop_frames"}


def _system(name: str) -> bool:
    import yaml

    from vidaudio.config.recipes import find_recipe

    return "system" in yaml.safe_load(find_recipe(name, "train").read_text())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_trains_is_saved_with_what_it_needs_and_is_asked(
    name: str, runs, recipes: dict[str, SeparationRecipe], mixture: Path, tmp_path: Path
):
    run, _ = runs(name)
    checkpoint = load_checkpoint(run)
    assert checkpoint.recipe == recipes[name]
    assert checkpoint.labels == (("high", "low", "middle") if name == "labelsep" else ())
    assert (checkpoint.encoder is None) == (name in ("labelsep", "sop_original", "pit"))
    with (run / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = {column for row in rows for column, value in row.items() if value}
    assert {"train/loss", "validation/loss", "validation/sdr_improvement"} <= logged
    assert ("train/noise_activation" in logged) == (name == "clipsep_nit")

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / "a.png")
    pictures = {"query": SoundQuery(images=[tmp_path / "a.png"]), "checkpoint": run}
    if name in ASKED_IN_WORDS:
        separate(mixture, tmp_path / "words.wav", run, query="low")
    if name in ASKED_BY_PICTURES:
        separate(mixture, tmp_path / "pictures.wav", **pictures)
    if name not in ASKED_BY_PICTURES:
        with pytest.raises(QueryError):
            separate(mixture, tmp_path / "out.wav", **pictures)
    if name not in ASKED_IN_WORDS:
        with pytest.raises(QueryError):
            separate(mixture, tmp_path / "out.wav", run, query="low")


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("labelsep", ["mixture", "text", "wrong_text"]),
        ("sop_original", ["mixture", "image", "wrong_image"]),
        ("pit", ["mixture", "mask_or_complement", "best_head", "first_head"]),
    ],
)
def test_a_system_is_evaluated_by_what_it_can_be_asked(name: str, methods: list[str], runs):
    run, data = runs(name)
    report = evaluate(EvaluateRequest(run, TestMaterial(data, mixtures=2), progress=False))
    assert list(report.sdr) == methods
    assert all(len(scores) == 2 for method, scores in report.sdr.items() if not method.startswith("wrong_"))
    if name == "pit":
        for number, first in report.sdr["first_head"].items():
            assert report.sdr["best_head"][number] >= first - 1e-9
            assert report.sdr["mask_or_complement"][number] >= first - 1e-9
    with pytest.raises(UsageError, match="cannot be evaluated by wrong_text"):
        evaluate(EvaluateRequest(runs("pit")[0], data, methods=["wrong_text"], progress=False))


@pytest.mark.parametrize("name", ["clipsep_nit", "pit"])
def test_mixtures_of_three_have_three_heads(
    name: str, corpora: dict, recipes: dict[str, SeparationRecipe], tmp_path: Path
):
    recipe = recipes[name]
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": 3})})
    train(recipe, str(corpora["clip"]), tmp_path / "run", progress=False)
    model = load_checkpoint(tmp_path / "run").model
    assert len(model.noise.heads if name == "clipsep_nit" else model.heads.weight) == 3
    with pytest.raises(CheckpointError, match="cannot go on"):
        train(recipes[name], str(corpora["clip"]), tmp_path / "run", resume=True, progress=False)


def test_pit_writes_a_file_a_source(runs, mixture: Path, tmp_path: Path):
    done = separate(mixture, tmp_path / "out.wav", runs("pit")[0])
    assert [path.name for path in done.paths] == ["out-1.wav", "out-2.wav"]
    assert all(soundfile.info(path).frames == 16_000 for path in done.paths)


def test_pit_does_not_write_over_the_mixture(runs, tmp_path: Path):
    mixture = tmp_path / "song-2.wav"
    soundfile.write(mixture, 0.2 * np.sin(np.arange(16_000) / 7), 16_000)
    before = mixture.read_bytes()
    with pytest.raises(MediaError, match=r"song-2\.wav is the mixture itself"):
        separate(mixture, tmp_path / "song.wav", runs("pit")[0])
    assert mixture.read_bytes() == before
    assert list(tmp_path.iterdir()) == [mixture]


def test_labels_are_found_by_name_and_the_nearest_are_listed(runs, mixture: Path, tmp_path: Path):
    run = runs("labelsep")[0]
    separate(mixture, tmp_path / "a.wav", run, query=" Low ")
    separate(mixture, tmp_path / "b.wav", run, query="low")
    assert np.array_equal(soundfile.read(tmp_path / "a.wav")[0], soundfile.read(tmp_path / "b.wav")[0])
    with pytest.raises(QueryError, match=r"knows only the 3 labels it met, not 'midle'; the nearest are: middle"):
        separate(mixture, tmp_path / "c.wav", run, query="midle")


def test_the_hybrid_asks_by_pictures_on_even_steps_also_after_a_restart(
    corpora: dict, recipes: dict[str, SeparationRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert [modality_at("alternate", step) for step in range(4)] == ["image", "text", "image", "text"]
    asked: list[tuple[int, str]] = []
    original = SeparationModule.queries

    def spy(self, batch, modality, split):
        if split == "train":
            asked.append((int(batch["step"]), modality))
        return original(self, batch, modality, split)

    monkeypatch.setattr(SeparationModule, "queries", spy)
    recipe, data = recipes["clipsep_hybrid"], str(corpora["clip"])
    train(recipe, data, tmp_path / "run", progress=False)
    longer = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 5})})
    train(longer, data, tmp_path / "run", resume=True, progress=False)
    assert asked == [(0, "image"), (1, "text"), (2, "image"), (3, "text"), (4, "image")]


def _augmented(stream: MixtureStream, recipe: SeparationRecipe, step: int) -> torch.Tensor:
    """What the model is asked with in a part of a step of this rank."""
    asked = []

    class Listener(torch.nn.Module):
        def loss(self, audio, queries, gains, **_):
            asked.append(queries)
            return {"loss": torch.zeros(())}

    module = SeparationModule(Listener(), recipe, stream, None, PictureQueries())
    module(stream.batch(step), step=step)
    return asked[0]


def test_augmented_pictures_are_the_same_on_any_number_of_ranks_and_parts_and_after_a_restart(
    corpora: dict, recipes: dict[str, SeparationRecipe]
):
    recipe = recipes["sop_original"]
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"batch_size": 6})})
    in_parts = recipe.model_copy(update={"data": recipe.data.model_copy(update={"accumulate": 2})})
    data = str(corpora["clip"])

    def seen(recipe: SeparationRecipe, ranks: int, parts: Sequence[int]) -> torch.Tensor:
        found = []
        for step in parts:
            for rank in range(ranks):
                stream, _ = streams(recipe, data)
                stream.set_rank(rank, ranks)
                found.append(_augmented(stream, recipe, step))
        return torch.cat(found)

    one = seen(recipe, 1, [3])
    for other in (seen(recipe, 3, [3]), seen(recipe, 4, [3]), seen(in_parts, 2, [6, 7])):
        assert torch.equal(other, one)
    assert one.dtype == torch.uint8
    assert one.shape == (6, 2, 3, 3, 32, 32)


def test_windows_are_varied_each_in_its_own_way_and_their_pictures_alike():
    from vidaudio.tasks.separation.augment import augment_pictures

    same = torch.randint(0, 256, (1, 1, 1, 3, 32, 32), dtype=torch.uint8).expand(4, 2, 3, 3, 32, 32)
    varied = augment_pictures(same, seed=1, positions=range(20, 24), batch_size=4)
    windows = varied.flatten(0, 1)
    assert len({window[0].numpy().tobytes() for window in windows}) > 4
    assert all(torch.equal(window[0], picture) for window in windows for picture in window)
    later = augment_pictures(same, seed=1, positions=range(24, 28), batch_size=4)
    assert not torch.equal(varied, later)


def test_mixtures_with_an_unlabelled_clip_are_left_out_and_counted_or_refused(
    recipes: dict[str, SeparationRecipe], encoder_fingerprint: dict, tmp_path: Path, capsys: pytest.CaptureFixture
):
    clips = {"train": 6, "val": 4}
    data = make_packed(tmp_path / "data", encoder_fingerprint, clips_per_split=clips, unlabelled=(0, 3))
    recipe = recipes["clipsep_text"]
    train(recipe, str(data), tmp_path / "run", progress=False)
    assert "2 of 6 clips of the train split have no label" in capsys.readouterr().err
    strict = recipe.model_copy(update={"query": recipe.query.model_copy(update={"unlabelled": "refuse"})})
    with pytest.raises(CorpusError, match=r"2 of 6 clips .* query\.unlabelled=skip"):
        train(strict, str(data), tmp_path / "refused", progress=False)
    assert not (tmp_path / "refused").exists()


def test_a_step_sees_only_the_labelled_mixtures(
    recipes: dict[str, SeparationRecipe], corpora: dict, encoder_fingerprint
):
    from vidaudio.tasks.queries.encoders import LabelQueries
    from vidaudio.tasks.queries.text_queries import TextTable
    from vidaudio.tasks.separation.checkpoint import build_model

    recipe = recipes["labelsep"]
    maker = LabelQueries(["a", "b"], 4)
    model = build_model(recipe, 4, 2)
    # Of two corpora, with two rows and two.
    table = TextTable(torch.tensor([0, 1]), torch.tensor([0, -1, 1, 0]), torch.tensor([0, 2]), 1)
    module = SeparationModule(model, recipe, None, None, maker, {"train": table})
    samples = {"corpora": torch.tensor([[0, 1], [0, 1], [1, 1]]), "rows": torch.tensor([[0, 0], [1, 1], [0, 1]])}
    queries, usable = module.queries(samples, "text", "train")
    assert usable.tolist() == [True, False, True]
    assert queries[usable].tolist() == [[0, 1], [1, 0]]


def test_fine_tuning_takes_over_common_parts_and_labels_by_name(
    runs, recipes: dict[str, SeparationRecipe], encoder_fingerprint: dict, tmp_path: Path
):
    import json

    start = load_checkpoint(runs("labelsep")[0])
    labels = ("high", "new", "low")
    data = make_packed(tmp_path / "data", encoder_fingerprint, labels=labels, clips_per_split={"train": 6})
    still = recipes["labelsep"].model_copy(
        update={
            "init_from": str(runs("labelsep")[0]),
            "optimiser": recipes["labelsep"].optimiser.model_copy(update={"learning_rate": 1e-12}),
        }
    )
    train(still, str(data), tmp_path / "run", progress=False)
    tuned = load_checkpoint(tmp_path / "run")
    assert tuned.labels == ("high", "low", "new")
    old, new = start.model.query.embedding.weight, tuned.model.query.embedding.weight
    torch.testing.assert_close(new[0], old[start.labels.index("high")])
    torch.testing.assert_close(new[1], old[start.labels.index("low")])
    torch.testing.assert_close(tuned.model.unet.down[0].conv.weight, start.model.unet.down[0].conv.weight)
    begun = json.loads((tmp_path / "run" / "init.json").read_text())
    assert (begun["labels_taken"], begun["labels_fresh"], begun["fresh"]) == (2, 1, [])


def test_fine_tuning_into_other_parts_or_sizes(
    runs, recipes: dict[str, SeparationRecipe], corpora: dict, tmp_path: Path
):
    import json

    start, data = str(runs("clipsep")[0]), str(corpora["clip"])
    nit = recipes["clipsep_nit"].model_copy(update={"init_from": start})
    train(nit, data, tmp_path / "nit", progress=False)
    begun = json.loads((tmp_path / "nit" / "init.json").read_text())
    assert begun["taken"] == ["fusion", "query", "unet"]
    assert begun["fresh"] == ["noise"]
    pit = recipes["pit"].model_copy(update={"init_from": start})
    train(pit, data, tmp_path / "pit", progress=False)
    assert json.loads((tmp_path / "pit" / "init.json").read_text())["fresh"] == ["heads"]
    wider = nit.model_copy(update={"model": nit.model.model_copy(update={"channels": 16})})
    with pytest.raises(CheckpointError, match=r"does not fit: its \S+ is .* and this recipe's"):
        train(wider, data, tmp_path / "wide", progress=False)
    assert not (tmp_path / "wide").exists()


def test_vectors_of_another_kind_of_encoder_are_refused_with_the_way_out(
    corpora: dict, recipes: dict[str, SeparationRecipe], tmp_path: Path
):
    with pytest.raises(CorpusError, match=r"if it is packed with them.*embed\.encoder\.architecture=resnet18-dilated"):
        train(recipes["sop"], str(corpora["clip"]), tmp_path / "a", progress=False)
    with pytest.raises(CorpusError, match=r"this system wants CLIP's"):
        train(recipes["clipsep"], str(corpora["resnet"]), tmp_path / "b", progress=False)
    with pytest.raises(CorpusError, match="pictures"):
        train(recipes["sop_original"], str(corpora["resnet"]), tmp_path / "c", progress=False)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("clipsep", "query.train=text", r"query.train must be 'image', not 'text'.*system: custom"),
        ("labelsep", "query.validation=image", "queries of kind label are made of text alone"),
        ("pit", "model.noise={gamma: 0.1}", r"set model\.noise=null"),
        ("sop", "query.encoder=clip", "query.encoder must be 'resnet18-dilated'"),
        ("clipsep", "query.templates=[a photo]", "every template has one {}"),
    ],
)
def test_a_composition_that_is_not_the_system_is_refused(name: str, setting: str, message: str):
    with pytest.raises(RecipeError, match=message):
        load_train_recipe(name, [setting])


def test_another_composition_is_custom():
    recipe = load_train_recipe("labelsep", ["system=custom", "model.noise={gamma: 0.5}"])
    assert recipe.model.noise.gamma == 0.5


def test_the_original_sop_learns_its_pretrained_part_more_slowly_and_falls_at_milestones(
    recipes: dict[str, SeparationRecipe],
):
    from vidaudio.tasks.separation.checkpoint import build_model

    recipe = recipes["sop_original"]
    module = SeparationModule(build_model(recipe, 1), recipe, None, None, None)
    optimiser = module.optimisers()[0].optimiser
    assert isinstance(optimiser, torch.optim.SGD)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-3, 1e-4])
    counted = sum(len(group["params"]) for group in optimiser.param_groups)
    assert counted == len(list(module.model.parameters()))
    schedule = load_train_recipe("sop_original").schedule
    assert [rate_factor(s, schedule) for s in (0, 18_199, 18_200, 36_400)] == pytest.approx([1, 1, 0.1, 0.01])


def test_the_stream_gives_pictures_only_where_they_are_the_query(recipes: dict[str, SeparationRecipe], corpora: dict):
    with_pictures, _ = streams(recipes["sop_original"], str(corpora["clip"]))
    without, _ = streams(recipes["clipsep"], str(corpora["clip"]))
    assert isinstance(with_pictures, MixtureStream)
    assert with_pictures.batch(0)["frames"].shape == (2, 2, 3, 3, 32, 32)
    assert "frames" not in without.batch(0)
