"""Training on mixtures whose sources are known by their labels: BiModal and MixIT, tiny."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.encoders.test_joint import scorer_of
from tests.packed import make_packed
from tests.tasks.conftest import FROM_MIXTURES, TINY_PARTS
from vidaudio.encoders.clap import load_clap
from vidaudio.encoders.joint import ClapJoint
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import CheckpointError, EncoderError, PackError, RecipeError
from vidaudio.separation import consistency_losses, contrastive_losses, make_parts, pixel_weights
from vidaudio.stream.index import NO_VECTORS
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.module import TRAIN, VALIDATION
from vidaudio.tasks.separation.parts_module import read_clips
from vidaudio.tasks.separation.separate import separate
from vidaudio.tasks.separation.task import SeparationTask

LABELS = ("low", "middle", "high", "a", "sound", "of")
TINY = (
    *TINY_PARTS,
    "data={batch_size: 4, workers: 0, different_labels: true}",
    "schedule={steps: 4, warmup_steps: 1, decay_until_step: 4}",
    "optimiser.learning_rate=1e-3",
    "validation.shown=1",
)
CUSTOM = ("objective={kind: parts, contrast: 0}", "data.mixed=2", "loss.kind=magnitudes")
CONDITIONAL = ("model.condition={levels: 1, heads: 2, mlp_ratio: 1}",)
PLAIN = ("model.condition=null",)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bimodal") / "data"
    counts = {"train": 60, "val": 12, "test": 12}
    return make_packed(folder, NO_VECTORS, labels=LABELS, clips_per_split=counts, seconds=1.0)


def recipe(system: str, clap: Path, *settings: str):
    network = PLAIN if system.startswith("mixit") else CONDITIONAL
    return load_train_recipe(system, (*TINY, f"query.clap.model={clap}", *network, *settings))


def module_of(wanted, sounds: Path, folder: Path):
    task = SeparationTask.open(wanted, str(sounds), recorded=None, encoder_weights=None)
    assert list(task.prepare(folder)) == []
    torch.manual_seed(0)
    return task.make_module()


@pytest.mark.parametrize("system", FROM_MIXTURES)
def test_every_system_trains_is_evaluated_and_separates(system: str, tiny_clap: Path, sounds: Path, tmp_path: Path):
    more = ("data.single_share=0.3",) if system == "bimodal_semi" else ()
    result = train(recipe(system, tiny_clap, *more), str(sounds), tmp_path / "run", progress=False)
    assert result.step == 4
    loaded = load_checkpoint(tmp_path / "run")
    material = TestMaterial(str(sounds), different_labels=True, mixtures=3)
    report = evaluate(EvaluateRequest(tmp_path / "run", material, progress=False))
    asked = "best_head" if system == "mixit" else "text"
    assert np.isfinite(list(report.sdr[asked])).all()
    mixture = 0.2 * np.sin(np.arange(9_000) / 7)
    soundfile.write(tmp_path / "mixture.wav", mixture, 16_000)
    query = {} if system == "mixit" else {"query": "low"}
    separate(tmp_path / "mixture.wav", tmp_path / "low.wav", tmp_path / "run", **query)
    assert (loaded.encoder is None) == (system == "mixit")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_is_exact(precision: str, tiny_clap: Path, sounds: Path, tmp_path: Path):
    # Validations in between: their wrong queries ask for prompts before a resumed training does.
    jittered = (
        "objective.jitter={gain_db: 3, crop_share: 0.2, band_noise_db: -20}",
        "state.every_steps=1",
        "validation.every_steps=1",
        f"precision={precision}",
    )
    whole = recipe("bimodal_semi", tiny_clap, *jittered, "data.single_share=0.4")
    train(whole, str(sounds), tmp_path / "whole", progress=False)
    first = recipe("bimodal_semi", tiny_clap, *jittered, "data.single_share=0.4", "schedule.steps=2")
    train(first, str(sounds), tmp_path / "parts", progress=False)
    train(whole, str(sounds), tmp_path / "parts", resume=True, progress=False)
    one, other = (torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("whole", "parts"))
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name


def direct_loss(module, batch, joint: ClapJoint, loudness: float) -> torch.Tensor:
    """The loss from its definition, mixture by mixture and prompt by prompt; weights 5, 5, 0.5."""
    model, labels = module.model, module.train_stream.index.table["labels"]
    audio = batch["audio"].unflatten(1, (2, 2))
    example = make_parts(model.front_end, audio, batch["gains"].unflatten(1, (2, 2)))
    names = [[labels[row].as_py()[0] for row in rows] for rows in batch["rows"].tolist()]
    total = torch.zeros(())
    heard: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    texts: dict[int, list[str]] = {0: [], 1: []}
    for b, (w, x, y, z) in enumerate(names):
        prompts = [f"The sound mixture of {w} and {x}", f"The sound mixture of {y} and {z}"]
        prompts += [f"The sound of {name}" for name in (w, x, y, z)]
        queries = module.maker.encode_sentences(prompts)[None]
        # All prompts at once, since BatchNorm sees the batch; in eval mode prompts are independent.
        masks = model.soft_masks(example.spectrum[b : b + 1], queries)
        answers = masks * example.magnitude[b : b + 1, None]
        weights = pixel_weights(example.magnitude[b])
        for n in (0, 1):
            part = example.parts[b, n]
            total = total + 5 * (weights * (answers[0, n] - part).abs()).mean()
            own = answers[:, 2 + 2 * n : 4 + 2 * n]
            total = total + 5 * consistency_losses(own[:, None], part[None, None])[0]
            waves = model.front_end.istft(masks[0, 2 + 2 * n : 4 + 2 * n] * example.spectrum[b][None]) * loudness
            heard[n] += list(joint.embed_sound(waves, 16_000))
            texts[n] += prompts[2 + 2 * n : 4 + 2 * n]
    for n in (0, 1):
        losses = contrastive_losses(torch.stack(heard[n]), joint.embed_texts(texts[n]), joint.temperature)
        total = total + 0.5 * losses.mean() * len(names)
    return total / len(names)


@pytest.mark.parametrize(("level", "loudness"), [("sources", 4.0), ("mixture", 1.0)])
@pytest.mark.parametrize("network", [CONDITIONAL, PLAIN])
def test_the_loss_is_the_papers(network, level, loudness, tiny_clap: Path, sounds: Path, tmp_path: Path):
    settings = (*network, f"objective.sound_level={level}")
    module = module_of(recipe("bimodal_weak", tiny_clap, *settings), sounds, tmp_path)
    module.model.eval()
    batch = module.train_stream.batch(0)
    loss = module(batch, step=0)
    wanted = direct_loss(module, batch, ClapJoint(load_clap(str(tiny_clap))), loudness)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)


def test_the_mask_learns_through_the_joint_encoder(tiny_clap: Path, sounds: Path, tmp_path: Path):
    only = ("objective.reconstruction=0", "objective.consistency=0")
    module = module_of(recipe("bimodal_weak", tiny_clap, *only), sounds, tmp_path)
    module(module.train_stream.batch(0), step=0).backward()
    grown = {name: float(p.grad.abs().sum()) for name, p in module.model.named_parameters() if p.grad is not None}
    assert set(grown) == {name for name, _ in module.model.named_parameters()}
    assert sum(value > 0 for value in grown.values()) > 0.9 * len(grown)
    assert all(not p.requires_grad for p in module._joint.clap._model.parameters())


def test_limits_of_the_objective_are_the_plain_ones(tiny_clap: Path, sounds: Path, tmp_path: Path):
    """Without contrast and consistency, mixtures as if they were single; with single sounds, full supervision."""
    weak = recipe("bimodal_weak", tiny_clap, "objective.contrast=0", "objective.consistency=0.0001")
    weak = weak.model_copy(update={"objective": weak.objective.model_copy(update={"consistency": 0.0})})
    general, mixsep = (module_of(r, sounds, tmp_path) for r in (weak, recipe("bimodal_mixsep", tiny_clap)))
    batch = general.train_stream.batch(0)
    torch.testing.assert_close(general(batch, step=0), mixsep(batch, step=0))
    semi = module_of(
        recipe("bimodal_semi", tiny_clap, "data.single_share=0.5", "objective.contrast=0"), sounds, tmp_path
    )
    semi.model.eval()
    batch = semi.train_stream.batch(0)
    only = {k: v[batch["known"]] if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    supervised = module_of(recipe("bimodal_supervised", tiny_clap), sounds, tmp_path)
    supervised.model.load_state_dict(semi.model.state_dict())
    supervised.model.eval()
    labels = semi.train_stream.corpora[1].index.table["labels"]
    firsts = only["rows"][:, ::2]
    names = [f"The sound of {labels[row].as_py()[0]}" for row in firsts.flatten().tolist()]
    queries = semi.maker.encode_sentences(names).unflatten(0, firsts.shape)
    plain = supervised.model.loss(only["audio"][:, ::2], queries, only["gains"][:, ::2])["loss"]
    torch.testing.assert_close(semi(only, step=0), 5 * plain, rtol=1e-5, atol=1e-6)


def test_parts_of_natural_mixtures_are_asked_by_all_their_labels(tiny_clap: Path, tmp_path: Path):
    data = make_packed(
        tmp_path / "data", NO_VECTORS, labels=LABELS, clips_per_split={"train": 12, "val": 6}, seconds=1.0
    )
    wanted = recipe("bimodal_weak", tiny_clap, "data={natural: true, mixed: 3, different_labels: false}")
    module = module_of(wanted, data, tmp_path)
    batch = module.train_stream.batch(0)
    assert batch["audio"].shape[1] == 2
    prompts = module.prompts(read_clips(batch), TRAIN, 1, 3)
    label = module.train_stream.index.table["labels"][int(batch["rows"][0, 0])].as_py()[0]
    assert prompts[0][0].sources == (f"The sound of {label}",) * 3
    assert prompts[0][0].weights == (1 / 3,) * 3
    assert torch.isfinite(module(batch, step=0))


def test_similarity_by_a_held_out_encoder_is_measured_and_a_wide_gap_is_said(
    tiny_clap: Path, sounds: Path, tmp_path: Path, caplog, monkeypatch
):
    from tests.small_clap import write_small_clap

    held_out = write_small_clap(tmp_path / "held-out", seed=5)
    chosen = recipe("bimodal_weak", tiny_clap, f"objective.held_out_joint={held_out}")
    module = module_of(chosen, sounds, tmp_path)
    module.eval()

    def validated() -> dict[str, float]:
        module.begin_validation()
        with torch.inference_mode():
            for step in range(module.validation_stream.batches_per_epoch):
                module.validate(module.validation_stream.batch(step))
        return module.end_validation()

    numbers = validated()
    for name in ("similarity", "similarity_held_out"):
        assert -1 <= numbers[f"validation/{name}"] <= 1
    # By the same encoder twice, there is no gap.
    monkeypatch.setitem(module._encoders, "similarity_held_out", module._encoders["similarity"])
    same = validated()
    if "validation/similarity_gap" in same:
        assert same["validation/similarity_gap"] == pytest.approx(0, abs=1e-6)
    assert not caplog.records

    # An encoder that finds the separated sounds true, and another one that finds nothing changed.
    def found(means: dict[str, float]):
        monkeypatch.setattr("vidaudio.tasks.separation.parts_module.means_over_ranks", lambda *_: means)

    scores = {"mixed": 0.1, "true": 0.5}
    names = ("similarity", "similarity_held_out")
    found(
        {f"{name}_{kind}": value for name in names for kind, value in scores.items()}
        | {"similarity_separated": 0.5, "similarity_held_out_separated": 0.2}
    )
    module.begin_validation()
    with torch.inference_mode():
        module.validate(module.validation_stream.batch(0))
    numbers = module.end_validation()
    assert numbers["validation/similarity_gap"] == pytest.approx(0.75)
    assert numbers["validation/similarity_true"] == 0.5
    assert "100 % of the way from the mixture to the true sounds, against 25 %" in caplog.text


@pytest.mark.parametrize(
    ("system", "settings", "words"),
    [
        ("bimodal_weak", ("data.mixed=1",), "every part is a single source"),
        ("bimodal_weak", ("query.train=sound",), "made of text alone"),
        ("bimodal_weak", ("objective.contrast=0", "objective.consistency=0"), "must be above 0"),
        ("bimodal_mixsep", ("objective.contrast=0.5",), "objective.contrast and objective.consistency must be 0"),
        ("bimodal_weak", ("data.single_share=0.1",), "data.single_share must be 0"),
        ("bimodal_semi", ("data.single_share=0",), "data.single_share must be above 0"),
        ("bimodal_supervised", ("data.mixed=2",), "objective.kind to parts or mixit"),
        ("bimodal_weak", ("loss.kind=masks",), "set loss.kind to magnitudes"),
        ("bimodal_weak", ("query.kind=label",), "take none"),
        ("bimodal_weak", ("query.kind=bert", "model.condition=null"), "name an encoder of both by objective.joint"),
        ("bimodal_weak", ("query.templates=['{}', 'a {}']",), "one wording"),
        ("bimodal_weak", ("data.partners=neighbours",), "different_labels needs data.partners uniform"),
        ("bimodal_weak", ("model.front_end.log_rows=32",), "linear frequencies are the 64 bins"),
        ("bimodal_weak", ("query.mixture_template=all",), "has one {} for the label"),
        ("mixit", ("data.mixed=5",), "10 outputs can be assigned to 2 parts in 1,024 ways"),
        ("mixit", ("data.sources=4",), "8 outputs can be assigned to 4 parts in 65,536 ways"),
        ("mixit", ("objective.held_out_joint=any",), "held_out_joint is for objective.kind parts"),
        ("bimodal_weak", ("query.train_templates=['{}', 'a {}']",), "one wording"),
        ("mixit", ("query.kind=clap",), "mixit, which has no queries"),
        ("clipsep", (*CUSTOM, "query={templates: ['{}']}"), "custom"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(system: str, settings: tuple[str, ...], words: str, tiny_clap: Path):
    network = PLAIN if system in ("clipsep", "mixit") else CONDITIONAL
    tiny = () if system == "clipsep" else TINY
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_train_recipe(system, (*tiny, f"query.clap.model={tiny_clap}", *network, *settings))


def test_single_sounds_are_asked_for_as_in_use(tiny_clap: Path, sounds: Path, tmp_path: Path):
    module = module_of(recipe("bimodal_semi", tiny_clap, "data.single_share=0.5"), sounds, tmp_path)
    batch, labels = module.train_stream.batch(0), module.train_stream.index.table["labels"]
    known = batch["known"].tolist()
    assert {*known} == {False, True}
    found = module.prompts(read_clips(batch), TRAIN, 2, 2)
    for is_single, rows, parts in zip(known, batch["rows"].tolist(), found, strict=True):
        names = [labels[row].as_py()[0] for row in rows]
        wanted = [f"The sound of {names[0]}", f"The sound of {names[2]}"]
        if not is_single:
            wanted = [f"The sound mixture of {names[n]} and {names[n + 1]}" for n in (0, 2)]
        assert [part.mixture for part in parts] == wanted
    # Also the validation, which chooses the best weights.
    held = module.validation_stream.batch(0)
    (first, _), *_ = module.prompts(read_clips(held), VALIDATION, 1, 1)
    label = module.validation_stream.index.table["labels"][int(held["rows"][0, 0])].as_py()[0]
    assert first.mixture == f"The sound of {label}"


def test_single_sounds_may_come_from_another_corpus_with_its_own_validation(
    tiny_clap: Path, sounds: Path, tmp_path: Path
):
    counts = {"train": 20, "val": 8}
    singles = make_packed(tmp_path / "singles", NO_VECTORS, labels=LABELS, clips_per_split=counts, seconds=1.0)
    wanted = recipe("bimodal_semi", tiny_clap, "data.single_share=0.4", f"data.singles={singles}")
    assert train(wanted, str(sounds), tmp_path / "run", progress=False).step == 4


@pytest.mark.parametrize("system", ["mixit", "mixit_ranked"])
def test_mixit_needs_no_labels(system: str, tiny_clap: Path, tmp_path: Path):
    counts = {"train": 24, "val": 8}
    data = make_packed(tmp_path / "data", NO_VECTORS, clips_per_split=counts, seconds=1.0, labelled=False)
    wanted = recipe(system, tiny_clap, "data.different_labels=false")
    assert train(wanted, str(data), tmp_path / "run", progress=False).step == 4


def test_what_would_be_known_twice_or_held_out_in_vain_is_refused(tiny_clap: Path, sounds: Path, tmp_path: Path):
    same = recipe("bimodal_semi", tiny_clap, "data.single_share=0.4", f"data.singles={sounds}/.")
    with pytest.raises(PackError, match=r"data\.singles names .*, which is trained on"):
        train(same, str(sounds), tmp_path / "run", progress=False)
    few = recipe("bimodal_semi", tiny_clap, "data.single_share=0.001")
    with pytest.raises(PackError, match=r"data\.single_share=0\.001 are set apart for single sounds; with few"):
        train(few, str(sounds), tmp_path / "run", progress=False)
    heard = recipe("bimodal_weak", tiny_clap, f"objective.held_out_joint={tiny_clap}")
    with pytest.raises(EncoderError, match=r"the encoder that measures already .*: its opinion says nothing"):
        train(heard, str(sounds), tmp_path / "run", progress=False)


def test_a_run_does_not_go_on_with_another_joint_encoder(tiny_clap: Path, sounds: Path, tmp_path: Path):
    from tests.small_clap import write_small_clap

    train(recipe("bimodal_weak", tiny_clap, "schedule.steps=2"), str(sounds), tmp_path / "run", progress=False)
    other = write_small_clap(tmp_path / "other", seed=5)
    with pytest.raises(CheckpointError, match="trained with another encoder of sound and text"):
        train(recipe("bimodal_weak", tiny_clap, f"objective.joint={other}"), str(sounds), tmp_path / "run",
              resume=True, progress=False)  # fmt: skip


def test_the_losses_follow_the_recipes_reduction_and_weights(tiny_clap: Path, sounds: Path, tmp_path: Path):
    settings = ("objective.contrast=0", "system=custom")

    def loss(*more: str) -> float:
        module = module_of(recipe("bimodal_weak", tiny_clap, *settings, *more), sounds, tmp_path)
        module.eval()
        return float(module(module.train_stream.batch(0), step=0).detach())

    # Of two parts, the sum is twice the mean.
    assert loss("loss.sources=sum") == pytest.approx(2 * loss("loss.sources=mean"), rel=1e-5)
    alone = ("objective.reconstruction=0",)
    assert loss(*alone) != pytest.approx(loss(*alone, "loss.pixel_weight=magnitude"), rel=1e-3)


def test_clips_with_captions_are_asked_for_by_phrases_and_tested_by_captions(tiny_clap: Path, tmp_path: Path):
    data = make_packed(
        tmp_path / "data",
        NO_VECTORS,
        clips_per_split={"train": 12, "val": 6, "test": 6},
        seconds=1.0,
        labelled=False,
        caption="a low sound of {} hums while a high sound of one beeps",
    )
    wanted = recipe("bimodal_audiocaps", tiny_clap, "data.different_labels=false")
    module = module_of(wanted, data, tmp_path)
    batch = module.train_stream.batch(0)
    prompts = module.prompts(read_clips(batch), TRAIN, 1, 3)[0][0]
    assert prompts.mixture in module.train_stream.index.table["captions"][int(batch["rows"][0, 0])].as_py()
    first = prompts.mixture.split(" while ")[0]
    assert prompts.sources == (first, "a high sound of one beeps", first)
    assert prompts.weights == (0.5, 1.0, 0.5)
    train(wanted, str(data), tmp_path / "run", progress=False)
    report = evaluate(EvaluateRequest(tmp_path / "run", TestMaterial(str(data), mixtures=3), progress=False))
    assert all(label.endswith("while a high sound of one beeps") for label in report.labels.values())
    assert len(report.sdr["text"]) == 3
    assert any("told apart by their captions" in note for note in report.about.notes)


def test_the_packages_own_correspondence_model_teaches_with_clips_words(
    tiny_clip: Path, encoder_fingerprint: dict, tmp_path: Path
):
    clip = load_encoder(EncoderSpec(str(tiny_clip), None, "float32"))
    scorer = tmp_path / "scorer"
    scorer.mkdir()
    (scorer / "scorer.safetensors").write_bytes(scorer_of(clip.dimensions, clip.name).to_bytes())
    data = make_packed(
        tmp_path / "data", encoder_fingerprint, labels=LABELS, clips_per_split={"train": 40, "val": 12}, seconds=1.0
    )
    settings = ("query={kind: corpus, templates: ['{}']}", "objective.contrast=1", f"objective.joint={scorer}")
    wanted = load_train_recipe("bimodal_weak", (*TINY, *PLAIN, *settings))
    module = module_of(wanted, data, tmp_path)
    module(module.train_stream.batch(0), step=0).backward()
    without = wanted.model_copy(update={"objective": wanted.objective.model_copy(update={"contrast": 0.0})})
    plain = module_of(without, data, tmp_path)
    plain(plain.train_stream.batch(0), step=0).backward()
    pairs = zip(module.model.parameters(), plain.model.parameters(), strict=True)
    assert any((one.grad - other.grad).abs().max() > 1e-6 for one, other in pairs)
    assert train(wanted, str(data), tmp_path / "run", progress=False).step == 4


def test_clips_whose_texts_have_no_words_are_left_out(tiny_clap: Path, tmp_path: Path):
    data = make_packed(
        tmp_path / "data", NO_VECTORS, labels=("low", "?", "high", "sound"), clips_per_split={"train": 24}, seconds=1.0
    )
    wanted = recipe("bimodal_weak", tiny_clap, "data.different_labels=false")
    task = SeparationTask.open(wanted, str(data), recorded=None, encoder_weights=None)
    assert list(task.prepare(tmp_path)) == [
        "6 of 24 clips of the train split have neither caption nor label: mixtures with one of them are left out, "
        "about 68 % of all"
    ]
    module = task.make_module()
    assert all(torch.isfinite(module(module.train_stream.batch(step), step=step)) for step in range(3))
