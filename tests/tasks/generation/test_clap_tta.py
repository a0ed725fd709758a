"""CLAP-TTA: trained with CLAP's vectors of labels or of the sound itself, asked in words, by its own CLAP alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.small_clap import write_small_clap
from tests.small_clip import write_small_clip
from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.encoders.clap import load_clap
from vidaudio.errors import CheckpointError, EncoderError, PackError, QueryError, RecipeError
from vidaudio.manifest import Clip, write_manifest
from vidaudio.packs.audio_only import pack_sounds
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, generate
from vidaudio.tasks.generation.task import GenerationTask
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.separate import separate

QUICK = GenerateOptions(steps=2)
OF_SOUND = ("query.train=sound", "query.validation=sound")


def recipe(model: Path, *settings: str):
    return load_train_recipe("clap_tta", (*TINY_GENERATOR, "log.to=none", f"query.clap.model={model}", *settings))


@pytest.fixture(scope="module")
def generator(tiny_clap: Path, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("generators") / "clap_tta"
    train(recipe(tiny_clap), str(packed), run, progress=False)
    return run


def sounds_of(done) -> np.ndarray:
    return soundfile.read(done.sounds[0].path)[0]


def test_conditions_are_claps_vectors_of_the_labels(tiny_clap: Path, packed: Path, tmp_path: Path):
    task = GenerationTask.open(recipe(tiny_clap), str(packed), recorded=None, encoder_weights=None)
    assert list(task.prepare(tmp_path)) == []
    module = task.make_module()
    vectors, known = module.conditions(module.train_stream.batch(0), "train")
    asked = load_clap(str(tiny_clap)).embed_text([f"This is a sound of {word}" for word in ("high", "low", "middle")])
    cosines = torch.cosine_similarity(vectors[:, None], asked[None], dim=-1)
    assert known.all()
    torch.testing.assert_close(cosines.amax(dim=1), torch.ones(len(vectors)))


def test_conditions_are_claps_vectors_of_the_sound(tiny_clap: Path, packed: Path, tmp_path: Path):
    task = GenerationTask.open(recipe(tiny_clap, *OF_SOUND), str(packed), recorded=None, encoder_weights=None)
    assert list(task.prepare(tmp_path)) == []
    module = task.make_module()
    batch = module.train_stream.batch(0)
    vectors, known = module.conditions(batch, "train")
    heard = load_clap(str(tiny_clap)).embed_audio_at(batch["audio"][:, 0].float() / 2**15, 16_000)
    assert known.all()
    torch.testing.assert_close(torch.cosine_similarity(vectors, heard, dim=-1), torch.ones(len(vectors)))


def test_a_trained_generator_is_asked_in_words_alone(generator: Path, tiny_clap: Path, tmp_path: Path):
    high = generate("high", tmp_path / "high", generator, options=QUICK)
    assert (sounds_of(high) != sounds_of(generate("low", tmp_path / "low", generator, options=QUICK))).any()
    loaded = load_generator(generator)
    assert loaded.encoder["architecture"] == str(tiny_clap)
    with pytest.raises(QueryError, match="cannot be asked by pictures"):
        generate(GenerationQuery(images=[_picture(tmp_path)]), tmp_path / "out", generator, options=QUICK)
    with pytest.raises(QueryError, match="clap_tta is not trained with CLIP's vectors of pictures"):
        generate("high", tmp_path / "out", generator, options=GenerateOptions(steps=2, gap="ridge"))


def test_sound_without_pictures_and_labels_is_enough(tiny_clap: Path, tmp_path: Path):
    clips = []
    for number in range(8):
        path = tmp_path / f"{number}.wav"
        tone = 0.3 * np.sin(2 * np.pi * 200 * (1 + number % 3) * np.arange(4 * 16_000) / 16_000)
        soundfile.write(path, tone, 16_000, subtype="PCM_16")
        clips.append(Clip(path.stem, f"file:{number}", "made", str(path), split="val" if number > 5 else "train"))
    write_manifest(clips, tmp_path / "list.parquet")
    pack_sounds(tmp_path / "list.parquet", tmp_path / "pack", progress=False)
    done = train(recipe(tiny_clap, *OF_SOUND), str(tmp_path / "pack"), tmp_path / "run", progress=False)
    assert np.isfinite(done.best_loss)
    assert len(sounds_of(generate("high", tmp_path / "out", tmp_path / "run", options=QUICK))) == 16 * 512
    with pytest.raises(PackError, match="text queries need a label on the clips"):
        train(recipe(tiny_clap), str(tmp_path / "pack"), tmp_path / "words", progress=False)


def test_a_run_goes_on_with_its_own_clap_alone(generator: Path, tiny_clap: Path, packed: Path, tmp_path: Path):
    other = write_small_clap(tmp_path / "other", seed=1)
    stopped = tmp_path / "stopped"
    train(recipe(tiny_clap, "schedule.steps=4"), str(packed), stopped, progress=False)
    with pytest.raises(
        CheckpointError, match=rf"trained on vectors of {tiny_clap}, and those of this run are of {other}"
    ):
        train(recipe(other), str(packed), stopped, resume=True, progress=False)
    train(recipe(tiny_clap), str(packed), stopped, resume=True, progress=False)
    whole, parts = (load_generator(run).model.state_dict() for run in (generator, stopped))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_encoders_that_do_not_fit_a_generator_are_refused_with_both_names(
    generator: Path, trained_generator: Path, tiny_clap: Path, tiny_clip: Path, tmp_path: Path
):
    def ask(checkpoint: Path, weights: Path) -> None:
        options = GenerateOptions(steps=2, gap="none", encoder_weights=str(weights))
        generate("high", tmp_path / "out", checkpoint, options=options)

    other = write_small_clap(tmp_path / "other_clap", seed=1)
    with pytest.raises(EncoderError, match=rf"trained on vectors of {tiny_clap}, and {other} is another encoder"):
        ask(generator, other)
    with pytest.raises(EncoderError, match=rf"CLAP {tiny_clip} cannot be loaded.*trained on vectors of {tiny_clap}"):
        ask(generator, tiny_clip)
    with pytest.raises(
        EncoderError, match=rf"{tiny_clap} has no open_clip_config.json.*trained on vectors of {tiny_clip}"
    ):
        ask(trained_generator, tiny_clap)
    with pytest.raises(EncoderError, match=rf"trained on vectors of {tiny_clip}, and {_other_clip(tmp_path)} is anot"):
        ask(trained_generator, tmp_path / "other_clip")
    assert not (tmp_path / "out").exists()


def test_encoders_that_do_not_fit_a_separator_are_refused_with_both_names(
    trained: Path, tiny_clap: Path, tiny_clip: Path, tmp_path: Path
):
    soundfile.write(tmp_path / "m.wav", np.zeros(16_000), 16_000)
    for wrong in (tiny_clap, _other_clip(tmp_path)):
        with pytest.raises(EncoderError, match=str(wrong)) as error:
            separate(tmp_path / "m.wav", tmp_path / "o.wav", trained, query="low", encoder_weights=str(wrong))
        assert f"trained on vectors of {tiny_clip}" in str(error.value)


@pytest.mark.parametrize(
    ("system", "settings", "words"),
    [
        ("clap_tta", ("query.train=image",), "CLAP vectors"),
        ("clap_tta", ("query.kind=corpus",), "query.kind must be 'clap', not 'corpus'"),
        ("clap_tta", ("query.train=sound",), "query.validation must be 'sound'"),
        ("clap_tta", ("query.gap.ask=ridge",), "there is no gap to close"),
        ("clip_tta", ("query.kind=clap",), "query.kind must be 'corpus' or 'vectors', not 'clap'"),
        ("clip_tta", ("query.train=sound", "query.validation=sound"), "CLAP vectors"),
        ("clipsep", ("query.kind=clap",), "queries of kind clap are made of text alone"),
        ("clipsep", ("query.train=sound",), "made of image or text alone"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(system: str, settings: tuple[str, ...], words: str):
    tiny = () if system == "clipsep" else TINY_GENERATOR
    with pytest.raises(RecipeError, match=words):
        load_train_recipe(system, (*tiny, *settings))


def _picture(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (32, 32)).save(folder / "picture.png")
    return folder / "picture.png"


def _other_clip(folder: Path) -> Path:
    """Write a CLIP of the same kind with other weights."""
    from safetensors.torch import load_file, save_file

    if not (folder / "other_clip").exists():
        weights = write_small_clip(folder / "other_clip") / "open_clip_model.safetensors"
        save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    return folder / "other_clip"
