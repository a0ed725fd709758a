"""`--json` of every command, as a script reads it: standard output is one JSON value and nothing else.

Progress bars, warnings and the dashboard's address go to standard error, also where `--quiet` is not given.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

import vidaudio
from tests.encoders.test_embedding_models import Levels, scripted
from tests.media_world import MediaWorld
from tests.packed import make_packed
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import Corpus

PACKAGE = Path(vidaudio.__file__).parent


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Names of all commands, each with its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), {option for parameter in command.params for option in parameter.opts}


def answer(command: str, *arguments: object, cwd: Path | None = None) -> Any:
    """Run a command with `--json` in a process of its own; what it printed, parsed."""
    line = [sys.executable, "-m", "vidaudio", *command.split(), *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LISTS = {
    "vggsound": ("list.csv", "aaaaaaaaaaa,30,dog barking,train\n"),
    "music": ("list.json", '{"videos": {"accordion": ["aaaaaaaaaaa"]}}'),
    "audiocaps": ("train.csv", "audiocap_id,youtube_id,start_time,caption\n1,aaaaaaaaaaa,30,a dog barks\n"),
    "audioset": ("segments.csv", '# a\n# b\n# c\naaaaaaaaaaa, 30.000, 40.000, "/m/1"\n'),
    "table": ("list.csv", "youtube_id,start,end\naaaaaaaaaaa,30,40\n"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_manifest_of_a_list(kind: str, tmp_path: Path):
    name, text = LISTS[kind]
    (tmp_path / name).write_text(text)
    (tmp_path / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/1,"Dog"\n')
    told = answer(f"manifest {kind}", tmp_path / name, "-o", tmp_path / "m.parquet")
    assert told["clips"] == 1
    assert answer("manifest show", tmp_path / "m.parquet")["clips"] == 1


def test_manifest_of_videos_in_tars(tmp_path: Path):
    (tmp_path / "1.mp4").write_bytes(b"")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(tmp_path / "1.mp4", "1.mp4")
    assert answer("manifest webdataset", tmp_path / "0.tar", "-o", tmp_path / "m.parquet")["clips"] == 1


def test_manifest_of_clipsep_s_index(tmp_path: Path):
    (tmp_path / "starts.csv").write_text("aaaaaaaaaaa,30,dog barking,train\n")
    (tmp_path / "test.csv").write_text("aaaaaaaaaaa.mp3,aaaaaaaaaaa,300,dog barking\n")
    lists = tmp_path / "test.csv", "--starts-from", tmp_path / "starts.csv", "--skip-bad-rows"
    told = answer("manifest clipsep", *lists, "-o", tmp_path / "m.parquet")
    assert isinstance(told, dict)


def test_sounds_from_their_list_to_a_pack(tmp_path: Path):
    rows = ["filename,fold,category"]
    for number in range(4):
        name = f"{1 + number % 2}-{1000 + number}-A.wav"
        soundfile.write(tmp_path / name, np.sin(np.arange(80_000) / (9 + number)) / 4, 16_000)
        rows.append(f"{name},{1 + number % 2},kind{number % 2}")
    (tmp_path / "esc.csv").write_text("\n".join(rows) + "\n")
    assert answer("manifest esc", tmp_path / "esc.csv", "--test-fold", 2, "-o", tmp_path / "m.parquet")["clips"] == 4
    assert answer("pack-sounds", tmp_path / "m.parquet", "-o", tmp_path / "pack")["clips"] == 4


def test_a_corpus_from_its_folder_to_its_removal(
    media_world: MediaWorld, built_corpus: Corpus, tiny_clip: Path, tmp_path: Path
):
    videos = tmp_path / "videos"
    videos.mkdir()
    source = next(iter(sorted(media_world.manifest.parent.rglob("*.mp4"))))
    shutil.copy(source, videos / "a.mp4")
    assert answer("manifest folder", videos, "-o", tmp_path / "m.parquet")["clips"] == 1
    settings = (
        "--set", f"embed.encoder={{architecture: '{tiny_clip}', pretrained: null, precision: float32, batch_size: 8}}",
        "--set", "extract.frame_size=96", "--set", "dask.workers=1",
    )  # fmt: skip
    request = ("folder", "--manifest", tmp_path / "m.parquet", "--corpus", tmp_path / "c", "--only", "download,extract")
    assert answer("build", *request, *settings, "--dry-run")["clips"] == 1
    # Without --quiet, so that the bar and the dashboard's address are there.
    assert answer("build", *request, *settings)["clips"] == 1
    copy = shutil.copytree(built_corpus.url, tmp_path / "copy")
    clips = answer("status", copy)["clips"]
    assert clips > 1
    assert "problems" in answer("verify", copy)
    assert "json" in answer("pack", copy, "--name", "json")["packs"]
    assert answer("export", copy, tmp_path / "out")["clips"] >= 1
    first = answer("manifest show", copy / "manifest.parquet")["rows"][0]["id"]
    (tmp_path / "ids.txt").write_text(f"{first}\n")
    assert isinstance(answer("remove", copy, tmp_path / "ids.txt"), dict)


def test_a_pack_as_a_list(media_world: MediaWorld, tiny_clip: Path, tmp_path: Path):
    from vidaudio.config.corpus import load_corpus_recipe
    from vidaudio.manifest import Clip, write_manifest
    from vidaudio.pipeline.build import build

    video = next(iter(sorted(media_world.manifest.parent.rglob("*.mp4"))))
    listed = Clip(
        id="a", source="youtube:aaaaaaaaaaa", dataset="d", url=str(video), start_seconds=0.0, end_seconds=10.0,
        labels=("dog barking",), split="train",
    )  # fmt: skip
    write_manifest([listed], tmp_path / "m.parquet")
    settings = (
        f"embed.encoder={{architecture: '{tiny_clip}', pretrained: null, precision: float32, batch_size: 8}}",
        "extract.frame_size=96", "dask.workers=1",
    )  # fmt: skip
    build(load_corpus_recipe("folder", settings), str(tmp_path / "m.parquet"), str(tmp_path / "c"), progress=False)
    assert answer("keep-list", tmp_path / "c", "-o", tmp_path / "keep.csv")["clips"] == 1
    assert (tmp_path / "keep.csv").read_text() == "aaaaaaaaaaa,0,dog barking,train\n"


def test_a_scorer_and_its_scores(tmp_path: Path):
    from vidaudio.demo.corpus import build_world

    build_world(tmp_path, videos_per_kind={"train": 3, "val": 1}, flawed_per_flaw=0)
    corpus = tmp_path / "corpus-clip"
    fitted = answer("fit-scorer", corpus, "--max-clips", 30)
    assert fitted["clips"] <= 30
    assert 0 <= fitted["mismatched_share"] <= 1
    assert answer("score", corpus)["clips"] == 32
    found = answer("offscreen", corpus)
    assert (found["clips"], found["music_over_picture"]) == (32, None)
    assert len(answer("search", corpus, "ringing bell", "-n", 3)["hits"]) == 3
    told = answer("report", corpus, "-o", tmp_path / "r.html", "--clips", 3, "--croissant", corpus / "croissant.json")
    assert sum(told["shown"].values()) == 3
    assert told["scored"] == 32


def test_a_model_from_its_training_to_a_listening_test(tmp_path: Path, tiny_clip: Path):
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    fingerprint = load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 8)).fingerprint
    data = make_packed(tmp_path / "data", fingerprint, clips_per_split={"train": 6, "val": 4, "test": 8})
    sizes = (
        "--set=model.front_end={window_samples: 8191, log_rows: 32, frames: 32}",
        "--set=model.unet={levels: 3, width: 4}",
        "--set=data={batch_size: 2, workers: 0}",
        "--set=schedule.steps=2",
    )
    run = tmp_path / "run"
    assert answer("train", "clipsep", "--data", data, "--run", run, *sizes)["step"] == 2
    assert "mean_shift" in answer("gap", data, "--fit", "mean_shift", "-o", tmp_path / "gap")["measures"]
    assert "summaries" in answer("evaluate", run, "--data", data, "-o", tmp_path / "report", "--sounds", 1)
    mixture = tmp_path / "2024-01-01T12:30:00.wav"
    soundfile.write(mixture, np.sin(np.arange(50_000) / 9) / 4, 22_050)
    separated = answer("separate", mixture, "--query", "low", "--checkpoint", run, "-o", tmp_path / "out.wav")
    assert json.dumps(separated).count("out.wav")
    tiny = ("--set=model.unet={channels: 8, multipliers: [1, 2], blocks: 1, attention: [2], heads: 2}",)
    short = ("--set=data={window_seconds: 0.5, batch_size: 2, workers: 0}", "--set=schedule.steps=2")
    powers = "--set=average={kind: power, sigma_rel: [0.05, 0.1]}"
    sonic = tmp_path / "sonic"
    assert answer("train", "clipsonic_iq", "--data", data, "--run", sonic, *tiny, *short, powers)["step"] == 2
    assert answer("average", sonic, "--sigma-rel", 0.08, "-o", sonic / "wide.safetensors")["snapshots"] == 1
    exported = answer("export-generator", sonic, tmp_path / "exported")
    assert "model_index.json" in exported["files"]
    made = answer("generate", "low", "--checkpoint", tmp_path / "sonic", "-o", tmp_path / "made", "--gap", "none")
    assert made["sounds"][0]["path"].endswith("low-0.wav")
    judge = f"levels={scripted(Levels(), tmp_path / 'judge.pt')}"
    options = ("--embedding", judge, "--steps", 1, "--methods", "image", "--listening", 2)
    told = answer("evaluate", tmp_path / "sonic", "--data", data, "-o", tmp_path / "evaluated", *options)
    assert [row["name"] for row in told["rows"]] == ["real", "vocoded", "image"]
    assert Path(told["listening"]).is_file()
    edit = ("--from", mixture, "--inpaint", "0.5:1", "--steps", 2, "--gap", "none")
    made = answer("generate", "low", *edit, "--checkpoint", tmp_path / "sonic", "-o", tmp_path / "edited")
    assert made["sample_rate"] == 22_050
    further = ("--method", "generator", "--mixture", "low and high", "--steps", 2, "--gap", "none")
    asked = (mixture, "--query", "low", *further, "--checkpoint", tmp_path / "sonic", "-o", tmp_path / "low.wav")
    assert answer("separate", *asked)["sample_rate"] == 22_050
    sounds = tmp_path / "report" / "sounds"
    systems = f"text={sounds / 'text'}", f"image={sounds / 'image'}"
    made = answer("listening-test", *systems, "--kind", "mos", "-o", tmp_path / "page.html")
    assert isinstance(made, dict)


def test_every_command_with_json_is_run_here():
    told = {name for name, options in commands(typer.main.get_command(app)) if "--json" in options}
    text = Path(__file__).read_text()
    # A demo takes minutes: what its command prints is looked at without running one.
    told.remove("demo")
    missing = {name for name in told if f'answer("{name}"' not in text and name.removeprefix("manifest ") not in LISTS}
    assert not missing
    assert {name for name in told if name.startswith("manifest ")} >= {f"manifest {kind}" for kind in LISTS}


def test_every_command_has_json_and_quiet():
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 15
    assert [name for name, options in found.items() if not {"--json", "--quiet"} <= options] == []


class DemoReport:
    """What a demo comes to, as far as its command looks at it."""

    def as_dict(self) -> dict[str, Any]:
        return {"mixtures": 4, "summaries": {"text": {}}}

    def __str__(self) -> str:
        return "the table"


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ([], "a step\nthe table\n", ""),
        (["--quiet"], "the table\neverything is in d/\n", ""),
        (["--json"], None, "a step\nthe table\n"),
        (["--json", "--quiet"], None, ""),
    ],
)
def test_a_demo_answers_as_it_is_asked_to(
    options: list[str], out: str | None, err: str, monkeypatch: pytest.MonkeyPatch
):
    def run_demo(folder: Path, *, tell: Any, **_: object) -> DemoReport:
        tell("a step")
        tell("the table")
        return DemoReport()

    monkeypatch.setattr("vidaudio.demo.run.run_demo", run_demo)
    done = CliRunner().invoke(app, ["demo", "-o", "d", *options])
    assert done.exit_code == 0
    assert done.stderr == err
    if out is None:
        assert json.loads(done.stdout) == {"folder": "d", "mixtures": 4, "summaries": {"text": {}}}
    else:
        assert done.stdout == out


def test_a_demo_tells_its_steps_through_what_it_is_given():
    tree = ast.parse((PACKAGE / "demo" / "run.py").read_text())
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "print" not in calls


def test_quiet_leaves_what_was_written(tmp_path: Path):
    name, text = LISTS["table"]
    (tmp_path / name).write_text(text)
    manifest = str(tmp_path / "m.parquet")
    done = CliRunner().invoke(app, ["manifest", "table", str(tmp_path / name), "-o", manifest, "--quiet"])
    assert done.stdout == f"wrote    {manifest}: 1 clip\n"
    whole = CliRunner().invoke(app, ["manifest", "show", manifest]).stdout.splitlines()
    assert CliRunner().invoke(app, ["manifest", "show", manifest, "--quiet"]).stdout.splitlines() == whole[:-1]


def test_the_library_writes_nothing_to_standard_output():
    """What is told while a command works goes to standard error: only the command itself prints an answer."""
    own = {"demo", "cli"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in own:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            to_stderr = any("stderr" in ast.unparse(part) for part in (*node.args[1:], *node.keywords))
            if name in ("print", "tqdm.write") and not to_stderr:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []
