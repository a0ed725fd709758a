"""Recipes: found by name or path, checked key by key, with messages that say where and what else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.config.recipes import find_recipe, load_values, merge, override, recipe_folder, recipe_names
from vidaudio.errors import RecipeError, UsageError
from vidaudio.pipeline.stages import wanted_stages
from vidaudio.tasks.registry import load_train_recipe


def recipe_file(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("name", recipe_names("pipelines"))
def test_every_corpus_recipe_that_ships_can_be_read_by_name(name: str):
    assert load_corpus_recipe(name).name == name


@pytest.mark.parametrize("name", recipe_names("train"))
def test_every_training_recipe_that_ships_can_be_read_by_name(name: str):
    load_train_recipe(name)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["pack.min_seconds=4"], r"unknown key pack\.min_seconds \(did you mean extract\.min_seconds\?\)"),
        (["extrct.min_seconds=2"], r"--set: unknown key extrct \(did you mean extract\?\)"),
        (["extract.min_second=2"], r"unknown key extract\.min_second \(did you mean min_seconds\?\)"),
        (["embed.encoder.precison=auto"], r"unknown key embed\.encoder\.precison \(did you mean precision\?\)"),
        (["dask.zzz=1"], r"unknown key dask\.zzz \(known here: cluster, dashboard, downloads_per_worker"),
        (["extract.min_seconds=hello"], r"extract\.min_seconds wants a number, not 'hello'"),
        (["extract.frame_size=4"], r"extract\.frame_size wants 16 or more, not 4"),
        (["embed.encoder.precision=float8"], r"embed\.encoder\.precision wants 'auto', .*'bfloat16'.*not 'float8'"),
        (["extract=3"], r"extract wants a block of keys, not 3"),
        (["pack.name=a/b"], r"pack\.name wants .*not 'a/b'"),
        (["pack.window=0"], r"pack\.window: wants whole, middle or drawn \(a packed window always has .*, not 0"),
        (["pack.window=10s"], r"pack\.window: .*windows_per_clip says how many are drawn of each clip.*, not '10s'"),
        (["pack.window=some"], r"pack\.window wants 'whole', 'middle' or 'drawn', not 'some'"),
        (["pack.window=drawn"], r"pack: window: drawn needs windows_per_clip"),
        (["pack.window=middle", "pack.windows_per_clip=3"], r"leave it out with window: middle"),
        (["pack.windows_per_clip=0"], r"pack\.windows_per_clip wants more than 0, not 0"),
        (["pack.window=10", "pack.windows_per_clip=9"], r"window: 10 means windows_per_clip: 10, and 9"),
        (["shard_clips=-1", "extract.jpeg_quality=96"], r"shard_clips wants 1 or more, not -1; extract\.jpeg_quality"),
        (["pack.frames=maybe"], r"pack\.frames wants true or false, not 'maybe'"),
        (["shard_clips=2.5"], r"shard_clips wants a whole number, not 2\.5"),
        (["download.extractors=abc"], r"download\.extractors wants a list, not 'abc'"),
        (["download="], r"download wants a block of keys, not nothing at all"),
        (["download.rate.sites={youtube: {request_per_hour: 3}}"], r"youtube\.request_per_hour \(did you mean req"),
        (["pack.split_fractions={train: x}"], r"pack\.split_fractions\.train wants a number, not 'x'"),
        (["dask.scheduler=localhost:8786"], r"dask\.scheduler: wants an address such as tcp://host:8786, not 'local"),
        (["dask.dashboard='8787'"], r"dask\.dashboard: wants host:port, .*, not '8787'"),
        (["dask.cluster={kind: slrm, jobs: 2}"], r"dask\.cluster\.kind wants 'slurm', .*, not 'slrm'"),
        (["dask.cluster={kind: slurm, jobs: 3}"], r"dask\.cluster: walltime is missing"),
        (["dask.cluster={kind: slurm}"], r"dask\.cluster\.jobs is missing"),
        (["dask.cluster={kind: pbs, jobs: 2, gpu: {job: 2}}"], r"key dask\.cluster\.gpu\.job \(did you mean jobs"),
        (["dask.cluster={kind: pbs, jobs: 2, memory: '16'}"], r"cluster\.memory: wants a size with its .*, not '16'"),
        (["dask.cluster={kind: pbs, jobs: 2, walltime: day}"], r"cluster\.walltime: wants a time .*, not 'day'"),
        (["dask.cluster={kind: pbs, jobs: 2, extra: {queue: a}}"], r"cluster\.extra: has no place for queue"),
        (["shard_clips"], r"--set wants key=value, not 'shard_clips'"),
        (["=3"], "--set wants key=value"),
        (["shard_clips=[1"], "'\\[1' is not a YAML value"),
    ],
)
def test_a_mistake_is_named_with_its_place(settings: list[str], words: str):
    with pytest.raises(RecipeError, match=words):
        load_corpus_recipe("demo", settings)


def test_stages_are_named_by_a_list_or_a_text():
    assert wanted_stages(None) == ["download", "extract", "facts", "embed", "pack"]
    assert wanted_stages("extract") == wanted_stages(["extract"]) == ["extract"]
    assert wanted_stages("extract, download") == wanted_stages(["extract", "download"]) == ["download", "extract"]
    for none in ("dowload", ["dowload"], ["download", 3]):
        with pytest.raises(UsageError, match=r"there is no stage (dowload|3); the stages are download, "):
            wanted_stages(none)


def test_settings_override_single_values_in_order():
    recipe = load_corpus_recipe("demo", ["extract.min_seconds=3", "pack.where=null", "extract.min_seconds=4.5"])
    plain = load_corpus_recipe("demo")
    assert recipe.extract.min_seconds == 4.5
    assert recipe.pack.where is None
    assert plain.pack.where is not None
    assert recipe.extract.frame_size == plain.extract.frame_size


def test_a_recipe_lists_only_what_differs_from_what_it_extends(tmp_path: Path):
    mine = recipe_file(tmp_path, "extends: vggsound\nextract: {min_seconds: 5}\npack: {split_fractions: {train: 1}}\n")
    recipe, base = load_corpus_recipe(mine), load_corpus_recipe("vggsound")
    assert recipe.extract == base.extract.model_copy(update={"min_seconds": 5.0})
    assert recipe.embed == base.embed
    assert recipe.shard_clips == base.shard_clips


def test_extends_takes_a_file_beside_the_recipe_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe_file(tmp_path, "shard_clips: 7\n", "base.yaml")
    recipe_file(tmp_path, "extends: base.yaml\nname: middle\n", "middle.yaml")
    mine = recipe_file(tmp_path, "extends: middle.yaml\ndownload: {tries: 2}\n")
    monkeypatch.chdir("/")
    recipe = load_corpus_recipe(mine)
    assert (recipe.shard_clips, recipe.name, recipe.download.tries) == (7, "middle", 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: mine.yaml\n", "extends itself"),
        ("extends: [demo, folder]\n", "extends wants the name or the path of one recipe"),
        ("extends: dmo\n", "no recipe 'dmo' in pipelines/; did you mean demo"),
        ("- a\n- b\n", "must be a mapping"),
        ("a: b: c\n", "is not YAML"),
        ("shard_clips: [1\n", "is not YAML"),
        ("0\n", "must be a mapping"),
        ("1: 2\n", "1 wants text for a key, not 1"),
    ],
)
def test_a_recipe_file_that_is_none_is_explained(tmp_path: Path, text: str, words: str):
    with pytest.raises(RecipeError, match=words):
        load_corpus_recipe(recipe_file(tmp_path, text))


def test_recipes_that_extend_each_other_are_refused(tmp_path: Path):
    recipe_file(tmp_path, "extends: mine.yaml\n", "other.yaml")
    with pytest.raises(RecipeError, match=r"extends itself, by way of mine\.yaml, other\.yaml"):
        load_corpus_recipe(recipe_file(tmp_path, "extends: other.yaml\n"))


def test_a_recipe_that_is_not_text_is_explained(tmp_path: Path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_corpus_recipe(str(tmp_path / "mine.yaml"))


def test_an_empty_recipe_is_all_defaults(tmp_path: Path):
    assert load_corpus_recipe(recipe_file(tmp_path, "# nothing\n")).extract.frame_size == 224


def test_a_recipe_that_does_not_exist_is_named():
    with pytest.raises(RecipeError, match=r"there is no recipe file nowhere\.yaml"):
        find_recipe("nowhere.yaml", "pipelines")
    with pytest.raises(RecipeError, match=r"did you mean vggsound\?.*A path must end in \.yaml"):
        find_recipe("vggsond", "pipelines")


def test_lists_are_replaced_and_mappings_merged():
    assert merge({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [3], "b": {"d": 4}}) == {"a": [3], "b": {"c": 1, "d": 4}}
    assert override({"b": {"c": 1}}, ["b.d.e=[1, x]"]) == {"b": {"c": 1, "d": {"e": [1, "x"]}}}


def leaves(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def test_the_demos_training_differs_from_clipseps_only_in_the_keys_it_lists():
    demo, full = (leaves(load_train_recipe(name).model_dump(mode="json")) for name in ("demo", "clipsep"))
    own = yaml.safe_load((recipe_folder("train") / "demo.yaml").read_text())
    assert own.pop("extends") == "clipsep"
    listed = leaves(own)
    # Frames follow from the window's length and the hop.
    derived = {"model.front_end.frames"}
    assert {key for key in full if demo[key] != full[key]} - derived == set(listed)
    assert all(demo[key] == value for key, value in listed.items())
    assert {key.split(".")[0] for key in listed} <= {"model", "query", "data", "schedule", "validation"}
    assert [key for key in listed if key.startswith("query.")] == ["query.gap.ask"]
    assert load_values("demo", "train")["system"] == "clipsep"


@pytest.mark.parametrize(
    ("said", "architecture", "pretrained"),
    [
        ("demo", "{package}/demo/clip", None),
        ("demo-resnet", "resnet18-dilated-64", "{package}/demo/resnet/resnet18.safetensors"),
        ("ViT-B-32/openai", "ViT-B-32", "openai"),
        ("ViT-L-14", "ViT-L-14", "openai"),
        ("hf-hub:laion/CLIP-ViT-B-32", "hf-hub:laion/CLIP-ViT-B-32", None),
        ("./folders/clip", "./folders/clip", None),
        ("{package}/demo/clip", "{package}/demo/clip", None),
    ],
)
def test_an_encoder_is_named_by_one_text(said: str, architecture: str, pretrained: str | None):
    encoder = load_corpus_recipe("folder", [f"embed.encoder={said}"]).embed.encoder
    assert (encoder.architecture, encoder.pretrained) == (architecture, pretrained)


def test_every_encoder_that_ships_is_there():
    from vidaudio.config.encoders import SHIPPED
    from vidaudio.encoders.files import local_files

    for encoder in SHIPPED.values():
        assert any(path.suffix == ".safetensors" for path in local_files(*encoder.values()))


def test_the_package_s_folder_is_named_on_the_command_line():
    setting = "embed.encoder.architecture={package}/demo/clip"
    assert load_corpus_recipe("folder", [setting]).embed.encoder.architecture == "{package}/demo/clip"
