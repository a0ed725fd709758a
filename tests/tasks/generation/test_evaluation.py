"""Evaluation of generators: halves, scores and their intervals, what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.encoders.test_embedding_models import Levels, scripted
from tests.packed import make_packed
from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.encoders.embedding_models import Embedded, EmbeddingModel
from vidaudio.errors import CheckpointError, EncoderError, GapError, PackError, QueryError, UsageError
from vidaudio.report.modality_gap import gap
from vidaudio.stream.windows import Windows
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.data import ordered_windows
from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators, write_generation_report
from vidaudio.tasks.generation.evaluation import embeddings
from vidaudio.tasks.generation.evaluation.embeddings import EmbeddedSet, embed_set
from vidaudio.tasks.generation.evaluation.material import read_windows
from vidaudio.tasks.generation.evaluation.plan import EvalClip, plan_test
from vidaudio.tasks.generation.evaluation.scores import Strata, Yardstick, relative_level, score_set, sound_level
from vidaudio.tasks.generation.evaluation.sound_sets import ArraySet, SetWriter, folder_name, open_folder
from vidaudio.tasks.registry import load_train_recipe, train


def clips(count: int, *, labels: int = 4, a_source: int = 1) -> list[EvalClip]:
    return [EvalClip(n, f"k{n}", f"s{n // a_source}", f"label {n // a_source % labels}") for n in range(count)]


def test_halves_share_no_source_and_are_equal_label_by_label():
    plan = plan_test(clips(64, a_source=2))
    assert len(plan.queries) == len(plan.reference) == 32
    assert not {clip.source for clip in plan.queries} & {clip.source for clip in plan.reference}
    for half in (plan.queries, plan.reference):
        counts = [sum(clip.label == f"label {number}" for clip in half) for number in range(4)]
        assert counts == [8, 8, 8, 8]
    assert plan_test(clips(64, a_source=2)) == plan
    assert plan_test(clips(64, a_source=2), seed=1) != plan


def test_a_limit_keeps_as_many_of_both():
    plan = plan_test(clips(50), limit=7)
    assert len(plan.queries) == len(plan.reference) == 7
    assert set(plan.queries) <= set(plan_test(clips(50)).queries)
    with pytest.raises(PackError, match=r"6 clips of 1 sources"):
        plan_test(clips(6, a_source=6))


def embedded(name: str, vectors: np.ndarray, probabilities: np.ndarray | None = None) -> EmbeddedSet:
    keys = tuple(f"k{row}" for row in range(len(vectors)))
    return EmbeddedSet(name, keys, tuple(vectors[:, None].astype(np.float32)), probabilities)


def yardstick(rng: np.random.Generator, count: int = 60) -> Yardstick:
    real = [rng.normal(size=(count, 5)) for _ in range(3)]
    certain = np.eye(2)[np.arange(count) % 2]
    labels = {f"k{row}": ("dog", "Rain")[row % 2] for row in range(count)}
    return Yardstick(
        embedded("reference", real[0]),
        embedded("asked", real[1], certain),
        embedded("training", real[2]),
        labels,
        ("dog", "rain"),
        {key: np.eye(5)[0] for key in labels},
    )


def test_scores_tell_a_perfect_generator_from_others():
    rng = np.random.default_rng(0)
    against = yardstick(rng)
    perfect = score_set(embedded("a", rng.normal(size=(60, 5)), np.eye(2)[np.arange(60) % 2]), against)
    moved = score_set(embedded("b", rng.normal(1, 1, (60, 5)), np.eye(2)[np.zeros(60, int)]), against)
    copied = score_set(embedded("c", against.training.means + rng.normal(0, 1e-3, (60, 5))), against)
    assert perfect.kernel.low < 0 < perfect.kernel.high
    assert moved.kernel.low > perfect.kernel.high
    assert moved.frechet.value > 3 * perfect.frechet.value
    assert perfect.coverage.value > moved.coverage.value
    assert (perfect.right.value, moved.right.value) == (1.0, 0.5)
    assert perfect.divergence.value == pytest.approx(0, abs=1e-9)
    assert perfect.inception.value == pytest.approx(2, rel=1e-6)
    assert moved.inception.value == pytest.approx(1, rel=1e-6)
    assert copied.copying.value < 0.01 < 0.8 < perfect.copying.value
    assert moved.similarity.value > 0.2 > abs(perfect.similarity.value)
    # Anyone's sounds under other names have no pairs.
    theirs = EmbeddedSet("d", ("x", "y", "z"), tuple(np.zeros((3, 1, 5), np.float32)), np.full((3, 2), 0.5))
    assert score_set(theirs, against).divergence is None
    assert score_set(theirs, against).kernel is not None


def test_a_level_is_that_of_the_sounds_over_that_of_real_ones():
    rng = np.random.default_rng(0)
    real = {f"k{number}": 0.1 * rng.normal(size=4000) * 10 ** (rng.normal() / 20) for number in range(50)}
    levels = {key: sound_level(sound) for key, sound in real.items()}
    halved = {key: sound_level(sound / 2) for key, sound in real.items()}
    labels = dict.fromkeys(real, "dog")
    found = relative_level(halved, levels, labels)
    # Sounds of the same clips are compared one by one: all differ by as much.
    assert found.value == pytest.approx(-6.02, abs=0.01)
    assert found.half_width == pytest.approx(0, abs=1e-6)
    assert relative_level(levels, levels, labels).value == 0
    # Two silent sounds hardly move it.
    assert relative_level({**halved, "k0": sound_level(np.zeros(9)), "k1": -100.0}, levels, labels).value < -6
    # Anyone's sounds under other names: medians of levels with a deviation of 1 dB.
    theirs = relative_level({f"other {key}": level for key, level in halved.items()}, levels, labels)
    assert theirs.value == pytest.approx(-6.02, abs=0.01)
    assert theirs.half_width == pytest.approx(1.96 * 1.25 * (2 / 50) ** 0.5, rel=0.4)
    assert sound_level(np.zeros(100)) == -100
    assert sound_level(np.full(100, 0.1)) == pytest.approx(-20)


def test_intervals_are_as_wide_as_scores_scatter():
    values, widths = {"kernel": [], "frechet": []}, {"kernel": [], "frechet": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = score_set(embedded("a", rng.normal(0.5, 1, (40, 5))), yardstick(rng, 40))
        for name in values:
            values[name].append(getattr(found, name).value)
            widths[name].append(getattr(found, name).half_width)
    for name in values:
        assert 0.7 < np.mean(widths[name]) / (1.96 * np.std(values[name], ddof=1)) < 1.5


def test_sounds_are_resampled_label_by_label_but_rare_labels_together():
    labels = ["dog"] * 10 + ["rain"] * 6 + [f"caption {number}" for number in range(8)]
    rows = Strata(labels).draw(np.random.default_rng(0))
    assert len(rows) == 24
    assert [sum(low <= row < high for row in rows) for low, high in ((0, 10), (10, 16), (16, 24))] == [10, 6, 8]
    assert len(set(rows)) < 24
    pair = Strata([None, None])
    assert all(sorted(pair.draw(np.random.default_rng(seed))) == [0, 1] for seed in range(9))


class Counting(EmbeddingModel):
    """Mean and spread of a sound; counts what it embeds."""

    def __init__(self, sha256: str = "a") -> None:
        super().__init__("counting", 8000, sha256)
        self.heard = 0

    def embed(self, sounds: np.ndarray) -> Embedded:
        self.heard += len(sounds)
        return Embedded(np.stack([sounds.mean(1), sounds.std(1)], 1)[:, None])


def test_embeddings_are_kept_as_long_as_sound_and_model_are_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sounds = {f"k{row}": rng.integers(-9999, 9999, 3000).astype(np.int16) for row in range(5)}
    model = Counting()
    first = embed_set(ArraySet("a", sounds, 16_000), model, tmp_path)
    again = embed_set(ArraySet("a", sounds, 16_000), model, tmp_path)
    assert model.heard == 5
    np.testing.assert_array_equal(first.means, again.means)
    changed = embed_set(ArraySet("a", sounds | {"k2": sounds["k1"][::-1].copy()}, 16_000), model, tmp_path)
    assert model.heard == 6
    assert not np.array_equal(changed.means[2], first.means[2])
    other = Counting("b")
    embed_set(ArraySet("a", sounds, 16_000), other, tmp_path)
    assert other.heard == 5
    next(iter(tmp_path.glob("*.parquet"))).write_bytes(b"damaged")
    embed_set(ArraySet("a", sounds, 16_000), other, tmp_path)
    assert other.heard == 10
    monkeypatch.setattr(embeddings, "READING", b"another")
    embed_set(ArraySet("a", sounds, 16_000), other, tmp_path)
    assert other.heard == 15


def test_embeddings_of_a_model_that_prepares_sounds_otherwise_are_left(tmp_path):
    sounds = {"a": np.arange(900, dtype=np.int16)}
    model = Counting()
    for change in ({}, {"sample_rate": 4000}, {"preparation": "louder"}, {"classes": ("dog",)}):
        for name, value in change.items():
            setattr(model, name, value)
        heard = model.heard
        embed_set(ArraySet("a", sounds, 16_000), model, tmp_path)
        embed_set(ArraySet("a", sounds, 16_000), model, tmp_path)
        assert model.heard == heard + 1


def test_values_that_are_not_finite_are_refused_and_what_was_embedded_is_kept(tmp_path):
    class Broken(Counting):
        def embed(self, sounds: np.ndarray) -> Embedded:
            found = super().embed(sounds)
            broken = np.abs(sounds).max(axis=1) > 0.9
            if self.sha256 == "vectors":
                found.vectors[broken] = np.nan
                return found
            return Embedded(found.vectors, np.where(broken, np.nan, 1.0)[:, None])

    loud = {"k1": np.full(200, 32_000, np.int16)}
    quiet = {"k0": np.ones(100, np.int16)}
    for what in ("vectors", "probabilities"):
        model = Broken(what)
        with pytest.raises(UsageError, match=rf"counting gives {what} that are not finite for k1 of a"):
            embed_set(ArraySet("a", quiet | loud, 8000), model, tmp_path)
        assert model.heard == 2
        kept = embed_set(ArraySet("a", quiet, 8000), model, tmp_path)
        assert model.heard == 2
        assert kept.windows[0].shape == (1, 2)


def test_a_set_goes_on_only_if_the_same_makes_it(tmp_path):
    folder = tmp_path / "set"
    writer = SetWriter(folder, "set", {"steps": 3}, 8000)
    writer.write("a", np.full(100, 0.5, np.float32))
    assert SetWriter(folder, "set", {"steps": 3}, 8000).missing(["a", "b"]) == ["b"]
    assert SetWriter(folder, "set", {"steps": 4}, 8000).missing(["a", "b"]) == ["a", "b"]
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"strange holds files that no evaluation wrote"):
        SetWriter(strange, "set", {}, 8000)
    assert (strange / "thesis.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def material(tmp_path_factory, encoder_fingerprint: dict) -> dict[str, Path]:
    """A corpus with enough test clips, a generator that was trained on it, and a model that judges."""
    folder = tmp_path_factory.mktemp("evaluation")
    data = make_packed(folder / "data", encoder_fingerprint, clips_per_split={"train": 12, "val": 6, "test": 24})
    run = folder / "run"
    train(load_train_recipe("clipsonic_iq", TINY_GENERATOR), str(data), run, progress=False)
    judge = scripted(Levels(), folder / "judge.pt", sample_rate=16_000, classes=["low", "high"])
    return {"data": data, "run": run, "judge": judge}


def request(material: dict[str, Path], out: Path, **settings: object) -> GenerationRequest:
    values = {
        "checkpoints": [material["run"]],
        "data": str(material["data"]),
        "embeddings": [f"judge={material['judge']}"],
        "out": out,
        "steps": 2,
        "progress": False,
    }
    return GenerationRequest(**values | settings)


def test_an_evaluation_is_made_of_real_vocoded_generated_and_anyones_sounds(material, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number in range(9):
        soundfile.write(theirs / f"{number}.flac", np.sin(np.arange(22_050) * 0.01 * number), 44_100)
    wanted = request(material, tmp_path / "out", methods=["image", "text"], folders={"theirs": theirs})
    report = evaluate_generators(wanted)
    assert [row.name for row in report.rows] == ["real", "vocoded", "image", "text", "theirs"]
    assert [row.kind for row in report.rows] == ["real", "vocoded", "generated", "generated", "folder"]
    scores = {row.name: row.scores["judge"] for row in report.rows}
    assert {name: one.sounds for name, one in scores.items()} == dict.fromkeys(scores, 12) | {"theirs": 9}
    assert scores["real"].divergence.value == pytest.approx(0, abs=1e-9)
    assert scores["real"].copying.value == pytest.approx(1)
    # The label `middle` is none of the judge's.
    assert scores["image"].right is None
    assert scores["theirs"].divergence is None
    write_generation_report(report, tmp_path / "out", published=True)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "FD-judge" in text
    assert "CLIPSonic-ZS" in text
    assert "| 2.97" not in text
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["rows"][2]["paper"] == "CLIPSonic-IQ"
    lines = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    assert lines[0] == "set,kind,guidance,model,score,value,low,high,sounds"
    # What exists is kept, and what is missing is made again, alike.
    sounds = sorted((tmp_path / "out" / "sounds" / "image").glob("*.wav"))
    assert len(sounds) == 12
    before = {path: path.stat().st_mtime_ns for path in sounds}
    bytes_before = sounds[3].read_bytes()
    sounds[3].unlink()
    again = evaluate_generators(wanted)
    assert sounds[3].read_bytes() == bytes_before
    assert sum(path.stat().st_mtime_ns != before[path] for path in sounds) < 12 + 1
    assert again.as_dict() == report.as_dict()


def test_scales_of_guidance_are_sets_of_their_own(material, tmp_path):
    report = evaluate_generators(request(material, tmp_path, methods=["image"], guidance=(1.0, 4.0), clips=5))
    assert [row.name for row in report.rows][2:] == ["image w=1", "image w=4"]
    assert [row.guidance for row in report.rows][2:] == [1.0, 4.0]
    one, other = (sorted((tmp_path / "sounds" / f"image,w={scale}").glob("*.wav"))[0] for scale in (1, 4))
    assert one.name == other.name
    assert one.read_bytes() != other.read_bytes()


def test_guidance_is_limited_rescaled_and_turned_away_from_a_weaker_copy(material, trained_generator, tmp_path):
    def sounds(name: str, **settings: object) -> np.ndarray:
        always = {"checkpoints": [trained_generator], "methods": ["image"], "guidance": (4.0,), "clips": 5, "steps": 4}
        wanted = request(material, tmp_path / name, allow_leaks=True, **always, **settings)
        row = evaluate_generators(wanted).rows[-1]
        return np.concatenate([soundfile.read(path)[0] for path in sorted(Path(row.sounds).glob("*.wav"))])

    plain = sounds("plain")
    assert np.array_equal(plain, sounds("again"))
    others = {
        "interval": {"guidance_interval": (0.0, 0.4)},
        "rescale": {"guidance_rescale": 1.0},
        "weaker": {"weaker": material["run"]},
    }
    for name, settings in others.items():
        assert np.abs(sounds(name, **settings) - plain).max() > 1e-3, name
    # What lies there was made otherwise, and is made anew.
    assert np.abs(sounds("plain", guidance_rescale=1.0) - plain).max() > 1e-3
    with pytest.raises(UsageError, match=r"guidance between 0\.4 and 2"):
        sounds("other", guidance_interval=(0.4, 2.0))


def test_what_does_not_fit_is_refused_before_anything_is_generated(material, tmp_path, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was generated")

    for name in ("mels", "sound"):
        monkeypatch.setattr(f"vidaudio.tasks.generation.sounds.SoundGenerator.{name}", never)
    for settings, error, words in (
        ({"embeddings": []}, UsageError, "name an embedding model"),
        ({"embeddings": ["a=no.pt"]}, EncoderError, "no file"),
        ({"split": "val", "clips": 1}, PackError, "an evaluation needs 8 clips"),
        ({"split": "train"}, UsageError, "--allow-leaks"),
        ({"methods": ["sound"]}, UsageError, "text\\+METHOD"),
        ({"checkpoints": []}, UsageError, "name a generator's run"),
        ({"sampler": "sde-dpmsolver++"}, UsageError, "there is no sampler"),
        ({"sampler": "euler"}, UsageError, "euler is for flow matching"),
        ({"steps": 10_000}, UsageError, "between 1 and"),
        ({"guidance_interval": (0.4, 2.0)}, UsageError, r"guidance between 0\.4 and 2"),
        ({"methods": ["image", "text+retrieval"]}, GapError, "holds no fitted retrieval"),
        ({"weaker": "nowhere"}, CheckpointError, "nowhere"),
        ({"weaker": material["run"], "guidance": [1.0]}, UsageError, "--weaker changes nothing"),
        ({"folders": {"x": tmp_path / "missing"}}, UsageError, "there is no folder"),
        ({"guidance": [1.5, 1.5]}, UsageError, "the set image w=1.5 is named twice"),
        ({"methods": ["text", "text"]}, UsageError, "the set text is named twice"),
    ):
        with pytest.raises(error, match=words):
            evaluate_generators(request(material, tmp_path / "out", **settings))
    judge = f"judge={material['judge']}"
    with pytest.raises(UsageError, match="named twice"):
        evaluate_generators(request(material, tmp_path / "out", embeddings=[judge, judge]))


def test_a_damaged_clip_and_one_without_a_window_are_left_out_and_counted(
    material, encoder_fingerprint, tmp_path, monkeypatch
):
    counts = {"train": 12, "val": 6, "test": 26}
    data = make_packed(tmp_path / "data", encoder_fingerprint, clips_per_split=counts)
    shard = data / "test-000000.tar"
    with tarfile.open(shard) as tar:
        sound = tar.getmember("test004.flac")
    with shard.open("r+b") as file:
        file.seek(sound.offset_data)
        file.write(bytes(sound.size))
    original = Windows.usable.func

    def without_the_last(self):
        found = original(self)
        return found[:-1] if len(found) == 26 else found

    monkeypatch.setattr(Windows, "usable", property(without_the_last))
    report = evaluate_generators(request(material, tmp_path / "out", data=str(data), methods=["image"]))
    assert any("1 clip has no window of" in note for note in report.notes)
    assert any(note == "1 clip is damaged, and left out" for note in report.notes)
    held = {path.stem for path in (tmp_path / "out" / "sounds" / "image").glob("*.wav")}
    assert "test004" not in held
    assert "test025" not in held
    # 25 clips with a window are halved to 12 each, and one of them is damaged.
    assert sorted((report.about["clips"], report.about["reference"])) in ([11, 12], [12, 12])


def test_kept_sounds_do_not_keep_their_batches(material):
    loaded = load_generator(material["run"])
    stream = ordered_windows(loaded.recipe, str(material["data"]), "test", 16)
    found = {row: sound for row, sound, _ in read_windows(stream, {3, 7})}
    assert set(found) == {3, 7}
    assert all(sound.base is None for sound in found.values())


def test_sets_of_other_names_have_other_folders():
    names = [
        "text+a b",
        "text+a_b",
        "text+a/b",
        "text+a.b",
        "text",
        "text ",
        "text w=2",
        "text_w=2",
        "a:b",
        "a b",
        "a,b",
    ]
    assert len({folder_name(name) for name in names}) == len(names)
    assert folder_name("text+mean_shift w=2") == "text+mean_shift,w=2"


def test_clips_without_words_are_asked_by_pictures_alone(material, encoder_fingerprint, tmp_path):
    counts = {"train": 12, "val": 6, "test": 24}
    data = make_packed(tmp_path / "data", encoder_fingerprint, clips_per_split=counts, labelled=False)
    asked = request(material, tmp_path / "out", data=str(data), allow_leaks=True)
    report = evaluate_generators(asked)
    assert [row.name for row in report.rows] == ["real", "vocoded", "image"]
    assert any("neither label nor caption" in note for note in report.notes)
    with pytest.raises(QueryError, match="no labels and no captions to ask in words"):
        evaluate_generators(replace(asked, methods=["image", "text"]))


def test_sounds_of_what_has_changed_are_made_anew(material, encoder_fingerprint, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(material["run"], run)
    gap(material["data"], fit=["mean_shift"], output=run / "gap")
    asked = request(material, tmp_path / "out", checkpoints=[run], methods=["text+mean_shift"])

    def sounds(name: str) -> np.ndarray:
        paths = sorted((tmp_path / "out" / "sounds" / name).glob("*.wav"))
        return np.stack([soundfile.read(path)[0] for path in paths])

    evaluate_generators(asked)
    before = sounds("text+mean_shift")
    # The same method, fitted to another corpus.
    kinds = {"labels": ("high", "middle", "low"), "clips_per_split": {"train": 9, "val": 3}}
    other = make_packed(tmp_path / "other", encoder_fingerprint, **kinds)
    shutil.rmtree(run / "gap")
    gap(other, fit=["mean_shift"], output=run / "gap")
    evaluate_generators(asked)
    assert np.abs(sounds("text+mean_shift") - before).max() > 1e-4
    # The same path, other sounds.
    real = sounds("real")
    data = tmp_path / "data"
    for seconds in (4.0, 4.5):
        shutil.rmtree(data, ignore_errors=True)
        counts = {"train": 12, "val": 6, "test": 24}
        make_packed(data, encoder_fingerprint, clips_per_split=counts, seconds=seconds)
        evaluate_generators(replace(asked, data=str(data), methods=["image"]))
    assert np.abs(sounds("real") - real).max() > 1e-3


def test_a_system_that_is_trained_with_sounds_is_asked_in_words(material, tiny_clap, tmp_path):
    run = tmp_path / "run"
    settings = (*TINY_GENERATOR, f"query.clap.model={tiny_clap}", "query={train: sound, validation: sound}")
    train(load_train_recipe("clap_tta", settings), str(material["data"]), run, progress=False)
    report = evaluate_generators(request(material, tmp_path / "out", checkpoints=[run]))
    assert [row.name for row in report.rows][2:] == ["text"]
    with pytest.raises(UsageError, match="trained with sounds; ask it by text"):
        evaluate_generators(request(material, tmp_path / "out", checkpoints=[run], methods=["image"]))
    with pytest.raises(QueryError, match="no gap to close"):
        evaluate_generators(request(material, tmp_path / "out", checkpoints=[run], methods=["text+mlp"]))


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "x.wav", np.zeros(10), 8000)
    with pytest.raises(UsageError, match="have one name"):
        open_folder("theirs", tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        open_folder("theirs", tmp_path / "c")


def test_evaluated_sounds_are_those_of_their_seeds(material, tmp_path):
    """Torch draws no number of its own for them: the global generator may be anywhere."""
    torch.manual_seed(1)
    first = evaluate_generators(request(material, tmp_path / "a", methods=["image"], clips=5))
    torch.manual_seed(2)
    second = evaluate_generators(request(material, tmp_path / "b", methods=["image"], clips=5))
    assert first.row("image").scores == second.row("image").scores


def test_clap_tta_is_asked_by_text_and_clap_scores_sound_and_words(material, tiny_clap, tmp_path):
    settings = (*TINY_GENERATOR, "schedule.steps=2", f"query.clap.model={tiny_clap}")
    train(load_train_recipe("clap_tta", settings), str(material["data"]), tmp_path / "run", progress=False)
    embeddings = [f"judge={material['judge']}", f"clap={tiny_clap}"]
    wanted = request(material, tmp_path / "out", checkpoints=[tmp_path / "run"], embeddings=embeddings, clips=5)
    report = evaluate_generators(wanted)
    assert [row.name for row in report.rows] == ["real", "vocoded", "text"]
    assert all(row.scores["clap"].similarity is not None for row in report.rows)
    assert all(row.scores["judge"].similarity is None for row in report.rows)
    assert "| CLAP-TTA | text | text |" in report.as_markdown()
    assert "clap score" in report.as_markdown()
    # Beside a generator that is asked by pictures, whose vectors the corpus has.
    both = evaluate_generators(request(material, tmp_path / "both", checkpoints=[tmp_path / "run", material["run"]]))
    assert [row.name for row in both.rows][2:] == ["1-run text", "2-run image", "2-run text"]


def test_pictures_vectors_of_another_encoder_are_refused(material, encoder_fingerprint, tmp_path):
    other = encoder_fingerprint | {"weights_sha256": "0" * 64, "architecture": "ViT-X"}
    data = make_packed(tmp_path / "other", other, clips_per_split={"train": 2, "test": 24})
    with pytest.raises(PackError, match=r"holds vectors of ViT-X, and .*best.safetensors is asked by those of"):
        evaluate_generators(request(material, tmp_path / "out", data=str(data)))


def test_clips_without_a_label_are_neither_right_nor_like_words():
    rng = np.random.default_rng(0)
    against = yardstick(rng)
    wrong = np.eye(2)[np.ones(60, int)]
    # Only the clips that are asked for as a dog have a label, and all are taken for rain.
    labels = {key: "dog" if label == "dog" else "" for key, label in against.labels.items()}
    words = {key: vector for key, vector in against.words.items() if labels[key]}
    found = score_set(embedded("a", rng.normal(size=(60, 5)), wrong), replace(against, labels=labels, words=words))
    assert found.right.value == 0.0
    assert found.similarity is not None
    none = score_set(
        embedded("b", rng.normal(size=(60, 5)), wrong), replace(against, labels=dict.fromkeys(labels, ""), words={})
    )
    assert none.right is None
    assert none.similarity is None
    assert none.divergence is not None


def test_real_sounds_are_cut_anew_for_windows_of_another_length(material, tmp_path):
    evaluate_generators(request(material, tmp_path / "out", methods=["image"], clips=5))
    before = soundfile.info(next((tmp_path / "out" / "sounds" / "real").glob("*.wav"))).frames
    longer = load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, "data.window_seconds=1.024", "schedule.steps=2"))
    train(longer, str(material["data"]), tmp_path / "run", progress=False)
    evaluate_generators(request(material, tmp_path / "out", checkpoints=[tmp_path / "run"], methods=["image"], clips=5))
    for name in ("real", "vocoded", "image"):
        files = (tmp_path / "out" / "sounds" / name).glob("*.wav")
        assert {soundfile.info(file).frames for file in files} == {2 * before}
