"""The command line as a user meets it: a process of its own, one sentence for a mistake, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packed import make_packed
from vidaudio.cli import main


def vidaudio(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "vidaudio", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize(
    "command",
    [
        "build",
        "status",
        "verify",
        "pack",
        "train",
        "evaluate",
        "separate",
        "generate",
        "demo",
        "manifest",
        "listening-test",
        "remove",
        "export",
        "keep-list",
    ],
)
def test_every_command_has_help(command: str):
    done = vidaudio(command, "--help")
    assert done.returncode == 0
    assert command in done.stdout


def test_a_mistake_in_a_process_of_its_own_leaves_no_traceback():
    done = vidaudio("status", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no corpus at")
    assert done.stderr.count("\n") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys; import vidaudio.cli.app; "
        "heavy = {'torch', 'lightning_fabric', 'pandas', 'pyarrow', 'dask', 'av', 'open_clip', 'numpy'}; "
        "heavy |= {'pydantic', 'yaml'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version():
    from vidaudio import __version__

    assert vidaudio("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "folder", "-m", "none.parquet", "-o", "c"], "there is no manifest at none.parquet"),
        (["build", "vgsound", "-m", "x", "-o", "c"], "did you mean vggsound?"),
        (["build", "none.yaml", "-m", "x", "-o", "c"], "there is no recipe file none.yaml"),
        (["build", "folder", "-m", "x", "-o", "c", "--set", "extract.jpg=1"], "unknown key extract.jpg"),
        (["build", "folder", "-m", "x", "-o", "c", "--set", "extract.jpeg_quality=high"], "--set: extract.jpeg"),
        (["build", "folder", "-m", "x", "-o", "c", "--scheduler", "nonsense"], "--scheduler wants an address such as"),
        (["build", "folder", "-m", "text.txt", "-o", "c"], "text.txt is not a Parquet file"),
        (["build", "folder"], "where should the corpus be?"),
        (["build", "folder", "-o", "c"], "which list?"),
        (["build", "folder", "-m", "x", "-o", "c", "--only", "embbed"], "there is no stage embbed"),
        (["build", "folder", "-m", "x", "-o", "c", "--only", ""], "--only: the value is empty"),
        (["build", "folder", "-m", "x", "-o", ""], "-o: the value is empty, maybe that of a variable that is not set"),
        (["train", "clipsep", "--data=", "-o", "c"], "--data: the value is empty"),
        (["status", ""], "an argument: the value is empty"),
        (["build", "folder", "-m", "x", "-o", "c", "--only", "pack,,extract"], "--only=pack,,extract has a comma too"),
        (["build", "folder", "-m", "x", "-o", "c", "--retry-failed="], "--retry-failed: the value is empty"),
        (["build", "folder", "-m", "x", "-o", "c", "--retry-failed=no", "--dry-run"], "knows no reason 'no'"),
        (
            ["build", "--retry-failed", "rec.yaml", "-m", "x", "-o", "c"],
            "took 'rec.yaml' for one: write it in front of",
        ),
        (["build", "--retry-failed", "folder", "-m", "x", "-o", "c"], "or --retry-failed=transient"),
        (
            ["build", "folder", "-m", "s3://b/a.parquet", "-o", "c"],
            "lists are local files, and s3://b/a.parquet is a URL",
        ),
        (["build", "folder", "-m", "x", "-o", "s3:/b/c"], "s3:/b/c lacks a slash: s3://b/c is a URL"),
        (["build", "folder", "-m", "x", "-o", "memory://c"], "memory://c is in the memory of one process"),
        (["build", "folder", "-m", "x", "-o", "memory://c", "--dry-run"], "memory://c is in the memory of one process"),
        (["status", "s3:/b/c"], "s3:/b/c lacks a slash: s3://b/c is a URL"),
        (["verify", "gs:/b/c"], "gs:/b/c lacks a slash"),
        (["train", "clipsep", "--data", "s3:/b/c", "--run", "r"], "s3:/b/c lacks a slash"),
        (["status", "nowhere"], "there is no corpus at"),
        (["pack", "nowhere"], "there is no corpus at"),
        (["train", "clipsep", "--data", "nowhere", "--run", "r"], "is no packed corpus"),
        (["train", "clipsepp", "--data", "nowhere", "--run", "r"], "did you mean clipsep?"),
        (["evaluate", "nowhere", "--data", "nowhere"], "there is no checkpoint at nowhere"),
        (["separate", "none.wav", "-c", "x", "-o", "o.wav", "-q", "dog"], "there is no sound file none.wav"),
        (["separate", "text.txt", "-c", "x", "-o", "o.wav", "-q", "dog"], "text.txt is not a sound file"),
        (["demo", "--size", "huge"], "there is no demo size 'huge'"),
        (["pack-sounds", "x", "-o", "s3://b/x"], "written to folders of this machine, and s3://b/x is a URL"),
        (["manifest", "vggsound", "none.csv", "-o", "m.parquet"], "none.csv"),
        (
            ["manifest", "vggsound", "s3://b/a.csv", "-o", "m.parquet"],
            "lists are local files, and s3://b/a.csv is a URL",
        ),
        (["manifest", "table", "https://h/a.parquet", "-o", "m.parquet"], "and https://h/a.parquet is a URL"),
        (["manifest", "folder", "s3://b/videos", "-o", "m.parquet"], "in local folders, and s3://b/videos is a URL"),
        (["manifest", "show", "s3://b/m.parquet"], "lists are local files, and s3://b/m.parquet is a URL"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
):
    (tmp_path / "text.txt").write_text("just words")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vidaudio", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code not in (0, None)
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.startswith("error: ")
    assert sentence in printed
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "r").exists()


def test_a_stop_while_the_interpreter_exits_changes_nothing():
    program = (
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "sys.argv = ['vidaudio', 'status', '/nowhere']\n"
        "from vidaudio.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no corpus at")
    assert "Traceback" not in done.stderr


def test_an_encoder_out_of_reach_stops_before_anything_is_built(tmp_path: Path):
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.mp4").write_bytes(b"x")
    assert vidaudio("manifest", "folder", media, "-o", tmp_path / "m.parquet").returncode == 0
    done = vidaudio(
        "build", "folder", "-m", tmp_path / "m.parquet", "-o", tmp_path / "corpus",
        "--set", "embed.encoder.pretrained=/nowhere/weights.pt",
    )  # fmt: skip
    assert done.returncode == 1
    assert "neither a weights file nor a tag" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "corpus" / "clips").exists()


def test_a_short_run_through_train_evaluate_and_separate(tmp_path: Path, tiny_clip: Path):
    import numpy as np
    import soundfile

    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    fingerprint = load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 8)).fingerprint
    data = make_packed(tmp_path / "data", fingerprint, clips_per_split={"train": 6, "test": 4})
    sizes = [
        "--set=model.front_end={window_samples: 8191, log_rows: 32, frames: 32}",
        "--set=model.unet={levels: 3, width: 4}",
        "--set=data={batch_size: 2, workers: 0}",
        "--set=schedule.steps=2",
    ]
    run = tmp_path / "run"
    done = vidaudio("train", "clipsep", "--data", data, "--run", run, *sizes, "--quiet")
    assert done.returncode == 0, done.stderr
    assert "2 steps, 4 mixtures" in done.stdout
    scored = vidaudio("evaluate", run, "--data", data, "--json", "--quiet", "-o", tmp_path / "report")
    assert scored.returncode == 0, scored.stderr
    assert set(json.loads(scored.stdout)["summaries"]) == {"mixture", "text", "image", "wrong_text", "wrong_image"}
    assert (tmp_path / "report" / "evaluation.csv").is_file()
    soundfile.write(tmp_path / "mix.wav", np.sin(np.arange(5000) / 9) / 4, 22_050)
    out = tmp_path / "out.wav"
    separated = vidaudio("separate", tmp_path / "mix.wav", "--query", "low", "--checkpoint", run, "-o", out)
    assert separated.returncode == 0, separated.stderr
    assert soundfile.info(out).frames == 5000
